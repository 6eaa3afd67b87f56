package scopes

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// An operation is one thing that a provider's REST API can do.
type operation struct {
	Name  string      `toml:"name"`
	Match string      `toml:"match"` // an http.ServeMux pattern: "PATCH /zones/{zone}"
	Does  string      `toml:"does"`  // "resource:action", an act of every such call
	ID    string      `toml:"id"`    // references to what names the thing, separated by spaces
	Place placing     `toml:"place"`
	Query []string    `toml:"query"` // parameters that are known; others are refused
	Body  []string    `toml:"body"`  // members of a JSON body that are known, dotted; none: no body
	Act   []condition `toml:"act"`   // further acts of some calls

	resource Resource
	action   Action
}

// A condition is an act that a call has when its parameters have certain
// values. Conditions only ever add acts: a call does all that match.
type condition struct {
	Does string              `toml:"does"`
	ID   string              `toml:"id"`
	Each string              `toml:"each"` // an array in the body: the condition is asked of every element
	When map[string][]string `toml:"when"` // reference: values; "*" is any value, "-" is none

	resource Resource
	action   Action
}

// placing is how an operation's resource is placed: "account", "everywhere",
// or a table of key = reference.
type placing struct {
	reach Reach
	keys  map[string]string
}

// UnmarshalTOML implements the toml package's Unmarshaler.
func (p *placing) UnmarshalTOML(x any) error {
	switch x := x.(type) {
	case string:
		switch x {
		case "account":
			p.reach = InAccount
		case "everywhere":
			p.reach = Everywhere
		default:
			return fmt.Errorf("place %q: want account, everywhere or { key = \"reference\" }", x)
		}
		return nil
	case map[string]any:
		p.reach, p.keys = ByValue, map[string]string{}
		for k, v := range x {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("place.%s: want a reference such as \"path.%s\"", k, k)
			}
			p.keys[k] = s
		}
		return nil
	}
	return fmt.Errorf("place: unexpected %T", x)
}

// rest classifies the calls of one REST API.
type rest struct {
	provider *provider
	mux      *http.ServeMux // never serves: it answers "which operation is this?"
}

func newREST(p *provider) (*rest, error) {
	r := &rest{p, http.NewServeMux()}
	seen := map[string]bool{}
	for i := range p.Operation {
		op := &p.Operation[i]
		if err := op.compile(p); err != nil {
			return nil, fmt.Errorf("operation %q: %w", op.Name, err)
		}
		if seen[op.Name] {
			return nil, fmt.Errorf("operation %q: listed twice", op.Name)
		}
		seen[op.Name] = true
		if err := r.handle(op); err != nil {
			return nil, fmt.Errorf("operation %q: %w", op.Name, err)
		}
	}
	return r, nil
}

// handle registers op. The mux panics when two patterns match one request and
// neither is more specific; such a catalog is refused.
func (r *rest) handle(op *operation) (err error) {
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("%v", e)
		}
	}()
	r.mux.HandleFunc(op.Match, func(w http.ResponseWriter, req *http.Request) {
		w.(*match).op, w.(*match).req = op, req
	})
	return nil
}

// match is the ResponseWriter of a mux that never serves.
type match struct {
	op  *operation
	req *http.Request
}

func (*match) Header() http.Header         { return http.Header{} }
func (*match) Write(p []byte) (int, error) { return len(p), nil }
func (*match) WriteHeader(int)             {}

func (op *operation) compile(p *provider) (err error) {
	method, pattern, ok := strings.Cut(op.Match, " ")
	if !ok || !isMethod(method) || !strings.HasPrefix(pattern, "/") || strings.Contains(pattern, "...") || strings.HasSuffix(pattern, "/") {
		return fmt.Errorf("match %q: want METHOD /path/{parameter}", op.Match)
	}
	if op.Name == "" || op.Does == "" && len(op.Act) == 0 {
		return fmt.Errorf("does: an operation has a name and an action")
	}
	if op.Does != "" {
		if op.resource, op.action, err = parseDoes(op.Does); err != nil {
			return err
		}
	}
	if op.Place.reach == 0 {
		return fmt.Errorf("place: where is it?")
	}
	if op.Place.reach == ByValue && op.Place.keys[p.Keys[0]] == "" {
		return fmt.Errorf("place: want %s", p.Keys[0])
	}
	for key, ref := range op.Place.keys {
		if !slices.Contains(p.Keys, key) {
			return fmt.Errorf("place.%s: the provider has no such key", key)
		}
		if err := op.checkRef(ref, ""); err != nil {
			return fmt.Errorf("place.%s: %w", key, err)
		}
	}
	if err := op.checkRefs(op.ID, ""); err != nil {
		return fmt.Errorf("id: %w", err)
	}
	for i := range op.Act {
		c := &op.Act[i]
		if c.resource, c.action, err = parseDoes(c.Does); err != nil {
			return fmt.Errorf("act %d: %w", i+1, err)
		}
		if c.Each != "" && !slices.Contains(op.Body, c.Each) {
			return fmt.Errorf("act %d: each: the body has no %q", i+1, c.Each)
		}
		if err := op.checkRefs(strings.Join(slices.Collect(maps.Keys(c.When)), " ")+" "+c.ID, c.Each); err != nil {
			return fmt.Errorf("act %d: %w", i+1, err)
		}
	}
	return nil
}

