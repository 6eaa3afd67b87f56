package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

// Settings are the owner's configuration, checked.
type Settings struct {
	Listen       string        // address of the relay
	Keystore     keystore.Kind // empty: the program picks
	TTL, MaxTTL  time.Duration // of leases
	Policy       scopes.Policy
	Environments scopes.Environments
	digest       string // SHA-256 of the file, for the log
	provider     map[scopes.Provider]upstream
}

// An upstream is where a provider's calls go and how its key is attached.
type upstream struct {
	base *url.URL
	auth scopes.Auth
}

// DefaultListen is the relay's usual address; 2733 is C-R-E-D on a telephone.
const DefaultListen = "127.0.0.1:2733"

// configFile is the form of config.toml.
type configFile struct {
	Listen   string `toml:"listen"`
	Keystore string `toml:"keystore"`
	Policy   struct {
		TTL    duration          `toml:"ttl"`
		MaxTTL duration          `toml:"max_ttl"`
		Allow  *[]scopes.Pattern `toml:"allow"`
		Hold   *[]scopes.Pattern `toml:"hold"`
		Deny   *[]scopes.Pattern `toml:"deny"`
	} `toml:"policy"`
	Provider map[scopes.Provider]struct {
		BaseURL   string `toml:"base_url"`
		Auth      string `toml:"auth"`
		AllowHTTP bool   `toml:"allow_http"`
	} `toml:"provider"`
	Environment scopes.Environments `toml:"environment"`
}

// duration is text such as "15m". A bare number is refused: the TOML library
// would read it as nanoseconds.
type duration time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return fmt.Errorf("%q is not a duration: write \"15m\" or \"8h\"", text)
	}
	*d = duration(v)
	return nil
}

// maxTTL is the longest that any owner may let a lease live: the broker reads
// back that much of the log when it starts.
const maxTTL = 24 * time.Hour

// ParseSettings reads a configuration. Errors name the line and the key.
func ParseSettings(data []byte, catalog *scopes.Catalog) (*Settings, error) {
	var f configFile
	if err := scopes.DecodeTOML(data, &f); err != nil {
		return nil, err
	}
	at := func(err error, key ...string) error {
		return fmt.Errorf("line %d: %w", scopes.Line(data, key), err)
	}
	s := &Settings{
		Listen: DefaultListen, Keystore: keystore.Kind(f.Keystore), TTL: 15 * time.Minute, MaxTTL: 8 * time.Hour,
		Policy: scopes.DefaultPolicy(), Environments: f.Environment, provider: map[scopes.Provider]upstream{},
	}
	if f.Listen != "" {
		s.Listen = f.Listen
	}
	if err := checkListen(s.Listen); err != nil {
		return nil, at(err, "listen")
	}
	if s.Keystore != "" && s.Keystore != keystore.Keyring && s.Keystore != keystore.File {
		return nil, at(fmt.Errorf("keystore: %q: want %q or %q", f.Keystore, keystore.Keyring, keystore.File), "keystore")
	}
	if f.Policy.MaxTTL != 0 {
		s.MaxTTL = time.Duration(f.Policy.MaxTTL)
	}
	if f.Policy.TTL != 0 {
		s.TTL = time.Duration(f.Policy.TTL)
	}
	if s.MaxTTL > maxTTL {
		return nil, at(fmt.Errorf("policy.max_ttl: at most %s", maxTTL), "policy", "max_ttl")
	}
	if s.TTL > s.MaxTTL {
		return nil, at(fmt.Errorf("policy.ttl: %s is more than max_ttl, %s", s.TTL, s.MaxTTL), "policy", "ttl")
	}
	for _, l := range []struct {
		from *[]scopes.Pattern
		to   *[]scopes.Pattern
	}{{f.Policy.Allow, &s.Policy.Allow}, {f.Policy.Hold, &s.Policy.Hold}, {f.Policy.Deny, &s.Policy.Deny}} {
		if l.from != nil {
			*l.to = *l.from
		}
	}
	if err := catalog.Check(f.Environment); err != nil {
		key, _, _ := strings.Cut(err.Error(), ":")
		return nil, at(err, strings.Split(key, ".")...)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Provider)) {
		p := f.Provider[name]
		up, err := newUpstream(catalog, name, p.BaseURL, p.Auth, p.AllowHTTP)
		if err != nil {
			err = fmt.Errorf("provider.%s%w", name, err)
			key, _, _ := strings.Cut(err.Error(), ":")
			return nil, at(err, strings.Split(key, ".")...)
		}
		s.provider[name] = up
	}
	return s, nil
}

// checkListen refuses an address that is not this machine alone: whoever can
// reach the relay can try tokens, and a lease crosses the wire in the clear.
func checkListen(s string) error {
	a, err := netip.ParseAddrPort(s)
	if err != nil || !a.Addr().IsLoopback() {
		return fmt.Errorf("listen: %q: want a loopback address and a port, such as %s", s, DefaultListen)
	}
	return nil
}

