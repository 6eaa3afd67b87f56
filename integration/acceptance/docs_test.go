package acceptance

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/scopes"
)

const repository = "../.."

// documents returns the paths of all documents, from the root of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var found []string
	if _, err := os.Stat(filepath.Join(repository, "README.md")); err == nil {
		found = append(found, "README.md")
	}
	err := filepath.WalkDir(filepath.Join(repository, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			rel, _ := filepath.Rel(repository, path)
			found = append(found, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 8 {
		t.Fatalf("only %q: are the documents elsewhere now?", found)
	}
	return found
}

func readDocument(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A docLine is a line of a document, and whether it is in a block of code.
type docLine struct {
	number int
	text   string // without the indentation of a block
	code   bool
}

// docLines tells code from prose: fenced blocks, and blocks indented by four
// spaces that follow an empty line.
func docLines(text string) (lines []docLine) {
	fenced, indented, empty := false, false, true
	for i, line := range strings.Split(text, "\n") {
		inner, four := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced, indented = !fenced, false
		case fenced:
			lines = append(lines, docLine{i + 1, line, true})
		case four && (empty || indented):
			indented = true
			lines = append(lines, docLine{i + 1, inner, true})
		default:
			indented = indented && line == ""
			lines = append(lines, docLine{i + 1, line, false})
		}
		empty = line == ""
	}
	return lines
}

// TestDocRefusals holds docs/refusals.md to the codes of broker/refusal.go: a
// section for each, with its status and its title, and no other section. The
// type of every problem document is the address of one.
func TestDocRefusals(t *testing.T) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, filepath.Join(repository, "broker", "refusal.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes, tables := map[string]string{}, map[string]map[string]string{} // by the names of Go
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		switch v := spec.Values[0].(type) {
		case *ast.BasicLit:
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
				codes[spec.Names[0].Name], _ = strconv.Unquote(v.Value)
			}
		case *ast.CompositeLit:
			table := map[string]string{}
			for _, e := range v.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					key, _ := kv.Key.(*ast.Ident)
					value, _ := kv.Value.(*ast.BasicLit)
					if key != nil && value != nil {
						table[key.Name] = strings.Trim(value.Value, `"`)
					}
				}
			}
			tables[spec.Names[0].Name] = table
		}
		return true
	})
	status, title := tables["statusOf"], tables["titleOf"]
	if len(codes) == 0 || len(status) != len(codes) || len(title) != len(codes) {
		t.Fatalf("broker/refusal.go is not understood: %d codes, %d statuses, %d titles", len(codes), len(status), len(title))
	}
	sections := map[string]string{}
	for _, s := range strings.Split(readDocument(t, "docs/refusals.md"), "\n## ")[1:] {
		name, body, _ := strings.Cut(s, "\n")
		sections[name] = body
	}
	for name, code := range codes {
		body, ok := sections[code]
		delete(sections, code)
		if !ok {
			t.Errorf("docs/refusals.md has no section %q", code)
			continue
		}
		if want := fmt.Sprintf("\nStatus: %s. Title: %s.\n", status[name], title[name]); !strings.Contains(body, want) {
			t.Errorf("the section %s does not say %q", code, want)
		}
		if !strings.Contains(body, `"code": "`+code+`"`) && code != "denied" {
			t.Errorf("the section %s shows no document with that code", code)
		}
	}
	for name := range sections {
		t.Errorf("docs/refusals.md has a section %q, which is no code", name)
	}
}

