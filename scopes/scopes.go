// Package scopes says what a call would do and whether it may.
//
// It is a package of pure functions over values: it opens no file, dials no
// host, reads no clock and never sees a secret. The relay, "cred explain" and
// the policy tests call the same functions, so they cannot disagree.
//
// Three laws are kept here, and tested here:
//
//   - What is not known is refused: an operation that no catalog lists, a
//     member of a body that nobody considered, a second spelling of a name.
//   - What is judged is what is sent: [Catalog.Classify] answers the acts
//     together with the one [Call] that has them, and nothing else may go out.
//   - The zero value of every type refuses: an [Action] of zero is covered by
//     nothing, a [Verdict] of zero is Deny, an [Environment] of "" is nowhere.
//     Forgetting to set a field can refuse a call; it cannot let one through.
package scopes

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An Action is what an operation does to its resource. The set is closed.
type Action uint8

// The actions. When in doubt a catalog takes the more dangerous word.
const (
	_      Action = iota // no action: covers nothing, is covered by nothing
	Read                 // answers data that is not secret
	Reveal               // answers a secret
	Write                // another call could put back what was there
	Delete               // no call can put it back
	Grant                // creates a credential, changes who may do what, or runs the caller's code there
)

var actionNames = [...]string{"", "read", "reveal", "write", "delete", "grant"}

func (a Action) String() string {
	if int(a) < len(actionNames) && a != 0 {
		return actionNames[a]
	}
	return "unknown"
}

// ParseAction returns the action of that name.
func ParseAction(s string) (Action, error) {
	if i := slices.Index(actionNames[1:], s); i >= 0 {
		return Action(i + 1), nil
	}
	return 0, fmt.Errorf("unknown action %q: want %s", s, strings.Join(actionNames[1:], ", "))
}

// Covers reports whether a permission for a includes b on the same resource:
// write, delete and reveal cover read, and nothing covers grant but grant.
func (a Action) Covers(b Action) bool {
	return a != 0 && (a == b || b == Read && a != Grant)
}

// A Provider is the name of a service with an API, as its catalog spells it.
type Provider string

// A Resource is the kind of thing that an operation touches, such as "volumes".
type Resource string

// An Environment is a name of the owner's for a place where resources live.
type Environment string

const (
	// Nowhere is the environment of an act that has not been placed. No scope
	// covers it.
	Nowhere Environment = ""
	// Account is the built-in environment of what lies in no other: users,
	// billing, the list of projects.
	Account Environment = "account"
)

// wildcard stands for a whole part of a [Pattern].
const wildcard = "*"

// A Scope permits one action on one resource of one provider in one
// environment. Flags, tokens,
// policy and log all use its one text form, provider/resource:action@environment.
type Scope struct {
	Provider    Provider
	Resource    Resource
	Action      Action
	Environment Environment
}

const scopeForm = "provider/resource:action@environment"

// Parse parses the text form of a scope. It refuses wildcards: a lease says
// exactly what it is for.
func Parse(s string) (Scope, error) {
	p, err := parseParts(s)
	if err != nil {
		return Scope{}, err
	}
	if slices.Contains(p[:], wildcard) {
		return Scope{}, fmt.Errorf("scope %q: a lease names every part, * is for policy only", s)
	}
	a, err := ParseAction(p[2])
	if err != nil {
		return Scope{}, fmt.Errorf("scope %q: %w", s, err)
	}
	return Scope{Provider(p[0]), Resource(p[1]), a, Environment(p[3])}, nil
}

func parseParts(s string) (p [4]string, err error) {
	var ok1, ok2, ok3 bool
	var rest string
	p[0], rest, ok1 = strings.Cut(s, "/")
	p[1], rest, ok2 = strings.Cut(rest, ":")
	p[2], p[3], ok3 = strings.Cut(rest, "@")
	if !ok1 || !ok2 || !ok3 {
		return p, fmt.Errorf("scope %q: want %s", s, scopeForm)
	}
	for i, part := range p {
		if part != wildcard && !IsName(part) {
			return p, fmt.Errorf("scope %q: %s %q is not a name (lower-case letters, digits, . - _)", s,
				[...]string{"provider", "resource", "action", "environment"}[i], part)
		}
	}
	return p, nil
}

// maxName bounds every part of a scope, so that a token or a log line made of
// scopes cannot grow without limit.
const maxName = 64

// IsName reports whether s may be the name of a provider, resource or
// environment: 1 to 64 lower-case letters, digits, dots, hyphens and
// underscores, beginning with a letter or digit.
func IsName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return true
}

func (s Scope) String() string {
	return fmt.Sprintf("%s/%s:%s@%s", s.Provider, s.Resource, s.Action, s.Environment)
}

// Covers reports whether a lease with s may do what need says.
func (s Scope) Covers(need Scope) bool {
	return need.Environment != Nowhere && s.Provider == need.Provider && s.Resource == need.Resource &&
		s.Environment == need.Environment && s.Action.Covers(need.Action)
}

// A Set is a set of scopes; it permits what any member permits.
type Set []Scope

// Covers reports whether any member of ss covers need.
func (ss Set) Covers(need Scope) bool {
	return slices.ContainsFunc(ss, func(s Scope) bool { return s.Covers(need) })
}

// String returns the scopes separated by spaces, the form of the "scope" claim
// of RFC 8693, section 4.2.
func (ss Set) String() string {
	return strings.Join(ss.Strings(), " ")
}

// Strings returns the text form of each member.
func (ss Set) Strings() []string {
	out := make([]string, len(ss))
	for i, s := range ss {
		out[i] = s.String()
	}
	return out
}

// maxScopes bounds what one lease may carry.
const maxScopes = 64

// ParseSet parses scopes separated by single spaces. An empty set is an error:
// it would be a lease for nothing.
func ParseSet(s string) (Set, error) {
	words := strings.Split(s, " ")
	if len(words) > maxScopes {
		return nil, fmt.Errorf("%d scopes: a lease carries at most %d", len(words), maxScopes)
	}
	var set Set
	for _, w := range words {
		sc, err := Parse(w)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(set, sc) {
			set = append(set, sc)
		}
	}
	return set, nil
}

// An Act is one operation in one call, on one resource in one environment. A
// call is a list of acts: a GraphQL document holds many, and one id can live
// in two environments.
type Act struct {
	Provider    Provider
	Operation   string // as the catalog names it, such as "volumeDelete"
	Resource    Resource
	Action      Action
	ID          string // what the provider calls the thing, for people and the log; may be empty
	Environment Environment
	Place       Place // how Environment is found; Classify sets it and leaves Environment empty
}

// Scope returns the narrowest scope that covers a.
func (a Act) Scope() Scope { return Scope{a.Provider, a.Resource, a.Action, a.Environment} }

func (a Act) String() string {
	if a.Environment == Nowhere {
		a.Environment = "?"
	}
	return a.Scope().String()
}

// Verdict is the answer to a call. Greater is more permissive.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota
	Hold
	Allow
)

func (v Verdict) String() string {
	if v > Allow {
		v = Deny
	}
	return [...]string{"deny", "hold", "allow"}[v]
}

// ErrMalformed reports a request that two readers could read differently.
var ErrMalformed = errors.New("not in canonical form")

// ErrUnclassified reports a call of which the catalog does not say what it
// would do.
var ErrUnclassified = errors.New("no catalog says what this call would do")

// ErrUnplaced reports an act whose environment cannot be told.
var ErrUnplaced = errors.New("cannot tell which environment this is in")
