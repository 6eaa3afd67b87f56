package keystore_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/credbroker/cred/keystore"
	"github.com/zalando/go-keyring"
)

// sessionEnv is set in the sessions that TestSecretService starts.
const sessionEnv = "CRED_KEYSTORE_TEST_SESSION"

// TestMain takes the real keyring out of the reach of every test but those
// that TestSecretService starts in a session of their own.
func TestMain(m *testing.M) {
	if os.Getenv(sessionEnv) == "" {
		keyring.MockInit()
	}
	if dir := os.Getenv(writerEnv); dir != "" {
		os.Exit(writer(dir, os.Getenv(writerEnv+"_NAME")))
	}
	os.Exit(m.Run())
}

const passphrase = "correct horse battery staple"

func ask(context.Context, bool) (string, error) { return passphrase, nil }

func fileOptions(dir string) keystore.Options {
	return keystore.Options{Kind: keystore.File, Service: "cred-test", Dir: dir, Passphrase: ask}.Quick()
}

func keyringOptions(dir string) keystore.Options {
	return keystore.Options{Kind: keystore.Keyring, Service: "cred-test-" + strings.ToLower(filepath.Base(filepath.Dir(dir))) + filepath.Base(dir), Dir: dir}
}

func open(t *testing.T, o keystore.Options) *keystore.Store {
	t.Helper()
	s, err := keystore.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *keystore.Store, name, value string) {
	t.Helper()
	if err := s.Put(name, keystore.NewSecret(value)); err != nil {
		t.Fatalf("Put %q (%d bytes): %v", name, len(value), err)
	}
}

func want(t *testing.T, s *keystore.Store, name, value string) {
	t.Helper()
	got, err := s.Secret(name)
	if err != nil {
		t.Fatalf("Secret %q: %v", name, err)
	}
	if got.Reveal() != value {
		t.Fatalf("Secret %q: got %d bytes, want %d, and they differ", name, len(got.Reveal()), len(value))
	}
}

// wantErr checks that an error is of a kind and says each of the words. No
// error may hold a capital at its front or the value that tests keep secret.
func wantErr(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v", kind)
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("error %q is not %q", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	if c := err.Error()[0]; c >= 'A' && c <= 'Z' {
		t.Errorf("error %q begins with a capital", err)
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), passphrase) {
		t.Errorf("error %q holds a secret", err)
	}
}

