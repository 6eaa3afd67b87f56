package keystore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credbroker/cred/keystore"
	"github.com/zalando/go-keyring"
)

// breakKeyring makes every call of the keyring fail until the test ends.
func breakKeyring(t *testing.T, text string) {
	keyring.MockInitWithError(errors.New(text))
	t.Cleanup(keyring.MockInit)
}

func anyKind(dir string) keystore.Options {
	o := fileOptions(dir)
	o.Kind = ""
	return o
}

func TestOpenTakesTheKeyring(t *testing.T) {
	dir := t.TempDir()
	s := open(t, anyKind(dir))
	if s.Kind() != keystore.Keyring || s.Why() != "the keyring: it answered" {
		t.Errorf("kind %q, why %q", s.Kind(), s.Why())
	}
	put(t, s, "railway", "hunter2")
	if _, err := os.Stat(sealedFile(dir)); err == nil {
		t.Error("a sealed file was made beside it")
	}
	s = open(t, anyKind(dir))
	want(t, s, "railway", "hunter2")
	if s.Why() != "the keyring: this home keeps its keys there" {
		t.Errorf("why %q", s.Why())
	}
}

func TestOpenTakesTheFileWhereNoKeyringIs(t *testing.T) {
	breakKeyring(t, `exec: "dbus-launch": executable file not found in $PATH`)
	dir := t.TempDir()
	s := open(t, anyKind(dir))
	if s.Kind() != keystore.File || s.Why() != "the sealed file "+sealedFile(dir)+": the keyring does not work here (no keyring in a session without D-Bus (dbus-launch not found))" {
		t.Errorf("kind %q, why %q", s.Kind(), s.Why())
	}
	put(t, s, "railway", "hunter2")

	// A keyring that appears later changes nothing.
	keyring.MockInit()
	s = open(t, anyKind(dir))
	want(t, s, "railway", "hunter2")
	if s.Kind() != keystore.File {
		t.Errorf("kind %q", s.Kind())
	}
	// Nor does losing the index.
	if err := os.Remove(filepath.Join(dir, "keystore.json")); err != nil {
		t.Fatal(err)
	}
	want(t, open(t, anyKind(dir)), "railway", "hunter2")
}

func TestOpenWithNothingSaysWhatIsMissing(t *testing.T) {
	breakKeyring(t, "connection refused")
	o := anyKind(t.TempDir())
	o.Passphrase = nil
	_, err := keystore.Open(t.Context(), o)
	wantErr(t, err, keystore.ErrPassphrase, "connection refused", "CRED_PASSPHRASE_FILE")
	o.Kind = keystore.Keyring
	_, err = keystore.Open(t.Context(), o)
	wantErr(t, err, keystore.ErrUnavailable, "connection refused", "cred init --keystore file")
}

// A store must not seem empty because its keyring went away.
func TestOpenDoesNotFallBack(t *testing.T) {
	dir := t.TempDir()
	put(t, open(t, anyKind(dir)), "railway", "hunter2")
	for text, kind := range map[string]error{
		"connection refused": keystore.ErrUnavailable,
		"failed to unlock correct collection '/org/freedesktop/secrets/collection/login'": keystore.ErrLocked,
		"failed to unlock correct collection '/org/freedesktop/secrets/aliases/default'":  keystore.ErrUnavailable,
		"The name org.freedesktop.secrets was not provided by any .service files":         keystore.ErrUnavailable,
		"Cannot create an item in a locked collection":                                    keystore.ErrLocked,
		`exec: "dbus-launch": executable file not found in $PATH`:                         keystore.ErrUnavailable,
	} {
		keyring.MockInitWithError(errors.New(text))
		for _, k := range []keystore.Kind{"", keystore.Keyring} {
			o := anyKind(dir)
			o.Kind = k
			_, err := keystore.Open(t.Context(), o)
			wantErr(t, err, kind, "keyring")
		}
	}
	keyring.MockInit()
	if _, err := os.Stat(sealedFile(dir)); err == nil {
		t.Error("a sealed file was made")
	}
}

func TestOpenRefusesTheOtherKind(t *testing.T) {
	for _, c := range []struct{ has, asked keystore.Kind }{{keystore.Keyring, keystore.File}, {keystore.File, keystore.Keyring}} {
		dir := t.TempDir()
		o := fileOptions(dir)
		o.Kind = c.has
		put(t, open(t, o), "railway", "hunter2")
		o.Kind = c.asked
		_, err := keystore.Open(t.Context(), o)
		wantErr(t, err, keystore.ErrUnavailable, "CRED_KEYSTORE", "cred init --keystore "+string(c.asked))
	}
}

func TestOpenRefusesAnotherHomesKeys(t *testing.T) {
	o := keyringOptions(t.TempDir())
	put(t, open(t, o), "railway", "hunter2")
	o.Service += "-moved"
	_, err := keystore.Open(t.Context(), o)
	wantErr(t, err, keystore.ErrUnavailable, "moved", "keystore.json")
}