// TestDocRailway holds docs/providers/railway.md to the catalog: a row for each
// act that it knows, and no other row.
func TestDocRailway(t *testing.T) {
	catalog, err := scopes.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	ops, err := catalog.Operations("railway")
	if err != nil || len(ops) == 0 {
		t.Fatal(len(ops), err)
	}
	_, rest, _ := strings.Cut(readDocument(t, "docs/providers/railway.md"), "\n## Operations\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	rows := map[string]bool{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(strings.TrimSpace(line), "|"); strings.HasPrefix(line, "| `") && len(cells) == 7 {
			when, _, _ := strings.Cut(strings.TrimSpace(cells[5]), ". ")
			if !strings.HasPrefix(when, "When ") {
				when = ""
			}
			row := strings.Join([]string{strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3]),
				strings.TrimSpace(cells[4]), strings.TrimSuffix(strings.TrimPrefix(when, "When "), ".")}, " | ")
			if rows[row] {
				t.Errorf("docs/providers/railway.md says twice: %s", row)
			}
			rows[row] = true
		}
	}
	for _, op := range ops {
		of, _, _ := strings.Cut(op.Match, " ")
		if strings.HasSuffix(op.When, " ") { // the last of its values is an empty text
			op.When += `""`
		}
		row := fmt.Sprintf("`%s` | %s | `%s:%s` | %s | %s", op.Name, of, op.Resource, op.Action, op.Place, op.When)
		if !rows[row] {
			t.Errorf("docs/providers/railway.md lacks the row %s", row)
		}
		delete(rows, row)
	}
	for row := range rows {
		t.Errorf("docs/providers/railway.md has a row that the catalog has not: %s", row)
	}
}

var (
	docLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	docCode = regexp.MustCompile("`[^`]*`")
)

// TestDocLinks follows every relative link, to its heading where it names one.
func TestDocLinks(t *testing.T) {
	n := 0
	for _, doc := range documents(t) {
		for _, line := range docLines(readDocument(t, doc)) {
			if line.code {
				continue
			}
			for _, m := range docLink.FindAllStringSubmatch(docCode.ReplaceAllString(line.text, ""), -1) {
				to, anchor, _ := strings.Cut(m[1], "#")
				if strings.Contains(to, ":") {
					continue // another site
				}
				n++
				path := doc
				if to != "" {
					path = filepath.ToSlash(filepath.Join(filepath.Dir(doc), to))
				}
				if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
					t.Errorf("%s:%d: there is no %s", doc, line.number, m[1])
				} else if anchor != "" && !slices.Contains(anchors(readDocument(t, path)), anchor) {
					t.Errorf("%s:%d: %s has no heading for #%s", doc, line.number, path, anchor)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d links were found", n)
	}
}

// anchors are the addresses of a document's headings.
func anchors(text string) (out []string) {
	for _, line := range docLines(text) {
		heading := strings.TrimLeft(line.text, "#")
		if line.code || heading == line.text || !strings.HasPrefix(heading, " ") {
			continue
		}
		out = append(out, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(heading)))
	}
	return out
}

// planned are the commands that documents name and the program does not have.
// When one is built the documents have to be read again.
var planned = []string{"run"}

// TestDocCommands holds that every command line in a document names a command
// and flags that the program has.
func TestDocCommands(t *testing.T) {
	known := manual{}
	for _, name := range planned {
		if slices.Contains(known.of(t).commands, name) {
			t.Errorf("there is a cred %s now: see what the documents say of it, and take it off the list", name)
		}
	}
	n := 0
	check := func(doc string, line int, words []string) {
		n++
		if err := known.check(t, words); err != nil {
			t.Errorf("%s:%d: cred %s: %v", doc, line, strings.Join(words, " "), err)
		}
	}
	for _, doc := range documents(t) {
		for _, line := range docLines(readDocument(t, doc)) {
			if line.code {
				for _, words := range commandLines(line.text) {
					check(doc, line.number, words)
				}
				continue
			}
			for _, span := range docCode.FindAllString(line.text, -1) {
				text := strings.Trim(span, "`")
				for _, words := range commandLines(text) {
					if len(words) > 0 && !slices.Contains(planned, words[0]) {
						check(doc, line.number, words)
					}
				}
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d command lines were found", n)
	}
}

var (
	commandStart = regexp.MustCompile(`(?:^|^\$ |\$\(|\| )cred(?:$| )`)
	commandWord  = regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s]+`)
)

// commandLines returns the words after cred of every call of it in a line, up to
// what is the shell's or another command's.
func commandLines(line string) (calls [][]string) {
	for _, at := range commandStart.FindAllStringIndex(line, -1) {
		words := []string{}
		for _, w := range commandWord.FindAllString(line[at[1]:], -1) {
			if w == "--" || strings.ContainsAny(w[:1], "|;&>#<…)") {
				break
			}
			bare := strings.TrimRight(w, `");`) // eval "$(cred ...)"
			end := bare != w && w[0] != '"'
			words = append(words, bare)
			if end {
				break
			}
		}
		calls = append(calls, words)
	}
	return calls
}

// manual is what the program's own help says, by command.
type manual map[string]page

type page struct{ commands, flags []string }

var (
	helpCommand = regexp.MustCompile(`^   ([a-z]+)(?:, [a-z])?  `)
	helpFlag    = regexp.MustCompile(`--?[a-z]+`)
)

func (m manual) of(t *testing.T, command ...string) page {
	t.Helper()
	key := strings.Join(command, " ")
	if p, ok := m[key]; ok {
		return p
	}
	out, err := exec.Command("cred", append(slices.Clone(command), "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("cred %s --help: %v: %s", key, err, out)
	}
	var p page
	section := ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		if name, ok := strings.CutSuffix(line, ":"); ok && name == strings.ToUpper(name) {
			section = name
			continue
		}
		switch m := helpCommand.FindStringSubmatch(line); {
		case section == "COMMANDS" && m != nil:
			p.commands = append(p.commands, m[1])
		case strings.HasSuffix(section, "OPTIONS"):
			names, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
			p.flags = append(p.flags, helpFlag.FindAllString(names, -1)...)
		}
	}
	if len(p.flags) == 0 {
		t.Fatalf("the help of cred %s is not understood: %s", key, out)
	}
	m[key] = p
	return p
}

func (m manual) check(t *testing.T, words []string) error {
	var command []string
	p := m.of(t)
	for len(words) > 0 && len(p.commands) > 0 && !strings.HasPrefix(words[0], "-") {
		if !slices.Contains(p.commands, words[0]) {
			if len(command) > 0 && len(m.of(t, command...).flags) > 1 { // cred audit takes flags, or verify
				break
			}
			if words[0] == strings.ToUpper(words[0]) { // COMMAND stands for any
				return nil
			}
			return fmt.Errorf("there is no %q", words[0])
		}
		command, words = append(command, words[0]), words[1:]
		if command[0] == "help" {
			return nil
		}
		p = m.of(t, command...)
	}
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		if strings.HasPrefix(name, "-") && len(name) > 1 && !slices.Contains(p.flags, strings.TrimRight(name, ",.")) {
			return fmt.Errorf("it has no flag %s", name)
		}
	}
	return nil
}

var (
	docFile = regexp.MustCompile(`^[\w./-]+\.(?:go|txtar|toml|graphql)$|^(?:scopes|broker|keystore|cmd|integration|docs)/[\w./-]+$`)
	docFunc = regexp.MustCompile(`^(?:(\w+)\.)?(\w+)\(\)$`)
	docTest = regexp.MustCompile(`^Test\w+$`)
)

// TestDocNames holds that what the documents name of the program exists: files,
// functions (written with parentheses) and tests.
func TestDocNames(t *testing.T) {
	files, functions := sourceNames(t)
	n := 0
	for _, doc := range documents(t) {
		for _, line := range docLines(readDocument(t, doc)) {
			for _, span := range docCode.FindAllString(line.text, -1) {
				name := strings.Trim(span, "`")
				fn := docFunc.FindStringSubmatch(name)
				ok := true
				switch {
				case line.code:
				case docTest.MatchString(name):
					ok = functions[name]
				case fn != nil && fn[1] != "":
					ok = functions[fn[1]+"."+fn[2]]
				case fn != nil:
					ok = slices.ContainsFunc(slices.Collect(maps.Keys(functions)), func(f string) bool {
						return f == fn[2] || strings.HasSuffix(f, "."+fn[2])
					})
				case docFile.MatchString(name) && name != "config.toml" && !strings.HasPrefix(name, "NAME"):
					ok = slices.ContainsFunc(files, func(f string) bool {
						return f == strings.TrimSuffix(name, "/") || !strings.Contains(name, "/") && filepath.Base(f) == name
					})
				default:
					continue
				}
				n++
				if !ok {
					t.Errorf("%s:%d: there is no %s", doc, line.number, name)
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d names were found", n)
	}
}

// sourceNames returns the files and folders of the repository, and the functions
// in it; a method has the name of its type in front.
func sourceNames(t *testing.T) (files []string, functions map[string]bool) {
	t.Helper()
	functions = map[string]bool{}
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") && d.IsDir() && path != repository {
			return filepath.SkipDir
		}
		rel, _ := filepath.Rel(repository, path)
		files = append(files, filepath.ToSlash(rel))
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := fn.Name.Name
			if fn.Recv != nil {
				typ := fn.Recv.List[0].Type
				if star, ok := typ.(*ast.StarExpr); ok {
					typ = star.X
				}
				if id, ok := typ.(*ast.Ident); ok {
					name = id.Name + "." + name
				}
			}
			functions[name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, functions
}

// TestDocExcerpts holds that what the documents quote from catalogs is in them,
// line by line.
func TestDocExcerpts(t *testing.T) {
	source := ""
	for _, name := range []string{"powerdns.toml", "railway/provider.toml", "railway/schema.graphql", "railway/lookups.graphql"} {
		source += readDocument(t, "scopes/providers/"+name) + "\n"
	}
	lines := strings.Split(source, "\n")
	blocks := fencedBlocks(readDocument(t, "docs/scopes.md"), "toml", "graphql")
	if len(blocks) < 5 {
		t.Fatalf("only %d excerpts were found", len(blocks))
	}
	for _, block := range blocks {
		for line := range strings.Lines(block) {
			if line = strings.TrimSuffix(line, "\n"); !slices.Contains(lines, line) {
				t.Errorf("docs/scopes.md: no catalog has the line %s", line)
			}
		}
	}
}

func fencedBlocks(text string, languages ...string) (blocks []string) {
	for i, part := range strings.Split(text, "\n```") {
		if language, body, _ := strings.Cut(part, "\n"); i%2 == 1 && slices.Contains(languages, language) {
			blocks = append(blocks, body)
		}
	}
	return blocks
}

// TestDocLines holds that lines of the pages in docs are short. Rows of tables
// cannot be broken.
func TestDocLines(t *testing.T) {
	for _, doc := range documents(t) {
		if filepath.Dir(doc) != "docs" {
			continue
		}
		for i, line := range strings.Split(readDocument(t, doc), "\n") {
			if n := utf8.RuneCountInString(line); n > 120 && !strings.HasPrefix(line, "|") {
				t.Errorf("%s:%d: %d characters", doc, i+1, n)
			}
		}
	}
}

// TestDocAudit runs what docs/audit.md gives to check a log without cred, on a
// log that is whole and on one that was edited.
func TestDocAudit(t *testing.T) {
	dir := t.TempDir()
	key := writeLog(t, dir)
	logs, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("%q %v", logs, err)
	}
	day := strings.TrimSuffix(logs[0], ".jsonl")
	text := readDocument(t, "docs/audit.md")

	t.Run("hash", func(t *testing.T) {
		needs(t, "sed", "tr", "basenc", "sha256sum")
		var script string
		for _, block := range fencedBlocks(text, "sh") {
			if strings.Contains(block, "sha256sum") {
				script = block
			}
		}
		const first = "f=2026-11-22.jsonl n=6\n"
		if !strings.HasPrefix(script, first) {
			t.Fatalf("the document's script does not begin with %q", first)
		}
		cmd := exec.Command("sh", "-c", "f="+logs[0]+" n=3\n"+strings.TrimPrefix(script, first))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(logs[0])
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Split(string(data), "\n")[2]
		if sum, _, _ := strings.Cut(string(out), " "); !strings.HasSuffix(line, `,"hash":"`+sum+`"}`) {
			t.Errorf("it prints %s; the line is %s", out, line)
		}
	})

	t.Run("checkpoints", func(t *testing.T) {
		blocks := fencedBlocks(text, "go")
		if len(blocks) != 1 {
			t.Fatalf("%d programs in docs/audit.md", len(blocks))
		}
		src, bin := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), "check")
		if err := os.WriteFile(src, []byte(blocks[0]), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "build", "-o", bin, src).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		out, err := exec.Command(bin, key, day).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "3 lines hold") {
			t.Errorf("on a whole log: %v: %s", err, out)
		}
		data, err := os.ReadFile(logs[0])
		if err != nil {
			t.Fatal(err)
		}
		edited := bytes.Replace(data, []byte("production"), []byte("staging"), 1)
		if bytes.Equal(data, edited) {
			t.Fatal("nothing was edited")
		}
		if err := os.WriteFile(logs[0], edited, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(bin, key, day).CombinedOutput(); err == nil || !strings.Contains(string(out), "not the 3 lines") {
			t.Errorf("on an edited log: %v: %s", err, out)
		}
	})
}

// writeLog writes a log of three lines and returns its verifier key.
func writeLog(t *testing.T, dir string) (key string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	log, _, err := audit.Open(audit.Options{Dir: dir, Origin: "cred.audit/docs", Signer: private})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []audit.Entry{
		{Kind: audit.KindStart},
		{Kind: audit.KindKey, Provider: "railway", Why: "the key was added"},
		{Kind: audit.KindLease, Lease: "l_1", Scopes: []string{"railway/domains:read@production"}},
	} {
		if err := log.Append(e, true); err != nil {
			t.Fatal(err)
		}
	}
	key = log.VerifierKey()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return key
}
