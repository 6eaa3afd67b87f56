package broker_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credbroker/cred/broker"
)

const (
	stagingZone    = "/powerdns/api/v1/servers/localhost/zones/staging.example.com."
	productionZone = "/powerdns/api/v1/servers/localhost/zones/example.com."
	graphql        = "/railway/graphql/v2"
	addRecord      = `{"rrsets":[{"name":"a.staging.example.com.","type":"A","ttl":60,"changetype":"REPLACE","records":[{"content":"192.0.2.1","disabled":false}]}]}`
)

func gzipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return b.String()
}

// TestRelay is the permission matrix of one lease, records:write and
// domains:write on staging: what passes, what does not, and why.
func TestRelay(t *testing.T) {
	w := newWorld(t)
	token := w.lease("powerdns/records:write@staging", "railway/domains:write@staging")
	domain := `{"query":"mutation { customDomainCreate(input: {domain: \"x.example.com\", environmentId: \"e-%s\", projectId: \"%s\", serviceId: \"s\"}) { id } }"}`
	for _, tt := range []struct {
		name               string
		method, path, body string
		header             string
		status             int
		code               string // "": it arrives
	}{
		{name: "read in staging", method: "GET", path: stagingZone, status: 200},
		{name: "write in staging", method: "PATCH", path: stagingZone, body: addRecord, status: 200},
		{name: "read in production", method: "GET", path: productionZone, status: 403, code: "denied"},
		{name: "write in production", method: "PATCH", path: productionZone, body: addRecord, status: 403, code: "denied"},
		{name: "delete the zone", method: "DELETE", path: stagingZone, status: 403, code: "denied"},
		{name: "a zone of nobody", method: "GET", path: "/powerdns/api/v1/servers/localhost/zones/other.test.", status: 403, code: "unplaced"},
		{name: "unlisted operation", method: "PUT", path: "/powerdns/api/v1/nothing", status: 403, code: "unclassified"},
		{name: "unknown provider", method: "GET", path: "/powerdms/api", status: 403, code: "unclassified"},
		{name: "no provider", method: "GET", path: "/", status: 403, code: "unclassified"},
		{name: "dot segments, encoded", method: "GET", path: "/powerdns/api/v1/servers/localhost/zones/staging.example.com./%2e%2e/example.com.", status: 400, code: "malformed"},
		{name: "dot segments", method: "GET", path: "/powerdns/api/v1/servers/localhost/zones/staging.example.com./../example.com.", status: 400, code: "malformed"},
		{name: "encoded slash", method: "GET", path: "/powerdns/api/v1/servers/localhost/zones/staging.example.com.%2f..%2fexample.com.", status: 400, code: "malformed"},
		{name: "double slash", method: "GET", path: "/powerdns//api/v1/servers/localhost/zones", status: 400, code: "malformed"},
		{name: "path parameter", method: "GET", path: stagingZone + ";x=1", status: 400, code: "malformed"},
		{name: "double escape", method: "GET", path: "/powerdns/api/v1/servers/localhost/zones/%252e%252e", status: 400, code: "malformed"},
		{name: "backslash", method: "GET", path: "/powerdns/api/v1%5cservers", status: 400, code: "malformed"},
		{name: "null byte", method: "GET", path: stagingZone + "%00", status: 400, code: "malformed"},
		{name: "method override", method: "GET", path: stagingZone, header: "X-HTTP-Method-Override: DELETE", status: 400, code: "malformed"},
		{name: "duplicate query parameter", method: "GET", path: stagingZone + "?rrsets=true&rrsets=false", status: 400, code: "malformed"},
		{name: "unknown query parameter", method: "GET", path: stagingZone + "?x=1", status: 403, code: "unclassified"},
		{name: "gzip body", method: "PATCH", path: stagingZone, body: gzipped(addRecord), header: "Content-Encoding: gzip", status: 400, code: "malformed"},
		{name: "duplicate JSON names", method: "PATCH", path: stagingZone, body: `{"rrsets":[],` + addRecord[1:], status: 400, code: "malformed"},
		{name: "wrong case", method: "PATCH", path: stagingZone, body: strings.Replace(addRecord, "changetype", "ChangeType", 1), status: 403, code: "unclassified"},
		{name: "invalid UTF-8", method: "PATCH", path: stagingZone, body: strings.Replace(addRecord, "a.staging", "\xff.staging", 1), status: 400, code: "malformed"},
		{name: "body cut short", method: "PATCH", path: stagingZone, body: addRecord[:40], status: 400, code: "malformed"},
		{name: "oversized body", method: "PATCH", path: stagingZone, body: strings.Repeat(" ", 1<<20) + addRecord, status: 413, code: "malformed"},
		{name: "web page", method: "GET", path: stagingZone, header: "Origin: https://evil.example", status: 403, code: "malformed"},

		{name: "add a domain", method: "POST", path: graphql, body: fmt.Sprintf(domain, "staging", "p1"), status: 200},
		{name: "add a domain in production", method: "POST", path: graphql, body: fmt.Sprintf(domain, "production", "p1"), status: 403, code: "denied"},
		{name: "ids that do not agree", method: "POST", path: graphql, body: fmt.Sprintf(domain, "staging", "p2"), status: 403, code: "unplaced"},
		{name: "mint a token", method: "POST", path: graphql, body: `{"query":"mutation { apiTokenCreate(input: {name: \"x\"}) }"}`, status: 403, code: "denied"},
		{name: "batch", method: "POST", path: graphql, body: `[` + fmt.Sprintf(domain, "staging", "p1") + `]`, status: 403, code: "unclassified"},
		{name: "GET query", method: "GET", path: graphql + "?query=%7Bme%7Bid%7D%7D", status: 403, code: "unclassified"},
		{name: "query beside the body", method: "POST", path: graphql + "?query=x", body: fmt.Sprintf(domain, "staging", "p1"), status: 403, code: "unclassified"},
		{name: "two operations, no name", method: "POST", path: graphql, body: `{"query":"query a { me { id } } query b { me { id } }"}`, status: 403, code: "unclassified"},
		{name: "persisted query", method: "POST", path: graphql, body: `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}`, status: 403, code: "unclassified"},
		{name: "introspection", method: "POST", path: graphql, body: `{"query":"{ __schema { types { name } } }"}`, status: 403, code: "unclassified"},
		{name: "unknown field", method: "POST", path: graphql, body: `{"query":"mutation { volumeObliterate(id: 1) }"}`, status: 403, code: "unclassified"},
		{name: "another path of the host", method: "POST", path: "/railway/graphql/internal", body: fmt.Sprintf(domain, "staging", "p1"), status: 403, code: "unclassified"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.arrived()
			var header []string
			if tt.header != "" {
				header = []string{tt.header}
			}
			a := w.call(token, tt.method, tt.path, tt.body, header...)
			if a.status != tt.status || a.code != tt.code {
				t.Errorf("got %d %q, want %d %q: %s", a.status, a.code, tt.status, tt.code, a.body)
			}
			sent := w.arrived()
			if (len(sent) > 0) != (tt.code == "") {
				t.Errorf("%d requests arrived", len(sent))
			}
			for _, r := range sent {
				if r.Header.Get("X-API-Key") != canary && r.Header.Get("Authorization") != "Bearer "+canary {
					t.Errorf("arrived without the key: %v", r.Header)
				}
				if strings.Contains(fmt.Sprint(r.Header, r.URL), token) {
					t.Errorf("the lease was sent to the provider: %v", r.Header)
				}
			}
			if tt.code != "" {
				checkProblem(t, a, tt.code, strings.HasPrefix(tt.path, graphql))
			}
		})
	}
}

