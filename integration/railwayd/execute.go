package railwayd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// The limits keep a small document from making a large amount of work: fragments can double at every level, and so can
// lists of things that contain each other.
const (
	maxTokens   = 20_000
	maxDepth    = 100
	maxChecked  = 20_000    // selections that are looked at while a document is checked
	maxSelected = 1_000_000 // selections that are looked at while it is answered
	maxResolved = 50_000    // fields that are answered
)

// object is a value of an object type: a name leads to a value or to a resolver.
type object map[string]any

// resolver computes the value of a field when the document asks for it.
type resolver = func(arguments) (any, error)

// arguments are the arguments of a field, or the members of an input object, after coercion. What was left out and has
// no default is not in the map; an explicit null is there as nil.
type arguments map[string]any

// text returns a string argument, or "" if it is absent or null.
func (a arguments) text(name string) string {
	v, _ := a[name].(string)
	return v
}

// input returns an argument that is an input object.
func (a arguments) input(name string) arguments {
	v, _ := a[name].(arguments)
	return v
}

// texts returns an argument that is a list of strings.
func (a arguments) texts(name string) []string {
	var list []string
	items, _ := a[name].([]any)
	for _, item := range items {
		if v, ok := item.(string); ok {
			list = append(list, v)
		}
	}
	return list
}

// enumWord is an enum value. It has its own type so that DAILY is not taken for the string "DAILY".
type enumWord string

// response is the body of an answer. Data is null unless the document ran to its end.
type response struct {
	Errors     []graphError   `json:"errors,omitempty"`
	Data       any            `json:"data"`
	Extensions map[string]any `json:"extensions,omitempty"`
}

type graphError struct {
	Message    string         `json:"message"`
	Locations  []location     `json:"locations,omitempty"`
	Path       []any          `json:"path,omitempty"`
	Extensions map[string]any `json:"extensions,omitempty"`
}

func (e *graphError) Error() string { return e.Message }

type location struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// answerObject is an object of the answer. It keeps the order in which the document asked.
type answerObject struct {
	names  []string
	values []any
}

// MarshalJSON writes the members in their order. It goes down by itself, since encoding/json would look through the
// text of each object again for each object around it.
func (o answerObject) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := writeAnswer(&b, o)
	return b.Bytes(), err
}

func writeAnswer(b *bytes.Buffer, value any) error {
	switch v := value.(type) {
	case answerObject:
		b.WriteByte('{')
		for i, name := range v.names {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.Quote(name) + ":") // a GraphQL name needs no escapes
			if err := writeAnswer(b, v.values[i]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
		return nil
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeAnswer(b, item); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	}
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// parseSchema indexes the types of the schema by name. The schema is a constant, so a failure is a mistake in this
// package, which every test would show.
func parseSchema() map[string]*ast.Definition {
	doc, err := parser.ParseSchema(&ast.Source{Name: "schema", Input: schema})
	if err != nil {
		panic("railwayd: the schema does not parse: " + err.Error())
	}
	types := map[string]*ast.Definition{}
	for _, name := range []string{"String", "ID", "Int", "Float", "Boolean"} {
		types[name] = &ast.Definition{Kind: ast.Scalar, Name: name}
	}
	for _, def := range doc.Definitions {
		types[def.Name] = def
	}
	return types
}

// run parses the document, checks the whole operation, and only then answers its fields, in order. Nothing has changed
// when the status is not 200.
func run(types map[string]*ast.Definition, query, mutation object, req Request) (int, response) {
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Name: "document", Input: req.Query}, maxTokens)
	if err != nil {
		return refusal("GRAPHQL_PARSE_FAILED", err)
	}
	operation, err := chooseOperation(doc, req.OperationName)
	if err != nil {
		return refusal("GRAPHQL_VALIDATION_FAILED", err)
	}
	root, rootType := query, types["Query"]
	switch operation.Operation {
	case ast.Mutation:
		root, rootType = mutation, types["Mutation"]
	case ast.Subscription:
		return refusal("GRAPHQL_VALIDATION_FAILED", complaint("Subscriptions are not served over HTTP."))
	}

	x := &execution{types: types, fragments: map[string]*ast.FragmentDefinition{}}
	if err := x.prepare(doc, operation, req.Variables); err != nil {
		return refusal("GRAPHQL_VALIDATION_FAILED", err)
	}
	sets := []ast.SelectionSet{operation.SelectionSet}
	x.selectable = maxChecked
	if err := x.check(rootType, sets, 0); err != nil {
		return refusal("GRAPHQL_VALIDATION_FAILED", err)
	}

	x.selectable, x.resolvable = maxSelected, maxResolved
	data, err := x.answer(rootType, root, sets, nil)
	if err != nil {
		return http.StatusOK, response{Errors: append(x.errors, asGraphError(err, "INTERNAL_SERVER_ERROR"))}
	}
	return http.StatusOK, response{Data: data, Errors: x.errors}
}

