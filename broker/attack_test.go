package broker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credbroker/cred/broker"
)

// logFile returns the only day of a world's log.
func (w *world) logFile() string {
	w.t.Helper()
	logs, err := filepath.Glob(filepath.Join(w.home.AuditDir(), "*.jsonl"))
	if err != nil || len(logs) != 1 {
		w.t.Fatalf("logs: %v %v", logs, err)
	}
	return logs[0]
}

// relink makes a line of the log fit behind another, and returns its own hash.
// It needs no key.
func relink(line []byte, seq int, prev []byte) (text string, hash []byte) {
	_, rest, _ := bytes.Cut(line, []byte(`"time"`))
	rest, _, _ = bytes.Cut(rest, []byte(`,"hash":"`))
	body := fmt.Sprintf(`{"seq":%d,"time"%s`, seq, rest)
	sum := sha256.Sum256(append(bytes.Clone(prev), body+"}"...))
	return fmt.Sprintf("%s,\"hash\":\"%x\"}\n", body, sum), sum[:]
}

// TestForgedLineRevivesNoLease tells an attack: while the broker is down, an
// agent whose lease was revoked appends a line to the log that gives the lease
// again, with a wider scope. The chain's hashes need no key, so the line fits.
func TestForgedLineRevivesNoLease(t *testing.T) {
	w := newWorld(t)
	g, err := w.client.Lease(t.Context(), broker.LeaseRequest{Scopes: []string{"powerdns/records:read@staging"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Revoke(t.Context(), broker.RevokeRequest{ID: g.ID}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	data, err := os.ReadFile(w.logFile())
	if err != nil {
		t.Fatal(err)
	}
	var given, last []byte
	for line := range bytes.Lines(data) {
		last = bytes.TrimSpace(line)
		if bytes.Contains(line, []byte(`"kind":"lease"`)) {
			given = bytes.TrimSpace(line)
		}
	}
	var tail struct {
		Seq  int
		Hash string
	}
	if err := json.Unmarshal(last, &tail); err != nil {
		t.Fatal(err)
	}
	prev, err := hex.DecodeString(tail.Hash)
	if err != nil {
		t.Fatal(err)
	}
	forged, _ := relink(bytes.Replace(given, []byte("records:read"), []byte("records:write"), 1), tail.Seq+1, prev)
	f, err := os.OpenFile(w.logFile(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, forged)
	f.Close()
	w.serve()
	if strings.Contains(w.log.String(), "does not hold") {
		t.Fatal("the forged line does not fit: the attack was not tried")
	}
	for _, method := range []string{"GET", "PATCH"} {
		body := ""
		if method == "PATCH" {
			body = addRecord
		}
		if a := w.call(g.Token, method, stagingZone, body); a.code != "bad-lease" {
			t.Errorf("%s: got %+v", method, a)
		}
	}
}

// TestLogWithoutCheckpointsGivesNoLease tells an attack: while the broker is
// down, an agent takes the revocation of its lease out of the log, makes the
// chain anew, which needs no key, and removes the checkpoints that would show it.
func TestLogWithoutCheckpointsGivesNoLease(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:read@staging")
	w.revokeAndEdit(func(log []byte) []byte {
		var out []byte
		prev, seq := make([]byte, sha256.Size), 0
		for line := range bytes.Lines(log) {
			if !bytes.Contains(line, revocation) {
				var again string
				seq++
				again, prev = relink(line, seq, prev)
				out = append(out, again...)
			}
		}
		return out
	})
	if err := os.Remove(strings.TrimSuffix(w.logFile(), "jsonl") + "checkpoints"); err != nil {
		t.Fatal(err)
	}
	w.serve()
	if strings.Contains(w.log.String(), "does not hold") {
		t.Fatal("the rewritten log does not hold: the attack was not tried")
	}
	if a := w.call(token, "GET", stagingZone, ""); a.code != "bad-lease" {
		t.Errorf("the revoked lease came back: %+v", a)
	}
}

// TestExpiredLeaseIsNamed holds that a lease that was never used before its end
// is said to have expired, and is in the log by its id.
func TestExpiredLeaseIsNamed(t *testing.T) {
	w := newWorld(t)
	g, err := w.client.Lease(t.Context(), broker.LeaseRequest{Scopes: []string{"records:read@staging"}, TTL: "1s"})
	if err != nil {
		t.Fatal(err)
	}
	if a := w.call(g.Token, "GET", stagingZone+"%2f", ""); a.code != "malformed" {
		t.Errorf("got %+v", a)
	}
	time.Sleep(time.Until(g.Expires) + 50*time.Millisecond)
	if a := w.call(g.Token, "GET", stagingZone, ""); a.code != "bad-lease" || !strings.Contains(a.body, "the lease has expired") {
		t.Errorf("got %+v", a)
	}
	data, err := os.ReadFile(w.logFile())
	if err != nil || bytes.Count(data, []byte(`"kind":"call","id":"c_`)) != 2 || bytes.Count(data, []byte(`"lease":"`+g.ID)) != 3 {
		t.Errorf("the calls are not in the log under their lease: %s %v", data, err)
	}
}

// TestRevokeSaysWhenItIsNotOnDisk holds that a revocation that would not survive
// a restart is an error every time, not only the first.
func TestRevokeSaysWhenItIsNotOnDisk(t *testing.T) {
	w := newWorld(t)
	g, err := w.client.Lease(t.Context(), broker.LeaseRequest{Scopes: []string{"powerdns/records:read@staging"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.logFile(), filepath.Join(w.home.State, "away")); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if _, err := w.client.Revoke(t.Context(), broker.RevokeRequest{ID: g.ID}); err == nil {
			t.Errorf("revocation %d: no error", i+1)
		}
	}
	if a := w.call(g.Token, "GET", stagingZone, ""); a.code != "bad-lease" && a.code != "unaudited" {
		t.Errorf("the lease is good: %+v", a)
	}
	w.ignoreStop = true
}

// TestRevokeAllMissesNoLease holds that a lease that is made meanwhile is
// revoked, or is not given.
func TestRevokeAllMissesNoLease(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		var tokens sync.Map
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 4 {
					if g, err := w.client.Lease(t.Context(), broker.LeaseRequest{Scopes: []string{"powerdns/records:read@staging"}}); err == nil {
						tokens.Store(g.Token, g.ID)
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		if _, err := w.client.Revoke(t.Context(), broker.RevokeRequest{All: true}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		live, err := w.client.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := map[string]bool{} // what the log says was revoked
		data, err := os.ReadFile(w.logFile())
		if err != nil {
			t.Fatal(err)
		}
		head := data[:bytes.LastIndex(data, []byte(`"kind":"revoke"`))]
		for _, l := range live {
			before[l.ID] = bytes.Contains(head, []byte(`"lease":"`+l.ID+`","token`))
			if before[l.ID] && !l.Revoked {
				t.Errorf("the lease %s stands in the log before the revocation of all, and is live", l.ID)
			}
		}
	}
}

// TestTighterPolicyCountsForCallsUnderWay tells an attack: an agent begins a
// call, holds back the end of its body, and sends it after the owner has made
// the policy tighter.
func TestTighterPolicyCountsForCallsUnderWay(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:write@staging")
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.relay, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: localhost\r\nX-API-Key: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		stagingZone, token, len(addRecord), addRecord[:10])
	time.Sleep(100 * time.Millisecond) // the broker reads the settings, then waits for the body
	w.configure(strings.Replace(fmt.Sprintf(settings, w.provider.URL), "[policy]", "[policy]\ndeny = [\"powerdns/*:write@*\"]", 1))
	if a := w.call(token, "PATCH", stagingZone, addRecord); a.code != "denied" {
		t.Fatalf("the new policy: %+v", a)
	}
	io.WriteString(conn, addRecord[10:])
	got, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(got), "HTTP/1.1 503") || len(w.arrived()) != 0 {
		t.Errorf("got %.60q", got)
	}
}

// TestNobodyHoldsConnectionsOpen holds that agents that do not read their
// answers, and callers that never send their bodies, do not keep the broker
// busy.
func TestNobodyHoldsConnectionsOpen(t *testing.T) {
	w := newWorld(t)
	w.answer(func(rw http.ResponseWriter, r *http.Request) {
		for {
			if _, err := rw.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
				return
			}
		}
	})
	g, err := w.client.Lease(t.Context(), broker.LeaseRequest{Scopes: []string{"powerdns/records:read@staging"}, TTL: "2s"})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 20 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.relay, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-API-Key: %s\r\n\r\n", stagingZone, g.Token)
	}
	deadline := time.Now().Add(15 * time.Second)
	for time.Sleep(2500 * time.Millisecond); runtime.NumGoroutine() > before+10; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before, though the lease has ended", runtime.NumGoroutine(), before)
		}
	}
}

// TestConfigurationIsAnOrdinaryFile holds that the configuration is the owner's
// own small file, and that one that is gone loosens nothing.
func TestConfigurationIsAnOrdinaryFile(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:read@staging")
	text := fmt.Sprintf(settings, w.provider.URL)
	for name, spoil := range map[string]func(path string) error{
		"a named pipe": func(path string) error { return exec.Command("mkfifo", path).Run() },
		"a folder":     func(path string) error { return os.Mkdir(path, 0o700) },
		"endless":      func(path string) error { return os.Symlink("/dev/zero", path) },
		"too large":    func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("#\n"), 1<<20), 0o600) },
		"writable by others": func(path string) error {
			return errorsOf(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, 0o666))
		},
		"gone":                     func(string) error { return nil },
		"a name that leads astray": func(path string) error { return os.Symlink("/nonexistent", path) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(w.home.Config); err != nil {
				t.Fatal(err)
			}
			if err := spoil(w.home.Config); err != nil {
				t.Fatal(err)
			}
			if a := w.call(token, "GET", stagingZone, ""); a.code != "misconfigured" {
				t.Errorf("got %+v", a)
			}
			if err := os.RemoveAll(w.home.Config); err != nil {
				t.Fatal(err)
			}
			w.configure(text)
			if a := w.call(token, "GET", stagingZone, ""); a.status != 200 {
				t.Errorf("afterwards: %+v", a)
			}
		})
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestOddAnswers holds that a provider's answer is passed on only where it is
// one, and that only the broker speaks for the broker.
func TestOddAnswers(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:read@staging")
	for _, status := range []string{"001", "099", "101", "600", "999"} {
		raw, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := raw.Accept(); err == nil {
				c.Read(make([]byte, 4096))
				fmt.Fprintf(c, "HTTP/1.1 %s Odd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status)
				c.Close()
			}
		}()
		w.configure(fmt.Sprintf(settings, "http://"+raw.Addr().String()))
		if a := w.call(token, "GET", stagingZone, ""); a.status != 502 || a.code != "upstream-failed" {
			t.Errorf("status %s: got %+v", status, a)
		}
		raw.Close()
	}
	w.configure(fmt.Sprintf(settings, w.provider.URL))
	w.answer(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Cred-Refusal", "denied")
		rw.Header().Set("Cred-Call", "spoof")
	})
	if a := w.call(token, "GET", stagingZone, ""); a.code != "" || strings.Contains(fmt.Sprint(a.header), "spoof") {
		t.Errorf("got %+v", a)
	}
}