// checkProblem checks that a refusal says its code and a reason in the form
// that the client of that path understands.
func checkProblem(t *testing.T, a answered, code string, graphql bool) {
	t.Helper()
	var p broker.Problem
	if graphql {
		var env struct {
			Errors []struct {
				Message    string
				Extensions broker.Problem
			}
		}
		if err := json.Unmarshal([]byte(a.body), &env); err != nil || len(env.Errors) != 1 || !strings.HasPrefix(env.Errors[0].Message, "cred: ") {
			t.Errorf("no GraphQL error: %v %s", err, a.body)
			return
		}
		p = env.Errors[0].Extensions
	} else if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("no problem document: %v %s", err, a.body)
	}
	if string(p.Code) != code || p.Detail == "" || p.Status != a.status || !strings.HasPrefix(p.Instance, "urn:cred:call:") {
		t.Errorf("got %+v", p)
	}
}

// TestDeniedNamesTheScope holds that an agent can recover from the text alone.
func TestDeniedNamesTheScope(t *testing.T) {
	w := newWorld(t)
	a := w.call(w.lease("powerdns/records:read@staging"), "PATCH", stagingZone, addRecord)
	var p broker.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Needed) != 1 || p.Needed[0] != "powerdns/records:write@staging" || p.Ask != "cred lease powerdns/records:write@staging" {
		t.Errorf("got %+v", p)
	}
}

