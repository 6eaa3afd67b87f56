package scopes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Place says how the environment of an act is found. Its zero value is
// nowhere, which refuses.
type Place struct {
	Reach  Reach
	Keys   []Key  // for ByValue, sorted by name
	Lookup string // for ByLookup: the name of a question that the catalog can ask the provider
	ID     string // for ByLookup: the id that the question is about
	By     string // for ByLookup: a second id that must agree with the first; may be empty
}

// Reach is a way to find an environment.
type Reach uint8

// The ways.
const (
	_          Reach = iota // nowhere
	InAccount               // in no environment: [Account]
	Everywhere              // in every environment there is, and in the account
	ByValue                 // a value in the call is one that the owner tied to an environment
	ByLookup                // the provider is asked where the id lives
)

// A Key is one coordinate of a resource at its provider, such as
// environment=8a21… at Railway or zone=example.com. at PowerDNS.
type Key struct{ Name, Value string }

func (k Key) String() string { return k.Name + " " + k.Value }

func (p Place) String() string {
	switch p.Reach {
	case InAccount:
		return "account"
	case Everywhere:
		return "every environment"
	case ByValue:
		words := make([]string, len(p.Keys))
		for i, k := range p.Keys {
			words[i] = k.String()
		}
		return strings.Join(words, ", ")
	case ByLookup:
		if p.By != "" {
			return fmt.Sprintf("look-up of %s %s of %s", p.Lookup, p.ID, p.By)
		}
		return fmt.Sprintf("look-up of %s %s", p.Lookup, p.ID)
	}
	return "nowhere"
}

// Environments ties the owner's names to what each provider calls them.
type Environments map[Environment]map[Provider]Tie

// A Tie gives, for each key that a provider places resources by, the values
// that belong to an environment. A value may hold * for a run of characters
// that crosses no dot and no slash.
type Tie map[string]Values

// Values is one text or a list of texts in a configuration file.
type Values []string

// UnmarshalTOML accepts a string or an array of strings.
func (v *Values) UnmarshalTOML(x any) error {
	switch x := x.(type) {
	case string:
		*v = Values{x}
		return nil
	case []any:
		for _, e := range x {
			s, ok := e.(string)
			if !ok {
				return fmt.Errorf("want a string or a list of strings, got %T in the list", e)
			}
			*v = append(*v, s)
		}
		return nil
	}
	return fmt.Errorf("want a string or a list of strings, got %T", x)
}

// Names returns the environments in order, without [Account].
func (e Environments) Names() []Environment { return slices.Sorted(maps.Keys(e)) }

// All returns every place there is: the environments and [Account].
func (e Environments) All() []Environment { return append(e.Names(), Account) }

// Find returns the environments to which all of keys belong, in order. It
// answers none when no key is given.
func (e Environments) Find(p Provider, keys []Key) []Environment {
	var found []Environment
	for _, name := range e.Names() {
		if tie := e[name][p]; len(keys) > 0 && tie.has(keys) {
			found = append(found, name)
		}
	}
	return found
}

func (t Tie) has(keys []Key) bool {
	for _, k := range keys {
		if !slices.ContainsFunc(t[k.Name], func(pattern string) bool { return glob(pattern, k.Value) }) {
			return false
		}
	}
	return true
}

// values returns what the owner tied to key in any environment, once each, in
// order. Patterns are left out: they name nothing that could be asked for.
func (e Environments) values(p Provider, key string) []string {
	seen := map[string]bool{}
	for _, ties := range e {
		for _, v := range ties[p][key] {
			if !strings.Contains(v, wildcard) {
				seen[v] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// glob reports whether pattern matches all of s. A * matches any run of
// characters but never crosses a dot or a slash, so "*.example.com." has no
// match in "a.b.example.com.".
func glob(pattern, s string) bool {
	for {
		i := strings.IndexByte(pattern, '*')
		if i < 0 {
			return pattern == s
		}
		if !strings.HasPrefix(s, pattern[:i]) {
			return false
		}
		s, pattern = s[i:], pattern[i+1:]
		next := strings.IndexByte(pattern, '*')
		if next < 0 { // the last *: what follows it is at the end
			rest, ok := strings.CutSuffix(s, pattern)
			return ok && !strings.ContainsAny(rest, "./")
		}
		// Take the shortest run after which the literal follows. A longer
		// one can only help if it crosses no separator, and the next * can
		// take up the difference.
		j := strings.Index(s, pattern[:next])
		if j < 0 || strings.ContainsAny(s[:j], "./") {
			return false
		}
		s = s[j:]
	}
}

// Check reports the first thing that is wrong with e: a name that is no name
// or is reserved, an unknown provider or key, a key that the provider needs and
// that is missing, a value that is not in the provider's one spelling.
func (c *Catalog) Check(e Environments) error {
	for _, name := range e.Names() {
		if !IsName(string(name)) {
			return fmt.Errorf("environment.%s: not a name (lower-case letters, digits, . - _)", name)
		}
		if name == Account {
			return fmt.Errorf("environment.%s: the name is built in, for what lies in no environment; choose another", name)
		}
		for _, p := range slices.Sorted(maps.Keys(e[name])) {
			if err := c.checkTie(p, e[name][p]); err != nil {
				return fmt.Errorf("environment.%s.%s%w", name, p, err)
			}
		}
	}
	return nil
}

func (c *Catalog) checkTie(name Provider, t Tie) error {
	p, err := c.provider(name)
	if err != nil {
		return fmt.Errorf(": %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(t)) {
		if !slices.Contains(p.Keys, key) {
			return fmt.Errorf(".%s: %s places resources by %s", key, name, strings.Join(p.Keys, ", "))
		}
		if len(t[key]) == 0 {
			return fmt.Errorf(".%s: is empty", key)
		}
		for _, v := range t[key] {
			one, err := p.form(key).canonical(strings.ReplaceAll(v, wildcard, "x"))
			switch {
			case v == "" || err != nil:
				return fmt.Errorf(".%s: %q is not a %s", key, v, key)
			case one != strings.ReplaceAll(v, wildcard, "x"):
				return fmt.Errorf(".%s: %q is spelt %q", key, v, one)
			}
		}
	}
	for _, key := range p.Keys {
		if len(t[key]) == 0 {
			return fmt.Errorf(": %s is missing; %s places resources by %s", key, name, strings.Join(p.Keys, " and "))
		}
	}
	return nil
}
