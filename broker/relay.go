package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/scopes"
)

// relay carries one call from an agent to its provider. Its two halves cannot
// do each other's work: the judge decides and has no way to a secret, the hand
// holds the secret and has nothing left to decide. The log is the door between
// them: the hand needs the Pending that only Begin makes, and Begin gives one
// only when the judgement is on disk.
func (b *Broker) relay(w http.ResponseWriter, r *http.Request, id string) error {
	s, err := b.config.settings()
	if err != nil {
		j := judgement{ID: id, Call: scopes.Call{Method: clip(r.Method, 16)}}
		return b.refuse(j.refused(&Refusal{Code: Misconfigured, Detail: err.Error()}))
	}
	j := b.judge.who(id, r)
	ctx, stop, err := b.leases.during(r.Context(), j.Lease.ID)
	defer stop()
	switch {
	case j.failed != nil:
	case err != nil:
		j = j.refused(&Refusal{Code: BadLease, Detail: err.Error()})
	default:
		j = b.judge.judge(ctx, s, w, r, j)
	}
	var to upstream
	if j.Verdict == scopes.Allow {
		if to, err = b.target(s, j.Call.Provider); err != nil {
			j = j.refused(err)
		}
	}
	if j.Verdict != scopes.Allow {
		return b.refuse(j)
	}
	pending, err := b.audit.Begin(j.entry(), j.changes())
	if err != nil {
		return &Refusal{Code: Unaudited, Err: err}
	}
	began := time.Now()
	resp, err := b.hand.send(ctx, j.Call, to, pending)
	if err != nil {
		pending.End(outcome(0, 0, began, err))
		return failed(ctx, err, "; the call may have happened")
	}
	w.Header().Set("Cred-Call", id)
	n, err := deliver(ctx, w, resp)
	pending.End(outcome(resp.StatusCode, n, began, err))
	if err != nil {
		// The answer has begun and cannot become a refusal. Ending the
		// connection in the middle tells the agent that it is not whole.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// target returns where an allowed call goes. The owner may have written a
// tighter policy while the agent took its time with the body or the provider
// with a look-up; what was judged by the old one is not sent.
func (b *Broker) target(s *Settings, p scopes.Provider) (upstream, error) {
	if now, err := b.config.settings(); err != nil || now != s {
		return upstream{}, &Refusal{Code: Misconfigured, Detail: "the owner's configuration changed while the call was judged; send it again", Err: err}
	}
	return s.target(b.judge.catalog, p)
}

// refuse logs a call that is not sent and says why. Calls without a lease come
// from anybody on the machine: beyond a rate they are counted, so that nobody
// can fill the disk with them.
func (b *Broker) refuse(j judgement) error {
	e := j.entry()
	if j.Lease.ID == "" {
		e.Path, e.Why, e.Error = clip(e.Path, maxStranger), clip(e.Why, maxStranger), clip(e.Error, maxStranger)
		if !b.strangers.Allow() {
			b.uncounted.Add(1)
			return j.refusal()
		}
		if n := b.uncounted.Swap(0); n > 0 {
			e.Detail = map[string]string{"more_without_a_lease": strconv.FormatInt(n, 10)}
		}
	}
	if err := b.audit.Append(e, false); err != nil {
		return &Refusal{Code: Unaudited, Err: err}
	}
	return j.refusal()
}

// What is logged of calls without a lease: this many a second and at once, and
// this many bytes of each of their texts.
const (
	strangersPerSecond = 20
	strangersAtOnce    = 200
	maxStranger        = 256
)

// lookup sends a call of the broker's own on behalf of an agent's, to place a
// resource. It is logged like every other.
func (b *Broker) lookup(ctx context.Context, who behalf, s *Settings, call scopes.Call) ([]byte, error) {
	to, err := s.target(b.judge.catalog, call.Provider)
	if err != nil {
		return nil, err
	}
	pending, err := b.audit.Begin(audit.Entry{
		Kind: audit.KindLookup, ID: newID(), Parent: who.call, Lease: who.lease, Subject: who.subject, Provider: string(call.Provider), Method: call.Method, Path: call.Path,
		Body: audit.Digest(call.Body), Verdict: scopes.Allow.String(), Why: "the broker asks where a resource lives",
	}, false)
	if err != nil {
		return nil, &Refusal{Code: Unaudited, Err: err}
	}
	began := time.Now()
	status, body, err := b.hand.fetch(ctx, call, to, pending)
	pending.End(outcome(status, int64(len(body)), began, err))
	switch {
	case err != nil:
		return nil, failed(ctx, err, "")
	case status != http.StatusOK:
		return nil, &Refusal{Code: UpstreamFailed, Detail: strings.TrimSpace(fmt.Sprintf("the provider answers %d %s", status, http.StatusText(status)))}
	}
	return body, nil
}

func outcome(status int, n int64, began time.Time, err error) audit.Entry {
	e := audit.Entry{Status: status, Bytes: n, Micros: time.Since(began).Microseconds()}
	if err != nil {
		e.Error = err.Error()
	}
	return e
}

// failed is what the agent is told when the hand came back empty. Then says what
// that means for what was asked; a look-up can have changed nothing.
func failed(ctx context.Context, err error, then string) *Refusal {
	switch cause := context.Cause(ctx); {
	case cause == errLeaseEnded || cause == errLeaseRevoked:
		return &Refusal{Code: BadLease, Detail: cause.Error() + " while the call was under way" + then}
	case cause != nil:
		return &Refusal{Code: UpstreamFailed, Detail: "the call was given up" + then, Err: err}
	}
	if r := refuseWith(err); r.Code != Internal {
		return r
	}
	if errors.Is(err, errNotReached) {
		return &Refusal{Code: UpstreamFailed, Detail: "the provider could not be reached; nothing was sent", Err: err}
	}
	return &Refusal{Code: UpstreamFailed, Detail: "the provider did not answer" + then, Err: err}
}

// newID returns an id for a call. Ids of one broker do not repeat.
func newID() string { return "c_" + strings.ToLower(rand.Text()[:20]) }
