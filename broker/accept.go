package broker

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/credbroker/cred/scopes"
)

// Limits of what is read from an agent.
const (
	maxHeader   = 32 << 10
	hardHeader  = 256 << 10 // beyond it the server ends the connection before anybody can say why
	maxBody     = 1 << 20   // a body that decides is read whole, or refused; never cut
	readTimeout = 30 * time.Second
)

// accept reads a request's line and headers: which provider it is for, the call
// without its body, and the token that stands where the provider's own key
// would. It refuses what does not come straight from a program on this machine.
func accept(r *http.Request, catalog *scopes.Catalog) (call scopes.Call, token string, err error) {
	if r.Method == http.MethodConnect || r.URL.Host != "" || r.URL.Scheme != "" || r.URL.Opaque != "" {
		return call, "", &Refusal{Code: Malformed, Detail: "this is no proxy: send the request to http://HOST/PROVIDER/PATH"}
	}
	if !isLocalHost(r.Host) {
		return call, "", &Refusal{Code: Malformed, status: http.StatusMisdirectedRequest,
			Detail: fmt.Sprintf("host %q: the relay answers to 127.0.0.1 and localhost only", r.Host)}
	}
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return call, "", &Refusal{Code: Malformed, status: http.StatusForbidden, Detail: "the relay does not answer to web pages"}
	}
	for _, name := range []string{"Authorization", "Content-Length", "Host"} {
		if len(r.Header[name]) > 1 {
			return call, "", &Refusal{Code: Malformed, Detail: fmt.Sprintf("header %s is given %d times", name, len(r.Header[name]))}
		}
	}
	if n := headerSize(r); n > maxHeader {
		return call, "", &Refusal{Code: Malformed, status: http.StatusRequestHeaderFieldsTooLarge,
			Detail: fmt.Sprintf("the request line and headers have %d bytes: at most %d", n, maxHeader)}
	}
	provider, path, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	d, err := catalog.Describe(scopes.Provider(provider))
	if err != nil {
		return call, "", &Refusal{Code: Unclassified, Detail: fmt.Sprintf(
			"no provider %q; the address is http://HOST/PROVIDER/PATH and there is %s", clip(provider, 64), join(catalog.Names()))}
	}
	call, err = scopes.NewCall(scopes.Request{
		Provider: d.Name, Method: r.Method, Path: "/" + path, Query: r.URL.RawQuery, Header: r.Header,
	})
	if err != nil { // for the log
		call = scopes.Call{Provider: d.Name, Method: clip(r.Method, 16), Path: clip("/"+path, maxStranger)}
	}
	return call, findToken(r, d), err
}

func headerSize(r *http.Request) int {
	n := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}

func join[S ~string](ss []S) string {
	words := make([]string, len(ss))
	for i, s := range ss {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

// isLocalHost refuses names that a web page could have made to point here (DNS
// rebinding).
func isLocalHost(hostport string) bool {
	if a, err := netip.ParseAddrPort(hostport); err == nil {
		return a.Addr().IsLoopback()
	}
	if a, err := netip.ParseAddr(strings.Trim(hostport, "[]")); err == nil {
		return a.IsLoopback()
	}
	host, _, _ := strings.Cut(hostport, ":")
	return strings.EqualFold(host, "localhost")
}

// findToken returns what stands where the provider's clients put a key, or
// where RFC 6750 puts a token. What stands in the other places is not sent on.
func findToken(r *http.Request, d scopes.Description) string {
	for _, a := range append(d.Auth[:len(d.Auth):len(d.Auth)], scopes.Auth{Type: scopes.Bearer}, scopes.Auth{Type: scopes.Basic}) {
		var s string
		switch a.Type {
		case scopes.Bearer:
			scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			if strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "token") {
				s = strings.TrimSpace(value)
			}
		case scopes.Header:
			s = r.Header.Get(a.In)
		case scopes.Basic:
			user, password, _ := r.BasicAuth()
			if s = password; s == "" {
				s = user
			}
		case scopes.Query:
			s = r.URL.Query().Get(a.In)
		}
		if s != "" {
			return s
		}
	}
	return ""
}

// readBody reads the whole body, or refuses it. Only once it is read may the
// agent take its time: until then a deadline holds, refused or not.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	if r.Body == nil || r.Body == http.NoBody {
		return nil, rc.SetReadDeadline(time.Time{})
	}
	tooLarge := &Refusal{Code: Malformed, status: http.StatusRequestEntityTooLarge,
		Detail: fmt.Sprintf("the body is larger than %d bytes and must be read whole", maxBody)}
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge
	case err != nil:
		return nil, &Refusal{Code: Malformed, Detail: "the body ended before it was complete", Err: err}
	}
	return body, rc.SetReadDeadline(time.Time{})
}
