package keystore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/credbroker/cred/keystore"
)

func sealedFile(dir string) string { return filepath.Join(dir, "keystore.sealed.json") }

func TestFileStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	testStore(t, func() *keystore.Store { return open(t, fileOptions(dir)) })
}

func TestFileIsOursAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	s := open(t, fileOptions(dir))
	put(t, s, "railway", "hunter2-hunter2")
	if _, err := s.Signer("lease"); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("directory: %v, %v", info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || leaks(string(b)) != "" || bytes.Contains(b, []byte("railway")) {
			t.Errorf("%s shows what it keeps (%v)", e.Name(), err)
		}
	}
	if s.Kind() != keystore.File || !strings.Contains(s.Why(), sealedFile(dir)) {
		t.Errorf("kind %q, why %q", s.Kind(), s.Why())
	}
}

// The comment at fileStore promises that the owner can read the file with age
// alone.
func TestFileOpensWithAgeAlone(t *testing.T) {
	dir := t.TempDir()
	put(t, open(t, fileOptions(dir)), "railway", "hunter2")
	b, err := os.ReadFile(sealedFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ Identity, Items string }
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	unseal := func(text string, with ...age.Identity) []byte {
		r, err := age.Decrypt(armor.NewReader(strings.NewReader(text)), with...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	scrypt, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(unseal(c.Identity, scrypt)))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(unseal(c.Items, ids...)); got != `{"version":1,"items":{"secret/railway":"aHVudGVyMg=="}}` {
		t.Errorf("inside: %s", got)
	}
}

func TestFilePassphrase(t *testing.T) {
	dir := t.TempDir()
	var asked []bool
	o := fileOptions(dir)
	answer, refuse := passphrase, error(nil)
	o.Passphrase = func(_ context.Context, isNew bool) (string, error) {
		asked = append(asked, isNew)
		return answer, refuse
	}
	answer = ""
	_, err := keystore.Open(t.Context(), o)
	wantErr(t, err, keystore.ErrPassphrase, "empty")
	if _, err := os.Stat(sealedFile(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("an empty passphrase made a file")
	}
	answer = passphrase
	put(t, open(t, o), "railway", "hunter2")
	want(t, open(t, o), "railway", "hunter2")
	if fmt.Sprint(asked) != "[true true false]" {
		t.Errorf("asked %v, want once each, new until the file is there", asked)
	}
	for _, wrong := range []string{"wrong", passphrase + "\n", " " + passphrase, strings.ToUpper(passphrase)} {
		answer = wrong
		_, err = keystore.Open(t.Context(), o)
		wantErr(t, err, keystore.ErrPassphrase, sealedFile(dir))
		if strings.Contains(err.Error(), wrong) {
			t.Errorf("error %q holds what was typed", err)
		}
	}
	refuse = errors.New("no terminal")
	_, err = keystore.Open(t.Context(), o)
	wantErr(t, err, keystore.ErrPassphrase, "no terminal")
	o.Passphrase = nil
	_, err = keystore.Open(t.Context(), o)
	wantErr(t, err, keystore.ErrPassphrase, "CRED_PASSPHRASE_FILE")
}

func TestFileOpenToOthersIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing on Windows")
	}
	for _, name := range []string{"keystore.sealed.json", "keystore.json"} {
		for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o666, 0o610} {
			dir := t.TempDir()
			s := open(t, fileOptions(dir))
			put(t, s, "railway", "hunter2")
			path := filepath.Join(dir, name)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err := keystore.Open(t.Context(), fileOptions(dir))
			wantErr(t, err, keystore.ErrUnavailable, "chmod 600 "+path)
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			want(t, open(t, fileOptions(dir)), "railway", "hunter2")
		}
	}
}

func TestFileLinkIsRefused(t *testing.T) {
	for _, name := range []string{"keystore.sealed.json", "keystore.json"} {
		dir := t.TempDir()
		put(t, open(t, fileOptions(dir)), "railway", "hunter2")
		path, away := filepath.Join(dir, name), filepath.Join(t.TempDir(), "away")
		if err := os.Rename(path, away); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(away, path); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
		_, err := keystore.Open(t.Context(), fileOptions(dir))
		wantErr(t, err, keystore.ErrUnavailable, path, "plain file")
	}
}

func TestSharedDirectoryIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing on Windows")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	_, err := keystore.Open(t.Context(), fileOptions(dir))
	wantErr(t, err, keystore.ErrUnavailable, dir, "chmod 700")

	dir = t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	open(t, fileOptions(dir))
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
}

