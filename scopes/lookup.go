package scopes

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
)

// A lookupQuery asks a provider where an id lives. It is a named query in
// lookups.graphql. Its variables are $id and $by (the ids in question), $after
// (a cursor), and at most one key of the provider, such as $project: then it is
// asked once for every value of that key that the owner has tied to an
// environment. Aliases in the selection say what the answer means:
//
//	match     an object with another value here than $id is not what was asked for
//	KEY       a key of the provider: where the thing lives
//	more      true when there is a next page, whose cursor is beside it
//	cursor    the value of $after for the next page
//	partial   true when the answer leaves something out: it cannot be used
type lookupQuery struct {
	provider Provider
	path     string
	keys     []string
	text     string
	each     string // the key whose values are gone through, or ""
	by       bool
	matches  bool // whether match occurs
}

func (g *graphql) loadLookups(text string) error {
	doc, err := parser.ParseQuery(&ast.Source{Name: "lookups.graphql", Input: text})
	if err != nil {
		return err
	}
	if errs := validator.ValidateWithRules(g.schema, doc, g.rules); len(errs) > 0 {
		return errs[0]
	}
	for _, op := range doc.Operations {
		if op.Operation != ast.Query || op.Name == "" {
			return errors.New("a look-up is a named query")
		}
		q := &lookupQuery{provider: g.provider.Name, path: g.provider.GraphQL, keys: g.provider.Keys, text: printDocument(op, doc.Fragments)}
		for _, v := range op.VariableDefinitions {
			switch {
			case v.Variable == "by":
				q.by = true
			case slices.Contains(q.keys, v.Variable) && q.each == "":
				q.each = v.Variable
			case v.Variable != "id" && v.Variable != "after":
				return fmt.Errorf("%s: unexpected variable $%s", op.Name, v.Variable)
			}
		}
		q.matches = strings.Contains(q.text, "match:")
		g.lookups[op.Name] = q
	}
	return nil
}

// A Lookup is a question to a provider: where does the thing of [Place] live?
// It is asked by sending Calls, and those that Read returns, until there are no
// more; then Keys says what was found.
type Lookup struct {
	query *lookupQuery
	id    string
	calls []Call
	found [][]Key
}

// maxPages bounds how often one lookup asks for more.
const maxPages = 50

// NewLookup returns the lookup that p needs. It fails when the owner has tied
// nothing that could be asked about.
func (c *Catalog) NewLookup(name Provider, p Place, envs Environments) (*Lookup, error) {
	prov, err := c.provider(name)
	if err != nil {
		return nil, err
	}
	if p.Reach != ByLookup || prov.graphql == nil || prov.graphql.lookups[p.Lookup] == nil {
		return nil, fmt.Errorf("%w: %s has no look-up %q", ErrUnplaced, name, p.Lookup)
	}
	q := prov.graphql.lookups[p.Lookup]
	l := &Lookup{query: q, id: p.ID}
	vars := map[string]string{}
	if strings.Contains(q.text, "$id") {
		vars["id"] = p.ID
	}
	if q.by {
		vars["by"] = p.By
	}
	if q.each == "" {
		l.calls = append(l.calls, q.call(vars))
		return l, nil
	}
	for _, value := range envs.values(name, q.each) {
		vars[q.each] = value
		l.calls = append(l.calls, q.call(vars))
	}
	if len(l.calls) == 0 {
		return nil, fmt.Errorf("%w: no environment is tied to a %s %s", ErrUnplaced, name, q.each)
	}
	return l, nil
}

func (q *lookupQuery) call(vars map[string]string) Call {
	body, err := json.Marshal(struct {
		Query     string            `json:"query"`
		Variables map[string]string `json:"variables"`
	}{q.text, vars}, json.Deterministic(true))
	if err != nil {
		panic(err) // strings: only invalid UTF-8 fails, and ids come from decoded JSON
	}
	return Call{
		Provider: q.provider, Method: "POST", Path: q.path, Body: body,
		Header: map[string][]string{"Content-Type": {"application/json"}, "Accept": {"application/json"}},
	}
}

// Calls returns what is to be asked.
func (l *Lookup) Calls() []Call { return l.calls }

