package broker_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/zalando/go-keyring"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/keystore"
)

// signer opens the keystore of a world to sign as its broker does, which no
// agent can.
func (w *world) signer() ed25519Signer {
	w.t.Helper()
	store, err := keystore.Open(w.t.Context(), keystore.Options{Kind: keystore.Keyring, Service: w.home.Ring, Dir: w.home.State})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { store.Close() })
	s, err := store.Signer("lease-signing")
	if err != nil {
		w.t.Fatal(err)
	}
	return ed25519Signer{s, s.Public().(ed25519.PublicKey)}
}

// parts takes a token to pieces.
func parts(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	for i, into := range []*map[string]any{&header, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// TestForgedTokens tries every token that is not one of ours, those signed with
// the broker's own key and a wrong claim included.
func TestForgedTokens(t *testing.T) {
	w := newWorld(t)
	good := w.lease("records:read@staging")
	header, claims := parts(t, good)
	key := w.signer()
	_, foreign, _ := ed25519.GenerateKey(nil)

	with := func(m map[string]any, changes map[string]any) map[string]any {
		out := map[string]any{}
		for k, v := range m {
			out[k] = v
		}
		for k, v := range changes {
			if out[k] = v; v == nil {
				delete(out, k)
			}
		}
		return out
	}
	sign := func(method jwt.SigningMethod, key any, h, c map[string]any) string {
		tok := jwt.NewWithClaims(method, jwt.MapClaims(c))
		alg := tok.Header["alg"]
		tok.Header = with(h, nil)
		if h["alg"] == header["alg"] {
			tok.Header["alg"] = alg
		}
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ed := jwt.SigningMethodEdDSA
	pieces := strings.Split(good, ".")
	for name, token := range map[string]string{
		"alg none":                  sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, header, claims),
		"HS256 with the public key": sign(jwt.SigningMethodHS256, []byte(key.public), header, claims),
		"foreign key":               sign(ed, foreign, header, claims),
		"unknown kid":               sign(ed, key.Signer, with(header, map[string]any{"kid": "other"}), claims),
		"no kid":                    sign(ed, key.Signer, with(header, map[string]any{"kid": nil}), claims),
		"wrong issuer":              sign(ed, key.Signer, header, with(claims, map[string]any{"iss": "other"})),
		"no issuer":                 sign(ed, key.Signer, header, with(claims, map[string]any{"iss": nil})),
		"wrong audience":            sign(ed, key.Signer, header, with(claims, map[string]any{"aud": "other"})),
		"no audience":               sign(ed, key.Signer, header, with(claims, map[string]any{"aud": nil})),
		"no expiry":                 sign(ed, key.Signer, header, with(claims, map[string]any{"exp": nil})),
		"expired":                   sign(ed, key.Signer, header, with(claims, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})),
		"longer life":               sign(ed, key.Signer, header, with(claims, map[string]any{"exp": time.Now().Add(time.Hour).Unix()})),
		"not yet":                   sign(ed, key.Signer, header, with(claims, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})),
		"wider scope":               sign(ed, key.Signer, header, with(claims, map[string]any{"scope": "powerdns/zones:delete@production"})),
		"id of nobody":              sign(ed, key.Signer, header, with(claims, map[string]any{"jti": "l_none"})),
		"no id":                     sign(ed, key.Signer, header, with(claims, map[string]any{"jti": nil})),
		"edited claims":             pieces[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(mustJSON(claims)), "staging", "production", 1))) + "." + pieces[2],
		"no signature":              pieces[0] + "." + pieces[1] + ".",
		"two pieces":                pieces[0] + "." + pieces[1],
		"padded signature":          good + "==",
		"trailing bits":             good[:len(good)-1] + string(flip(good[len(good)-1])),
		"empty pieces":              "..",
		"spaces":                    " ",
	} {
		t.Run(name, func(t *testing.T) {
			a := w.call("", "GET", stagingZone, "", "Authorization: Bearer "+token)
			if a.status != 401 || a.code != "bad-lease" {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
	if sent := w.arrived(); len(sent) != 0 {
		t.Fatalf("%d forged calls arrived", len(sent))
	}
	if a := w.call(good, "GET", stagingZone, ""); a.status != 200 {
		t.Errorf("the good one: %+v", a)
	}
}

type ed25519Signer struct {
	Signer any
	public ed25519.PublicKey
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// flip changes the low bits of a base64 digit, which do not belong to the
// signature and which a lenient decoder ignores.
func flip(c byte) byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return digits[strings.IndexByte(digits, c)^1]
}

// TestLeasesSurviveARestart holds that leases and revocations are still there
// when the broker comes back.
func TestLeasesSurviveARestart(t *testing.T) {
	w := newWorld(t)
	kept, ended := w.lease("records:read@staging"), w.lease("records:read@staging")
	leases, err := w.client.Leases(t.Context())
	if err != nil || len(leases) != 2 {
		t.Fatalf("%v %v", leases, err)
	}
	_, claims := parts(t, ended)
	if _, err := w.client.Revoke(t.Context(), broker.RevokeRequest{ID: claims["jti"].(string)}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.serve()
	if a := w.call(kept, "GET", stagingZone, ""); a.status != 200 {
		t.Errorf("the lease did not survive: %+v", a)
	}
	if a := w.call(ended, "GET", stagingZone, ""); a.code != "bad-lease" {
		t.Errorf("the revocation did not survive: %+v", a)
	}
}

// TestTamperedLogVoidsLeases tells an attack: an agent whose lease was revoked
// edits the log to take the revocation out, and has the broker restarted. The
// chain does not hold, so no earlier lease counts.
func TestTamperedLogVoidsLeases(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:read@staging")
	w.revokeAndEdit(func(log []byte) []byte {
		var out []byte
		for line := range bytes.Lines(log) {
			if !bytes.Contains(line, revocation) {
				out = append(out, line...)
			}
		}
		return out
	})
	w.serve()
	if a := w.call(token, "GET", stagingZone, ""); a.code != "bad-lease" {
		t.Errorf("the revoked lease came back: %+v", a)
	}
}

// TestTruncatedLogVoidsLeases is the same attack by cutting the log short of its
// revocation, which leaves the chain whole.
func TestTruncatedLogVoidsLeases(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:read@staging")
	w.revokeAndEdit(func(log []byte) []byte {
		head, _, _ := bytes.Cut(log, revocation)
		return head[:bytes.LastIndexByte(head, '\n')+1]
	})
	w.serve()
	if a := w.call(token, "GET", stagingZone, ""); a.code != "bad-lease" {
		t.Errorf("the revoked lease came back: %+v", a)
	}
}

// revocation is what the line of one holds.
var revocation = []byte(`"kind":"revoke"`)

// revokeAndEdit revokes all leases, stops the broker and edits its log, which
// holds the revocation.
func (w *world) revokeAndEdit(edit func(log []byte) []byte) {
	w.t.Helper()
	if _, err := w.client.Revoke(w.t.Context(), broker.RevokeRequest{All: true}); err != nil {
		w.t.Fatal(err)
	}
	w.stop()
	log, err := os.ReadFile(w.logFile())
	if err != nil {
		w.t.Fatal(err)
	}
	if !bytes.Contains(log, revocation) {
		w.t.Fatal("no revocation in the log")
	}
	if err := os.WriteFile(w.logFile(), edit(log), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestRevocationCutsWhatIsUnderWay holds that a lease ends in open answers too,
// by revocation and by expiry.
func TestRevocationCutsWhatIsUnderWay(t *testing.T) {
	for name, end := range map[string]func(*world){
		"revoked": func(w *world) {
			if _, err := w.client.Revoke(w.t.Context(), broker.RevokeRequest{All: true}); err != nil {
				w.t.Error(err)
			}
		},
		"expired": func(*world) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.answer(func(rw http.ResponseWriter, r *http.Request) {
				io.WriteString(rw, "first")
				rw.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			g, err := w.client.Lease(t.Context(), broker.LeaseRequest{Scopes: []string{"records:read@staging"}, TTL: "2s"})
			if err != nil {
				t.Fatal(err)
			}
			req, _ := http.NewRequest("GET", w.relay+stagingZone, nil)
			req.Header.Set("X-API-Key", g.Token)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.ReadFull(resp.Body, make([]byte, len("first"))); err != nil {
				t.Fatal(err) // a stream arrives while it is open
			}
			end(w)
			began := time.Now()
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Error("the answer ended as if it were whole")
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the stream was open for %s more", took)
			}
		})
	}
}

// TestLeaseRequests holds what a request for a lease must be.
func TestLeaseRequests(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name string
		in   broker.LeaseRequest
		code broker.Code
		want string // part of the text
	}{
		{"nothing", broker.LeaseRequest{}, broker.Malformed, "a lease for what"},
		{"no environment", broker.LeaseRequest{Scopes: []string{"records:write"}}, broker.Malformed, "--on NAME"},
		{"two environments", broker.LeaseRequest{Scopes: []string{"records:write@staging"}, On: "production"}, broker.Malformed, "is it staging or production"},
		{"unknown environment", broker.LeaseRequest{Scopes: []string{"records:write"}, On: "stagin"}, broker.Malformed, `did you mean "staging"?`},
		{"unknown resource", broker.LeaseRequest{Scopes: []string{"recrods:write@staging"}}, broker.Malformed, `did you mean "records"?`},
		{"unknown provider", broker.LeaseRequest{Scopes: []string{"powerdn/records:write@staging"}}, broker.Malformed, `did you mean "powerdns"?`},
		{"unknown action", broker.LeaseRequest{Scopes: []string{"records:wipe@staging"}}, broker.Malformed, "unknown action"},
		{"action that nothing takes", broker.LeaseRequest{Scopes: []string{"railway/domains:grant@staging"}}, broker.Malformed, "it has domains:"},
		{"wildcard", broker.LeaseRequest{Scopes: []string{"powerdns/*:write@staging"}}, broker.Malformed, "policy only"},
		{"garbage", broker.LeaseRequest{Scopes: []string{"::@@//"}}, broker.Malformed, "want provider/resource:action@environment"},
		{"ttl over the maximum", broker.LeaseRequest{Scopes: []string{"records:write@staging"}, TTL: "9h"}, broker.Denied, "more than the owner allows"},
		{"ttl zero", broker.LeaseRequest{Scopes: []string{"records:write@staging"}, TTL: "0s"}, broker.Malformed, "ttl"},
		{"ttl negative", broker.LeaseRequest{Scopes: []string{"records:write@staging"}, TTL: "-1m"}, broker.Malformed, "ttl"},
		{"ttl bare", broker.LeaseRequest{Scopes: []string{"records:write@staging"}, TTL: "300"}, broker.Malformed, "not a duration"},
		{"ttl never", broker.LeaseRequest{Scopes: []string{"records:write@staging"}, TTL: "never"}, broker.Malformed, "not a duration"},
		{"denied by policy", broker.LeaseRequest{Scopes: []string{"tsigkeys:grant@account"}}, broker.Denied, "policy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.client.Lease(t.Context(), tt.in)
			p, ok := err.(*broker.ProblemError)
			if !ok || p.Code != tt.code || !strings.Contains(p.Detail, tt.want) {
				t.Errorf("got %v, want %s with %q", err, tt.code, tt.want)
			}
		})
	}
	g, err := w.client.Lease(t.Context(), broker.LeaseRequest{Scopes: []string{"records:write"}, On: "production", TTL: "1m", Reason: "x"})
	if err != nil || len(g.Warnings) != 1 || !strings.Contains(g.Warnings[0], "holds") {
		t.Errorf("got %+v %v", g, err)
	}
}

// TestDoors holds that the agents' door leads nowhere but to leases.
func TestDoors(t *testing.T) {
	w := newWorld(t)
	g, err := w.client.Lease(t.Context(), broker.LeaseRequest{Scopes: []string{"records:read@staging"}})
	if err != nil {
		t.Fatal(err)
	}
	agent := unixClient(filepath.Join(w.home.Run, "agent.sock"))
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/leases", "", 405},
		{"PUT", "/keys/powerdns", `{"key":"another-root-key"}`, 404},
		{"DELETE", "/keys/powerdns", "", 404},
		{"POST", "/explain", "{}", 404},
		{"POST", "/stop", "{}", 404},
		{"POST", "/revoke", `{"id":"` + g.ID + `"}`, 403},
		{"POST", "/revoke", `{"all":true}`, 403},
		{"POST", "/revoke", `{"token":"x"}`, 401},
		{"POST", "/leases", `{"scopes":["records:read@staging"],"extra":1}`, 400},
		{"POST", "/revoke", `{"token":"` + g.Token + `"}`, 200},
	} {
		req, _ := http.NewRequest(tt.method, "http://broker"+tt.path, strings.NewReader(tt.body))
		resp, err := agent.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("%s %s %s: got %d, want %d", tt.method, tt.path, tt.body, resp.StatusCode, tt.status)
		}
	}
	for _, name := range []string{"agent.sock", "owner.sock"} {
		info, err := os.Stat(filepath.Join(w.home.Run, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

// TestSecondBroker holds that one broker serves a home, and that what a dead
// one left does not keep the next from starting.
func TestSecondBroker(t *testing.T) {
	w := newWorld(t)
	if err := broker.Serve(t.Context(), broker.ServeOptions{Home: w.home, Keystore: keystore.Keyring}); err != broker.ErrRunning {
		t.Errorf("got %v", err)
	}
	w.stop()
	for _, name := range []string{"agent.sock", "owner.sock"} {
		if err := os.WriteFile(filepath.Join(w.home.Run, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.serve()
	if _, err := w.client.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLockedKeyring holds that a keyring that stops answering refuses calls and
// says what to do.
func TestLockedKeyring(t *testing.T) {
	dir := t.TempDir()
	home := broker.Home{Config: filepath.Join(dir, "config.toml"), State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run"), Ring: "x"}
	keyring.MockInitWithError(fmt.Errorf("collection is locked"))
	defer keyring.MockInit()
	err := broker.Serve(t.Context(), broker.ServeOptions{Home: home, Keystore: keystore.Keyring})
	if err == nil || !strings.Contains(err.Error(), "keyring") {
		t.Errorf("got %v", err)
	}
}