// parseDoes parses "resource:action".
func parseDoes(s string) (Resource, Action, error) {
	r, a, ok := strings.Cut(s, ":")
	if !ok || !IsName(r) {
		return "", 0, fmt.Errorf("does %q: want resource:action", s)
	}
	action, err := ParseAction(a)
	return Resource(r), action, err
}

func (op *operation) checkRefs(refs, each string) error {
	for ref := range strings.FieldsSeq(refs) {
		if err := op.checkRef(ref, each); err != nil {
			return err
		}
	}
	return nil
}

// checkRef refuses a reference to what the operation does not have.
func (op *operation) checkRef(ref, each string) error {
	in, name, _ := strings.Cut(ref, ".")
	ok := false
	switch in {
	case "path":
		ok = strings.Contains(op.Match+"/", "/{"+name+"}/")
	case "query":
		ok = slices.Contains(op.Query, name)
	case "body":
		ok = slices.Contains(op.Body, name)
	case "each":
		ok = each != "" && slices.Contains(op.Body, each+"."+name)
	}
	if !ok {
		return fmt.Errorf("%q: the operation has no such parameter", ref)
	}
	return nil
}

// classify finds the operation, reads its parameters and gives its acts.
func (r *rest) classify(call Call) (Call, []Act, error) {
	path, err := url.PathUnescape(call.Path) // canonical: no segment holds a slash
	if err != nil {
		return call, nil, fmt.Errorf("path: %w: %v", ErrMalformed, err)
	}
	var m match
	r.mux.ServeHTTP(&m, &http.Request{Method: call.Method, URL: &url.URL{Path: path, RawPath: call.Path}})
	if m.op == nil || !strings.HasPrefix(m.op.Match, call.Method+" ") { // a mux takes HEAD for GET; a server may not
		return call, nil, fmt.Errorf("%w: %s %s is not an operation of %s that is listed", ErrUnclassified, call.Method, path, r.provider.Name)
	}
	v := values{"path": map[string]any{}, "query": map[string]any{}}
	if call.Path, err = r.readPath(m, v["path"].(map[string]any)); err != nil {
		return call, nil, err
	}
	for name, value := range call.query() {
		if !slices.Contains(m.op.Query, name) {
			return call, nil, fmt.Errorf("%w: query parameter %q of %s is not known", ErrUnclassified, name, m.op.Name)
		}
		v["query"].(map[string]any)[name] = value[0]
	}
	if call, err = m.op.readBody(r.provider, call, v); err != nil {
		return call, nil, err
	}
	acts, err := r.acts(m.op, v)
	return call, acts, err
}

// readPath reads the path parameters into v and returns the path in the
// provider's one spelling.
func (r *rest) readPath(m match, v map[string]any) (string, error) {
	_, pattern, _ := strings.Cut(m.op.Match, " ")
	var out strings.Builder
	for seg := range strings.SplitSeq(pattern[1:], "/") {
		name, isParameter := strings.CutPrefix(seg, "{")
		if !isParameter {
			out.WriteString("/" + seg)
			continue
		}
		name = strings.TrimSuffix(name, "}")
		prm := r.provider.Parameter[name]
		value, err := prm.Form.decode(m.req.PathValue(name))
		if err != nil {
			return "", err
		}
		if len(prm.Is) > 0 && !slices.Contains(prm.Is, value) {
			return "", fmt.Errorf("%w: %s %q is not known: want %s", ErrUnclassified, name, value, strings.Join(prm.Is, " or "))
		}
		v[name] = value
		out.WriteString("/" + url.PathEscape(prm.Form.encode(value)))
	}
	return out.String(), nil
}

