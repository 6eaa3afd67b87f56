package broker

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/scopes"
)

// A Lease is a permission for one task: signed, short, and known to the broker.
// Only [Leases] makes one; its zero value covers nothing.
type Lease struct {
	ID      string
	Subject string // who asked
	Reason  string // for which task
	Scopes  scopes.Set
	Issued  time.Time
	Expires time.Time
	Revoked bool
	token   string // SHA-256 of the token, in hexadecimal
}

// What a token says of its maker and its use.
const (
	issuer   = "cred"
	audience = "cred-relay"
)

// Limits of what a lease says about its task, so that a line of the log that
// holds it stays readable.
const (
	maxSubject = 128
	maxReason  = 512
)

// Leases issues, verifies and revokes leases. They and their revocations are
// entries in the log; what is in memory is a fold of its recent part. It is
// safe for concurrent use.
type Leases struct {
	signer crypto.Signer
	kid    string
	now    func() time.Time
	log    *audit.Log
	parser *jwt.Parser

	// giving is held over the writing of a line: shared while a lease is given,
	// alone while leases are revoked. So what is in memory and what a restart
	// makes of the log agree on which leases a revocation of all has met.
	giving sync.RWMutex

	mu     sync.Mutex
	known  map[string]*leaseState
	tokens map[string]string // SHA-256 of a token that was verified: id of its lease
}

// leaseState is a lease with the calls that are under way with it.
type leaseState struct {
	Lease
	cuts map[*func(error)]struct{}
}

var (
	errLeaseEnded   = errors.New("the lease has expired")
	errLeaseRevoked = errors.New("the lease was revoked")
	errLeaseUnknown = errors.New("the lease is not one that this broker has given")
)

// newLeases returns Leases that sign with signer, an ed25519 key. Fold must be
// called with the log's recent entries, and log set, before any other method.
func newLeases(signer crypto.Signer, now func() time.Time) (*Leases, error) {
	public, ok := signer.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("leases are signed with ed25519, not %T", signer.Public())
	}
	sum := sha256.Sum256(public)
	return &Leases{
		signer: signer,
		kid:    base64.RawURLEncoding.EncodeToString(sum[:12]),
		now:    now,
		known:  map[string]*leaseState{},
		tokens: map[string]string{},
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithExpirationRequired(), // without this a token with no exp never expires
			jwt.WithIssuer(issuer),
			jwt.WithAudience(audience),
			jwt.WithIssuedAt(),
			jwt.WithTimeFunc(now),
			jwt.WithStrictDecoding(),
		),
	}, nil
}

// claims are those of RFC 7519 and the scope of RFC 8693, section 4.2.
type claims struct {
	Scope  string `json:"scope"`
	Reason string `json:"reason,omitempty"`
	jwt.RegisteredClaims
}

// fold takes an entry of the log's recent part, oldest first.
func (l *Leases) fold(e audit.Entry) {
	switch e.Kind {
	case audit.KindLease:
		set, err := scopes.ParseSet(strings.Join(e.Scopes, " "))
		if err != nil {
			return // a lease that cannot be read covers nothing
		}
		// A second line for one lease is none of ours: it would undo a revocation.
		if _, twice := l.known[e.Lease]; !twice && l.now().Before(e.Expires) {
			l.known[e.Lease] = &leaseState{Lease: Lease{
				ID: e.Lease, Subject: e.Subject, Reason: e.Reason, Scopes: set, Issued: e.Time, Expires: e.Expires, token: e.Token,
			}}
		}
	case audit.KindRevoke:
		for id, s := range l.known {
			if e.Lease == id || e.Lease == allLeases {
				s.Revoked = true
			}
		}
	}
}

// allLeases stands for every lease in a revocation.
const allLeases = "*"

// issue returns a new lease for ss and its token. The entry is on disk before
// the token is given away: a lease that the log does not know is not honoured.
func (l *Leases) issue(ss scopes.Set, ttl time.Duration, subject, reason string, peer *audit.Peer) (Lease, string, error) {
	if len(ss) == 0 {
		return Lease{}, "", errors.New("a lease for nothing")
	}
	now := l.now()
	lease := Lease{
		ID: "l_" + strings.ToLower(rand.Text()), Subject: clip(subject, maxSubject), Reason: clip(reason, maxReason),
		Scopes: ss, Issued: now.Truncate(time.Second),
		Expires: now.Add(ttl + time.Second - 1).Truncate(time.Second), // whole seconds, never less than asked for
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{ss.String(), lease.Reason, jwt.RegisteredClaims{
		Issuer: issuer, Audience: jwt.ClaimStrings{audience}, Subject: lease.Subject, ID: lease.ID,
		IssuedAt: jwt.NewNumericDate(lease.Issued), NotBefore: jwt.NewNumericDate(lease.Issued), ExpiresAt: jwt.NewNumericDate(lease.Expires),
	}})
	t.Header["kid"] = l.kid
	token, err := t.SignedString(l.signer)
	if err != nil {
		return Lease{}, "", err
	}
	lease.token = audit.Digest(token)
	l.giving.RLock()
	defer l.giving.RUnlock()
	// It is known before it is in the log, so that "revoke all" misses none.
	state := &leaseState{Lease: lease}
	l.mu.Lock()
	l.forgetEnded()
	l.known[lease.ID] = state
	l.mu.Unlock()
	if err := l.log.Append(audit.Entry{
		Kind: audit.KindLease, Lease: lease.ID, Token: lease.token, Subject: lease.Subject, Reason: lease.Reason,
		Scopes: ss.Strings(), Expires: lease.Expires, Peer: peer,
	}, true); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.known, lease.ID)
		return Lease{}, "", &Refusal{Code: Unaudited, Err: err}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if state.Revoked {
		return Lease{}, "", &Refusal{Code: Denied, Detail: "all leases were revoked while this one was made; ask again"}
	}
	return lease, token, nil
}