// refusal is the answer to a document that cannot be run.
func refusal(code string, err error) (int, response) {
	return http.StatusBadRequest, response{Errors: []graphError{asGraphError(err, code)}}
}

func asGraphError(err error, code string) graphError {
	var e *graphError
	if !errors.As(err, &e) {
		e = &graphError{Message: err.Error()}
	}
	filled := *e
	filled.Extensions = map[string]any{"code": code}
	return filled
}

// complaint is an error whose text is for the client, in the manner of GraphQL servers: a sentence.
func complaint(format string, args ...any) error {
	return &graphError{Message: fmt.Sprintf(format, args...)}
}

// errorAt is an error with a place in the document.
func errorAt(pos *ast.Position, path []any, format string, args ...any) *graphError {
	e := &graphError{Message: fmt.Sprintf(format, args...), Path: slices.Clone(path)}
	if pos != nil {
		e.Locations = []location{{Line: pos.Line, Column: pos.Column}}
	}
	return e
}

// chooseOperation picks the operation to run, which must be beyond doubt.
func chooseOperation(doc *ast.QueryDocument, name string) (*ast.OperationDefinition, error) {
	seen := map[string]bool{}
	var chosen *ast.OperationDefinition
	for _, operation := range doc.Operations {
		if seen[operation.Name] {
			return nil, errorAt(operation.Position, nil, "There can be only one operation named %q.", operation.Name)
		}
		seen[operation.Name] = true
		if name == "" || operation.Name == name {
			chosen = operation
		}
	}
	switch {
	case len(doc.Operations) == 0:
		return nil, complaint("The document has no operation.")
	case chosen == nil:
		return nil, complaint("Unknown operation named %q.", name)
	case name == "" && len(doc.Operations) > 1:
		return nil, complaint("Must provide operation name if query contains multiple operations.")
	}
	return chosen, nil
}

// execution is one operation on its way.
type execution struct {
	types     map[string]*ast.Definition
	fragments map[string]*ast.FragmentDefinition
	variables map[string]any // coerced, defaults applied; what was left out is not in the map
	declared  map[string]bool
	errors    []graphError

	selectable int  // how many more selections may be looked at
	resolvable int  // how many more fields may be answered
	exhausted  bool // one of the two is spent, so nothing more is answered, not even around a null
}

