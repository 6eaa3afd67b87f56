package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/credbroker/cred/scopes"
)

// A Code says why a call was refused. The set is closed and described in
// docs/refusals.md; agents branch on it.
type Code string

// The codes.
const (
	Malformed      Code = "malformed"       // not in the one form that is understood
	BadLease       Code = "bad-lease"       // no lease, or one that is not ours, has ended or was revoked
	Unclassified   Code = "unclassified"    // no catalog says what the call would do
	Unplaced       Code = "unplaced"        // nobody can tell in which environment it would do it
	Denied         Code = "denied"          // the lease or the policy does not permit it
	Held           Code = "held"            // the policy wants a person's yes
	Unaudited      Code = "unaudited"       // the log cannot be written
	Misconfigured  Code = "misconfigured"   // the owner's configuration cannot be used
	UpstreamFailed Code = "upstream-failed" // the provider could not be asked
	Internal       Code = "internal"        // a bug
)

var statusOf = map[Code]int{
	Malformed: 400, BadLease: 401, Unclassified: 403, Unplaced: 403, Denied: 403, Held: 403,
	Unaudited: 503, Misconfigured: 503, UpstreamFailed: 502, Internal: 500,
}

// titleOf is the one sentence that stands for a code.
var titleOf = map[Code]string{
	Malformed:      "the request is not in the one form that is understood",
	BadLease:       "this is not a lease that is valid now",
	Unclassified:   "it is not known what this call would do, so it is refused",
	Unplaced:       "it is not known in which environment this call would act, so it is refused",
	Denied:         "the lease or the policy does not permit this call",
	Held:           "the owner's policy holds this call, and it was not sent",
	Unaudited:      "the audit log cannot be written, so nothing is relayed",
	Misconfigured:  "the owner's configuration cannot be used",
	UpstreamFailed: "the provider could not be asked",
	Internal:       "something went wrong in the broker; the call was not sent",
}

// docs is where the codes are described.
const docs = "https://github.com/credbroker/cred/blob/main/docs/refusals.md#"

// A Refusal is what the agent is told (Code, Detail, Needed, Ask) and what only
// the log is told (Err).
type Refusal struct {
	Code   Code
	Detail string     // what stands in the way of this call, for the agent
	Needed scopes.Set // scopes that would have been needed
	Ask    string     // the command that asks for more, where there is one
	Err    error      // for the owner's log only
	status int        // when not the code's usual one
}

func (r *Refusal) Error() string {
	s := string(r.Code)
	if r.Detail != "" {
		s += ": " + r.Detail
	}
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

func (r *Refusal) Unwrap() error { return r.Err }

func (r *Refusal) httpStatus() int {
	if r.status != 0 {
		return r.status
	}
	return statusOf[r.Code]
}

// maxDetail bounds what a refusal repeats of the request, in bytes.
const maxDetail = 1000

// refuseWith returns the refusal that err is, where err may come from scopes.
// The texts of errors from scopes are made for the agent.
func refuseWith(err error) *Refusal {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, scopes.ErrMalformed):
		return &Refusal{Code: Malformed, Detail: clip(err.Error(), maxDetail)}
	case errors.Is(err, scopes.ErrUnclassified):
		return &Refusal{Code: Unclassified, Detail: clip(err.Error(), maxDetail)}
	case errors.Is(err, scopes.ErrUnplaced):
		return &Refusal{Code: Unplaced, Detail: clip(err.Error(), maxDetail)}
	}
	return &Refusal{Code: Internal, Err: err}
}

// Problem is a refusal as a document: RFC 9457, with members of our own.
type Problem struct {
	Type     string   `json:"type"`
	Title    string   `json:"title"`
	Status   int      `json:"status"`
	Detail   string   `json:"detail,omitempty"`
	Instance string   `json:"instance,omitempty"` // the call's id in the log
	Code     Code     `json:"code"`
	Needed   []string `json:"scopes_needed,omitempty"`
	Ask      string   `json:"ask,omitempty"`
}

func (r *Refusal) problem(id string) Problem {
	p := Problem{Type: docs + string(r.Code), Title: titleOf[r.Code], Status: r.httpStatus(), Detail: r.Detail, Code: r.Code,
		Needed: r.Needed.Strings(), Ask: r.Ask}
	if id != "" {
		p.Instance = "urn:cred:call:" + id
	}
	return p
}

// sentence is the refusal in one line, for clients that show a message only.
func (p Problem) sentence() string {
	s := "cred: " + string(p.Code) + ": " + p.Title
	if p.Detail != "" {
		s = "cred: " + string(p.Code) + ": " + p.Detail
	}
	if p.Ask != "" {
		s += "; to ask for it: " + p.Ask
	}
	return s
}

// writeRefusal is the only place where a refusal becomes a response. Towards a
// GraphQL endpoint it has the shape of a GraphQL error, so that ordinary
// clients print it.
func writeRefusal(w http.ResponseWriter, r *Refusal, id string, graphql bool) {
	p := r.problem(id)
	h := w.Header()
	h.Set("Cred-Refusal", string(r.Code))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Code == BadLease {
		h.Set("WWW-Authenticate", `Bearer realm="cred", error="invalid_token"`)
	}
	var body any = p
	h.Set("Content-Type", "application/problem+json")
	if graphql {
		h.Set("Content-Type", "application/json")
		body = map[string]any{"data": nil, "errors": []any{map[string]any{"message": p.sentence(), "extensions": p}}}
	}
	w.WriteHeader(p.Status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // the agent has gone away
}

// askFor is the command that asks for the scopes of ss.
func askFor(ss scopes.Set) string {
	if len(ss) == 0 {
		return ""
	}
	return fmt.Sprintf("cred lease %s", strings.Join(ss.Strings(), " "))
}
