package scopes

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestScopeCovers is the matrix of what covers what.
func TestScopeCovers(t *testing.T) {
	for _, tt := range []struct {
		have, need string
		want       bool
	}{
		{"railway/domains:write@staging", "railway/domains:write@staging", true},
		{"railway/domains:write@staging", "railway/domains:read@staging", true},
		{"railway/domains:delete@staging", "railway/domains:read@staging", true},
		{"railway/domains:reveal@staging", "railway/domains:read@staging", true},
		{"railway/domains:grant@staging", "railway/domains:read@staging", false},
		{"railway/domains:read@staging", "railway/domains:reveal@staging", false},
		{"railway/domains:write@staging", "railway/domains:delete@staging", false},
		{"railway/domains:delete@staging", "railway/domains:write@staging", false},
		{"railway/domains:delete@staging", "railway/domains:grant@staging", false},
		{"railway/domains:grant@staging", "railway/domains:grant@staging", true},
		{"railway/domains:write@staging", "railway/domains:write@production", false},
		{"railway/domains:write@staging", "railway/volumes:write@staging", false},
		{"railway/domains:write@staging", "powerdns/domains:write@staging", false},
	} {
		have, need := parse(t, tt.have), parse(t, tt.need)
		if got := (Set{have}).Covers(need); got != tt.want {
			t.Errorf("%s covers %s: got %v", have, need, got)
		}
	}
}

func parse(t *testing.T, s string) Scope {
	t.Helper()
	sc, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		"", "domains:write", "railway/domains@staging", "railway/domains:write", "railway/domains:wipe@staging", "Railway/domains:write@staging",
		"railway/domains:write@Staging", "railway/*:write@staging", "*/domains:write@staging", "railway/domains:*@staging",
		"railway/domains:write@*", "railway/domains:write@staging ", " railway/domains:write@staging", "railway//domains:write@staging",
		"railway/domains:write@staging@production", "railway/domains:write@" + strings.Repeat("x", 65), "railway/dom\u0430ins:write@staging",
		"railway/domains:write@-staging", "railway/domains:write@\x00",
	} {
		if sc, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v", s, sc)
		}
	}
	if _, err := ParseSet(strings.TrimSpace(strings.Repeat("railway/domains:read@staging ", 65))); err == nil {
		t.Error("a set of 65 scopes was accepted")
	}
}

// TestZeroValuesRefuse holds the law that forgetting to set a field can refuse
// a call and cannot let one through.
func TestZeroValuesRefuse(t *testing.T) {
	all := Policy{Allow: patterns(t, "*/*:*@*")}
	held := Set{parse(t, "railway/domains:write@staging")}
	act := Act{Provider: "railway", Operation: "x", Resource: "domains", Action: Write, Environment: "staging"}
	if d := all.Decide(Question{held, []Act{act}, false}); d.Verdict != Allow {
		t.Fatalf("the complete question: %v", d)
	}
	for name, change := range map[string]func(*Question, *Policy){
		"policy":      func(_ *Question, p *Policy) { *p = Policy{} },
		"held":        func(q *Question, _ *Policy) { q.Held = nil },
		"zero scope":  func(q *Question, _ *Policy) { q.Held = Set{{}} },
		"acts":        func(q *Question, _ *Policy) { q.Acts = nil },
		"zero act":    func(q *Question, _ *Policy) { q.Acts = []Act{{}} },
		"environment": func(q *Question, _ *Policy) { q.Acts[0].Environment = Nowhere },
		"action":      func(q *Question, _ *Policy) { q.Acts[0].Action = 0 },
		"provider":    func(q *Question, _ *Policy) { q.Acts[0].Provider = "" },
		"resource":    func(q *Question, _ *Policy) { q.Acts[0].Resource = "" },
	} {
		q, p := Question{held, []Act{act}, false}, all
		if change(&q, &p); p.Decide(q).Verdict != Deny {
			t.Errorf("without %s: %v", name, p.Decide(q))
		}
	}
	if _, err := (Act{}).Locate(Environments{"staging": {}}, nil); err == nil {
		t.Error("an act without a place was placed")
	}
	if _, _, err := new(Catalog).Classify(Call{}); err == nil {
		t.Error("the zero call was classified")
	}
}

func patterns(t *testing.T, ss ...string) (pp []Pattern) {
	t.Helper()
	for _, s := range ss {
		p, err := ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		pp = append(pp, p)
	}
	return pp
}

