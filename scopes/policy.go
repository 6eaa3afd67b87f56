package scopes

import (
	"fmt"
	"slices"
	"strings"
)

// A Pattern is a scope of which whole parts may be a wildcard. Patterns occur
// in policy only. The zero Pattern matches nothing.
type Pattern struct{ provider, resource, action, environment string }

// ParsePattern parses the text form of a scope with * allowed for any part.
func ParsePattern(s string) (Pattern, error) {
	p, err := parseParts(s)
	if err != nil {
		return Pattern{}, err
	}
	if p[2] != wildcard {
		if _, err := ParseAction(p[2]); err != nil {
			return Pattern{}, fmt.Errorf("scope %q: %w", s, err)
		}
	}
	return Pattern{p[0], p[1], p[2], p[3]}, nil
}

func (p Pattern) String() string {
	return p.provider + "/" + p.resource + ":" + p.action + "@" + p.environment
}

// UnmarshalText implements [encoding.TextUnmarshaler] with [ParsePattern].
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

func part(pattern, s string) bool { return pattern == wildcard || pattern == s && s != "" }

// names reports whether p mentions exactly what s does. Hold and deny rules
// match this way: holding writes in production does not hold reads there, and
// a wildcard of a prohibition reaches everything, grants too.
func (p Pattern) names(s Scope) bool {
	return s.Environment != Nowhere && part(p.provider, string(s.Provider)) && part(p.resource, string(s.Resource)) &&
		part(p.action, s.Action.String()) && part(p.environment, string(s.Environment))
}

// permits reports whether p lets s through. Allow rules match this way: as a
// scope covers, except that a pattern with any wildcard permits no grant.
func (p Pattern) permits(s Scope) bool {
	if s.Environment == Nowhere || s.Action == 0 {
		return false
	}
	if s.Action == Grant {
		return p.String() == s.String()
	}
	a, _ := ParseAction(p.action)
	return part(p.provider, string(s.Provider)) && part(p.resource, string(s.Resource)) &&
		(p.action == wildcard || a.Covers(s.Action)) && part(p.environment, string(s.Environment))
}

// A Policy is what the owner permits at all, whatever a lease says. Its rules
// have no order: deny beats hold, hold beats allow, and what no rule mentions
// is denied. The zero Policy denies everything.
type Policy struct{ Allow, Hold, Deny []Pattern }

// DefaultPolicy is the policy of an owner who has written none: reads and
// staging writes are allowed; production writes, deletes and reveals are held;
// grants are denied.
func DefaultPolicy() Policy {
	must := func(ss ...string) (pp []Pattern) {
		for _, s := range ss {
			p, err := ParsePattern(s)
			if err != nil {
				panic(err) // the texts are the constants below
			}
			pp = append(pp, p)
		}
		return pp
	}
	return Policy{
		Allow: must("*/*:read@*", "*/*:write@staging"),
		Hold:  must("*/*:write@production", "*/*:delete@*", "*/*:reveal@*"),
		Deny:  must("*/*:grant@*"),
	}
}

// A Question is everything that a decision may depend on.
type Question struct {
	Held     Set   // what the lease carries
	Acts     []Act // what the call would do, placed
	Approved bool  // whether a person has approved exactly this call
}

// A Decision is a verdict and the reasons for it, one sentence an act that
// stands in the way.
type Decision struct {
	Verdict Verdict
	Reason  string
	Missing Set // scopes that the lease would need; asking for them can help
}

// Decide answers q with the least permissive verdict over its acts. A question
// without acts is denied. An approval lifts a hold, never a denial.
func (p Policy) Decide(q Question) Decision {
	if len(q.Acts) == 0 {
		return Decision{Verdict: Deny, Reason: "the call has no known effect"}
	}
	d := Decision{Verdict: Allow}
	var reasons [Allow + 1][]string
	for _, a := range q.Acts {
		v, why := p.decide(q, a)
		d.Verdict = min(d.Verdict, v)
		if !slices.Contains(reasons[v], why) {
			reasons[v] = append(reasons[v], why)
		}
		if v == Deny && a.Environment != Nowhere && !q.Held.Covers(a.Scope()) && p.Rule(a.Scope()) != Deny &&
			!slices.Contains(d.Missing, a.Scope()) {
			d.Missing = append(d.Missing, a.Scope())
		}
	}
	d.Reason = strings.Join(reasons[d.Verdict], "; ")
	return d
}

func (p Policy) decide(q Question, a Act) (Verdict, string) {
	s := a.Scope()
	switch rule := p.Rule(s); {
	case a.Environment == Nowhere || a.Action == 0:
		return Deny, fmt.Sprintf("%s: cannot tell which environment this is in", a)
	case !q.Held.Covers(s) && rule == Deny:
		return Deny, fmt.Sprintf("%s %s: the lease does not cover it, and the owner's policy permits no lease that would", a.what(), s)
	case !q.Held.Covers(s):
		return Deny, fmt.Sprintf("%s %s: the lease does not cover it", a.what(), s)
	case rule == Hold && q.Approved:
		return Allow, fmt.Sprintf("%s %s: approved", a.what(), s)
	case rule == Hold:
		return Hold, fmt.Sprintf("%s %s: policy holds it for the owner", a.what(), s)
	case rule == Deny && p.denies(s):
		return Deny, fmt.Sprintf("%s %s: policy denies it", a.what(), s)
	case rule == Deny:
		return Deny, fmt.Sprintf("%s %s: no rule of the policy mentions it", a.what(), s)
	default:
		return Allow, fmt.Sprintf("%s %s: the lease covers it and policy allows it", a.what(), s)
	}
}

func (a Act) what() string {
	if a.ID == "" {
		return a.Operation
	}
	return a.Operation + " " + a.ID
}

// Rule returns what p says of s, whoever asks: deny where nothing mentions it.
func (p Policy) Rule(s Scope) Verdict {
	switch {
	case p.denies(s):
		return Deny
	case slices.ContainsFunc(p.Hold, func(r Pattern) bool { return r.names(s) }):
		return Hold
	case slices.ContainsFunc(p.Allow, func(r Pattern) bool { return r.permits(s) }):
		return Allow
	}
	return Deny
}

// WhyDenied says why p permits no lease for s, and what the owner could change.
func (p Policy) WhyDenied(s Scope) string {
	if p.denies(s) || s.Action == Grant {
		return fmt.Sprintf("%s: the owner's policy denies it", s)
	}
	return fmt.Sprintf("%s: no rule of the owner's policy mentions it; the owner could add \"*/*:%s@%s\" to allow under [policy] in config.toml",
		s, s.Action, s.Environment)
}

func (p Policy) denies(s Scope) bool {
	return slices.ContainsFunc(p.Deny, func(r Pattern) bool { return r.names(s) })
}
