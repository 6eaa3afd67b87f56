package broker

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

// attach puts the root key of a provider into a request. It is the only place
// where a key is in the clear, and the only caller of Secret.Reveal. It returns
// the mask that hides the key in whatever comes back.
func (h hand) attach(out *http.Request, provider string, auth scopes.Auth) (*mask, error) {
	secret, err := h.keys.Secret(provider)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, &Refusal{Code: UpstreamFailed, Detail: fmt.Sprintf("there is no key for %s; the owner adds it with: cred key add %[1]s", provider)}
	}
	if err != nil {
		return nil, &Refusal{Code: UpstreamFailed, Detail: "the keystore does not answer; the owner sees why with: cred doctor", Err: err}
	}
	key := secret.Reveal()
	if len(key) < minKey || len(key) > maxKey {
		return nil, &Refusal{Code: UpstreamFailed, Detail: fmt.Sprintf("the key for %s could not be masked when it is echoed; the owner replaces it with: cred key add %[1]s", provider)}
	}
	switch auth.Type {
	case scopes.Bearer:
		out.Header.Set("Authorization", "Bearer "+key)
	case scopes.Header:
		out.Header.Set(auth.In, key)
	case scopes.Basic:
		out.SetBasicAuth(auth.User, key)
	case scopes.Query:
		q := out.URL.Query()
		q.Set(auth.In, key)
		out.URL.RawQuery = q.Encode()
	default:
		return nil, fmt.Errorf("no way to attach a key: %q", auth.Type)
	}
	return newMask(key), nil
}

// A mask hides texts in what a provider answers, as they are and as they would
// be written in JSON, in a URL, in hexadecimal and in base64 at any alignment. It replaces them
// by asterisks of the same length, so that lengths stay true.
type mask struct {
	hidden  [][]byte
	longest int
}

func newMask(key string) *mask {
	m := new(mask)
	m.add(key)
	m.add(hex.EncodeToString([]byte(key)))
	m.add(strings.ToUpper(hex.EncodeToString([]byte(key))))
	for pad := range 3 {
		// The characters that mix with what stands before and after the key
		// are left out. The padding stands for what is before it, such as the
		// user name of basic authentication.
		e := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:pad] + key))
		e = e[[]int{0, 2, 3}[pad] : len(e)-1]
		m.add(e)
		m.add(strings.NewReplacer("+", "-", "/", "_").Replace(e))
	}
	if strings.ContainsFunc(key, isSyntax) {
		for _, f := range spellings(key) {
			m.add(f)
		}
	}
	return m
}

// isSyntax reports whether some format writes r in another way.
func isSyntax(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_' && r != '.'
}

func (m *mask) add(form string) {
	if slices.ContainsFunc(m.hidden, func(h []byte) bool { return string(h) == form }) {
		return
	}
	m.hidden = append(m.hidden, []byte(form))
	m.longest = max(m.longest, len(form))
}

// spellings are the ways in which programs write a text with special characters
// inside another: JSON of several habits, URLs in both cases, HTML.
func spellings(s string) []string {
	quoted, _ := json.Marshal(s) // a string: it cannot fail
	inJSON := string(quoted[1 : len(quoted)-1])
	simple := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
	forms := []string{
		inJSON, strings.ReplaceAll(inJSON, "/", `\/`), simple, strings.ReplaceAll(simple, "/", `\/`),
		html.EscapeString(s), strings.NewReplacer("&#34;", "&quot;", "&#39;", "&apos;").Replace(html.EscapeString(s)),
	}
	component := strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(url.QueryEscape(s))
	for _, f := range []string{url.QueryEscape(s), url.PathEscape(s), component} {
		forms = append(forms, f, lowerEscapes(f))
	}
	return forms
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// hide masks every occurrence in b, in place.
func (m *mask) hide(b []byte) {
	for _, h := range m.hidden {
		for rest := b; ; {
			i := bytes.Index(rest, h)
			if i < 0 {
				break
			}
			for j := range h {
				rest[i+j] = '*'
			}
			rest = rest[i+len(h):]
		}
	}
}

func (m *mask) text(s string) string {
	b := []byte(s)
	m.hide(b)
	return string(b)
}

// reader masks a stream. It holds back no more than what may be the beginning
// of a hidden text.
func (m *mask) reader(r io.ReadCloser) io.ReadCloser {
	return &maskedReader{mask: m, from: r, space: buffers.Get().(*[]byte)}
}

// A maskedReader is read and closed by one goroutine.
type maskedReader struct {
	*mask
	from  io.ReadCloser
	space *[]byte // of buf, from the pool; longer than any hidden text
	buf   []byte  // what was read, masked
	done  int     // of buf: given away
	ready int     // of buf: may be given away
	err   error
}

// Read implements [io.Reader].
func (r *maskedReader) Read(p []byte) (int, error) {
	for r.done == r.ready && r.err == nil {
		r.fill()
	}
	if r.done == r.ready {
		return 0, r.err
	}
	n := copy(p, r.buf[r.done:r.ready])
	r.done += n
	return n, nil
}

// fill reads once and masks what it has.
func (r *maskedReader) fill() {
	kept := copy(*r.space, r.buf[r.done:])
	n, err := r.from.Read((*r.space)[kept:])
	r.buf, r.err = (*r.space)[:kept+n], err
	r.hide(r.buf)
	r.done, r.ready = 0, len(r.buf)
	if err == nil {
		r.ready -= r.heldBack()
	}
}

// heldBack is the length of the longest end of buf with which a hidden text
// begins.
func (r *maskedReader) heldBack() int {
	for n := min(len(r.buf), r.longest-1); n > 0; n-- {
		tail := r.buf[len(r.buf)-n:]
		for _, h := range r.hidden {
			if len(h) > n && bytes.HasPrefix(h, tail) {
				return n
			}
		}
	}
	return 0
}

// Close implements [io.Closer].
func (r *maskedReader) Close() error {
	if r.space != nil {
		buffers.Put(r.space)
		r.space, r.buf, r.done, r.ready, r.err = nil, nil, 0, 0, errClosed
	}
	return r.from.Close()
}

var errClosed = errors.New("the answer was closed")
