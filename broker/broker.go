// Package broker lends out root keys without handing them over.
//
// An agent holds a lease, a short-lived token that names scopes. It sends its
// calls here instead of to the provider. [Broker.relay] is the only path by
// which a key meets a request; to know this program, read that function.
//
// The laws that are kept here, and tested here:
//
//   - What is judged is what is sent: the outgoing request is built from the
//     call that the judge has read, never from the request it came from.
//   - No root key is revealed before the entry that says why is written, and
//     synced to disk if the call is more than a read. A log that cannot be
//     written stops the relay.
//   - A lease ends when it ends: on every request, and in every open answer.
//   - The agent's door never leads to the owner's. Doing less is always easy;
//     doing more needs the owner.
//   - No secret is in any output.
package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

// Parts is what a Broker is made of. Every field is required.
type Parts struct {
	Catalog  *scopes.Catalog
	Config   string // path of the owner's config.toml
	Store    *keystore.Store
	AuditDir string
	Upstream http.RoundTripper
	Now      func() time.Time
	Log      *slog.Logger // for the owner's eyes; no secret reaches it
}

// Broker judges and relays calls. It is an [http.Handler], the agents' relay.
// Its parts are split so that the one that decides has no field through which
// it could reach a secret.
type Broker struct {
	config *config
	leases *Leases
	judge  judge
	audit  *audit.Log
	hand   hand
	store  *keystore.Store
	now    func() time.Time
	log    *slog.Logger

	strangers *rate.Limiter // how many calls without a lease are logged
	uncounted atomic.Int64  // those that were not, since the last that was
}

// Names of the signing keys in the keystore.
const (
	leaseKey = "lease-signing"
	auditKey = "audit-signing"
)

// New opens the log and makes a Broker. It fails when the configuration is
// wrong, when the keystore does not give the signing keys, and when the log
// cannot be opened. A log that was tampered with opens, but all earlier leases
// are void.
func New(p Parts) (*Broker, error) {
	if p.Catalog == nil || p.Config == "" || p.Store == nil || p.AuditDir == "" || p.Upstream == nil || p.Now == nil || p.Log == nil {
		return nil, errors.New("broker: incomplete parts")
	}
	leaseSigner, err := p.Store.Signer(leaseKey)
	if err != nil {
		return nil, err
	}
	auditSigner, err := p.Store.Signer(auditKey)
	if err != nil {
		return nil, err
	}
	leases, err := newLeases(leaseSigner, p.Now)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		config: &config{path: p.Config, catalog: p.Catalog},
		leases: leases,
		hand:   hand{p.Store, p.Upstream},
		store:  p.Store,
		now:    p.Now,
		log:    p.Log,

		strangers: rate.NewLimiter(strangersPerSecond, strangersAtOnce),
	}
	settings, err := b.config.settings()
	if err != nil {
		return nil, err
	}
	log, recovery, err := audit.Open(audit.Options{
		Dir: p.AuditDir, Now: p.Now, Origin: "cred.audit/" + leases.kid, Signer: auditSigner, Recent: maxTTL, Fold: leases.fold,
		Logf: func(format string, args ...any) { p.Log.Error("audit: " + fmt.Sprintf(format, args...)) },
	})
	if err != nil {
		return nil, err
	}
	b.audit, leases.log = log, log
	b.judge = judge{p.Catalog, leases, &placer{catalog: p.Catalog, now: p.Now, ask: b.lookup, cache: map[string]located{}}}
	b.report(recovery)
	start := audit.Entry{Kind: audit.KindStart, Detail: map[string]string{"keystore": string(p.Store.Kind()), "config_sha256": settings.digest}}
	if err := log.Append(start, true); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	b.config.changed = b.configChanged
	return b, nil
}

// report tells the owner what opening the log has found.
func (b *Broker) report(r audit.Recovery) {
	if r.Broken != nil {
		b.log.Error("the audit log does not hold; all earlier leases are void: run cred audit verify", "why", r.Broken)
	}
	for _, e := range r.Unfinished {
		b.log.Warn("a call has no outcome and may have happened", "call", e.ID, "provider", e.Provider, "time", e.Time)
	}
}

// configChanged writes into the log that the owner's file is another one now.
func (b *Broker) configChanged(s *Settings, err error) {
	e := audit.Entry{Kind: audit.KindConfig}
	if err != nil {
		e.Error = err.Error()
		b.log.Error("the configuration cannot be used; nothing is relayed until it can", "why", err)
	} else {
		e.Detail = map[string]string{"config_sha256": s.digest}
		b.log.Info("the configuration has changed")
	}
	if err := b.audit.Append(e, true); err != nil {
		b.log.Error("the change of the configuration is not in the log", "why", err)
	}
}

// ServeHTTP is the relay.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newID()
	err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	if err == nil {
		err = b.relay(w, r, id)
	}
	if err != nil {
		refusal := refuseWith(err)
		if refusal.Err != nil && refusal.httpStatus() >= 500 {
			b.log.Warn("refused", "call", id, "code", refusal.Code, "why", refusal.Err)
		}
		w.Header().Set("Cred-Call", id)
		writeRefusal(w, refusal, id, b.isGraphQL(r))
	}
}

// isGraphQL reports whether r goes to a GraphQL endpoint, whose clients
// understand errors of another shape.
func (b *Broker) isGraphQL(r *http.Request) bool {
	for _, name := range b.judge.catalog.Names() {
		d, err := b.judge.catalog.Describe(name)
		if err == nil && d.GraphQL != "" && r.URL.Path == "/"+string(name)+d.GraphQL {
			return true
		}
	}
	return false
}

// Close writes that the broker has ended and closes the log.
func (b *Broker) Close() error {
	return errors.Join(b.audit.Append(audit.Entry{Kind: audit.KindStop}, true), b.audit.Close())
}
