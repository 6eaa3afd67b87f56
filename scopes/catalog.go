package scopes

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/agnivade/levenshtein"
)

// A Catalog knows, for each provider, which calls are which acts. It does not
// change after it is loaded and is safe for concurrent use.
type Catalog struct{ providers map[Provider]*provider }

// A Description is what is known of a provider besides its operations.
type Description struct {
	Name    Provider `toml:"name"`
	Title   string   `toml:"title"`    // for people: "Railway"
	BaseURL string   `toml:"base_url"` // scheme and host of its API; empty where every owner has another
	Keys    []string `toml:"keys"`     // coordinates that tie a resource to an environment, all needed in a tie
	Auth    []Auth   `toml:"auth"`     // ways to attach a root key; the first is the usual one
	Strip   Strip    `toml:"strip"`    // further places where a credential may stand, emptied in every call
	Client  Client   `toml:"client"`   // what its usual clients read
	GraphQL string   `toml:"graphql"`  // path of its GraphQL endpoint, if it has one
}

// An Auth is a way to attach a key to a request. A client presents its lease in
// the same place.
type Auth struct {
	Name string   `toml:"name"` // how the owner chooses it: "token"
	Type AuthType `toml:"type"`
	In   string   `toml:"in"`   // name of the header or query parameter, for those types
	User string   `toml:"user"` // user name for basic; the key is the password
}

// AuthType is where a key goes.
type AuthType string

// The places. Bearer is RFC 6750, Basic is RFC 7617.
const (
	Bearer AuthType = "bearer"
	Header AuthType = "header"
	Basic  AuthType = "basic"
	Query  AuthType = "query"
)

// Strip names places in a request where a provider also takes a credential.
type Strip struct {
	Headers []string `toml:"headers"`
	Query   []string `toml:"query"`
}

// Client names the environment variables that usual clients read.
type Client struct {
	Token []string `toml:"token"`
	URL   []string `toml:"url"`
}

type provider struct {
	Description
	Parameter map[string]parameter `toml:"parameter"`
	Operation []operation          `toml:"operation"`

	rest    *rest
	graphql *graphql

	operations []Operation           // all of them, sorted
	actions    map[Resource][]Action // what they do to each resource
}

// A parameter says how the values of a path parameter, of a key that places
// resources, or of "body.MEMBER" are spelt.
type parameter struct {
	Form form     `toml:"form"`
	Is   []string `toml:"is"` // the only values known; empty: any
}

func (p *provider) form(name string) form { return p.Parameter[name].Form }

//go:embed providers
var builtin embed.FS

// Builtin returns the catalog that ships with the program.
func Builtin() (*Catalog, error) {
	sub, err := fs.Sub(builtin, "providers")
	if err != nil {
		return nil, err
	}
	return Load(sub)
}

// Load reads every provider in fsys: a file NAME.toml, or a folder NAME that
// holds provider.toml and, for GraphQL, schema.graphql and lookups.graphql. It
// refuses a catalog in which one request could be two operations, an operation
// or a root field without an action, an annotation that names an argument that
// does not exist, and a key that it does not know.
func Load(fsys fs.FS) (*Catalog, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	c := &Catalog{map[Provider]*provider{}}
	for _, e := range entries {
		dir, file := ".", e.Name()
		if e.IsDir() {
			dir, file = e.Name(), path.Join(e.Name(), "provider.toml")
		}
		p, err := loadProvider(fsys, dir, file)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", strings.TrimSuffix(e.Name(), ".toml"), err)
		}
		if string(p.Name) != strings.TrimSuffix(e.Name(), ".toml") {
			return nil, fmt.Errorf("provider %s: its name is %q", e.Name(), p.Name)
		}
		p.index()
		c.providers[p.Name] = p
	}
	return c, nil
}

// index makes the lists that people ask for, once.
func (p *provider) index() {
	p.operations = p.rest.operations()
	if p.graphql != nil {
		p.operations = append(p.operations, p.graphql.operations()...)
	}
	slices.SortStableFunc(p.operations, func(a, b Operation) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Name, b.Name))
	})
	p.actions = map[Resource][]Action{}
	for _, op := range p.operations {
		if !slices.Contains(p.actions[op.Resource], op.Action) {
			p.actions[op.Resource] = append(p.actions[op.Resource], op.Action)
		}
	}
}

func loadProvider(fsys fs.FS, dir, file string) (*provider, error) {
	data, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, err
	}
	p := new(provider)
	if err := DecodeTOML(data, p); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.rest, err = newREST(p); err != nil {
		return nil, err
	}
	if p.GraphQL == "" {
		return p, nil
	}
	schema, err := fs.ReadFile(fsys, path.Join(dir, "schema.graphql"))
	if err != nil {
		return nil, err
	}
	lookups, err := fs.ReadFile(fsys, path.Join(dir, "lookups.graphql"))
	if err != nil {
		return nil, err
	}
	p.graphql, err = newGraphQL(p, string(schema), string(lookups))
	return p, err
}

