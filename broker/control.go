package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

// What the doors speak: HTTP with JSON bodies over Unix sockets. Errors are
// [Problem] documents.

// LeaseRequest asks for a lease. Scopes are as a person types them; On stands
// for a missing environment.
type LeaseRequest struct {
	Scopes  []string           `json:"scopes"`
	On      scopes.Environment `json:"on,omitempty"`
	TTL     string             `json:"ttl,omitempty"` // "15m"; empty: the owner's usual one
	Reason  string             `json:"reason,omitempty"`
	Subject string             `json:"subject,omitempty"`
}

// LeaseGrant is a lease with its token, and what its holder needs.
type LeaseGrant struct {
	LeaseInfo
	Token    string            `json:"token"`
	BaseURLs map[string]string `json:"base_urls"`          // provider: address of the relay
	Env      map[string]string `json:"env"`                // what the providers' usual clients read
	Warnings []string          `json:"warnings,omitempty"` // what will stand in the way
}

// LeaseInfo is what may be known of a lease without its token.
type LeaseInfo struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Scopes  []string  `json:"scopes"`
	Issued  time.Time `json:"issued_at"`
	Expires time.Time `json:"expires_at"`
	Revoked bool      `json:"revoked,omitempty"`
}

func (l Lease) info() LeaseInfo {
	return LeaseInfo{l.ID, l.Subject, l.Reason, l.Scopes.Strings(), l.Issued.UTC(), l.Expires.UTC(), l.Revoked}
}

// RevokeRequest ends leases: the one with this token (either door), or the one
// with this id, or all (the owner's door).
type RevokeRequest struct {
	Token string `json:"token,omitempty"`
	ID    string `json:"id,omitempty"`
	All   bool   `json:"all,omitempty"`
}

// KeyRequest puts a root key into the keystore.
type KeyRequest struct {
	Key string `json:"key"`
}

// Status says how a broker is.
type Status struct {
	PID      int       `json:"pid"`
	Relay    string    `json:"relay"` // its address, http://127.0.0.1:2733
	Since    time.Time `json:"since"`
	Keystore string    `json:"keystore"`
	Why      string    `json:"keystore_why"`
	Leases   int       `json:"leases"`
	Keys     []string  `json:"keys,omitempty"` // owner's door only: providers that have a root key
	AuditKey string    `json:"audit_key"`      // verifies the log's checkpoints
	Audit    string    `json:"audit_error,omitempty"`
	Config   string    `json:"config_error,omitempty"`
}

// doors serves the two sockets of a broker.
type doors struct {
	*Broker
	relay string // address of the relay
	since time.Time
	stop  context.CancelFunc
}

// agent is the agents' door: ask for a lease, give it back, see that the broker
// is there. Never more.
func (d doors) agent() http.Handler {
	mux := http.NewServeMux()
	handle(mux, "GET /status", d.status)
	handle(mux, "POST /leases", d.lease)
	handle(mux, "POST /revoke", d.giveBack)
	return mux
}

// owner is the owner's door.
func (d doors) owner() http.Handler {
	mux := http.NewServeMux()
	handle(mux, "GET /status", d.ownerStatus)
	handle(mux, "GET /leases", d.list)
	handle(mux, "POST /revoke", d.revoke)
	handle(mux, "PUT /keys/{provider}", d.putKey)
	handle(mux, "DELETE /keys/{provider}", d.removeKey)
	handle(mux, "POST /explain", d.explain)
	handle(mux, "POST /stop", d.stopServing)
	return mux
}

// caller is who is at the other end of a socket. It is an argument of every
// handler.
type caller struct {
	peer *audit.Peer
	path func(string) string // values of the path
}

type peerKey struct{}

// withPeer puts what the kernel says of a connection where handle finds it;
// net/http gives no other way from a connection to its requests.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	peer, err := peerOf(c)
	if err != nil || peer.UID != os.Getuid() {
		return ctx // handle refuses a caller without a peer
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

// handle registers f, which takes one JSON document and answers another.
func handle[In, Out any](mux *http.ServeMux, pattern string, f func(context.Context, caller, In) (Out, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		peer, _ := r.Context().Value(peerKey{}).(*audit.Peer)
		if peer == nil {
			writeRefusal(w, &Refusal{Code: Denied, Detail: "the doors are for the user that runs the broker"}, "", false)
			return
		}
		var in In
		if r.Method != http.MethodGet && r.Method != http.MethodDelete {
			dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 2*maxBody))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&in); err != nil {
				writeRefusal(w, &Refusal{Code: Malformed, Detail: "the request is not understood: " + err.Error()}, "", false)
				return
			}
		}
		out, err := f(r.Context(), caller{peer, r.PathValue}, in)
		if err != nil {
			writeRefusal(w, refuseWith(err), "", false)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // the caller has gone away
	})
}

type empty struct{}