// prepare indexes the fragments, refuses those that contain themselves, and coerces the variables.
func (x *execution) prepare(doc *ast.QueryDocument, operation *ast.OperationDefinition, given map[string]any) error {
	for _, f := range doc.Fragments {
		if x.fragments[f.Name] != nil {
			return errorAt(f.Position, nil, "There can be only one fragment named %q.", f.Name)
		}
		if len(f.VariableDefinition) > 0 {
			return errorAt(f.Position, nil, "Fragment %q cannot define variables.", f.Name)
		}
		x.fragments[f.Name] = f
	}
	finished := map[string]bool{}
	for _, f := range doc.Fragments {
		if finished[f.Name] {
			continue
		}
		if err := x.refuseCycle(f.SelectionSet, map[string]bool{f.Name: true}, finished); err != nil {
			return err
		}
		finished[f.Name] = true
	}

	x.variables, x.declared = map[string]any{}, map[string]bool{}
	for _, v := range operation.VariableDefinitions {
		if x.declared[v.Variable] {
			return errorAt(v.Position, nil, "There can be only one variable named \"$%s\".", v.Variable)
		}
		x.declared[v.Variable] = true
		if def := x.types[v.Type.Name()]; def == nil || !def.IsInputType() {
			return errorAt(v.Position, nil, "Variable \"$%s\" cannot be of type %q.", v.Variable, v.Type)
		}
		value, present := given[v.Variable]
		if !present && v.DefaultValue != nil {
			literal, err := x.literal(v.DefaultValue)
			if err != nil {
				return err
			}
			value, present = literal, true
		}
		if !present && !v.Type.NonNull {
			continue
		}
		coerced, err := x.coerce(v.Type, value)
		if err != nil {
			return errorAt(v.Position, nil, "Variable \"$%s\" got an invalid value: %s", v.Variable, err)
		}
		x.variables[v.Variable] = coerced
	}
	return nil
}