// TestEchoInOtherSpellings holds that a key with special characters is masked
// however the provider writes it.
func TestEchoInOtherSpellings(t *testing.T) {
	const key = `ab/cd+ef=gh"ij&kl<mn'opqr\st`
	w := newWorld(t)
	if err := w.client.PutKey(t.Context(), "powerdns", key); err != nil {
		t.Fatal(err)
	}
	token := w.lease("records:read@staging")
	var plainJSON bytes.Buffer
	enc := json.NewEncoder(&plainJSON)
	enc.SetEscapeHTML(false)
	enc.Encode(key)
	quoted, _ := json.Marshal(key)
	for name, text := range map[string]string{
		"as it is": key, "JSON": string(quoted), "JSON, plain": plainJSON.String(),
		"JSON, slashes escaped": strings.ReplaceAll(plainJSON.String(), "/", `\/`),
		"query":                 url.QueryEscape(key), "query, lower case": strings.NewReplacer("%2F", "%2f", "%2B", "%2b", "%3D", "%3d", "%3C", "%3c", "%5C", "%5c").Replace(url.QueryEscape(key)),
		"path": url.PathEscape(key), "HTML": html.EscapeString(key), "hexadecimal": hex.EncodeToString([]byte(key)),
	} {
		w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "<"+text+">") })
		if a := w.call(token, "GET", stagingZone, ""); !strings.Contains(a.body, "******") {
			t.Errorf("%s: got %q", name, a.body)
		}
	}
	// In pieces a key could not be recognised.
	w.answer(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			t.Error("a range was asked of the provider")
		}
	})
	w.call(token, "GET", stagingZone, "", "Range: bytes=0-4")
	for _, bad := range []string{" " + key, key + " ", key + "\n", "short", strings.Repeat("x", 5000), "with\x00zero-byte"} {
		if err := w.client.PutKey(t.Context(), "powerdns", bad); err == nil {
			t.Errorf("the key %q was taken", bad[:min(len(bad), 20)])
		}
	}
}