func (d doors) lease(_ context.Context, c caller, in LeaseRequest) (LeaseGrant, error) {
	s, err := d.config.settings()
	if err != nil {
		return LeaseGrant{}, &Refusal{Code: Misconfigured, Detail: err.Error()}
	}
	set, err := d.resolve(s, in)
	if err != nil {
		return LeaseGrant{}, err
	}
	ttl := s.TTL
	if in.TTL != "" {
		var t duration
		if err := t.UnmarshalText([]byte(in.TTL)); err != nil {
			return LeaseGrant{}, &Refusal{Code: Malformed, Detail: "ttl: " + err.Error()}
		}
		ttl = time.Duration(t)
	}
	switch {
	case ttl > s.MaxTTL:
		return LeaseGrant{}, &Refusal{Code: Denied, Detail: fmt.Sprintf("ttl %s is more than the owner allows, %s", ttl, s.MaxTTL)}
	case ttl < time.Second:
		return LeaseGrant{}, &Refusal{Code: Malformed, Detail: fmt.Sprintf("ttl %s is less than a second", ttl)}
	}
	warnings, err := d.foresee(s, set)
	if err != nil {
		return LeaseGrant{}, err
	}
	lease, token, err := d.leases.issue(set, ttl, in.Subject, in.Reason, c.peer)
	if err != nil {
		return LeaseGrant{}, err
	}
	g := LeaseGrant{LeaseInfo: lease.info(), Token: token, BaseURLs: map[string]string{}, Warnings: warnings,
		Env: map[string]string{"CRED_LEASE": token, "CRED_BROKER": d.relay}}
	for _, sc := range set {
		p, err := d.judge.catalog.Describe(sc.Provider)
		if err != nil {
			return LeaseGrant{}, err
		}
		url := d.relay + "/" + string(p.Name)
		g.BaseURLs[string(p.Name)] = url
		for _, name := range p.Client.Token {
			g.Env[name] = token
		}
		for _, name := range p.Client.URL {
			g.Env[name] = url
		}
	}
	return g, nil
}

// resolve completes the scopes of a request and checks that their environments
// exist.
func (d doors) resolve(s *Settings, in LeaseRequest) (scopes.Set, error) {
	var set scopes.Set
	for _, text := range in.Scopes {
		sc, err := d.judge.catalog.Resolve(text, in.On)
		if err == nil {
			err = known(s, sc)
		}
		if err != nil {
			return nil, &Refusal{Code: Malformed, Detail: err.Error()}
		}
		if !slices.Contains(set, sc) {
			set = append(set, sc)
		}
	}
	if len(set) == 0 {
		return nil, &Refusal{Code: Malformed, Detail: "a lease for what? say RESOURCE:ACTION, such as domains:write"}
	}
	if _, err := scopes.ParseSet(set.String()); err != nil {
		return nil, &Refusal{Code: Malformed, Detail: err.Error()}
	}
	return set, nil
}

func known(s *Settings, sc scopes.Scope) error {
	if sc.Environment == scopes.Account {
		return nil
	}
	tie, ok := s.Environments[sc.Environment]
	if !ok {
		names := s.Environments.All()
		if near := scopes.Nearest(string(sc.Environment), names); near != "" {
			return fmt.Errorf("unknown environment %q; did you mean %q?", sc.Environment, near)
		}
		return fmt.Errorf("unknown environment %q; there is %s", sc.Environment, join(names))
	}
	if len(tie[sc.Provider]) == 0 {
		return fmt.Errorf("environment %q is not tied to anything of %s; the owner adds a line %[2]s = { KEY = \"VALUE\" } under [environment.%[1]s] in config.toml",
			sc.Environment, sc.Provider)
	}
	return nil
}

// foresee refuses scopes that the policy would never permit, and warns of what
// will stand in the way of the others.
func (d doors) foresee(s *Settings, set scopes.Set) (warnings []string, err error) {
	keys, err := d.store.Names()
	if err != nil {
		return nil, &Refusal{Code: UpstreamFailed, Detail: "the keystore does not answer", Err: err}
	}
	warn := func(w string) {
		if !slices.Contains(warnings, w) {
			warnings = append(warnings, w)
		}
	}
	for _, sc := range set {
		switch s.Policy.Rule(sc) {
		case scopes.Deny:
			return nil, &Refusal{Code: Denied, Detail: s.Policy.WhyDenied(sc)}
		case scopes.Hold:
			warn(fmt.Sprintf("%s: the owner's policy holds these calls; they are not sent", sc))
		}
		if s.BaseURL(d.judge.catalog, sc.Provider) == "" {
			warn(fmt.Sprintf("%s has no address yet; the owner sets base_url under [provider.%[1]s] in config.toml", sc.Provider))
		}
		w := fmt.Sprintf("there is no key for %s yet; the owner adds it with: cred key add %[1]s", sc.Provider)
		if !slices.Contains(keys, string(sc.Provider)) {
			warn(w)
		}
	}
	return warnings, nil
}

// giveBack ends the lease of the token in the request. Whoever has the token
// may do less with it.
func (d doors) giveBack(_ context.Context, c caller, in RevokeRequest) ([]LeaseInfo, error) {
	if in.ID != "" || in.All {
		return nil, &Refusal{Code: Denied, Detail: "the agents' door ends the lease whose token you have, and no other"}
	}
	lease, err := d.leases.verify(in.Token)
	if err != nil {
		return nil, &Refusal{Code: BadLease, Detail: "this is not a lease that is valid now"}
	}
	return d.end(lease.ID, c)
}