// TestHeld holds that a call that waits for a person is not sent.
func TestHeld(t *testing.T) {
	w := newWorld(t)
	a := w.call(w.lease("powerdns/records:write@production"), "PATCH", productionZone, addRecord)
	if a.status != 403 || a.code != "held" || len(w.arrived()) != 0 {
		t.Errorf("got %v", a)
	}
}

// TestWhereTheLeaseStands holds that a lease is taken where the provider's key
// would be, and that what stands in other places is not sent on.
func TestWhereTheLeaseStands(t *testing.T) {
	w := newWorld(t)
	token := w.lease("powerdns/records:read@staging")
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + token))
	for _, tt := range []struct {
		name   string
		path   string
		header []string
		status int
	}{
		{"own header", stagingZone, []string{"X-API-Key: " + token}, 200},
		{"bearer", stagingZone, []string{"Authorization: Bearer " + token}, 200},
		{"basic", stagingZone, []string{"Authorization: Basic " + basic}, 200},
		{"query", stagingZone + "?api-key=" + token, nil, 401},
		{"a second key in the query", stagingZone + "?api-key=stray", []string{"X-API-Key: " + token}, 200},
		{"a second key in another case", stagingZone + "?API-Key=stray", []string{"X-API-Key: " + token}, 200},
		{"a second key in a header", stagingZone, []string{"X-API-Key: " + token, "Authorization: Bearer stray", "Cookie: session=stray"}, 200},
		{"two authorizations", stagingZone, []string{"Authorization: Bearer " + token, "Authorization: Bearer stray"}, 400},
		{"nothing", stagingZone, nil, 401},
		{"not a lease", stagingZone, []string{"X-API-Key: stray-root-key"}, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := w.call("", "GET", tt.path, "", tt.header...)
			if a.status != tt.status {
				t.Errorf("got %d %s", a.status, a.body)
			}
			for _, r := range w.arrived() {
				if s := fmt.Sprint(r.Header, r.URL); strings.Contains(s, "stray") || strings.Contains(s, token) || r.URL.RawQuery != "" {
					t.Errorf("arrived: %s", s)
				}
			}
			if tt.status == 401 && a.header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate (RFC 9110, section 11.6.1)")
			}
		})
	}
}

// TestHostIsChecked holds that a name that points here by DNS rebinding is not
// served, and that this is no proxy.
func TestHostIsChecked(t *testing.T) {
	w := newWorld(t)
	token := w.lease("powerdns/records:read@staging")
	for _, tt := range []struct{ line, host, want string }{
		{"GET " + stagingZone, "127.0.0.1:2733", "200"},
		{"GET " + stagingZone, "localhost", "200"},
		{"GET " + stagingZone, "evil.example", "421"},
		{"GET " + stagingZone, "localhost.evil.example:2733", "421"},
		{"GET " + stagingZone, "127.0.0.1.evil.example", "421"},
		{"GET http://127.0.0.1" + stagingZone, "127.0.0.1", "400"},
		{"CONNECT backboard.railway.com:443", "backboard.railway.com:443", "400"},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.relay, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nX-API-Key: %s\r\nConnection: close\r\n\r\n", tt.line, tt.host, token)
		got, _ := io.ReadAll(conn)
		conn.Close()
		if !strings.HasPrefix(string(got), "HTTP/1.1 "+tt.want) {
			t.Errorf("%s for %s: got %.80q, want %s", tt.line, tt.host, got, tt.want)
		}
	}
}