// TestManyLookups holds that one call cannot make the broker ask its provider
// without end.
func TestManyLookups(t *testing.T) {
	w, server := railway(t)
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "a%d: volumeDelete(volumeId: \"00000000-0000-4000-8000-%012d\") ", i, i)
	}
	a := w.call(w.lease("railway/volumes:delete@staging"), "POST", graphql, mutation("%s", b.String()))
	if n := len(server.Requests()); a.code != "unplaced" || n > 32 {
		t.Errorf("%d requests for one call: %+v", n, a.status)
	}
}

// TestStrangersCannotFillTheLog holds that calls without a lease are counted
// beyond a rate, and cut short.
func TestStrangersCannotFillTheLog(t *testing.T) {
	w := newWorld(t)
	for range 600 {
		w.call("", "GET", "/powerdns/"+strings.Repeat("x", 20000), "")
	}
	w.configure("broken = ")
	for range 600 {
		w.call("", "GET", "/powerdns/"+strings.Repeat("x", 20000), "")
	}
	info, err := os.Stat(w.logFile())
	if err != nil || info.Size() > 512<<10 {
		t.Errorf("1200 calls without a lease made a log of %d bytes (%v)", info.Size(), err)
	}
}

// TestForeignSocket tells an attack: another user has made the folder in which
// the owner's commands look for the broker, and serves sockets there. The
// commands say nothing to them, least of all a key.
func TestForeignSocket(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can become another user")
		}
		t.Skip("left out: only root can become another user")
	}
	dir, err := os.MkdirTemp("/tmp", "cred-foreign-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "evil")
	if data, err := os.ReadFile("/proc/self/exe"); err != nil || os.WriteFile(exe, data, 0o755) != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = []string{serveForeign + "=" + filepath.Join(dir, "owner.sock")}
	asNobody(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	client := broker.NewClient(broker.Home{Run: dir})
	err = client.PutKey(t.Context(), "powerdns", canary)
	if err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("got %v", err)
	}
	time.Sleep(50 * time.Millisecond)
	_ = cmd.Process.Kill() // so that what it has printed ends
	if heard, _ := io.ReadAll(out); strings.Contains(string(heard), canary) {
		t.Errorf("the other user heard %q", heard)
	}
}

// serveForeign is set for the process that plays the other user.
const serveForeign = "CRED_TEST_SERVE_FOREIGN"

// listenForeign serves a socket and prints what it hears.
func listenForeign(path string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := os.Chmod(path, 0o777); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go io.Copy(os.Stdout, c)
	}
}