func (d doors) revoke(ctx context.Context, c caller, in RevokeRequest) ([]LeaseInfo, error) {
	switch {
	case in.Token != "":
		return d.giveBack(ctx, c, in)
	case in.All:
		return d.end(allLeases, c)
	}
	lease, err := d.leases.find(in.ID)
	if err != nil {
		return nil, &Refusal{Code: Malformed, Detail: err.Error()}
	}
	return d.end(lease.ID, c)
}

func (d doors) end(id string, c caller) ([]LeaseInfo, error) {
	ended, err := d.leases.revoke(id, c.peer)
	if err != nil {
		return nil, &Refusal{Code: Unaudited, Err: err,
			Detail: "the lease has ended, but the log cannot be written: a restart would forget it"}
	}
	return infos(ended), nil
}

func infos(ls []Lease) []LeaseInfo {
	out := make([]LeaseInfo, len(ls))
	for i, l := range ls {
		out[i] = l.info()
	}
	return out
}

func (d doors) list(context.Context, caller, empty) ([]LeaseInfo, error) {
	return infos(d.leases.list()), nil
}

func (d doors) status(context.Context, caller, empty) (Status, error) {
	s := Status{PID: os.Getpid(), Relay: d.relay, Since: d.since.UTC(), Keystore: string(d.store.Kind()), Why: d.store.Why(),
		AuditKey: d.audit.VerifierKey()}
	for _, l := range d.leases.list() {
		if !l.Revoked {
			s.Leases++
		}
	}
	if err := d.audit.Err(); err != nil {
		s.Audit = err.Error()
	}
	if _, err := d.config.settings(); err != nil {
		s.Config = err.Error()
	}
	return s, nil
}

func (d doors) ownerStatus(ctx context.Context, c caller, _ empty) (Status, error) {
	s, err := d.status(ctx, c, empty{})
	if err == nil {
		s.Keys, err = d.store.Names()
	}
	return s, err
}

// A key with fewer characters cannot be told from ordinary text, and one with
// more does not fit, in its longest spelling, into the buffer in which answers
// are searched. Neither could be masked when a provider echoes it.
const (
	minKey = 8
	maxKey = 4 << 10
)

func (d doors) putKey(_ context.Context, c caller, in KeyRequest) (empty, error) {
	p, err := d.judge.catalog.Describe(scopes.Provider(c.path("provider")))
	switch {
	case err != nil:
		return empty{}, &Refusal{Code: Malformed, Detail: err.Error()}
	case len(in.Key) < minKey:
		return empty{}, &Refusal{Code: Malformed, Detail: fmt.Sprintf("the key has %d characters: at least %d are needed to tell it from ordinary text", len(in.Key), minKey)}
	case len(in.Key) > maxKey:
		return empty{}, &Refusal{Code: Malformed, Detail: fmt.Sprintf("the key has %d bytes: at most %d", len(in.Key), maxKey)}
	case strings.TrimSpace(in.Key) != in.Key:
		return empty{}, &Refusal{Code: Malformed, Detail: "the key begins or ends with white space; give it as the provider printed it"}
	case strings.ContainsFunc(in.Key, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return empty{}, &Refusal{Code: Malformed, Detail: "the key holds a line break or another control character; it would not fit into a header"}
	}
	names, err := d.store.Names()
	if err != nil {
		return empty{}, keystoreRefusal(err)
	}
	what := "added"
	if slices.Contains(names, string(p.Name)) {
		what = "replaced"
	}
	if err := d.store.Put(string(p.Name), keystore.NewSecret(in.Key)); err != nil {
		return empty{}, keystoreRefusal(err)
	}
	return empty{}, d.logKey(what, p.Name, c)
}

func (d doors) removeKey(_ context.Context, c caller, _ empty) (empty, error) {
	name := scopes.Provider(c.path("provider"))
	if err := d.store.Remove(string(name)); errors.Is(err, keystore.ErrNotFound) {
		return empty{}, &Refusal{Code: Malformed, Detail: fmt.Sprintf("there is no key for %s; cred key list shows them", name)}
	} else if err != nil {
		return empty{}, keystoreRefusal(err)
	}
	return empty{}, d.logKey("removed", name, c)
}

func keystoreRefusal(err error) error {
	return &Refusal{Code: UpstreamFailed, Detail: "the keystore: " + err.Error(), Err: err}
}

func (d doors) logKey(what string, p scopes.Provider, c caller) error {
	err := d.audit.Append(audit.Entry{Kind: audit.KindKey, Provider: string(p), Why: "the key was " + what, Peer: c.peer}, true)
	if err != nil {
		return &Refusal{Code: Unaudited, Detail: "the key was " + what + ", but the log cannot be written", Err: err}
	}
	return nil
}

func (d doors) stopServing(context.Context, caller, empty) (empty, error) {
	d.stop()
	return empty{}, nil
}