func (x *execution) refuseCycle(set ast.SelectionSet, open, finished map[string]bool) error {
	for _, selection := range set {
		var err error
		switch s := selection.(type) {
		case *ast.Field:
			err = x.refuseCycle(s.SelectionSet, open, finished)
		case *ast.InlineFragment:
			err = x.refuseCycle(s.SelectionSet, open, finished)
		case *ast.FragmentSpread:
			f := x.fragments[s.Name]
			if f == nil || finished[s.Name] {
				continue
			}
			if open[s.Name] {
				return errorAt(s.Position, nil, "Cannot spread fragment %q within itself.", s.Name)
			}
			open[s.Name] = true
			err = x.refuseCycle(f.SelectionSet, open, finished)
			delete(open, s.Name)
			finished[s.Name] = true
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fieldGroup is the fields that share one name in the answer; they are answered once, with their selections merged.
type fieldGroup []*ast.Field

func (g fieldGroup) selections() []ast.SelectionSet {
	var sets []ast.SelectionSet
	for _, field := range g {
		if len(field.SelectionSet) > 0 {
			sets = append(sets, field.SelectionSet)
		}
	}
	return sets
}

// collect gathers the fields of selection sets on one type, fragments opened, in the order of the document. With all it
// takes what @skip and @include would leave out.
func (x *execution) collect(parent *ast.Definition, sets []ast.SelectionSet, all bool) ([]fieldGroup, error) {
	var groups []fieldGroup
	index, opened := map[string]int{}, map[string]bool{}
	var gather func(ast.SelectionSet) error
	open := func(pos *ast.Position, condition string, set ast.SelectionSet) error {
		if condition != "" && condition != parent.Name && !slices.Contains(parent.Interfaces, condition) {
			return errorAt(pos, nil, "A fragment on %q cannot be spread here, on %q.", condition, parent.Name)
		}
		return gather(set)
	}
	gather = func(set ast.SelectionSet) error {
		for _, selection := range set {
			if x.selectable--; x.selectable < 0 {
				x.exhausted = true
				return complaint("The document is too large.")
			}
			taken, err := x.taken(selection)
			if err != nil {
				return err
			}
			if !taken && !all {
				continue
			}
			switch s := selection.(type) {
			case *ast.Field:
				at, known := index[s.Alias]
				if !known {
					index[s.Alias] = len(groups)
					groups = append(groups, fieldGroup{s})
					continue
				}
				groups[at] = append(groups[at], s)
			case *ast.InlineFragment:
				if err := open(s.Position, s.TypeCondition, s.SelectionSet); err != nil {
					return err
				}
			case *ast.FragmentSpread:
				f := x.fragments[s.Name]
				if f == nil {
					return errorAt(s.Position, nil, "Unknown fragment %q.", s.Name)
				}
				if opened[s.Name] {
					continue
				}
				opened[s.Name] = true
				if err := open(s.Position, f.TypeCondition, f.SelectionSet); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, set := range sets {
		if err := gather(set); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// taken reports whether the directives of a selection leave it in.
func (x *execution) taken(selection ast.Selection) (bool, error) {
	var directives ast.DirectiveList
	switch s := selection.(type) {
	case *ast.Field:
		directives = s.Directives
	case *ast.InlineFragment:
		directives = s.Directives
	case *ast.FragmentSpread:
		directives = s.Directives
	}
	taken := true
	for _, d := range directives {
		if d.Name != "skip" && d.Name != "include" {
			return false, errorAt(d.Position, nil, "Unknown directive \"@%s\".", d.Name)
		}
		if len(d.Arguments) != 1 || d.Arguments[0].Name != "if" {
			return false, errorAt(d.Position, nil, "Directive \"@%s\" takes one argument, \"if\".", d.Name)
		}
		value, err := x.literal(d.Arguments[0].Value)
		if err != nil {
			return false, err
		}
		condition, ok := value.(bool)
		if !ok {
			return false, errorAt(d.Position, nil, "Argument \"if\" of directive \"@%s\" must be a boolean.", d.Name)
		}
		taken = taken && condition == (d.Name == "include")
	}
	return taken, nil
}

// check refuses what cannot be answered: unknown fields and arguments, values of the wrong type, fields that conflict,
// objects without a selection. It follows every branch, so that a mistake anywhere means that nothing is run.
func (x *execution) check(parent *ast.Definition, sets []ast.SelectionSet, depth int) error {
	if depth > maxDepth {
		return complaint("The document is too deep.")
	}
	groups, err := x.collect(parent, sets, true)
	if err != nil {
		return err
	}
	for _, group := range groups {
		first := group[0]
		for _, field := range group[1:] {
			if field.Name != first.Name || writtenArguments(field) != writtenArguments(first) {
				return errorAt(field.Position, nil, "Fields %q conflict: use different aliases.", first.Alias)
			}
		}
		if first.Name == "__typename" {
			continue
		}
		def := parent.Fields.ForName(first.Name)
		if def == nil {
			return errorAt(first.Position, nil, "Cannot query field %q on type %q.", first.Name, parent.Name)
		}
		if _, err := x.arguments(def, first); err != nil {
			return errorAt(first.Position, nil, "Field %q: %s", first.Name, err)
		}
		target := x.types[def.Type.Name()]
		below := group.selections()
		if target.Kind != ast.Object {
			if len(below) > 0 {
				return errorAt(first.Position, nil, "Field %q must not have a selection since type %q has no subfields.", first.Name, def.Type)
			}
			continue
		}
		if len(below) == 0 {
			return errorAt(first.Position, nil, "Field %q of type %q must have a selection of subfields.", first.Name, def.Type)
		}
		if err := x.check(target, below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// writtenArguments is the text of a field's arguments, without regard to their order.
func writtenArguments(field *ast.Field) string {
	var written []string
	for _, a := range field.Arguments {
		written = append(written, strconv.Quote(a.Name+":"+a.Value.String()))
	}
	slices.Sort(written)
	return fmt.Sprint(written)
}

// answer answers the fields of one object. An error means that a field that may not be null has failed, so that the
// object as a whole is null; the fields after it are not touched.
func (x *execution) answer(def *ast.Definition, from object, sets []ast.SelectionSet, path []any) (answerObject, error) {
	groups, err := x.collect(def, sets, false)
	if err != nil {
		return answerObject{}, err
	}
	var out answerObject
	for _, group := range groups {
		value, err := x.field(def, from, group, append(path, group[0].Alias))
		if err != nil {
			return answerObject{}, err
		}
		out.names = append(out.names, group[0].Alias)
		out.values = append(out.values, value)
	}
	return out, nil
}

func (x *execution) field(parent *ast.Definition, from object, group fieldGroup, path []any) (any, error) {
	field := group[0]
	if x.resolvable--; x.resolvable < 0 {
		x.exhausted = true
		return nil, errorAt(field.Position, path, "The answer is too large.")
	}
	if field.Name == "__typename" {
		return parent.Name, nil
	}
	def := parent.Fields.ForName(field.Name)
	value := from[field.Name]
	if resolve, ok := value.(resolver); ok {
		args, err := x.arguments(def, field)
		if err != nil {
			return nil, errorAt(field.Position, path, "%s", err)
		}
		value, err = resolve(args)
		if err != nil {
			return x.nullOr(def.Type, errorAt(field.Position, path, "%s", err))
		}
	}
	return x.complete(def.Type, group, value, path)
}

// nullOr turns an error into null, if the type has one, and passes it up otherwise.
func (x *execution) nullOr(t *ast.Type, err error) (any, error) {
	if t.NonNull || x.exhausted {
		return nil, err
	}
	x.errors = append(x.errors, asGraphError(err, "INTERNAL_SERVER_ERROR"))
	return nil, nil
}

// complete turns a value into what is answered for a field of type t.
func (x *execution) complete(t *ast.Type, group fieldGroup, value any, path []any) (any, error) {
	field := group[0]
	if value == nil {
		if t.NonNull {
			return nil, errorAt(field.Position, path, "Cannot return null for non-nullable field %q.", field.Name)
		}
		return nil, nil
	}
	if t.Elem != nil {
		items, ok := value.([]any)
		if !ok {
			return x.nullOr(t, errorAt(field.Position, path, "Expected a list for field %q.", field.Name))
		}
		list := make([]any, 0, len(items))
		for i, item := range items {
			answered, err := x.complete(t.Elem, group, item, append(path, i))
			if err != nil {
				return x.nullOr(t, err)
			}
			list = append(list, answered)
		}
		return list, nil
	}
	def := x.types[t.NamedType]
	if def.Kind != ast.Object {
		return value, nil
	}
	from, ok := value.(object)
	if !ok {
		return x.nullOr(t, errorAt(field.Position, path, "Expected an object for field %q.", field.Name))
	}
	answered, err := x.answer(def, from, group.selections(), path)
	if err != nil {
		return x.nullOr(t, err)
	}
	return answered, nil
}

// arguments coerces the arguments of a field.
func (x *execution) arguments(def *ast.FieldDefinition, field *ast.Field) (arguments, error) {
	given := map[string]any{}
	for _, a := range field.Arguments {
		if _, twice := given[a.Name]; twice {
			return nil, complaint("There can be only one argument named %q.", a.Name)
		}
		if def.Arguments.ForName(a.Name) == nil {
			return nil, complaint("Unknown argument %q.", a.Name)
		}
		if x.leftOut(a.Value) {
			continue
		}
		value, err := x.literal(a.Value)
		if err != nil {
			return nil, err
		}
		given[a.Name] = value
	}
	args := arguments{}
	for _, a := range def.Arguments {
		if err := x.member(args, given, a.Name, a.Type, a.DefaultValue); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// member coerces one argument, or one member of an input object, from given into args.
func (x *execution) member(args arguments, given map[string]any, name string, t *ast.Type, byDefault *ast.Value) error {
	value, present := given[name]
	if !present && byDefault != nil {
		literal, err := x.literal(byDefault)
		if err != nil {
			return err
		}
		value, present = literal, true
	}
	if !present {
		if t.NonNull {
			return complaint("%q of type %q is required, but it was not provided.", name, t)
		}
		return nil
	}
	coerced, err := x.coerce(t, value)
	if err != nil {
		return complaint("%q: %s", name, err)
	}
	args[name] = coerced
	return nil
}

// leftOut reports whether a value is a declared variable that was given no value, which counts as not written at all.
func (x *execution) leftOut(v *ast.Value) bool {
	_, present := x.variables[v.Raw]
	return v.Kind == ast.Variable && x.declared[v.Raw] && !present
}

// literal turns a value of the document into a Go value: json.Number, string, bool, nil, enumWord, []any or
// map[string]any.
func (x *execution) literal(v *ast.Value) (any, error) {
	switch v.Kind {
	case ast.Variable:
		if !x.declared[v.Raw] {
			return nil, errorAt(v.Position, nil, "Variable \"$%s\" is not defined.", v.Raw)
		}
		return x.variables[v.Raw], nil
	case ast.IntValue, ast.FloatValue:
		return json.Number(v.Raw), nil
	case ast.BooleanValue:
		return v.Raw == "true", nil
	case ast.NullValue:
		return nil, nil
	case ast.EnumValue:
		return enumWord(v.Raw), nil
	case ast.ListValue:
		list := []any{}
		for _, child := range v.Children {
			item, err := x.literal(child.Value)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	case ast.ObjectValue:
		members := map[string]any{}
		for _, child := range v.Children {
			if _, twice := members[child.Name]; twice {
				return nil, errorAt(child.Position, nil, "There can be only one input field named %q.", child.Name)
			}
			if x.leftOut(child.Value) {
				continue
			}
			member, err := x.literal(child.Value)
			if err != nil {
				return nil, err
			}
			members[child.Name] = member
		}
		return members, nil
	}
	return v.Raw, nil // a string or a block string
}

// coerce checks a value, from the document or from the variables, against an input type. What it returns passes it
// again unchanged, because a variable is coerced to its own type and then to that of the place where it is used.
func (x *execution) coerce(t *ast.Type, value any) (any, error) {
	if value == nil {
		if t.NonNull {
			return nil, complaint("Expected a value of type %q, found null.", t)
		}
		return nil, nil
	}
	if t.Elem != nil {
		items, ok := value.([]any)
		if !ok {
			items = []any{value}
		}
		list := make([]any, 0, len(items))
		for _, item := range items {
			coerced, err := x.coerce(t.Elem, item)
			if err != nil {
				return nil, err
			}
			list = append(list, coerced)
		}
		return list, nil
	}
	def := x.types[t.NamedType]
	if def == nil {
		return nil, complaint("Unknown type %q.", t.NamedType)
	}
	switch def.Kind {
	case ast.Scalar:
		return coerceScalar(def.Name, value)
	case ast.Enum:
		word, ok := value.(enumWord)
		if plain, isText := value.(string); isText {
			word, ok = enumWord(plain), true
		}
		if !ok || def.EnumValues.ForName(string(word)) == nil {
			return nil, complaint("Value does not exist in %q enum.", def.Name)
		}
		return word, nil
	case ast.InputObject:
		return x.coerceInput(def, value)
	}
	return nil, complaint("Type %q is not an input type.", def.Name)
}

func (x *execution) coerceInput(def *ast.Definition, value any) (any, error) {
	var given map[string]any
	switch v := value.(type) {
	case map[string]any:
		given = v
	case arguments:
		given = v
	default:
		return nil, complaint("Expected an object of type %q.", def.Name)
	}
	for name := range given {
		if def.Fields.ForName(name) == nil {
			return nil, complaint("Field %q is not defined by type %q.", name, def.Name)
		}
	}
	args := arguments{}
	for _, field := range def.Fields {
		if err := x.member(args, given, field.Name, field.Type, field.DefaultValue); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func coerceScalar(name string, value any) (any, error) {
	switch name {
	case "String":
		if v, ok := value.(string); ok {
			return v, nil
		}
	case "ID":
		switch v := value.(type) {
		case string:
			return v, nil
		case json.Number:
			if _, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
				return v.String(), nil
			}
		}
	case "Boolean":
		if v, ok := value.(bool); ok {
			return v, nil
		}
	case "Int":
		switch v := value.(type) {
		case int:
			return v, nil
		case json.Number:
			if n, err := strconv.ParseInt(v.String(), 10, 32); err == nil {
				return int(n), nil
			}
		}
	case "Float":
		switch v := value.(type) {
		case float64:
			return v, nil
		case int:
			return float64(v), nil
		case json.Number:
			if n, err := v.Float64(); err == nil {
				return n, nil
			}
		}
	default:
		return value, nil // the vendor's own scalars are whatever JSON they are
	}
	return nil, complaint("The value is not of type %q.", name)
}
