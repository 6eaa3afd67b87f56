// Package acceptance tests the program as its users meet it: the real binary,
// real servers, real clients. It also holds the house rules that no single
// package can.
package acceptance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/credbroker/cred/"

// TestFloors checks that imports only ever point down the house of
// docs/architecture.md.
func TestFloors(t *testing.T) {
	for pkg, rule := range map[string]struct {
		may   string // packages of ours that it may import
		never string // packages that it must not reach, even through others
	}{
		"scopes":               {"", "os/exec database/sql net/http/httptest github.com/zalando/go-keyring github.com/golang-jwt/jwt/v5 github.com/urfave/cli/v2"},
		"keystore":             {"", "net/http github.com/golang-jwt/jwt/v5 github.com/urfave/cli/v2"},
		"broker/audit":         {"", "net/http github.com/zalando/go-keyring github.com/golang-jwt/jwt/v5 github.com/urfave/cli/v2"},
		"broker":               {"scopes keystore broker/audit", "github.com/urfave/cli/v2 net/http/httptest"},
		"integration/railwayd": {"", "github.com/zalando/go-keyring github.com/urfave/cli/v2 net/http/httptest"},
		"integration/demo":     {"broker integration/railwayd", "github.com/urfave/cli/v2 net/http/httptest"},
		"cmd/cred":             {"scopes keystore broker broker/audit integration/railwayd integration/demo", "testing"},
	} {
		for _, imp := range goList(t, "{{join .Imports \"\\n\"}}", module+pkg) {
			if p, ours := strings.CutPrefix(imp, module); ours && !slices.Contains(strings.Fields(rule.may), p) {
				t.Errorf("%s imports %s", pkg, p)
			}
		}
		for _, dep := range goList(t, "{{join .Deps \"\\n\"}}", module+pkg) {
			if slices.Contains(strings.Fields(rule.never), dep) {
				t.Errorf("%s reaches %s", pkg, dep)
			}
		}
	}
}

func goList(t *testing.T, format, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", format, pkg).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}

// TestHouseRules reads all of the program's source: a key is revealed in one
// place, nothing runs before main, the process is ended in one place, and every
// function fits a screen.
func TestHouseRules(t *testing.T) {
	var reveals, exits []string
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					t.Errorf("%s: func init: what runs is named where it is built", fset.Position(n.Pos()))
				}
				if lines := fset.Position(n.End()).Line - fset.Position(n.Pos()).Line; lines > 90 {
					t.Errorf("%s: %s does not fit a screen: %d lines", fset.Position(n.Pos()), n.Name.Name, lines)
				}
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					break
				}
				if sel.Sel.Name == "Reveal" {
					reveals = append(reveals, filepath.ToSlash(rel))
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "os" && sel.Sel.Name == "Exit" {
					exits = append(exits, filepath.ToSlash(rel))
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(reveals, []string{"broker/inject.go"}) {
		t.Errorf("Secret.Reveal is called in %v", reveals)
	}
	if !slices.Equal(exits, []string{"cmd/cred/main.go"}) {
		t.Errorf("os.Exit is called in %v", exits)
	}
}

// TestTopLevel holds the layout of the repository.
func TestTopLevel(t *testing.T) {
	entries, err := filepath.Glob(filepath.Join("..", "..", "*"))
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"cmd", "broker", "scopes", "keystore", "integration", "docs", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE", "CHANGELOG.md", "bin"}
	for _, e := range entries {
		if name := filepath.Base(e); !strings.HasPrefix(name, ".") && !slices.Contains(allowed, name) {
			t.Errorf("%s is not part of the layout", name)
		}
	}
}