// Read takes the answer to one call. It returns the call for the next page, or
// nil. An answer that says that the thing is not there is not an error: it may
// be in the next place. An answer that cannot be read, or that leaves something
// out, is.
func (l *Lookup) Read(asked Call, answer []byte) (*Call, error) {
	var env struct {
		Data   map[string]any   `json:"data"`
		Errors []map[string]any `json:"errors"`
	}
	if err := json.Unmarshal(answer, &env); err != nil {
		return nil, fmt.Errorf("%w: the provider's answer cannot be read: %v", ErrUnplaced, err)
	}
	if len(env.Errors) > 0 {
		if l.query.each != "" { // not in this project; perhaps in the next
			return nil, nil
		}
		message, _ := env.Errors[0]["message"].(string)
		return nil, fmt.Errorf("%w: the provider answers %q", ErrUnplaced, message)
	}
	r := reading{lookup: l}
	r.object(env.Data)
	switch {
	case r.partial:
		return nil, fmt.Errorf("%w: the provider's answer leaves something out", ErrUnplaced)
	case l.query.matches && !r.matched:
		r.found = nil
	}
	l.found = append(l.found, r.found...)
	if !r.more {
		return nil, nil
	}
	next, err := withCursor(asked, r.cursor)
	return &next, err
}

// reading goes through one answer.
type reading struct {
	lookup                 *Lookup
	matched, partial, more bool
	cursor                 string
	found                  [][]Key
}

func (r *reading) object(m map[string]any) {
	if match, ok := m["match"]; ok {
		if match != r.lookup.id {
			return
		}
		r.matched = true
	}
	var keys []Key
	for _, k := range r.lookup.query.keys {
		if v, ok := m[k].(string); ok && v != "" {
			keys = append(keys, Key{k, v})
		}
	}
	if len(keys) > 0 {
		r.found = append(r.found, keys)
	}
	r.partial = r.partial || m["partial"] == true
	if m["more"] == true {
		r.more = true
		r.cursor, _ = m["cursor"].(string)
	}
	for _, v := range m {
		r.value(v)
	}
}

func (r *reading) value(v any) {
	switch v := v.(type) {
	case map[string]any:
		r.object(v)
	case []any:
		for _, e := range v {
			r.value(e)
		}
	}
}

// withCursor returns call with $after set.
func withCursor(call Call, cursor string) (Call, error) {
	var env struct {
		Query     string            `json:"query"`
		Variables map[string]string `json:"variables"`
	}
	if err := json.Unmarshal(call.Body, &env); err != nil {
		return Call{}, err
	}
	if cursor == "" || env.Variables["after"] == cursor {
		return Call{}, fmt.Errorf("%w: the provider's pages do not end", ErrUnplaced)
	}
	env.Variables["after"] = cursor
	body, err := json.Marshal(env, json.Deterministic(true))
	call.Body = jsontext.Value(body)
	return call, err
}

// Keys returns the coordinates that were found, or an error when there are
// none: what nobody can place is in no environment.
func (l *Lookup) Keys() ([][]Key, error) {
	// The provider's first key is the one that tells environments apart; what
	// was found of the others only adds to it.
	first := l.query.keys[0]
	if !slices.ContainsFunc(l.found, func(keys []Key) bool { return keys[0].Name == first }) {
		return nil, fmt.Errorf("%w: the provider knows no %s in the owner's environments", ErrUnplaced, l.id)
	}
	return l.found, nil
}

// MaxPages is how many answers one lookup may read for one call.
func (l *Lookup) MaxPages() int { return maxPages }

// Locate gives the acts of a with their environments: one act for each
// environment that the thing is in. Found is what a lookup answered, for acts
// that are placed by one. An error wraps [ErrUnplaced].
func (a Act) Locate(envs Environments, found [][]Key) ([]Act, error) {
	var names []Environment
	switch a.Place.Reach {
	case InAccount:
		names = []Environment{Account}
	case Everywhere:
		names = envs.All()
	case ByValue:
		found = [][]Key{a.Place.Keys}
		fallthrough
	case ByLookup:
		for _, keys := range found {
			in := envs.Find(a.Provider, keys)
			if len(in) == 0 {
				return nil, fmt.Errorf("%w: %s %s lives in %s %s, which no environment of the owner's is tied to",
					ErrUnplaced, a.Operation, a.ID, a.Provider, Place{Reach: ByValue, Keys: keys})
			}
			names = append(names, in...)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: %s %s", ErrUnplaced, a.Operation, a.ID)
	}
	slices.Sort(names)
	var acts []Act
	for _, name := range slices.Compact(names) {
		placed := a
		placed.Environment = name
		acts = append(acts, placed)
	}
	return acts, nil
}