// TestOversizedHeader holds that headers are bounded.
func TestOversizedHeader(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{64 << 10, 128 << 10} {
		if a := w.call("", "GET", stagingZone, "", "X-API-Key: "+strings.Repeat("x", size)); a.status != 431 || a.code != "malformed" {
			t.Errorf("%d bytes: got %+v", size, a)
		}
	}
	if a := w.call("", "GET", stagingZone, "", "X-API-Key: "+strings.Repeat("x", 1<<20)); a.status != 431 {
		t.Errorf("a mebibyte: got %d", a.status)
	}
}

// TestEcho holds that a key that the provider repeats does not reach the agent,
// in no header, body or encoding, whole or in pieces.
func TestEcho(t *testing.T) {
	w := newWorld(t)
	token := w.lease("powerdns/records:read@staging")
	for name, echo := range map[string]func(http.ResponseWriter, string){
		"header": func(rw http.ResponseWriter, key string) { rw.Header().Set("X-Received", "got "+key) },
		"body":   func(rw http.ResponseWriter, key string) { io.WriteString(rw, `{"key":"`+key+`"}`) },
		"base64": func(rw http.ResponseWriter, key string) {
			for _, pre := range []string{"", "a", "ab"} {
				io.WriteString(rw, base64.StdEncoding.EncodeToString([]byte(pre+key+"tail")))
			}
		},
		"pieces": func(rw http.ResponseWriter, key string) {
			for _, c := range key {
				io.WriteString(rw, string(c))
				rw.(http.Flusher).Flush()
				time.Sleep(time.Millisecond)
			}
		},
		"redirect": func(rw http.ResponseWriter, key string) {
			rw.Header().Set("Location", "https://elsewhere.example/?key="+key)
			rw.WriteHeader(302)
		},
		"gzip": func(rw http.ResponseWriter, key string) {
			rw.Header().Set("Content-Encoding", "gzip")
			io.WriteString(rw, gzipped(key))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.answer(func(rw http.ResponseWriter, r *http.Request) { echo(rw, r.Header.Get("X-API-Key")) })
			a := w.call(token, "GET", stagingZone, "")
			for _, pre := range []string{"", "a", "ab"} {
				core := base64.StdEncoding.EncodeToString([]byte(pre + canary))[4:16]
				if strings.Contains(a.body, core) {
					t.Errorf("base64 of the key reached the agent: %s", a.body)
				}
			}
			if !strings.Contains(a.body+fmt.Sprint(a.header), "****") {
				t.Errorf("nothing was masked: %+v", a)
			}
		})
	}
}

// TestUnaskedEncoding holds that an answer in which the key could not be seen is
// not passed on.
func TestUnaskedEncoding(t *testing.T) {
	w := newWorld(t)
	w.answer(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Encoding", "br")
		io.WriteString(rw, r.Header.Get("X-API-Key"))
	})
	if a := w.call(w.lease("records:read@staging"), "GET", stagingZone, ""); a.status != 502 || a.code != "upstream-failed" {
		t.Errorf("got %+v", a)
	}
}