// forgetEnded drops leases that have expired. It is called with l.mu held.
func (l *Leases) forgetEnded() {
	now := l.now()
	for id, s := range l.known {
		if !now.Before(s.Expires) && len(s.cuts) == 0 {
			delete(l.known, id)
			delete(l.tokens, s.token)
		}
	}
}

// clip returns s, or its beginning and an ellipsis when it has more than n bytes.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) <= n {
		return s
	}
	s = s[:n]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// verify returns the lease whose token this is. It is valid now if there is no
// error; one that has ended is answered beside the error, for the log. A token
// that was verified before is known by its digest; only its end is checked
// anew.
func (l *Leases) verify(token string) (Lease, error) {
	sum := audit.Digest(token)
	l.mu.Lock()
	id := l.tokens[sum]
	l.mu.Unlock()
	var c claims
	first := id == ""
	if first {
		// That it has expired is said below, of a lease that is known: the
		// parser looks at the signature first.
		if _, err := l.parser.ParseWithClaims(token, &c, l.key); err != nil && !errors.Is(err, jwt.ErrTokenExpired) {
			return Lease{}, err
		}
		id = c.ID
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.known[id]
	switch {
	case s == nil || s.token != sum || first && c.Scope != s.Scopes.String():
		return Lease{}, errLeaseUnknown
	case s.Revoked:
		return s.Lease, errLeaseRevoked
	case !l.now().Before(s.Expires):
		return s.Lease, errLeaseEnded
	}
	l.tokens[sum] = id
	return s.Lease, nil
}

// key returns the public key that the token's header asks for: ours or none.
func (l *Leases) key(t *jwt.Token) (any, error) {
	if kid, _ := t.Header["kid"].(string); kid != l.kid {
		return nil, errors.New("the token names a key that is not this broker's")
	}
	return l.signer.Public(), nil
}

// during returns a context that ends when the lease does, by expiry or
// revocation, whatever is under way. The caller calls stop when it is done. An
// id of no lease that is live is an error.
func (l *Leases) during(ctx context.Context, id string) (_ context.Context, stop func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.known[id]
	if s == nil || s.Revoked {
		return ctx, func() {}, errLeaseRevoked
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ctx, cancelTimer := context.WithDeadlineCause(ctx, s.Expires, errLeaseEnded)
	cut := func(err error) { cancel(err) }
	if s.cuts == nil {
		s.cuts = map[*func(error)]struct{}{}
	}
	s.cuts[&cut] = struct{}{}
	return ctx, func() {
		cancelTimer()
		cancel(nil)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(s.cuts, &cut)
	}, nil
}

// revoke ends the lease of that id, or all of them for [allLeases], and cuts
// what is under way with it. It takes effect at once; the error says that it is
// not on disk and would be forgotten by a restart.
func (l *Leases) revoke(id string, peer *audit.Peer) (ended []Lease, err error) {
	ended = l.cut(id) // at once, whatever is being written
	l.giving.Lock()
	defer l.giving.Unlock()
	ended = append(ended, l.cut(id)...) // what was given meanwhile
	// A lease that has ended is revoked again: the first time may not have
	// reached the disk.
	return ended, l.log.Append(audit.Entry{Kind: audit.KindRevoke, Lease: id, Peer: peer}, true)
}

// cut ends leases in memory, with what is under way, and returns those that
// were live.
func (l *Leases) cut(id string) (ended []Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.known {
		if s.ID != id && id != allLeases {
			continue
		}
		if !s.Revoked && l.now().Before(s.Expires) {
			ended = append(ended, s.Lease)
		}
		s.Revoked = true
		for cut := range s.cuts {
			(*cut)(errLeaseRevoked)
		}
	}
	return ended
}

// find returns the lease whose id is or begins with prefix, which is enough
// where only one does.
func (l *Leases) find(prefix string) (Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []Lease
	for id, s := range l.known {
		if id == prefix {
			return s.Lease, nil
		}
		if strings.HasPrefix(id, prefix) {
			found = append(found, s.Lease)
		}
	}
	switch len(found) {
	case 0:
		return Lease{}, fmt.Errorf("no lease %q; cred leases lists them", prefix)
	case 1:
		return found[0], nil
	}
	return Lease{}, fmt.Errorf("%d leases begin with %q; say more of the id", len(found), prefix)
}

// list returns the leases that have not expired, oldest first.
func (l *Leases) list() []Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Lease
	for _, s := range l.known {
		if l.now().Before(s.Expires) {
			out = append(out, s.Lease)
		}
	}
	slices.SortFunc(out, func(a, b Lease) int {
		if c := a.Issued.Compare(b.Issued); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}