// Whatever happens to the file, the answer is an error or the whole content.
func TestFileAltered(t *testing.T) {
	dir := t.TempDir()
	put(t, open(t, fileOptions(dir)), "railway", "hunter2")
	path := sealedFile(dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, b []byte, kinds ...error) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := keystore.Open(t.Context(), fileOptions(dir))
		if err == nil {
			if len(kinds) > 0 {
				t.Errorf("%s opens", what)
			}
			want(t, s, "railway", "hunter2")
			s.Close()
			return
		}
		for _, k := range kinds {
			if errors.Is(err, k) {
				return
			}
		}
		if len(kinds) > 0 || !errors.Is(err, keystore.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		wantErr(t, err, nil, path)
	}
	for n := 0; n < len(whole)-2; n += 97 {
		try(fmt.Sprintf("cut to %d bytes", n), whole[:n], keystore.ErrDamaged)
	}
	for i := 0; i < len(whole); i += 41 {
		b := bytes.Clone(whole)
		b[i] ^= 1
		try(fmt.Sprintf("byte %d changed", i), b)
	}
	try("nothing", nil, keystore.ErrDamaged)
	try("twice", append(bytes.Clone(whole), whole...), keystore.ErrDamaged)
	try("other case", bytes.Replace(whole, []byte(`"items"`), []byte(`"Items"`), 1), keystore.ErrDamaged)
	try("another version", bytes.Replace(whole, []byte(`"version": 1`), []byte(`"version": 2`), 1), keystore.ErrDamaged)

	// The items of another keystore, with the checksum made right: the seal
	// holds where the checksum does not.
	elsewhere := t.TempDir()
	put(t, open(t, fileOptions(elsewhere)), "railway", "planted")
	theirs, err := os.ReadFile(sealedFile(elsewhere))
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"items", "identity"} {
		var a, b map[string]any
		if err := errors.Join(json.Unmarshal(whole, &a), json.Unmarshal(theirs, &b)); err != nil {
			t.Fatal(err)
		}
		a[member] = b[member]
		a["sum"] = keystore.Sum(a["identity"].(string), a["items"].(string))
		mixed, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		try("their "+member, mixed, keystore.ErrDamaged)
	}
	try("whole", whole)
}

func TestFileAlteredWhileOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, fileOptions(dir))
	put(t, s, "railway", "hunter2")
	whole, err := os.ReadFile(sealedFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sealedFile(dir), whole[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Secret("railway")
	wantErr(t, err, keystore.ErrDamaged, "backup")
	wantErr(t, s.Put("other", keystore.NewSecret("hunter2")), keystore.ErrDamaged)
	if err := os.Remove(sealedFile(dir)); err != nil {
		t.Fatal(err)
	}
	_, err = s.Names()
	wantErr(t, err, keystore.ErrDamaged, "gone")

	// A file that was lost is not a new home.
	_, err = keystore.Open(t.Context(), fileOptions(dir))
	wantErr(t, err, keystore.ErrDamaged, "gone")

	// Another keystore put in its place is not taken for ours.
	if err := os.Remove(filepath.Join(dir, "keystore.json")); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, fileOptions(dir)), "railway", "another")
	_, err = s.Secret("railway")
	wantErr(t, err, keystore.ErrUnavailable, "start cred again")
}

func TestFileBusy(t *testing.T) {
	dir := t.TempDir()
	s := open(t, fileOptions(dir).Within(0, 100*time.Millisecond, 0))
	put(t, s, "railway", "hunter2")
	hold, release := make(chan struct{}), make(chan struct{})
	slow := open(t, fileOptions(dir).Stepping(func(done string) {
		if done == "temporary file synced" {
			close(hold)
			<-release
		}
	}))
	end := make(chan error)
	go func() { end <- slow.Put("slow", keystore.NewSecret("v")) }()
	<-hold
	wantErr(t, s.Put("railway", keystore.NewSecret("other")), keystore.ErrLocked, "another write")
	want(t, s, "railway", "hunter2") // readers do not wait
	close(release)
	if err := <-end; err != nil {
		t.Fatal(err)
	}
	put(t, s, "railway", "other")
	want(t, s, "slow", "v")
}

const writerEnv = "CRED_KEYSTORE_TEST_WRITER"

// writer is the body of the processes of TestFileProcesses.
func writer(dir, name string) int {
	s, err := keystore.Open(context.Background(), fileOptions(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for i := range 10 {
		if err := s.Put(fmt.Sprintf("%s-%d", name, i), keystore.NewSecret(name)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	signer, err := s.Signer("common")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("%x\n", signer.Public())
	return 0
}

// Processes that make one home at the same time lose nothing of each other.
func TestFileProcesses(t *testing.T) {
	dir := t.TempDir()
	const n = 4
	outs := make([]bytes.Buffer, n)
	cmds := make([]*exec.Cmd, n)
	for i := range cmds {
		cmds[i] = exec.Command(os.Args[0])
		cmds[i].Env = append(os.Environ(), writerEnv+"="+dir, fmt.Sprintf("%s_NAME=w%d", writerEnv, i))
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], os.Stderr
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Fatalf("writer %d: %v", i, err)
		}
		if outs[i].String() != outs[0].String() || outs[i].Len() < 64 {
			t.Errorf("writer %d has another signer: %q, %q", i, outs[i].String(), outs[0].String())
		}
	}
	s := open(t, fileOptions(dir))
	for i := range n {
		for j := range 10 {
			want(t, s, fmt.Sprintf("w%d-%d", i, j), fmt.Sprintf("w%d", i))
		}
	}
}

func BenchmarkFile(b *testing.B) {
	o := fileOptions(b.TempDir())
	s, err := keystore.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	v := keystore.NewSecret(strings.Repeat("k", 60))
	b.Run("Put", func(b *testing.B) {
		for b.Loop() {
			if err := s.Put("railway", v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Secret", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Secret("railway"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("OpenWithRealPassphrase", func(b *testing.B) {
		o := keystore.Options{Kind: keystore.File, Service: "cred-test", Dir: b.TempDir(), Passphrase: ask}
		for b.Loop() {
			s, err := keystore.Open(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
	})
}