// readBody decodes a JSON body, refuses members that the operation does not
// list, and puts the body in its one spelling.
func (op *operation) readBody(p *provider, call Call, v values) (Call, error) {
	call.Header = maps.Clone(call.Header)
	delete(call.Header, "Content-Type")
	if len(op.Body) == 0 {
		if len(call.Body) > 0 {
			return call, fmt.Errorf("%w: %s takes no body", ErrUnclassified, op.Name)
		}
		return call, nil
	}
	if len(call.Body) == 0 {
		return call, fmt.Errorf("body: %w: %s needs a JSON object", ErrMalformed, op.Name)
	}
	canonical, err := canonicalJSON(call.Body)
	if err != nil {
		return call, err
	}
	var body map[string]any
	if err := json.Unmarshal(canonical, &body); err != nil || body == nil {
		return call, fmt.Errorf("body: %w: want a JSON object", ErrMalformed)
	}
	if err := op.checkMembers(p, body, ""); err != nil {
		return call, err
	}
	v["body"] = body
	call.Body = canonical
	call.Header.Set("Content-Type", "application/json")
	return call, nil
}

// checkMembers refuses members of x that op.Body does not list, and a value of
// one type where another is listed. Arrays are looked through.
func (op *operation) checkMembers(p *provider, x any, at string) error {
	is := p.Parameter["body."+at].Is
	switch x := x.(type) {
	case []any:
		if len(is) > 0 {
			return fmt.Errorf("%w: body member %q of %s is no list", ErrUnclassified, at, op.Name)
		}
		for _, e := range x {
			if err := op.checkMembers(p, e, at); err != nil {
				return err
			}
		}
	case map[string]any:
		if at != "" && !op.hasMembers(at) {
			return fmt.Errorf("%w: body member %q of %s is no object", ErrUnclassified, at, op.Name)
		}
		for _, name := range slices.Sorted(maps.Keys(x)) {
			full := strings.TrimPrefix(at+"."+name, ".")
			if !slices.Contains(op.Body, full) || strings.Contains(name, ".") {
				return fmt.Errorf("%w: body member %q of %s is not known", ErrUnclassified, full, op.Name)
			}
			if err := op.checkMembers(p, x[name], full); err != nil {
				return err
			}
		}
	case nil:
	default:
		if op.hasMembers(at) {
			return fmt.Errorf("%w: body member %q of %s is an object or a list of objects", ErrUnclassified, at, op.Name)
		}
		if len(is) > 0 && !slices.ContainsFunc(is, func(w string) bool { return isExactly(x, w) }) {
			return fmt.Errorf("%w: body member %q of %s is %v, which is not known: want %s", ErrUnclassified, at, op.Name, x, strings.Join(is, " or "))
		}
	}
	return nil
}

// isExactly reports whether x is the value that a catalog writes as want, of the
// same type: true and false are no texts.
func isExactly(x any, want string) bool {
	if want == "true" || want == "false" {
		b, ok := x.(bool)
		return ok && fmt.Sprint(b) == want
	}
	s, ok := x.(string)
	return ok && s == want
}

func (op *operation) hasMembers(at string) bool {
	return slices.ContainsFunc(op.Body, func(s string) bool { return strings.HasPrefix(s, at+".") })
}

