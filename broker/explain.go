package broker

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/credbroker/cred/scopes"
)

// ExplainRequest is a raw HTTP request (RFC 9112) and the scopes of the lease
// that would carry it. Without scopes the question is what policy says to a
// lease for exactly this call.
type ExplainRequest struct {
	HTTP   []byte             `json:"http"`
	Scopes []string           `json:"scopes,omitempty"`
	On     scopes.Environment `json:"on,omitempty"`
}

// An Explanation says what a request would do and what would become of it.
type Explanation struct {
	Provider string         `json:"provider,omitempty"`
	Method   string         `json:"method,omitempty"`
	Path     string         `json:"path,omitempty"` // as it would be sent
	Acts     []ExplainedAct `json:"acts,omitempty"`
	Verdict  string         `json:"verdict"`
	Code     Code           `json:"code,omitempty"` // of the refusal
	Why      string         `json:"why"`
	Needed   []string       `json:"scopes_needed,omitempty"`
}

// An ExplainedAct is one act, with how its environment was found.
type ExplainedAct struct {
	Operation string `json:"operation"`
	Resource  string `json:"resource,omitempty"`
	Scope     string `json:"scope"`
	Placed    string `json:"placed"`
}

// Explain judges a request without a broker: what needs a look-up at the
// provider is unplaced.
func Explain(ctx context.Context, catalog *scopes.Catalog, s *Settings, in ExplainRequest) (Explanation, error) {
	return judge{catalog: catalog, place: &placer{catalog: catalog}}.explain(ctx, s, in)
}

func (d doors) explain(ctx context.Context, _ caller, in ExplainRequest) (Explanation, error) {
	s, err := d.config.settings()
	if err != nil {
		return Explanation{}, &Refusal{Code: Misconfigured, Detail: err.Error()}
	}
	return d.judge.explain(ctx, s, in)
}

func (g judge) explain(ctx context.Context, s *Settings, in ExplainRequest) (Explanation, error) {
	var held scopes.Set
	for _, text := range in.Scopes {
		sc, err := g.catalog.Resolve(text, in.On)
		if err != nil {
			return Explanation{}, &Refusal{Code: Malformed, Detail: err.Error()}
		}
		held = append(held, sc)
	}
	var e Explanation
	refused := func(err error) (Explanation, error) {
		r := refuseWith(err)
		e.Verdict, e.Code, e.Why = scopes.Deny.String(), r.Code, r.Detail
		return e, nil
	}
	call, err := g.parse(s, in.HTTP)
	e.Provider, e.Method, e.Path = string(call.Provider), call.Method, call.Path
	if err != nil {
		return refused(err)
	}
	exact := len(held) == 0
	if exact { // any lease for this provider, so that the meaning is asked for
		held = scopes.Set{{Provider: call.Provider}}
	}
	call, acts, err := g.meaning(ctx, behalf{call: newID()}, s, call, held)
	e.tell(call, acts)
	if err != nil {
		return refused(err)
	}
	if exact {
		held = nil
		for _, a := range acts {
			held = append(held, a.Scope())
		}
	}
	e.decide(s.Policy.Decide(scopes.Question{Held: held, Acts: acts}))
	return e, nil
}

func (e *Explanation) tell(call scopes.Call, acts []scopes.Act) {
	e.Provider, e.Method, e.Path = string(call.Provider), call.Method, call.Path
	for _, a := range acts {
		e.Acts = append(e.Acts, ExplainedAct{a.Operation, a.ID, a.String(), a.Place.String()})
	}
}

func (e *Explanation) decide(d scopes.Decision) {
	e.Verdict, e.Why, e.Needed = d.Verdict.String(), d.Reason, d.Missing.Strings()
	switch d.Verdict {
	case scopes.Deny:
		e.Code = Denied
	case scopes.Hold:
		e.Code = Held
	}
}

// parse reads a raw request. What belongs to the connection to the relay is not
// asked for: a lease, the relay's own address, the absence of a web page. Its provider is the one whose host it names or,
// for a request to the relay, the first segment of its path.
func (g judge) parse(s *Settings, raw []byte) (scopes.Call, error) {
	head, body, _ := bytes.Cut(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(bytes.TrimLeft(head, "\n"), "\n\n"...))))
	if err != nil {
		return scopes.Call{}, &Refusal{Code: Malformed, Detail: "this is no HTTP request: " + err.Error()}
	}
	if len(body) > maxBody {
		return scopes.Call{}, &Refusal{Code: Malformed, Detail: fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	}
	host := r.Host
	if r.URL.Host != "" {
		host = r.URL.Host
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	provider, ok := g.providerAt(s, host)
	if !ok {
		first, rest, _ := strings.Cut(path, "/")
		provider, path = scopes.Provider(first), rest
	}
	if _, err := g.catalog.Describe(provider); err != nil {
		return scopes.Call{}, err
	}
	return scopes.NewCall(scopes.Request{Provider: provider, Method: r.Method, Path: "/" + path, Query: r.URL.RawQuery,
		Header: r.Header, Body: bytes.TrimSuffix(body, []byte("\n"))})
}

func (g judge) providerAt(s *Settings, host string) (scopes.Provider, bool) {
	for _, name := range g.catalog.Names() {
		to, err := s.target(g.catalog, name)
		if err == nil && strings.EqualFold(to.base.Host, host) {
			return name, true
		}
		d, err := g.catalog.Describe(name)
		if err != nil || d.BaseURL == "" {
			continue
		}
		if u, err := url.Parse(d.BaseURL); err == nil && strings.EqualFold(u.Host, host) {
			return name, true
		}
	}
	return "", false
}