// TestRedirectsAreTheClients holds that a redirect is handed to the client and
// never followed with the key.
func TestRedirectsAreTheClients(t *testing.T) {
	w := newWorld(t)
	w.answer(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/api/v1/other", http.StatusFound) })
	a := w.call(w.lease("records:read@staging"), "GET", stagingZone, "")
	if a.status != 302 || a.header.Get("Location") != "/api/v1/other" || len(w.arrived()) != 1 {
		t.Errorf("got %+v", a)
	}
}

// TestResponseHeaders holds that what belongs to the hop or would hand over a
// session does not pass, and what belongs to the answer does.
func TestResponseHeaders(t *testing.T) {
	w := newWorld(t)
	w.answer(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Set-Cookie", "session=owner")
		rw.Header().Set("ETag", `"1"`)
		rw.WriteHeader(418)
	})
	a := w.call(w.lease("records:read@staging"), "GET", stagingZone, "")
	if a.status != 418 || a.header.Get("Set-Cookie") != "" || a.header.Get("ETag") != `"1"` || a.header.Get("Cred-Call") == "" {
		t.Errorf("got %+v", a)
	}
}

// TestUpstreamDown holds that a provider that cannot be reached is a refusal
// that says so, and that the log has the outcome.
func TestUpstreamDown(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:read@staging")
	w.provider.Close()
	if a := w.call(token, "GET", stagingZone, ""); a.status != 502 || a.code != "upstream-failed" {
		t.Errorf("got %+v", a)
	}
}

// TestNoKey holds that a provider without a key is refused with the command
// that adds one.
func TestNoKey(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:read@staging")
	if err := w.client.RemoveKey(t.Context(), "powerdns"); err != nil {
		t.Fatal(err)
	}
	a := w.call(token, "GET", stagingZone, "")
	if a.code != "upstream-failed" || !strings.Contains(a.body, "cred key add powerdns") || len(w.arrived()) != 0 {
		t.Errorf("got %+v", a)
	}
}

// TestConfigurationIsReadAnew holds that a tighter policy counts from the next
// call on, for leases given before, and that a broken file stops the relay.
func TestConfigurationIsReadAnew(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:write@staging")
	text := fmt.Sprintf(settings, w.provider.URL)
	if a := w.call(token, "PATCH", stagingZone, addRecord); a.status != 200 {
		t.Fatalf("got %+v", a)
	}
	w.configure(strings.Replace(text, "[policy]", "[policy]\ndeny = [\"powerdns/*:write@*\"]", 1))
	if a := w.call(token, "PATCH", stagingZone, addRecord); a.code != "denied" {
		t.Errorf("got %+v", a)
	}
	w.configure(strings.Replace(text, "allow =", "alow =", 1))
	a := w.call(token, "GET", stagingZone, "")
	if a.code != "misconfigured" || !strings.Contains(a.body, "line 5: policy.alow") {
		t.Errorf("got %+v", a)
	}
	w.configure(text)
	if a := w.call(token, "PATCH", stagingZone, addRecord); a.status != 200 {
		t.Errorf("got %+v", a)
	}
}

// TestUnaudited holds that a log that cannot be written stops the relay before a
// key is revealed.
func TestUnaudited(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:write@staging")
	logs, _ := filepath.Glob(filepath.Join(w.home.AuditDir(), "*.jsonl"))
	if len(logs) != 1 {
		t.Fatalf("logs: %v", logs)
	}
	if err := os.Remove(logs[0]); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ method, body string }{{"GET", ""}, {"PATCH", addRecord}} {
		if a := w.call(token, tt.method, stagingZone, tt.body); a.status != 503 || a.code != "unaudited" {
			t.Errorf("%s: got %+v", tt.method, a)
		}
	}
	if sent := w.arrived(); len(sent) != 0 {
		t.Errorf("%d requests arrived", len(sent))
	}
	w.ignoreStop = true
}

// TestNothingLeaks looks for the key and the tokens in everything that was
// written.
func TestNothingLeaks(t *testing.T) {
	w := newWorld(t)
	token := w.lease("records:write@staging")
	w.call(token, "PATCH", stagingZone, addRecord)
	w.call(canary, "GET", stagingZone, "") // an agent that found the root key
	w.call(token, "GET", stagingZone+"?api-key="+canary, "")
	w.stop()
	err := filepath.WalkDir(filepath.Dir(w.home.Config), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(token)) {
			t.Errorf("%s holds the token", path)
		}
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("%s holds the key", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(w.log.String(), canary) || strings.Contains(w.log.String(), token) {
		t.Error("the broker's own log holds a secret")
	}
}
