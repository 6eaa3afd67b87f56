package keystore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/credbroker/cred/keystore"
	"github.com/zalando/go-keyring"
)

type crash struct{ at string }

// crashing runs f and ends it, as a crash would, when n steps of it are done.
// It returns the step, or "" when f came to its end before.
func crashing(n int, f func(step func(string))) (at string) {
	defer func() {
		if r := recover(); r != nil {
			at = r.(crash).at
		}
	}()
	f(func(done string) {
		if n--; n < 0 {
			panic(crash{done})
		}
	})
	return ""
}

// testCrashes ends every kind of write after every one of its steps. home
// makes a new home. With names of writes, it does only those.
func testCrashes(t *testing.T, home func(t *testing.T) keystore.Options, only ...string) {
	const absent = ""
	long, longer := strings.Repeat("before ", 300), strings.Repeat("after ", 600)
	for _, c := range []struct {
		what          string
		before, after string
		do            func(s *keystore.Store) error
	}{
		{"first put", absent, longer, func(s *keystore.Store) error { return s.Put("k", keystore.NewSecret(longer)) }},
		{"longer put", "short", longer, func(s *keystore.Store) error { return s.Put("k", keystore.NewSecret(longer)) }},
		{"shorter put", long, "short", func(s *keystore.Store) error { return s.Put("k", keystore.NewSecret("short")) }},
		{"same put", "same", "same", func(s *keystore.Store) error { return s.Put("k", keystore.NewSecret("same")) }},
		{"remove", long, absent, func(s *keystore.Store) error { return s.Remove("k") }},
		{"first signer", absent, absent, func(s *keystore.Store) error { _, err := s.Signer("k"); return err }},
	} {
		if len(only) > 0 && !slices.Contains(only, c.what) {
			continue
		}
		t.Run(c.what, func(t *testing.T) {
			seen := map[string]bool{}
			for n := 0; ; n++ {
				o := home(t)
				s := open(t, o)
				put(t, s, "bystander", "untouched")
				if c.before != absent {
					put(t, s, "k", c.before)
				}
				want := func(s *keystore.Store, which string) string {
					t.Helper()
					got, err := s.Secret("k")
					if err != nil && !errors.Is(err, keystore.ErrNotFound) {
						t.Fatalf("%s: %v", which, err)
					}
					v := got.Reveal()
					if v != c.before && v != c.after {
						t.Fatalf("%s: neither the value before nor the value after", which)
					}
					names, err := s.Names()
					if err != nil || slices.Contains(names, "k") != (v != absent) {
						t.Fatalf("%s: names %q, %v, though the value has %d bytes", which, names, err, len(v))
					}
					if b, err := s.Secret("bystander"); err != nil || b.Reveal() != "untouched" {
						t.Fatalf("%s: the bystander: %v", which, err)
					}
					return v
				}
				victim := open(t, o)
				at := crashing(n, func(step func(string)) {
					stepping := open(t, o.Stepping(step))
					if err := c.do(stepping); err != nil {
						t.Fatal(err)
					}
				})
				seen[at] = true
				_, left, _ := keystore.Accounts(o.Dir)
				at = fmt.Sprintf("crash %d, after %q", n, at)

				// Those who had the store open, and who open it next, agree.
				v := want(s, at+", open store")
				if v2 := want(victim, at+", other open store"); v2 != v {
					t.Fatalf("%s: two stores differ", at)
				}
				next := open(t, o)
				if v2 := want(next, at+", next store"); v2 != v {
					t.Fatalf("%s: the value changed once more", at)
				}
				leftovers(t, o, at, left)

				// The same write again succeeds.
				if err := c.do(next); err != nil && !(c.what == "remove" && v == absent && errors.Is(err, keystore.ErrNotFound)) {
					t.Fatalf("%s: again: %v", at, err)
				}
				if got := want(next, at+", again"); got != c.after {
					t.Fatalf("%s: again: not the value after", at)
				}
				want(open(t, o), at+", again, next store")
				leftovers(t, o, at+", again", left)
				if seen[""] {
					break
				}
			}
			if len(seen) < 4 {
				t.Fatalf("only these steps were seen: %v", seen)
			}
		})
	}
}

// leftovers checks that nothing is left of what a crash interrupted: no
// temporary file, and nothing in the keyring that the index does not name.
func leftovers(t *testing.T, o keystore.Options, at string, once []string) {
	t.Helper()
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{"keystore.json", "keystore.lock", "keystore.sealed.json"}, e.Name()) {
			t.Errorf("%s: %s is left", at, e.Name())
		}
	}
	headers, chunks, err := keystore.Accounts(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(headers, chunks...) {
		if _, err := keyring.Get(o.Service, name); err != nil {
			t.Errorf("%s: the index names %s: %v", at, name, err)
		}
	}
	for _, name := range once {
		if slices.Contains(chunks, name) {
			continue
		}
		if _, err := keyring.Get(o.Service, name); !errors.Is(err, keyring.ErrNotFound) {
			t.Errorf("%s: %s is left in the keyring (%v)", at, name, err)
		}
	}
}

func TestFileCrashes(t *testing.T) {
	testCrashes(t, func(t *testing.T) keystore.Options { return fileOptions(t.TempDir()) })
}

func TestKeyringCrashes(t *testing.T) {
	testCrashes(t, func(t *testing.T) keystore.Options { return keyringOptions(t.TempDir()) })
}

// The first Open of a home, too, may end anywhere.
func TestFirstOpenCrashes(t *testing.T) {
	keyringToo := func(dir string) keystore.Options {
		o := keyringOptions(dir)
		o.Passphrase = ask
		return o
	}
	for _, options := range []func(string) keystore.Options{fileOptions, keyringToo} {
		for n := 0; ; n++ {
			o := options(t.TempDir())
			at := crashing(n, func(step func(string)) { open(t, o.Stepping(step)) })
			anyKind := o
			anyKind.Kind = ""
			settled := false // nothing on disk, nothing decided
			for _, name := range []string{"keystore.json", "keystore.sealed.json"} {
				if _, err := os.Stat(filepath.Join(o.Dir, name)); err == nil {
					settled = true
				}
			}
			s := open(t, anyKind)
			if settled && s.Kind() != o.Kind {
				t.Errorf("after %q the home is of another kind", at)
			}
			put(t, s, "k", "v")
			want(t, open(t, anyKind), "k", "v")
			if leftover, _ := filepath.Glob(filepath.Join(o.Dir, ".keystore-*")); len(leftover) > 0 {
				t.Errorf("after %q: %s is left", at, leftover)
			}
			if at == "" {
				break
			}
		}
	}
}