func (p *provider) check() error {
	if !IsName(string(p.Name)) {
		return fmt.Errorf("name %q is not a name", p.Name)
	}
	if p.BaseURL != "" {
		if u, err := url.Parse(p.BaseURL); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" {
			return fmt.Errorf("base_url %q: want https://host", p.BaseURL)
		}
	}
	if len(p.Keys) == 0 {
		return errors.New("keys: what ties a resource to an environment?")
	}
	if len(p.Auth) == 0 {
		return errors.New("auth: no way to attach a key")
	}
	for _, a := range p.Auth {
		switch a.Type {
		case Bearer, Basic:
		case Header, Query:
			if a.In == "" {
				return fmt.Errorf("auth %s: in: which %s?", a.Name, a.Type)
			}
		default:
			return fmt.Errorf("auth %s: unknown type %q", a.Name, a.Type)
		}
	}
	for name, prm := range p.Parameter {
		if !prm.Form.valid() {
			return fmt.Errorf("parameter %s: unknown form %q", name, prm.Form)
		}
	}
	return nil
}

// Classify returns what call would do, and the call in the one spelling in
// which it may be sent. The acts have a [Place] and no environment yet. An
// error wraps [ErrMalformed] or [ErrUnclassified].
func (c *Catalog) Classify(call Call) (Call, []Act, error) {
	p, err := c.provider(call.Provider)
	if err != nil {
		return Call{}, nil, err
	}
	call = p.strip(call)
	var acts []Act
	if p.graphql != nil && call.Path == p.GraphQL {
		call, acts, err = p.graphql.classify(call)
	} else {
		call, acts, err = p.rest.classify(call)
	}
	if err != nil {
		return Call{}, nil, err
	}
	if len(acts) == 0 {
		return Call{}, nil, fmt.Errorf("%w: it has no known effect", ErrUnclassified)
	}
	return call, acts, nil
}

// strip empties the places in the query where p takes a credential. Those in
// headers never pass [NewCall].
func (p *provider) strip(call Call) Call {
	q := call.query()
	for name := range q {
		for _, a := range p.Auth {
			if a.Type == Query && strings.EqualFold(name, a.In) {
				q.Del(name)
			}
		}
		if slices.ContainsFunc(p.Strip.Query, func(s string) bool { return strings.EqualFold(s, name) }) {
			q.Del(name)
		}
	}
	call.Query = q.Encode()
	return call
}

func (c *Catalog) provider(name Provider) (*provider, error) {
	if p, ok := c.providers[name]; ok {
		return p, nil
	}
	return nil, &unknownProvider{fmt.Sprintf("unknown provider %q%s", name, didYouMean(string(name), c.Names()))}
}

// unknownProvider is an [ErrUnclassified] that says it in fewer words.
type unknownProvider struct{ text string }

func (e *unknownProvider) Error() string { return e.text }
func (e *unknownProvider) Unwrap() error { return ErrUnclassified }

// Names returns the providers in order.
func (c *Catalog) Names() []Provider { return slices.Sorted(maps.Keys(c.providers)) }

// Describe returns what is known of a provider, or an error that suggests the
// nearest name.
func (c *Catalog) Describe(name Provider) (Description, error) {
	p, err := c.provider(name)
	if err != nil {
		return Description{}, err
	}
	return p.Description, nil
}

// An Operation is one line of what a catalog lists.
type Operation struct {
	Name     string
	Match    string // "DELETE /zones/{zone}", or "mutation volumeDelete"
	Resource Resource
	Action   Action
	When     string // empty: always
	Place    string
}

// Operations returns every act that the catalog knows of a provider, sorted by
// resource, action and name.
func (c *Catalog) Operations(name Provider) ([]Operation, error) {
	p, err := c.provider(name)
	if err != nil {
		return nil, err
	}
	return slices.Clone(p.operations), nil
}

// Resolve completes a scope that a person typed, in which the provider and the
// environment may be missing: "domains:write", "railway/domains:write" or
// "domains:write@staging". Environment, when not empty, stands for a missing
// one. An ambiguous resource is refused with the candidates, an unknown name
// with the nearest.
func (c *Catalog) Resolve(s string, env Environment) (Scope, error) {
	if strings.Contains(s, wildcard) {
		return Scope{}, fmt.Errorf("scope %q: a lease names every part, * is for policy only", s)
	}
	p, rest, hasProvider := strings.Cut(s, "/")
	if !hasProvider {
		p, rest = "", s
	}
	rest, at, hasEnv := strings.Cut(rest, "@")
	resource, action, ok := strings.Cut(rest, ":")
	switch {
	case !ok || resource == "" || action == "" || hasProvider && p == "" || hasEnv && at == "":
		return Scope{}, fmt.Errorf("scope %q: want %s; the provider and the environment may come from elsewhere", s, scopeForm)
	case hasEnv && env != "" && Environment(at) != env:
		return Scope{}, fmt.Errorf("scope %q: is it %s or %s?", s, at, env)
	case !hasEnv && env == "":
		return Scope{}, fmt.Errorf("scope %q: in which environment? add --on NAME or @NAME", s)
	case !hasEnv:
		at = string(env)
	}
	act, err := ParseAction(action)
	if err != nil {
		return Scope{}, fmt.Errorf("scope %q: %w", s, err)
	}
	name, err := c.providerOf(Provider(p), Resource(resource))
	if err != nil {
		return Scope{}, fmt.Errorf("scope %q: %w", s, err)
	}
	if err := c.offers(name, Resource(resource), act); err != nil {
		return Scope{}, fmt.Errorf("scope %q: %w", s, err)
	}
	return Parse(fmt.Sprintf("%s/%s:%s@%s", name, resource, action, at))
}

