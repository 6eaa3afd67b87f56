package scopes

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A Request is what somebody asks of a provider, before anything is known of
// it. Path is escaped as it was received.
type Request struct {
	Provider Provider
	Method   string
	Path     string
	Query    string
	Header   http.Header
	Body     []byte
}

// A Call is a request reduced to what decides its meaning. The relay builds the
// outgoing request from the Call alone and never goes back to the request it
// came from. Only [NewCall] and [Catalog.Classify] make one that is of use.
type Call struct {
	Provider Provider
	Method   string
	Path     string // escaped, in its one spelling
	Query    string // encoded, sorted by name
	Header   http.Header
	Body     []byte // nil when there is none
}

// passed are the headers that go on to the provider. None of them changes what
// a call does. Range is not among them: in pieces small enough, a key that the
// provider echoes could not be told from ordinary text.
var passed = []string{
	"Accept", "Accept-Language", "If-Match", "If-Modified-Since", "If-None-Match", "If-Unmodified-Since",
	"User-Agent",
}

// refused are the headers that make one request mean two things.
var refused = []string{
	"X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url",
	"Upgrade", "Trailer",
}

// NewCall returns the call that r is, or an error wrapping [ErrMalformed] when
// an upstream could read r differently from us. Header holds what passes on;
// credentials do not.
func NewCall(r Request) (Call, error) {
	path, err := canonicalPath(r.Path)
	if err != nil {
		return Call{}, err
	}
	if !isMethod(r.Method) {
		return Call{}, fmt.Errorf("method %q: %w: want upper-case letters", r.Method, ErrMalformed)
	}
	query, err := canonicalQuery(r.Query)
	if err != nil {
		return Call{}, err
	}
	h, err := canonicalHeader(r.Header)
	if err != nil {
		return Call{}, err
	}
	body := r.Body
	if len(body) == 0 {
		body = nil
	}
	return Call{r.Provider, r.Method, path, query, h, body}, nil
}

func isMethod(s string) bool {
	return s != "" && len(s) <= 16 && !strings.ContainsFunc(s, func(r rune) bool { return r < 'A' || r > 'Z' })
}

// canonicalPath refuses every path that an upstream might read differently from
// us: empty, dot or encoded-slash segments, path parameters, backslashes,
// control characters and text that is not UTF-8.
func canonicalPath(escaped string) (string, error) {
	if !strings.HasPrefix(escaped, "/") {
		return "", fmt.Errorf("path %q: %w: want a leading slash", escaped, ErrMalformed)
	}
	var out strings.Builder
	for _, seg := range strings.Split(escaped[1:], "/") {
		s, err := url.PathUnescape(seg)
		switch {
		case err != nil:
			return "", fmt.Errorf("path segment %q: %w: bad escape", seg, ErrMalformed)
		case s == "":
			return "", fmt.Errorf("path: %w: empty segment", ErrMalformed)
		case s == "." || s == "..":
			return "", fmt.Errorf("path segment %q: %w: dot segment", seg, ErrMalformed)
		case !utf8.ValidString(s):
			return "", fmt.Errorf("path segment %q: %w: not UTF-8", seg, ErrMalformed)
		case strings.ContainsFunc(s, ambiguous):
			return "", fmt.Errorf("path segment %q: %w: it holds a slash, backslash, semicolon, percent sign or control character", seg, ErrMalformed)
		}
		out.WriteString("/" + url.PathEscape(s))
	}
	return out.String(), nil
}

// ambiguous reports whether r inside a decoded segment could be read as syntax
// by somebody: a percent sign would be a second layer of escapes.
func ambiguous(r rune) bool {
	return r < 0x20 || r == 0x7f || r == '/' || r == '\\' || r == ';' || r == '%'
}

func canonicalQuery(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return "", fmt.Errorf("query: %w: %v", ErrMalformed, err)
	}
	for name, values := range q {
		if len(values) > 1 {
			return "", fmt.Errorf("query parameter %q: %w: given %d times", name, ErrMalformed, len(values))
		}
		if !utf8.ValidString(name) || !utf8.ValidString(values[0]) || strings.ContainsFunc(name+values[0], isControl) {
			return "", fmt.Errorf("query parameter %q: %w: control characters or not UTF-8", name, ErrMalformed)
		}
	}
	return q.Encode(), nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

func canonicalHeader(in http.Header) (http.Header, error) {
	for _, name := range refused {
		if len(in[name]) > 0 {
			return nil, fmt.Errorf("header %s: %w: it can change what the request means", name, ErrMalformed)
		}
	}
	if e := in.Get("Content-Encoding"); len(in["Content-Encoding"]) > 1 || e != "" && !strings.EqualFold(e, "identity") {
		return nil, fmt.Errorf("header Content-Encoding: %w: send the body uncompressed, it must be read", ErrMalformed)
	}
	out := http.Header{}
	for name, values := range in {
		if len(values) > 1 && (name == "Content-Type" || slices.Contains(passed, name) && name != "Accept") {
			return nil, fmt.Errorf("header %s: %w: given %d times", name, ErrMalformed, len(values))
		}
		if name == "Content-Type" || slices.Contains(passed, name) {
			out[name] = []string{strings.Join(values, ", ")}
		}
	}
	return out, nil
}

// query returns the decoded parameters of c. A parameter occurs once.
func (c Call) query() url.Values {
	q, _ := url.ParseQuery(c.Query) // canonicalQuery made it
	return q
}

// canonicalJSON returns body in one spelling: no duplicate names, valid UTF-8,
// no white space, strings with the fewest escapes, numbers as they were
// written.
func canonicalJSON(body []byte) (jsontext.Value, error) {
	v, err := jsontext.AppendFormat(nil, body)
	if err != nil {
		return nil, fmt.Errorf("body: %w: %v", ErrMalformed, err)
	}
	return v, nil
}
