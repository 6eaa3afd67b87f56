package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/zalando/go-keyring"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/keystore"
)

// canary is the root key in these tests. It must appear nowhere but at the
// provider.
const canary = "canary-5d2f8a91c0"

func TestMain(m *testing.M) {
	if path := os.Getenv(serveForeign); path != "" {
		listenForeign(path)
		return
	}
	keyring.MockInit() // the keystore has tests of its own, against a real one
	os.Exit(m.Run())
}

// world is a broker that serves a home of its own, and a provider that records
// what arrives.
type world struct {
	t        testing.TB
	home     broker.Home
	client   *broker.Client
	relay    string
	log      *bytes.Buffer
	provider *httptest.Server
	handler  http.HandlerFunc // what the provider answers; nil: 200 and {}

	ignoreStop bool // the broker cannot end in good order, and need not

	mu   sync.Mutex
	sent []*http.Request
	body [][]byte
	stop func()
}

// settings is the configuration of a world; %s is the provider's address.
const settings = `
listen = "127.0.0.1:0"
[policy]
hold = ["*/*:write@production", "*/*:reveal@*"]
allow = ["*/*:read@*", "*/*:write@staging", "*/*:delete@staging"]
[provider.powerdns]
base_url = "%[1]s"
[provider.railway]
base_url = "%[1]s"
[environment.staging]
powerdns = { zone = ["staging.example.com.", "*.staging.example.com."] }
railway = { project = "p1", environment = "e-staging" }
[environment.production]
powerdns = { zone = "example.com." }
railway = { project = "p1", environment = "e-production" }
`

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, log: new(bytes.Buffer)}
	w.provider = httptest.NewServer(http.HandlerFunc(w.record))
	t.Cleanup(w.provider.Close)
	dir := t.TempDir()
	w.home = broker.Home{Config: filepath.Join(dir, "config.toml"), State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run"), Ring: dir}
	w.configure(fmt.Sprintf(settings, w.provider.URL))
	w.serve()
	for _, p := range []string{"powerdns", "railway"} {
		if err := w.client.PutKey(t.Context(), p, canary); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) configure(text string) {
	w.t.Helper()
	tmp := w.home.Config + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(tmp, w.home.Config); err != nil {
		w.t.Fatal(err)
	}
}

// serve starts a broker in this process and waits for its doors.
func (w *world) serve() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- broker.Serve(ctx, broker.ServeOptions{
			Home: w.home, Keystore: keystore.Keyring, Log: slog.New(slog.NewTextHandler(&lockedWriter{w: w.log}, nil)),
			Ready: func(relay string) { ready <- relay },
		})
	}()
	select {
	case w.relay = <-ready:
	case err := <-ended:
		w.t.Fatalf("the broker did not start: %v", err)
	}
	w.client = broker.NewClient(w.home)
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			cancel()
			w.client.Close()
			if err := <-ended; err != nil && !w.ignoreStop {
				w.t.Errorf("the broker ended with %v", err)
			}
		})
	}
	w.t.Cleanup(w.stop)
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// record is the provider.
func (w *world) record(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.sent, w.body = append(w.sent, r), append(w.body, body)
	handler := w.handler
	w.mu.Unlock()
	if handler != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler(rw, r)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	io.WriteString(rw, "{}")
}

// answer sets what the provider answers from now on.
func (w *world) answer(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = h
}

// arrived returns what the provider has got since the last time, and forgets
// it.
func (w *world) arrived() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent, w.body = nil, nil
	return sent
}

// lease takes a lease.
func (w *world) lease(scopes ...string) string {
	w.t.Helper()
	g, err := w.client.Lease(w.t.Context(), broker.LeaseRequest{Scopes: scopes, Reason: "a test"})
	if err != nil {
		w.t.Fatal(err)
	}
	return g.Token
}

// answered is what an agent got.
type answered struct {
	status int
	code   string
	header http.Header
	body   string
}

// call sends a request through the relay as a client would. Header lines are
// "Name: value".
func (w *world) call(token, method, path, body string, header ...string) answered {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.relay+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-API-Key", token)
		if strings.HasPrefix(path, "/railway") {
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", "application/json")
		}
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answered{resp.StatusCode, resp.Header.Get("Cred-Refusal"), resp.Header, string(data)}
	if strings.Contains(fmt.Sprint(a), canary) {
		w.t.Errorf("the key reached the agent: %s %s answers %v", method, path, a)
	}
	return a
}

// unixClient returns a client that speaks to one socket.
func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}
