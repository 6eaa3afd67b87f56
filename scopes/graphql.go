package scopes

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// Bounds of the work that one document can ask for: it may be long, its names
// may be, and fragments multiply.
const (
	maxTokens      = 5000
	maxFields      = 2000
	maxGraphQLName = 4096 // strings, such as a certificate, are counted too
)

// graphql classifies the calls of one GraphQL endpoint. Its catalog is the
// provider's schema, the part that is listed, with @does and @place on fields.
type graphql struct {
	provider *provider
	schema   *ast.Schema
	rules    *rules.Rules
	fields   map[*ast.FieldDefinition]*fieldRule
	lookups  map[string]*lookupQuery
}

// A fieldRule is what the annotations of one field say.
type fieldRule struct {
	does  []fieldDoes
	place *fieldPlace // nil: where the field that it is reached from is
}

type fieldDoes struct {
	resource Resource
	action   Action
	id       string   // dotted path of an argument
	when     string   // dotted path of an argument; "" is always
	is       []string // as in condition.When
}

type fieldPlace struct {
	reach      Reach
	keys       map[string]string // key: dotted path of an argument
	first      string            // the key without which the call reaches everywhere
	lookup     string
	id, by     string // dotted paths of arguments
	definition string // for people
}

// directives are the annotations of a catalog. KEYS stands for one argument for
// each key by which the provider places resources.
const directives = `
directive @does(scope: String!, id: String, when: String, is: [String!]) repeatable on FIELD_DEFINITION
directive @place(at: Reach, lookup: String, id: String, by: String KEYS) on FIELD_DEFINITION
enum Reach { ACCOUNT EVERYWHERE }
`

func newGraphQL(p *provider, schema, lookups string) (*graphql, error) {
	keys := ""
	for _, k := range p.Keys {
		keys += ", " + k + ": String"
	}
	s, err := validator.LoadSchema(validator.Prelude,
		&ast.Source{Name: "annotations", Input: strings.Replace(directives, "KEYS", keys, 1), BuiltIn: true},
		&ast.Source{Name: "schema.graphql", Input: schema})
	if err != nil {
		return nil, err
	}
	if s.Subscription != nil {
		return nil, errors.New("schema.graphql: subscriptions are refused, list none")
	}
	known := rules.NewDefaultRules()
	// This rule compares the fields of a selection in pairs, which takes seconds
	// for a document made to be slow. It guards the shape of the answer, not
	// what is done: every field is judged by itself, and the provider refuses
	// what it cannot answer.
	known.RemoveRule("OverlappingFieldsCanBeMerged")
	g := &graphql{p, s, known, map[*ast.FieldDefinition]*fieldRule{}, map[string]*lookupQuery{}}
	if err := g.loadLookups(lookups); err != nil {
		return nil, fmt.Errorf("lookups.graphql: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Types)) {
		t := s.Types[name]
		if t.BuiltIn || t.Kind != ast.Object && t.Kind != ast.Interface {
			continue
		}
		for _, f := range t.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			rule, err := g.readRule(f)
			if err != nil {
				return nil, fmt.Errorf("schema.graphql: %s.%s: %w", name, f.Name, err)
			}
			if isRoot := t == s.Query || t == s.Mutation; isRoot && !rule.complete() {
				return nil, fmt.Errorf("schema.graphql: %s.%s: needs an unconditional @does and a @place", name, f.Name)
			}
			g.fields[f] = rule
		}
	}
	return g, nil
}

// complete reports whether r can stand on a root field.
func (r *fieldRule) complete() bool {
	return r.place != nil && slices.ContainsFunc(r.does, func(d fieldDoes) bool { return d.when == "" })
}

func (g *graphql) readRule(f *ast.FieldDefinition) (*fieldRule, error) {
	r := new(fieldRule)
	for _, d := range f.Directives {
		args := map[string]string{}
		for _, a := range d.Arguments {
			args[a.Name] = a.Value.Raw
		}
		var err error
		switch d.Name {
		case "does":
			err = g.readDoes(r, f, d, args)
		case "place":
			r.place, err = g.readPlace(f, args)
		}
		if err != nil {
			return nil, fmt.Errorf("@%s: %w", d.Name, err)
		}
	}
	return r, nil
}

func (g *graphql) readDoes(r *fieldRule, f *ast.FieldDefinition, d *ast.Directive, args map[string]string) (err error) {
	does := fieldDoes{id: args["id"], when: args["when"]}
	if does.resource, does.action, err = parseDoes(args["scope"]); err != nil {
		return err
	}
	if a := d.Arguments.ForName("is"); a != nil {
		for _, c := range a.Value.Children {
			does.is = append(does.is, c.Value.Raw)
		}
	}
	if (does.when == "") != (len(does.is) == 0) {
		return errors.New("when and is go together")
	}
	for _, ref := range []string{does.id, does.when} {
		if err := g.checkArgument(f, ref); err != nil {
			return err
		}
	}
	r.does = append(r.does, does)
	return nil
}