// providerOf returns p, or where p is empty the one provider that has r.
func (c *Catalog) providerOf(p Provider, r Resource) (Provider, error) {
	if p != "" {
		_, err := c.provider(p)
		return p, err
	}
	var have []string
	all := map[Resource]bool{}
	for _, name := range c.Names() {
		actions := c.providers[name].actions
		for known := range actions {
			all[known] = true
		}
		if len(actions[r]) > 0 {
			have = append(have, string(name))
		}
	}
	switch len(have) {
	case 0:
		return "", fmt.Errorf("no provider has %q%s", r, didYouMean(string(r), slices.Collect(maps.Keys(all))))
	case 1:
		return Provider(have[0]), nil
	}
	for i := range have {
		have[i] += "/" + string(r)
	}
	return "", fmt.Errorf("more than one provider has %q: say %s", r, strings.Join(have, " or "))
}

// offers reports whether p has any operation on r that a covers.
func (c *Catalog) offers(p Provider, r Resource, a Action) error {
	actions := c.providers[p].actions
	known, ok := actions[r]
	if !ok {
		return fmt.Errorf("%s has no %q%s", p, r, didYouMean(string(r), slices.Collect(maps.Keys(actions))))
	}
	if slices.Contains(known, a) {
		return nil
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = fmt.Sprintf("%s:%s", r, k)
	}
	return fmt.Errorf("%s has no %s:%s; it has %s", p, r, a, strings.Join(words, ", "))
}

// Nearest returns the member of known that is spelt most like s, or "" when
// none is near.
func Nearest[S ~string](s string, known []S) string {
	if len(s) > maxName {
		return ""
	}
	best, least := "", max(2, len(s)/3)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := levenshtein.ComputeDistance(s, string(k)); d < least {
			best, least = string(k), d
		}
	}
	return best
}

// didYouMean returns ", did you mean …?" or, where nothing is near, what there
// is.
func didYouMean[S ~string](s string, known []S) string {
	if near := Nearest(s, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	words := make([]string, len(known))
	for i, k := range slices.Sorted(slices.Values(known)) {
		words[i] = string(k)
	}
	return "; there is " + strings.Join(words, ", ")
}

// DecodeTOML decodes a configuration or catalog file. It is the program's only
// TOML decoder. It refuses unknown keys, and keys that are not lower case: the
// library matches keys without regard to case, so "allow" and "ALLOW" would
// both land in one field, in random order. Errors name the line.
func DecodeTOML(data []byte, v any) error {
	md, err := toml.Decode(string(data), v)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			where := fmt.Sprintf("line %d", pe.Position.Line)
			if pe.LastKey != "" {
				where += ": " + pe.LastKey
			}
			return fmt.Errorf("%s: %s", where, strings.TrimPrefix(pe.Message, "toml: "))
		}
		return err
	}
	for _, k := range md.Keys() {
		if s := k.String(); s != strings.ToLower(s) {
			return fmt.Errorf("line %d: %s: keys are lower case", Line(data, k), s)
		}
	}
	if extra := md.Undecoded(); len(extra) > 0 {
		return fmt.Errorf("line %d: %s: unknown key", Line(data, extra[0]), extra[0])
	}
	return nil
}

// Line returns the line, from 1, on which the key path is set in a TOML text,
// or the line of the longest part of it that can be found. It is for messages
// to people and is right for files laid out one key a line.
func Line(data []byte, key []string) int {
	best, bestLen, section := 1, 0, []string(nil)
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		var at []string
		if head, ok := strings.CutPrefix(line, "["); ok {
			head, _, _ = strings.Cut(strings.TrimPrefix(head, "["), "]")
			section = splitKey(head)
			at = section
		} else if k, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			at = append(slices.Clone(section), splitKey(k)...)
		}
		if n := len(at); n > bestLen && n <= len(key) && slices.EqualFunc(at, key[:n], strings.EqualFold) {
			best, bestLen = i+1, n
		}
	}
	return best
}

func splitKey(s string) []string {
	parts := strings.Split(s, ".")
	for i, p := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(p), `"'`)
	}
	return parts
}