func TestOpenRefusesBadOptions(t *testing.T) {
	for what, f := range map[string]func(*keystore.Options){
		"no service": func(o *keystore.Options) { o.Service = "" },
		"space":      func(o *keystore.Options) { o.Service = "a b" },
		"no dir":     func(o *keystore.Options) { o.Dir = "" },
		"kind":       func(o *keystore.Options) { o.Kind = "vault" },
	} {
		o := fileOptions(t.TempDir())
		f(&o)
		if _, err := keystore.Open(t.Context(), o); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
}

func TestOpenRefusesAGarbledIndex(t *testing.T) {
	for _, text := range []string{"", "{", "null", `{"version":1}`, `{"version":2,"kind":"file"}`, `{"version":1,"kind":"File"}`,
		`{"version":1,"kind":"file","kind":"keyring"}`, `{"version":1,"kind":"file","items":{"secret/a":{"generations":{}}}}`,
		`{"version":1,"kind":"keyring","service":"cred-test","items":{"a":{"generations":{}}}}`,
		`{"version":1,"kind":"keyring","service":"cred-test","items":{"secret/a":{"generations":{"0000000000000000":999999999}}}}`,
		`{"version":1,"kind":"keyring","service":"cred-test","extra":1}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "keystore.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keystore.Open(t.Context(), anyKind(dir))
		wantErr(t, err, keystore.ErrDamaged, "keystore.json", "backup")
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, k := range []keystore.Kind{keystore.Keyring, ""} {
		o := fileOptions(t.TempDir())
		o.Kind = k
		if _, err := keystore.Open(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("kind %q: %v", k, err)
		}
	}
}

// What is lost or garbled in the keyring is named, and adding it again mends it.
func TestKeyringDamaged(t *testing.T) {
	for what, damage := range map[string]func(service, header string, chunks []string) error{
		"a chunk is gone":    func(s, h string, c []string) error { return keyring.Delete(s, c[0]) },
		"a chunk is garbled": func(s, h string, c []string) error { return keyring.Set(s, c[0], "!!") },
		"a chunk is another": func(s, h string, c []string) error {
			for _, name := range c { // of the same length
				v, err := keyring.Get(s, name)
				if err == nil {
					err = keyring.Set(s, name, strings.Repeat("A", len(v)))
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
		"the header is garbled": func(s, h string, c []string) error { return keyring.Set(s, h, "{}") },
		"the header lies": func(s, h string, c []string) error {
			return keyring.Set(s, h, `{"version":1,"generation":"../../../../etc/p","chunks":1,"length":1,"sha256":""}`)
		},
	} {
		o := keyringOptions(t.TempDir())
		s := open(t, o)
		put(t, s, "railway", strings.Repeat("hunter2", 900))
		headers, chunks, err := keystore.Accounts(o.Dir)
		if err != nil || len(headers) != 1 || len(chunks) < 4 {
			t.Fatalf("%q, %q, %v", headers, chunks, err)
		}
		if err := damage(o.Service, headers[0], chunks); err != nil {
			t.Fatal(err)
		}
		s = open(t, o)
		_, err = s.Secret("railway")
		wantErr(t, err, keystore.ErrDamaged, `"railway"`, `run "cred key add railway" again`)
		if names, err := s.Names(); err != nil || len(names) != 1 {
			t.Errorf("%s: names %q, %v", what, names, err)
		}
		put(t, s, "railway", "mended")
		want(t, open(t, o), "railway", "mended")
		leftovers(t, o, what, chunks)

		put(t, s, "railway", strings.Repeat("again", 900))
		headers, chunks, _ = keystore.Accounts(o.Dir)
		if err := damage(o.Service, headers[0], chunks); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove("railway"); err != nil {
			t.Errorf("%s: a damaged secret cannot be removed: %v", what, err)
		}
		leftovers(t, o, what, append(headers, chunks...))
	}
}

// Without its index a keyring's home has lost its names, not its keys.
func TestKeyringIndexLost(t *testing.T) {
	o := keyringOptions(t.TempDir())
	s := open(t, o)
	put(t, s, "railway", strings.Repeat("hunter2", 900))
	_, chunks, _ := keystore.Accounts(o.Dir)
	if err := os.Remove(filepath.Join(o.Dir, "keystore.json")); err != nil {
		t.Fatal(err)
	}
	want(t, s, "railway", strings.Repeat("hunter2", 900))
	_, err := s.Names()
	wantErr(t, err, keystore.ErrDamaged, "keystore.json")
	wantErr(t, s.Put("other", keystore.NewSecret("hunter2")), keystore.ErrDamaged, "keystore.json")

	s = open(t, o)
	want(t, s, "railway", strings.Repeat("hunter2", 900))
	put(t, s, "railway", "new")
	leftovers(t, o, "index lost", chunks)
	if names, err := s.Names(); err != nil || len(names) != 1 {
		t.Errorf("names %q, %v", names, err)
	}
}

// A value is served from memory only while it is new and the index unchanged.
func TestKeyringRemembers(t *testing.T) {
	o := keyringOptions(t.TempDir()).Within(0, 0, 50*time.Millisecond)
	s := open(t, o)
	put(t, s, "railway", "hunter2")
	want(t, s, "railway", "hunter2")
	breakKeyring(t, "Cannot get secret of a locked object")
	want(t, s, "railway", "hunter2")
	time.Sleep(60 * time.Millisecond)
	_, err := s.Secret("railway")
	wantErr(t, err, keystore.ErrLocked)
}

// What is read in the middle of a write is not remembered: when the writer
// dies at the wrong moment, nothing tells the reader to look again.
func TestKeyringRemembersNothingPending(t *testing.T) {
	o := keyringOptions(t.TempDir())
	s := open(t, o)
	put(t, s, "railway", "before")
	crashing(1000, func(func(string)) {
		writer := open(t, o.Stepping(func(done string) {
			switch done {
			case "chunk written":
				want(t, s, "railway", "before")
			case "header written":
				panic(crash{done})
			}
		}))
		put(t, writer, "railway", "after")
	})
	want(t, s, "railway", "after")
}