func newUpstream(catalog *scopes.Catalog, name scopes.Provider, base, auth string, allowHTTP bool) (upstream, error) {
	d, err := catalog.Describe(name)
	if err != nil {
		return upstream{}, fmt.Errorf(": %w", err)
	}
	up := upstream{auth: d.Auth[0]}
	if auth != "" {
		i := slices.IndexFunc(d.Auth, func(a scopes.Auth) bool { return a.Name == auth })
		if i < 0 {
			var names []string
			for _, a := range d.Auth {
				names = append(names, a.Name)
			}
			return upstream{}, fmt.Errorf(".auth: %q: want %s", auth, strings.Join(names, " or "))
		}
		up.auth = d.Auth[i]
	}
	if base == "" {
		base = d.BaseURL
	}
	if base == "" {
		return up, nil // every owner has another: target says so when it is needed
	}
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https":
		return upstream{}, fmt.Errorf(".base_url: %q: want http(s)://host", base)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return upstream{}, fmt.Errorf(".base_url: %q: scheme and host only; the path is the client's", base)
	case u.Scheme == "http" && !allowHTTP && !isLoopback(u.Hostname()):
		return upstream{}, fmt.Errorf(".base_url: %q: the key would cross the network in the clear; use https, or set allow_http = true", base)
	}
	u.Path = ""
	up.base = u
	return up, nil
}

func isLoopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host == "localhost"
}

// Configured reports whether the owner has written a section for a provider.
func (s *Settings) Configured(name scopes.Provider) bool {
	_, ok := s.provider[name]
	return ok
}

// BaseURL returns the address of a provider's API, or "" where the owner has to
// set one.
func (s *Settings) BaseURL(catalog *scopes.Catalog, name scopes.Provider) string {
	up, err := s.target(catalog, name)
	if err != nil {
		return ""
	}
	return up.base.String()
}

// target returns where a provider's calls go, or a refusal that says what the
// owner has to set.
func (s *Settings) target(catalog *scopes.Catalog, name scopes.Provider) (upstream, error) {
	up, ok := s.provider[name]
	if !ok {
		var err error
		if up, err = newUpstream(catalog, name, "", "", false); err != nil {
			return upstream{}, &Refusal{Code: Misconfigured, Err: err}
		}
	}
	if up.base == nil {
		return upstream{}, &Refusal{Code: Misconfigured,
			Detail: fmt.Sprintf("%s has no address; the owner sets base_url under [provider.%s] in config.toml", name, name)}
	}
	return up, nil
}

// config gives the settings as they are in the file now. A file that does not
// exist is an empty one.
type config struct {
	path    string
	catalog *scopes.Catalog
	changed func(*Settings, error) // told of every change; nil until the log is open

	mu   sync.Mutex
	seen fs.FileInfo
	read bool
	now  *Settings
	err  error
}

// settings returns the settings, read anew when the file has changed. While the
// file cannot be read the error is answered: an owner who has just made the
// policy tighter is not served by the looser one of before.
func (c *config) settings() (*Settings, error) {
	info, err := os.Stat(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c.mu.Lock()
	if c.read && same(c.seen, info) {
		defer c.mu.Unlock()
		return c.now, c.err
	}
	now, err := c.load(info)
	changed := c.changed
	c.seen, c.read, c.now, c.err = info, true, now, err
	c.mu.Unlock()
	if changed != nil {
		changed(now, err)
	}
	return now, err
}

// maxConfig bounds the file, in bytes.
const maxConfig = 1 << 20

// load reads the file, of which info is a look. A file that was there and has
// gone is an error: without it a looser policy would count.
func (c *config) load(info fs.FileInfo) (*Settings, error) {
	var data []byte
	switch {
	case info == nil && c.seen != nil:
		return nil, fmt.Errorf("%s has gone; put it back, or start the broker anew to go without", c.path)
	case info == nil:
	case !info.Mode().IsRegular() || info.Size() > maxConfig:
		return nil, fmt.Errorf("%s is no ordinary file of at most %d bytes", c.path, maxConfig)
	default:
		if err := ownFile(c.path, info); err != nil {
			return nil, err
		}
		var err error
		if data, err = os.ReadFile(c.path); err != nil {
			return nil, err
		}
	}
	s, err := ParseSettings(data, c.catalog)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.path, err)
	}
	s.digest = audit.Digest(data)
	return s, nil
}

// same reports whether two looks at a path saw the same content. A file that is
// written twice within the clock's grain with the same size is not told apart;
// editors replace files, which is.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}

// ReadSettings reads the configuration of a home without a broker.
func ReadSettings(h Home, catalog *scopes.Catalog) (*Settings, error) {
	return (&config{path: h.Config, catalog: catalog}).settings()
}