func (g *graphql) readPlace(f *ast.FieldDefinition, args map[string]string) (*fieldPlace, error) {
	p := &fieldPlace{keys: map[string]string{}, lookup: args["lookup"], id: args["id"], by: args["by"]}
	if len(g.provider.Keys) > 0 {
		p.first = g.provider.Keys[0]
	}
	for _, key := range g.provider.Keys {
		if ref := args[key]; ref != "" {
			p.keys[key] = ref
		}
	}
	switch {
	case args["at"] == "ACCOUNT" && len(args) == 1:
		p.reach, p.definition = InAccount, "account"
	case args["at"] == "EVERYWHERE" && len(args) == 1:
		p.reach, p.definition = Everywhere, "every environment"
	case p.lookup != "" && p.id != "" && len(p.keys) == 0 && args["at"] == "":
		p.reach, p.definition = ByLookup, "look-up of "+p.id
		if g.lookups[p.lookup] == nil {
			return nil, fmt.Errorf("lookups.graphql has no query %q", p.lookup)
		}
	case p.keys[p.first] != "" && p.lookup == "" && p.id == "" && args["at"] == "":
		p.reach, p.definition = ByValue, "by "+strings.Join(slices.Sorted(maps.Keys(p.keys)), " and ")
	default:
		return nil, fmt.Errorf("want at alone, or lookup with id, or %s", p.first)
	}
	for _, ref := range append(slices.Collect(maps.Values(p.keys)), p.id, p.by) {
		if err := g.checkArgument(f, ref); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// checkArgument refuses a dotted path that leads to no argument of f.
func (g *graphql) checkArgument(f *ast.FieldDefinition, ref string) error {
	if ref == "" {
		return nil
	}
	name, rest, _ := strings.Cut(ref, ".")
	arg := f.Arguments.ForName(name)
	if arg == nil {
		return fmt.Errorf("there is no argument %q", ref)
	}
	t := arg.Type
	for rest != "" {
		name, rest, _ = strings.Cut(rest, ".")
		def := g.schema.Types[t.Name()]
		if def == nil || def.Kind != ast.InputObject || def.Fields.ForName(name) == nil {
			return fmt.Errorf("there is no argument %q", ref)
		}
		t = def.Fields.ForName(name).Type
	}
	return nil
}

// An envelope is the body of a GraphQL request over HTTP. What else a server
// could take (a list of operations, the hash of a stored document) is refused
// as an unknown member.
type envelope struct {
	Query      string                    `json:"query"`
	Name       string                    `json:"operationName,omitempty"`
	Variables  map[string]jsontext.Value `json:"variables,omitempty"`
	Extensions struct{}                  `json:"extensions,omitzero"`
}

// classify parses and validates the document and gives the acts of its root
// fields and of the annotated fields that its selection reaches. The call that
// comes back is printed from the parsed document.
func (g *graphql) classify(call Call) (Call, []Act, error) {
	if call.Method != "POST" {
		return call, nil, fmt.Errorf("%w: GraphQL is sent with POST, not %s", ErrUnclassified, call.Method)
	}
	if call.Query != "" {
		return call, nil, fmt.Errorf("%w: a GraphQL call has no query string", ErrUnclassified)
	}
	if t, _, _ := strings.Cut(call.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(t), "application/json") {
		return call, nil, fmt.Errorf("%w: GraphQL is sent as application/json, not %q", ErrUnclassified, t)
	}
	body, err := canonicalJSON(call.Body)
	if err != nil {
		return call, nil, err
	}
	if body.Kind() != '{' {
		return call, nil, fmt.Errorf("%w: want one GraphQL operation, not a batch", ErrUnclassified)
	}
	var env envelope
	if err := json.Unmarshal(body, &env, json.RejectUnknownMembers(true)); err != nil {
		return call, nil, fmt.Errorf("%w: %s", ErrUnclassified, wrongEnvelope(body))
	}
	w, err := g.parse(env)
	if err != nil {
		return call, nil, err
	}
	if err := w.root(); err != nil {
		return call, nil, err
	}
	call.Header = maps.Clone(call.Header)
	call.Header.Set("Content-Type", "application/json")
	call.Body, err = w.print(env)
	return call, w.acts.acts, err
}

// wrongEnvelope says which member of a GraphQL request is not understood.
func wrongEnvelope(body jsontext.Value) string {
	var members map[string]jsontext.Value
	_ = json.Unmarshal(body, &members) // canonicalJSON has read it
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch name {
		case "query", "operationName", "variables":
		case "extensions":
			return "GraphQL extensions are not relayed, such as persistedQuery: send the document itself"
		default:
			return fmt.Sprintf("a GraphQL request has no member %q: it has query, operationName and variables", name)
		}
	}
	return "in a GraphQL request query and operationName are texts, and variables is an object"
}

// A walk goes through one operation and collects its acts.
type walk struct {
	*graphql
	op        *ast.OperationDefinition
	variables map[string]any
	fragments ast.FragmentDefinitionList // those that the operation uses
	visited   map[string]bool            // fragment and place, once each
	fieldsN   int
	acts      actList
}

// parse validates the document against the schema and chooses its operation.
func (g *graphql) parse(env envelope) (*walk, error) {
	if name := longestName(env.Query); name > maxGraphQLName {
		return nil, fmt.Errorf("%w: GraphQL document: a name has %d characters", ErrUnclassified, name)
	}
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: env.Query}, maxTokens)
	if err != nil {
		return nil, fmt.Errorf("GraphQL document: %w: %v", ErrMalformed, err)
	}
	if errs := validator.ValidateWithRules(g.schema, doc, g.rules); len(errs) > 0 {
		return nil, fmt.Errorf("%w: GraphQL document: %s", ErrUnclassified, errs[0].Message)
	}
	var op *ast.OperationDefinition
	switch {
	case env.Name == "" && len(doc.Operations) == 1:
		op = doc.Operations[0]
	case env.Name == "":
		return nil, fmt.Errorf("%w: %d GraphQL operations and no operationName", ErrUnclassified, len(doc.Operations))
	default:
		if op = doc.Operations.ForName(env.Name); op == nil {
			return nil, fmt.Errorf("%w: the document has no operation %q", ErrUnclassified, env.Name)
		}
	}
	given := map[string]any{}
	for name, raw := range env.Variables {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("variable %q: %w: %v", name, ErrMalformed, err)
		}
		given[name] = v
	}
	vars, err := validator.VariableValues(g.schema, op, given)
	if err != nil {
		return nil, fmt.Errorf("%w: GraphQL variables: %v", ErrUnclassified, err)
	}
	return &walk{graphql: g, op: op, variables: vars, visited: map[string]bool{}}, nil
}

