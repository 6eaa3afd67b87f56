package broker

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/scopes"
)

// A judge decides what may happen. It holds no secret and no way to one: what
// it needs to know from a provider it asks for through place.
type judge struct {
	catalog *scopes.Catalog
	leases  *Leases
	place   *placer
}

// A judgement is all that is known about a call before anything is sent. Its
// zero value is a denial.
type judgement struct {
	ID     string // of the call, in the log
	Call   scopes.Call
	Lease  Lease
	Acts   []scopes.Act
	failed *Refusal // why the call never came before the policy
	scopes.Decision
}

// who reads a request's line and headers and finds out whose it is.
func (g judge) who(id string, r *http.Request) (j judgement) {
	j.ID = id
	call, token, malformed := accept(r, g.catalog)
	j.Call = call
	lease, err := g.holder(token)
	j.Lease = lease // for the log, even of a request that cannot be read
	if malformed != nil {
		return j.refused(malformed)
	}
	if err != nil {
		return j.refused(err)
	}
	return j
}

// judge finds out what the call of j would do and where, and whether it may.
// The context ends with the lease.
func (g judge) judge(ctx context.Context, s *Settings, w http.ResponseWriter, r *http.Request, j judgement) judgement {
	body, err := readBody(w, r)
	if err != nil {
		return j.refused(err)
	}
	if len(body) > 0 {
		j.Call.Body = body
	}
	held := j.Lease.Scopes
	j.Call, j.Acts, err = g.meaning(ctx, behalf{j.ID, j.Lease.ID, j.Lease.Subject}, s, j.Call, held)
	if err != nil {
		return j.refused(err)
	}
	j.Decision = s.Policy.Decide(scopes.Question{Held: held, Acts: j.Acts})
	return j
}

// refused is j with the verdict deny for the reason err.
func (j judgement) refused(err error) judgement {
	j.Decision = scopes.Decision{}
	j.failed = refuseWith(err)
	return j
}

// holder returns the lease whose token this is.
func (g judge) holder(token string) (Lease, error) {
	const how = "; the owner or the agent takes one with: cred lease PROVIDER/RESOURCE:ACTION@ENVIRONMENT"
	if token == "" {
		return Lease{}, &Refusal{Code: BadLease, Detail: "the request carries no lease where the provider's key would be" + how}
	}
	lease, err := g.leases.verify(token)
	switch {
	case err == nil:
		return lease, nil
	case err == errLeaseEnded || err == errLeaseRevoked || err == errLeaseUnknown:
		return lease, &Refusal{Code: BadLease, Detail: err.Error() + how}
	}
	// The parser's reason helps whoever forges tokens more than it helps an
	// agent; it is for the log.
	return Lease{}, &Refusal{Code: BadLease, Detail: "what stands where the provider's key would be is no lease of this broker" + how, Err: err}
}

// meaning says what call would do and where, and gives the call in the one
// spelling in which it may be sent. A lease for other providers ends here: the
// provider is asked nothing on its behalf.
func (g judge) meaning(ctx context.Context, who behalf, s *Settings, call scopes.Call, held scopes.Set) (scopes.Call, []scopes.Act, error) {
	canonical, acts, err := g.catalog.Classify(call)
	if err != nil {
		return call, nil, err
	}
	if !serves(held, call.Provider) {
		return canonical, acts, &Refusal{Code: Denied, Detail: fmt.Sprintf("the lease is for %s, not for %s", held, call.Provider)}
	}
	acts, err = g.place.acts(ctx, who, s, acts)
	return canonical, acts, err
}

func serves(held scopes.Set, p scopes.Provider) bool {
	for _, s := range held {
		if s.Provider == p {
			return true
		}
	}
	return false
}

// refusal says what to tell the agent when the verdict is not Allow.
func (j judgement) refusal() *Refusal {
	switch {
	case j.failed != nil:
		return j.failed
	case j.Verdict == scopes.Hold:
		return &Refusal{Code: Held, Detail: j.Reason}
	case len(j.Missing) == 0:
		return &Refusal{Code: Denied, Detail: j.Reason}
	}
	return &Refusal{Code: Denied, Detail: j.Reason, Needed: j.Missing, Ask: askFor(j.Missing)}
}

// changes reports whether the call is more than a read, so that its entry must
// be on disk, not only written, before a key is revealed.
func (j judgement) changes() bool {
	return slices.ContainsFunc(j.Acts, func(a scopes.Act) bool { return a.Action != scopes.Read })
}

// entry is the judgement as a line of the log.
func (j judgement) entry() audit.Entry {
	e := audit.Entry{
		Kind: audit.KindCall, ID: j.ID, Lease: j.Lease.ID, Subject: j.Lease.Subject, Provider: string(j.Call.Provider),
		Method: j.Call.Method, Path: j.Call.Path, Acts: auditActs(j.Acts), Verdict: j.Verdict.String(), Why: j.Reason,
	}
	if len(j.Call.Body) > 0 {
		e.Body = audit.Digest(j.Call.Body)
	}
	if j.Verdict != scopes.Allow {
		r := j.refusal()
		e.Code, e.Why = string(r.Code), r.Detail
		if r.Err != nil {
			e.Error = r.Err.Error()
		}
	}
	return e
}

func auditActs(acts []scopes.Act) []audit.Act {
	out := make([]audit.Act, len(acts))
	for i, a := range acts {
		out[i] = audit.Act{Operation: a.Operation, Scope: a.String(), Resource: a.ID}
	}
	return out
}