// TestPolicy is the matrix of what rules say of a scope that a lease covers.
func TestPolicy(t *testing.T) {
	for _, tt := range []struct {
		allow, hold, deny, scope string
		want, approved           Verdict
	}{
		{"*/*:write@staging", "", "", "a/b:write@staging", Allow, Allow},
		{"*/*:write@staging", "", "", "a/b:read@staging", Allow, Allow},
		{"*/*:write@staging", "", "", "a/b:write@production", Deny, Deny},
		{"*/*:*@*", "", "", "a/b:delete@x", Allow, Allow},
		{"*/*:*@*", "*/*:delete@*", "", "a/b:delete@x", Hold, Allow},
		{"*/*:*@*", "*/*:write@production", "", "a/b:read@production", Allow, Allow}, // holding writes holds no reads
		{"*/*:*@*", "*/*:delete@*", "a/*:*@*", "a/b:delete@x", Deny, Deny},           // an approval lifts no denial
		{"", "*/*:*@*", "", "a/b:read@x", Hold, Allow},
		{"*/*:*@*", "", "", "a/b:grant@x", Deny, Deny}, // no wildcard permits a grant
		{"*/*:grant@*", "", "", "a/b:grant@x", Deny, Deny},
		{"a/b:grant@*", "", "", "a/b:grant@x", Deny, Deny},
		{"a/b:grant@x", "", "", "a/b:grant@x", Allow, Allow},
		{"a/b:grant@x", "", "*/*:*@x", "a/b:grant@x", Deny, Deny}, // but a wildcard forbids one
		{"a/b:grant@x", "*/*:grant@*", "", "a/b:grant@x", Hold, Allow},
		{"", "", "", "a/b:read@x", Deny, Deny},
	} {
		p := Policy{}
		for _, f := range []struct {
			text string
			to   *[]Pattern
		}{{tt.allow, &p.Allow}, {tt.hold, &p.Hold}, {tt.deny, &p.Deny}} {
			if f.text != "" {
				*f.to = patterns(t, f.text)
			}
		}
		s := parse(t, tt.scope)
		act := Act{Provider: s.Provider, Resource: s.Resource, Action: s.Action, Environment: s.Environment}
		for _, approved := range []bool{false, true} {
			want := tt.want
			if approved {
				want = tt.approved
			}
			if d := p.Decide(Question{Set{s}, []Act{act}, approved}); d.Verdict != want || d.Reason == "" {
				t.Errorf("allow %q hold %q deny %q: %s, approved %v: got %v", tt.allow, tt.hold, tt.deny, s, approved, d)
			}
		}
	}
}