// acts gives the acts of a call of op with the parameters v.
func (r *rest) acts(op *operation, v values) ([]Act, error) {
	place, err := r.place(op, v)
	if err != nil {
		return nil, err
	}
	var list actList
	add := func(resource Resource, action Action, id string) error {
		return list.add(Act{Provider: r.provider.Name, Operation: op.Name, Resource: resource, Action: action, ID: id, Place: place})
	}
	if op.action != 0 {
		if err := add(op.resource, op.action, v.id(op.ID)); err != nil {
			return nil, err
		}
	}
	var arrays []string // those of which each element is asked about, once each
	for _, c := range op.Act {
		switch {
		case c.Each != "" && !slices.Contains(arrays, c.Each):
			arrays = append(arrays, c.Each)
		case c.Each == "" && v.all(c.When):
			if err := add(c.resource, c.action, v.id(c.ID)); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range arrays {
		if err := op.eachActs(name, v, add); err != nil {
			return nil, err
		}
	}
	return list.acts, nil
}

// eachActs adds the acts of every element of an array in the body. An element
// of no known kind refuses the call. An array that is not given, or is empty,
// has no acts; a call without any act is refused elsewhere.
func (op *operation) eachActs(name string, v values, add func(Resource, Action, string) error) error {
	given := v.get("body." + name)
	elements, ok := given.([]any)
	if given != nil && !ok {
		return fmt.Errorf("%w: %q in the body of %s is no list", ErrUnclassified, name, op.Name)
	}
	for i, e := range elements {
		v["each"] = e
		known := false
		for _, c := range op.Act {
			if c.Each == name && v.all(c.When) {
				known = true
				if err := add(c.resource, c.action, v.id(c.ID)); err != nil {
					return err
				}
			}
		}
		if !known {
			return fmt.Errorf("%w: element %d of %q in the body of %s is of no known kind", ErrUnclassified, i+1, name, op.Name)
		}
	}
	return nil
}

// maxActs bounds what one call may do, so that it can still be judged, placed
// and logged.
const maxActs = 1000

// An actList collects the acts of one call, each once.
type actList struct {
	acts []Act
	seen map[string]bool // made once there are many: most calls have one act
}

// add adds an act unless one is there that differs in nothing that is judged or
// shown.
func (l *actList) add(a Act) error {
	const many = 8
	switch {
	case len(l.acts) == maxActs:
		return fmt.Errorf("%w: the call does more than %d things", ErrUnclassified, maxActs)
	case len(l.acts) < many && slices.ContainsFunc(l.acts, func(b Act) bool { return reflect.DeepEqual(a, b) }):
		return nil
	case len(l.acts) >= many:
		if l.seen == nil {
			l.seen = map[string]bool{}
			for _, b := range l.acts {
				l.seen[fmt.Sprintf("%#v", b)] = true
			}
		}
		key := fmt.Sprintf("%#v", a)
		if l.seen[key] {
			return nil
		}
		l.seen[key] = true
	}
	l.acts = append(l.acts, a)
	return nil
}

// place returns where the call's resource is. A value outside a path must be
// in its one spelling already.
func (r *rest) place(op *operation, v values) (Place, error) {
	place := Place{Reach: op.Place.reach}
	for _, key := range slices.Sorted(maps.Keys(op.Place.keys)) {
		ref := op.Place.keys[key]
		value, ok := v.get(ref).(string)
		if !ok || value == "" {
			return Place{}, fmt.Errorf("%w: %s needs %s", ErrUnclassified, op.Name, ref)
		}
		one, err := r.provider.form(key).canonical(value)
		if err != nil {
			return Place{}, err
		}
		if one != value {
			return Place{}, fmt.Errorf("%s %q: %w: it is spelt %q", key, value, ErrMalformed, one)
		}
		place.Keys = append(place.Keys, Key{key, value})
	}
	return place, nil
}

func (r *rest) operations() (out []Operation) {
	for _, op := range r.provider.Operation {
		place := "account"
		switch op.Place.reach {
		case Everywhere:
			place = "every environment"
		case ByValue:
			place = "by " + strings.Join(slices.Sorted(maps.Keys(op.Place.keys)), " and ")
		}
		if op.action != 0 {
			out = append(out, Operation{op.Name, op.Match, op.resource, op.action, "", place})
		}
		for _, c := range op.Act {
			out = append(out, Operation{op.Name, op.Match, c.resource, c.action, describeWhen(c), place})
		}
	}
	return out
}

func describeWhen(c condition) string {
	var words []string
	for _, ref := range slices.Sorted(maps.Keys(c.When)) {
		name := strings.Replace(ref, "each.", c.Each+".", 1)
		var is []string
		for _, v := range c.When[ref] {
			switch v {
			case "*":
				v = "given"
			case "-":
				v = "not given"
			case "[]", "":
				v = "empty"
			}
			is = append(is, v)
		}
		words = append(words, name+" is "+strings.Join(is, " or "))
	}
	return strings.Join(words, " and ")
}

// values are the parameters of one call: "path", "query", "body", "each" for
// REST, the arguments of a field for GraphQL.
type values map[string]any

// get returns what a dotted reference leads to, or nil.
func (v values) get(ref string) any {
	var x any = map[string]any(v)
	for name := range strings.SplitSeq(ref, ".") {
		m, ok := x.(map[string]any)
		if !ok {
			return nil
		}
		x = m[name]
	}
	return x
}

// all reports whether every condition of when holds. No conditions hold always.
func (v values) all(when map[string][]string) bool {
	for ref, want := range when {
		if !slices.ContainsFunc(want, func(w string) bool { return holds(v.get(ref), w) }) {
			return false
		}
	}
	return true
}

// holds reports whether x is what want says: "*" any value, "-" none or null,
// "[]" an empty list, otherwise the text of a string, number or boolean.
func holds(x any, want string) bool {
	switch x := x.(type) {
	case nil:
		return want == "-"
	case string:
		return want == "*" || want == x && x != "-" && x != "[]" // a text is never a marker
	case []any:
		return want == "*" || want == "[]" && len(x) == 0
	case bool, float64, int64:
		return want == "*" || want == fmt.Sprint(x)
	}
	return want == "*"
}

// id joins what the references of a catalog's id lead to.
func (v values) id(refs string) string {
	var words []string
	for ref := range strings.FieldsSeq(refs) {
		if s, ok := v.get(ref).(string); ok && s != "" {
			words = append(words, s)
		}
	}
	return strings.Join(words, " ")
}