// longestName is the length of the longest run of the characters of which names
// are made. The validator looks for names that are like a wrong one, which takes
// long for a long one.
func longestName(s string) int {
	longest, n := 0, 0
	for _, c := range []byte(s) {
		if c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			n++
			longest = max(longest, n)
		} else {
			n = 0
		}
	}
	return longest
}

func (w *walk) root() error {
	if w.op.Operation == ast.Subscription {
		return fmt.Errorf("%w: subscriptions are not relayed", ErrUnclassified)
	}
	return w.selection(w.op.SelectionSet, Place{}, true)
}

// selection adds the acts of a selection set whose parent is at place. Every
// field counts, whatever @skip and @include say.
func (w *walk) selection(set ast.SelectionSet, place Place, root bool) error {
	for _, s := range set {
		if w.fieldsN++; w.fieldsN > maxFields {
			return fmt.Errorf("%w: the selection has more than %d fields", ErrUnclassified, maxFields)
		}
		var err error
		switch s := s.(type) {
		case *ast.Field:
			err = errors.Join(knownDirectives(s.Directives), w.field(s, place, root))
		case *ast.InlineFragment:
			err = errors.Join(knownDirectives(s.Directives), w.selection(s.SelectionSet, place, root))
		case *ast.FragmentSpread:
			err = errors.Join(knownDirectives(s.Directives), w.fragment(s.Definition, place, root))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) fragment(f *ast.FragmentDefinition, place Place, root bool) error {
	if !slices.Contains(w.fragments, f) {
		w.fragments = append(w.fragments, f)
	}
	key := fmt.Sprintf("%q %t %#v", f.Name, root, place)
	if w.visited[key] {
		return nil
	}
	w.visited[key] = true
	return errors.Join(knownDirectives(f.Directives), w.selection(f.SelectionSet, place, root))
}

// knownDirectives refuses what could change the meaning of a field in a way
// that is not understood here.
func knownDirectives(ds ast.DirectiveList) error {
	for _, d := range ds {
		if d.Name != "skip" && d.Name != "include" {
			return fmt.Errorf("%w: directive @%s", ErrUnclassified, d.Name)
		}
	}
	return nil
}

func (w *walk) field(f *ast.Field, place Place, root bool) error {
	if f.Name == "__typename" {
		return nil
	}
	rule := w.fields[f.Definition]
	if rule == nil { // __schema, __type
		return fmt.Errorf("%w: field %s is not listed", ErrUnclassified, f.Name)
	}
	args, err := arguments(f, w.variables)
	if err != nil {
		return err
	}
	switch {
	case rule.place != nil:
		if place, err = rule.place.resolve(f.Name, args); err != nil {
			return err
		}
	case len(rule.does) > 0 && place.Reach == InAccount:
		// What lies in environments and is reached from a list of the whole
		// account could be in any of them.
		place = Place{Reach: Everywhere}
	}
	for _, d := range rule.does {
		if d.when != "" && !args.all(map[string][]string{d.when: d.is}) {
			continue
		}
		id := args.id(d.id)
		if id == "" {
			id = place.ID
		}
		a := Act{Provider: w.provider.Name, Operation: f.Name, Resource: d.resource, Action: d.action, ID: id, Place: place}
		if err := w.acts.add(a); err != nil {
			return err
		}
	}
	return w.selection(f.SelectionSet, place, false)
}

// arguments returns the values of f's arguments: literals, variables and
// defaults. An argument that is not given is absent.
func arguments(f *ast.Field, vars map[string]any) (values, error) {
	out := values{}
	for _, def := range f.Definition.Arguments {
		v := def.DefaultValue
		if arg := f.Arguments.ForName(def.Name); arg != nil {
			_, given := vars[arg.Value.Raw]
			if arg.Value.Kind != ast.Variable || given {
				v = arg.Value
			}
		}
		if v == nil {
			continue
		}
		x, err := v.Value(vars)
		if err != nil {
			return nil, fmt.Errorf("argument %s of %s: %w: %v", def.Name, f.Name, ErrMalformed, err)
		}
		out[def.Name] = x
	}
	return out, nil
}

// resolve returns the place that the annotation gives for these arguments. When
// the provider's first key is optional and not given, the call reaches
// everywhere; further keys have to agree with the first where they are given.
func (p *fieldPlace) resolve(field string, args values) (Place, error) {
	place := Place{Reach: p.reach, Lookup: p.lookup}
	switch p.reach {
	case ByLookup:
		place.ID, place.By = args.id(p.id), args.id(p.by)
		if place.ID == "" || p.by != "" && place.By == "" {
			return Place{}, fmt.Errorf("%w: %s needs %s", ErrUnclassified, field, strings.TrimSpace(p.id+" "+p.by))
		}
	case ByValue:
		if args.get(p.keys[p.first]) == nil {
			return Place{Reach: Everywhere}, nil
		}
		for _, key := range slices.Sorted(maps.Keys(p.keys)) {
			switch x := args.get(p.keys[key]).(type) {
			case nil:
			case string:
				if x == "" {
					return Place{}, fmt.Errorf("%w: %s: %s is empty", ErrUnclassified, field, p.keys[key])
				}
				place.Keys = append(place.Keys, Key{key, x})
			default:
				return Place{}, fmt.Errorf("%w: %s: %s is no string", ErrUnclassified, field, p.keys[key])
			}
		}
	}
	return place, nil
}

// print returns the body in which the operation is sent: the chosen operation,
// the fragments that it uses, and the variables that it declares.
func (w *walk) print(env envelope) ([]byte, error) {
	out := envelope{Query: printDocument(w.op, w.fragments), Name: w.op.Name, Variables: map[string]jsontext.Value{}}
	for _, def := range w.op.VariableDefinitions {
		if v, ok := env.Variables[def.Variable]; ok {
			out.Variables[def.Variable] = v
		}
	}
	return json.Marshal(out, json.Deterministic(true))
}

func printDocument(op *ast.OperationDefinition, fragments ast.FragmentDefinitionList) string {
	var b strings.Builder
	formatter.NewFormatter(&b, formatter.WithIndent(" "), formatter.WithoutDescription()).FormatQueryDocument(&ast.QueryDocument{
		Operations: ast.OperationList{op}, Fragments: fragments,
	})
	return strings.TrimSpace(b.String())
}

func (g *graphql) operations() (out []Operation) {
	add := func(kind string, t *ast.Definition) {
		for _, f := range t.Fields {
			for _, d := range g.fields[f].doesOrNone() {
				op := Operation{f.Name, kind + " " + f.Name, d.resource, d.action, "", "where it is reached from"}
				if d.when != "" {
					op.When = describeWhen(condition{When: map[string][]string{d.when: d.is}})
				}
				if p := g.fields[f].place; p != nil {
					op.Place = p.definition
				}
				out = append(out, op)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.schema.Types)) {
		switch t := g.schema.Types[name]; {
		case t == g.schema.Query:
			add("query", t)
		case t == g.schema.Mutation:
			add("mutation", t)
		case !t.BuiltIn:
			add(t.Name, t)
		}
	}
	return out
}

func (r *fieldRule) doesOrNone() []fieldDoes {
	if r == nil {
		return nil
	}
	return r.does
}