// testStore is what every keystore does. Each call of open opens the same home
// once more.
func testStore(t *testing.T, open func() *keystore.Store) {
	s := open()

	t.Run("missing", func(t *testing.T) {
		_, err := s.Secret("nobody")
		wantErr(t, err, keystore.ErrNotFound, "nobody", "cred key add nobody")
		wantErr(t, s.Remove("nobody"), keystore.ErrNotFound, "nobody")
		if names, err := s.Names(); err != nil || names == nil || len(names) != 0 {
			t.Errorf("Names of an empty store: %v, %v", names, err)
		}
	})

	t.Run("values", func(t *testing.T) {
		all := make([]byte, 255)
		for i := range all {
			all[i] = byte(i + 1)
		}
		for i, v := range []string{
			"x", " ", "\n", "line\nline\r\n", `"quoted" 'twice' \n $HOME %s`, "  kept spaces  ", "schlüssel ключ 鍵 🔑",
			"\xff\xfe not UTF-8", string(all), "go-keyring-base64:aGk=", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
			strings.Repeat("a", keystore.PieceLen-1), strings.Repeat("b", keystore.PieceLen), strings.Repeat("c", keystore.PieceLen+1),
			strings.Repeat("é", 5000), strings.Repeat("z", keystore.MaxValue), "short again",
		} {
			name := fmt.Sprintf("value-%d", i%3) // so that long and short replace each other
			put(t, s, name, v)
			want(t, s, name, v)
			want(t, open(), name, v)
		}
	})

	t.Run("refused values", func(t *testing.T) {
		put(t, s, "kept", "hunter2 stays")
		for _, c := range []struct{ value, says string }{
			{"", "empty"},
			{"hunter2\x00", "NUL"},
			{strings.Repeat("hunter2", keystore.MaxValue/7+1), "65536"},
		} {
			err := s.Put("kept", keystore.NewSecret(c.value))
			wantErr(t, err, nil, c.says, "kept")
			want(t, s, "kept", "hunter2 stays")
		}
	})

	t.Run("names", func(t *testing.T) {
		s := open()
		before, err := s.Names()
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"railway", "Railway", "RAILWAY", "a b", "a/b", "a%2fb", "a#b", "a'b\"c`", "power.dns", "größe", "signer/x", "secret/x", "x", strings.Repeat("n", 128)}
		for _, n := range names {
			put(t, s, n, "of "+n)
		}
		for _, n := range names {
			want(t, s, n, "of "+n)
		}
		got, err := open().Names()
		if err != nil || !slices.IsSorted(got) {
			t.Errorf("Names: %q, %v", got, err)
		}
		all := append(slices.Clone(before), names...)
		slices.Sort(all)
		if !slices.Equal(got, all) {
			t.Errorf("Names: got %q, want %q", got, all)
		}
		for _, n := range []string{"", " a", "a ", "a\nb", "a\x00b", "a\x1b[31m", "\xff", "a\u202eb", strings.Repeat("n", 129)} {
			if err := s.Put(n, keystore.NewSecret("hunter2")); err == nil {
				t.Errorf("Put took the name %q", n)
			}
			if _, err := s.Secret(n); err == nil {
				t.Errorf("Secret took the name %q", n)
			}
		}
		for _, n := range names {
			if err := s.Remove(n); err != nil {
				t.Errorf("Remove %q: %v", n, err)
			}
		}
		if got, err := s.Names(); err != nil || !slices.Equal(got, before) {
			t.Errorf("Names after removal: %q, %v, want %q", got, err, before)
		}
	})

	t.Run("remove", func(t *testing.T) {
		put(t, s, "gone", strings.Repeat("hunter2", 1000))
		other := open()
		want(t, other, "gone", strings.Repeat("hunter2", 1000))
		if err := s.Remove("gone"); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*keystore.Store{s, other, open()} {
			_, err := s.Secret("gone")
			wantErr(t, err, keystore.ErrNotFound)
			wantErr(t, s.Remove("gone"), keystore.ErrNotFound)
		}
	})

	t.Run("seen by others", func(t *testing.T) {
		other := open()
		for _, v := range []string{"first", "second", strings.Repeat("third", 2000), "fourth"} {
			put(t, s, "shared", v)
			want(t, other, "shared", v)
			want(t, s, "shared", v)
		}
		put(t, other, "shared", "fifth")
		want(t, s, "shared", "fifth")
	})

	t.Run("signers", func(t *testing.T) {
		before, err := s.Names()
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "lease", "hunter2, a secret of the same name")
		a, err := s.Signer("lease")
		if err != nil {
			t.Fatal(err)
		}
		b, err := open().Signer("lease")
		if err != nil {
			t.Fatal(err)
		}
		public := a.Public().(ed25519.PublicKey)
		if !public.Equal(b.Public()) {
			t.Error("two opens of a store give two keys")
		}
		sig, err := b.Sign(nil, []byte("message"), noHash{})
		if err != nil || !ed25519.Verify(public, []byte("message"), sig) {
			t.Errorf("the signature does not verify: %v", err)
		}
		for _, fresh := range []string{"first", "second"} {
			if v, err := s.Make("made", fresh); err != nil || v != "first" {
				t.Errorf("whoever comes second makes another key: %v", err)
			}
		}
		c, err := s.Signer("audit")
		if err != nil || public.Equal(c.Public()) {
			t.Errorf("two names share a key: %v", err)
		}
		if _, ok := a.(ed25519.PrivateKey); ok {
			t.Error("the private key is in the caller's hands")
		}
		want(t, s, "lease", "hunter2, a secret of the same name")
		if err := s.Remove("lease"); err != nil {
			t.Fatal(err)
		}
		if d, err := open().Signer("lease"); err != nil || !public.Equal(d.Public()) {
			t.Errorf("removing a secret took the signer with it: %v", err)
		}
		if after, err := s.Names(); err != nil || !slices.Equal(after, before) {
			t.Errorf("Names: %q, %v, want %q", after, err, before)
		}
	})

	t.Run("writers at once", func(t *testing.T) {
		var wg sync.WaitGroup
		publics := make([]ed25519.PublicKey, 2)
		for i := range 2 {
			s := open()
			wg.Go(func() {
				signer, err := s.Signer("at once")
				if err != nil {
					t.Error(err)
					return
				}
				publics[i] = signer.Public().(ed25519.PublicKey)
			})
			for j := range 4 {
				wg.Go(func() {
					if err := s.Put(fmt.Sprintf("many-%d-%d", i, j), keystore.NewSecret(fmt.Sprint("v", i, j))); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					if err := s.Put("contended", keystore.NewSecret(strings.Repeat("c", 1+1000*(i+2*j)))); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					v, err := s.Secret("contended")
					if err != nil && !errors.Is(err, keystore.ErrNotFound) {
						t.Error(err)
					} else if err == nil && strings.Trim(v.Reveal(), "c") != "" {
						t.Error("a reader saw a mixed value")
					}
				})
			}
		}
		wg.Wait()
		s := open()
		for i := range 2 {
			for j := range 4 {
				want(t, s, fmt.Sprintf("many-%d-%d", i, j), fmt.Sprint("v", i, j))
			}
		}
		if !bytes.Equal(publics[0], publics[1]) || publics[0] == nil {
			t.Error("two that make a signer at once get two keys")
		}
	})

	t.Run("closed", func(t *testing.T) {
		s := open()
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		_, err := s.Secret("kept")
		wantErr(t, err, keystore.ErrUnavailable, "closed")
		wantErr(t, s.Put("kept", keystore.NewSecret("hunter2")), keystore.ErrUnavailable)
		wantErr(t, s.Remove("kept"), keystore.ErrUnavailable)
		_, err = s.Names()
		wantErr(t, err, keystore.ErrUnavailable)
		_, err = s.Signer("lease")
		wantErr(t, err, keystore.ErrUnavailable)
	})
}

func TestZeroStoreRefuses(t *testing.T) {
	for _, s := range []*keystore.Store{nil, {}} {
		_, err := s.Secret("a")
		wantErr(t, err, keystore.ErrUnavailable)
		_, err = s.Signer("a")
		wantErr(t, err, keystore.ErrUnavailable)
		_, err = s.Names()
		wantErr(t, err, keystore.ErrUnavailable)
		wantErr(t, s.Put("a", keystore.NewSecret("hunter2")), keystore.ErrUnavailable)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