// TestLeastPermittedActDecides holds that one act that is not permitted refuses
// the whole call, and that the refusal names each missing scope once.
func TestLeastPermittedActDecides(t *testing.T) {
	p := DefaultPolicy()
	acts := []Act{
		{Provider: "railway", Resource: "domains", Action: Write, Environment: "staging"},
		{Provider: "railway", Resource: "volumes", Action: Delete, Environment: "production"},
		{Provider: "railway", Resource: "volumes", Action: Delete, Environment: "production", ID: "another"},
		{Provider: "railway", Resource: "tokens", Action: Grant, Environment: Account},
	}
	d := p.Decide(Question{Held: Set{parse(t, "railway/domains:write@staging")}, Acts: acts})
	if d.Verdict != Deny || d.Missing.String() != "railway/volumes:delete@production" {
		t.Errorf("got %+v", d) // asking for tokens:grant cannot help: the policy denies it
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"staging.example.com.", "staging.example.com.", true},
		{"*.staging.example.com.", "a.staging.example.com.", true},
		{"*.staging.example.com.", "staging.example.com.", false},
		{"*.staging.example.com.", "a.b.staging.example.com.", false},
		{"*.example.com.", "evil.com.example.com.evil.", false},
		{"pr-*.example.com.", "pr-12.example.com.", true},
		{"pr-*.example.com.", "pr-1.2.example.com.", false},
		{"*-*", "a-b", true}, {"*-*", "ab", false}, {"a*b*c", "a1b2c", true}, {"a*b*c", "a1c2b", false},
		{"*", "id", true}, {"*", "a/b", false}, {"*", "", true}, {"**", "ab", true},
		{"", "", true}, {"a", "", false},
	} {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("glob(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

// TestCatalogIsChecked holds that a catalog that could be read in two ways, or
// that forgets something, does not load.
func TestCatalogIsChecked(t *testing.T) {
	const head = "name = \"x\"\nkeys = [\"zone\"]\n[[auth]]\nname = \"k\"\ntype = \"bearer\"\n"
	const op = "[[operation]]\nname = \"a\"\nmatch = \"GET /a/{zone}\"\ndoes = \"things:read\"\nplace = { zone = \"path.zone\" }\n"
	load := func(text string) error {
		_, err := Load(fstest.MapFS{"x.toml": {Data: []byte(text)}})
		return err
	}
	if err := load(head + op); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"tie":                  {head + strings.Replace(op, "/a/{zone}", "/{zone}/secret", 1) + strings.NewReplacer(`"a"`, `"b"`, "/a/{zone}", "/admin/{zone}").Replace(op), "conflicts"},
		"two of one name":      {head + op + strings.Replace(op, "/a/", "/b/", 1), "listed twice"},
		"no action":            {head + strings.Replace(op, "does = \"things:read\"\n", "", 1), "an action"},
		"unknown action":       {head + strings.Replace(op, ":read", ":look", 1), "unknown action"},
		"no place":             {head + strings.Replace(op, "place = { zone = \"path.zone\" }\n", "", 1), "where is it"},
		"unknown key of place": {head + strings.Replace(op, "{ zone =", "{ region =", 1), "zone"},
		"unknown reference":    {head + strings.Replace(op, "path.zone", "path.zonne", 1), "no such parameter"},
		"unknown key":          {head + "hodl = 1\n" + op, "unknown key"},
		"upper-case key":       {head + strings.Replace(op, "does", "Does", 1), "lower case"},
		"wildcard of rest":     {head + strings.Replace(op, "{zone}", "{zone...}", 1), "want METHOD"},
		"other name":           {strings.Replace(head, `"x"`, `"y"`, 1) + op, "its name is"},
		"no auth":              {"name = \"x\"\nkeys = [\"zone\"]\n" + op, "attach a key"},
		"http base":            {"base_url = \"http://x.test\"\n" + head + op, "https"},
	} {
		if err := load(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestResolve holds how a scope that a person typed is completed.
func TestResolve(t *testing.T) {
	provider := func(name, resource string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("name = \"" + name + "\"\nkeys = [\"zone\"]\n[[auth]]\nname = \"k\"\ntype = \"bearer\"\n" +
			"[[operation]]\nname = \"a\"\nmatch = \"POST /a\"\ndoes = \"" + resource + ":write\"\nplace = \"account\"\n" +
			"[[operation]]\nname = \"b\"\nmatch = \"GET /a\"\ndoes = \"shared:read\"\nplace = \"account\"\n")}
	}
	c, err := Load(fstest.MapFS{"one.toml": provider("one", "domains"), "two.toml": provider("two", "records")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, env, want string }{
		{"domains:write", "staging", "one/domains:write@staging"},
		{"one/domains:write@staging", "", "one/domains:write@staging"},
		{"one/domains:write@staging", "staging", "one/domains:write@staging"},
		{"records:write@prod", "", "two/records:write@prod"},
		{"shared:read", "staging", `more than one provider has "shared": say one/shared or two/shared`},
		{"two/shared:read", "staging", "two/shared:read@staging"},
		{"domain:write", "staging", `did you mean "domains"?`},
		{"tow/records:write", "staging", `did you mean "two"?`},
		{"domains:delete", "staging", "one has no domains:delete; it has domains:write"},
		{"two/domains:write", "staging", `two has no "domains"`},
		{"domains:write", "", "add --on NAME"},
		{"domains:*", "staging", "policy only"},
		{"domains", "staging", "want provider/resource:action@environment"},
		{"domains:write@a", "b", "is it a or b?"},
	} {
		got, err := c.Resolve(tt.in, Environment(tt.env))
		s := got.String()
		if err != nil {
			s = err.Error()
		}
		if !strings.Contains(s, tt.want) {
			t.Errorf("%s on %q: got %s, want %s", tt.in, tt.env, s, tt.want)
		}
	}
}

// TestDecodeTOML holds that a wrong file names the line and the key, and that
// keys that differ in case only cannot both count.
func TestDecodeTOML(t *testing.T) {
	type file struct {
		Policy struct {
			Allow []Pattern `toml:"allow"`
		} `toml:"policy"`
	}
	for text, want := range map[string]string{
		"[policy]\nhodl = []":                            "line 2: policy.hodl: unknown key",
		"[policy]\nallow = []\nALLOW = []":               "lower case",
		"\n\n[Policy]\nallow = []":                       "line 3: Policy: keys are lower case",
		"[policy]\nallow = [\"a/b:read\"]":               "line 2",
		"[policy]\n\nallow = [\"a/b:look@c\"]":           "line 3: policy.allow: scope \"a/b:look@c\": unknown action",
		"[policy\n":                                      "line 2",
		"[policy]\nallow = []\n[policy.more]\nx = \"y\"": "line 3: policy.more: unknown key",
	} {
		var f file
		if err := DecodeTOML([]byte(text), &f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// TestCheckEnvironments holds what the owner may tie to an environment.
func TestCheckEnvironments(t *testing.T) {
	c, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	zone := func(v ...string) map[Provider]Tie { return map[Provider]Tie{"powerdns": {"zone": v}} }
	for name, tt := range map[string]struct {
		envs Environments
		want string
	}{
		"good":             {Environments{"staging": zone("staging.example.com.", "*.staging.example.com.")}, ""},
		"reserved":         {Environments{"account": zone("a.")}, "built in"},
		"not a name":       {Environments{"Staging": zone("a.")}, "not a name"},
		"empty":            {Environments{"staging": zone()}, "is empty"},
		"not canonical":    {Environments{"staging": zone("Staging.example.com")}, `is spelt "staging.example.com."`},
		"not a zone":       {Environments{"staging": zone("a b.")}, "is not a zone"},
		"unknown provider": {Environments{"staging": {"powerdsn": {}}}, `did you mean "powerdns"`},
		"unknown key":      {Environments{"staging": {"powerdns": {"zones": {"a."}}}}, "places resources by zone"},
		"missing key":      {Environments{"staging": {"railway": {"project": {"p"}}}}, "environment is missing"},
	} {
		err := c.Check(tt.envs)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// FuzzScope holds that what parses prints back the same.
func FuzzScope(f *testing.F) {
	f.Add("railway/domains:write@staging")
	f.Add("*/*:*@*")
	f.Fuzz(func(t *testing.T, s string) {
		if sc, err := Parse(s); err == nil && sc.String() != s {
			t.Fatalf("%q prints as %q", s, sc)
		}
		if p, err := ParsePattern(s); err == nil && p.String() != s {
			t.Fatalf("%q prints as %q", s, p)
		}
	})
}

// FuzzCall holds that a canonical call is its own canonical form.
func FuzzCall(f *testing.F) {
	f.Add("GET", "/repos/%61/b", "b=1&a=2")
	f.Add("GET", "/a/%2e%2e/b", "a=%00")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		c, err := NewCall(Request{Provider: "x", Method: method, Path: path, Query: query})
		if err != nil {
			return
		}
		again, err := NewCall(Request{Provider: "x", Method: c.Method, Path: c.Path, Query: c.Query})
		if err != nil || again.Path != c.Path || again.Query != c.Query {
			t.Fatalf("%q %q %q -> %+v -> %+v %v", method, path, query, c, again, err)
		}
	})
}

// FuzzTOML holds that no configuration text brings the decoder down.
func FuzzTOML(f *testing.F) {
	f.Add([]byte("[policy]\nallow = [\"*/*:read@*\"]\n[environment.staging]\npowerdns = { zone = \"a.\" }"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var file struct {
			Policy struct {
				Allow []Pattern `toml:"allow"`
			} `toml:"policy"`
			Environment Environments `toml:"environment"`
		}
		_ = DecodeTOML(data, &file) // any error will do
	})
}

// BenchmarkClassify is the cost of judging a document that was not seen before,
// ordinary ones and ones made to be slow.
func BenchmarkClassify(b *testing.B) {
	c, err := Builtin()
	if err != nil {
		b.Fatal(err)
	}
	for name, q := range map[string]string{
		"mutation":          "mutation($v: String!) { volumeDelete(volumeId: $v) }",
		"hostile/fields":    "{me{" + strings.Repeat("id ", 4900) + "}}",
		"hostile/aliases":   "{me{" + strings.Repeat("a:id a:name ", 800) + "}}",
		"hostile/braces":    strings.Repeat("{a", 100000),
		"hostile/spreads":   "{me{id}" + strings.Repeat("...F ", 1500) + "} fragment F on Query{me{id}}",
		"hostile/fragments": "{...A} fragment A on Query {...B ...B} fragment B on Query {...C ...C} fragment C on Query {me{id}}",
	} {
		call := Call{Provider: "railway", Method: "POST", Path: "/graphql/v2", Header: map[string][]string{"Content-Type": {"application/json"}},
			Body: []byte(`{"query":"` + q + `","variables":{"v":"ae2c1f0e-8a0b-4a53-8d60-1b54f0c5a9c2"}}`)}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = c.Classify(call)
			}
		})
	}
}
