//go:build linux

package keystore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credbroker/cred/keystore"
	"github.com/zalando/go-keyring"
)

// The Secret Service here is the real one, GNOME Keyring, on a message bus and
// in a home of its own. TestSecretService starts that session and, in it, this
// test program once more, which then runs TestInSession.

// tools skips a test, aloud, on a machine without the programs that it needs.
// In CI they are a must: a skip there would hide what breaks.
func tools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"dbus-run-session", "gnome-keyring-daemon", "dbus-send"} {
		if _, err := exec.LookPath(tool); err != nil {
			why := tool + " is missing: sudo apt-get install gnome-keyring dbus-daemon dbus-bin"
			if os.Getenv("CI") == "true" {
				t.Fatal(why)
			}
			t.Skip(why)
		}
	}
}

type session struct {
	home   string // of the "user", kept from session to session
	config string // of the bus; empty: the usual
	state  string // of cred
}

func newSession(t *testing.T) *session {
	// A socket's path has 108 bytes at most, so not t.TempDir.
	home, err := os.MkdirTemp("", "ks")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	for _, dir := range []string{"data", "run", "config", "cache"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &session{home: home, state: t.TempDir()}
}

const unlocked = "printf PASS | gnome-keyring-daemon --unlock --components=secrets >/dev/null; "

// run runs TestInSession/part in a new session after the shell's before.
func (s *session) run(t *testing.T, before, part string) {
	t.Helper()
	args := []string{"--", "sh", "-c", before + `exec "$0" -test.v -test.run "^TestInSession$/^` + part + `$"`, os.Args[0]}
	if s.config != "" {
		args = append([]string{"--config-file=" + s.config}, args...)
	}
	cmd := exec.Command("dbus-run-session", args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "TMPDIR=" + os.TempDir(),
		"XDG_DATA_HOME=" + s.home + "/data", "XDG_RUNTIME_DIR=" + s.home + "/run",
		"XDG_CONFIG_HOME=" + s.home + "/config", "XDG_CACHE_HOME=" + s.home + "/cache",
		sessionEnv + "=" + s.state,
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second // a daemon may hold on to our pipe
	start := time.Now()
	err := cmd.Run()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) || !strings.Contains(out.String(), "--- PASS: TestInSession/"+part) {
		t.Fatalf("%s: %v\n%s", part, err, out.String())
	}
	t.Logf("%s: %v", part, time.Since(start).Round(time.Millisecond))
	for _, m := range regexp.MustCompile(`keyring daemon is process (\d+)`).FindAllStringSubmatch(out.String(), -1) {
		pid, _ := strconv.Atoi(m[1])
		gone(t, pid)
	}
}

// gone waits for a daemon to end, which it does when its bus does.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the keyring daemon %d stayed behind", pid)
	syscall.Kill(pid, syscall.SIGKILL)
}

func TestSecretService(t *testing.T) {
	tools(t)
	t.Run("conformance", func(t *testing.T) {
		t.Parallel() // the two long ones are sessions apart and wait for the disk
		newSession(t).run(t, unlocked, "conformance")
	})
	t.Run("crashes", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes ten seconds; TestKeyringCrashes does the same with a keyring in memory")
		}
		t.Parallel()
		newSession(t).run(t, unlocked, "crashes")
	})
	t.Run("kept, then locked", func(t *testing.T) {
		s := newSession(t)
		s.run(t, unlocked, "keep")
		s.run(t, unlocked, "kept")
		s.run(t, "", "locked") // the same keyring, and nobody unlocks it
		s.run(t, "printf WRONG | gnome-keyring-daemon --unlock --components=secrets >/dev/null; ", "locked")
		s.run(t, unlocked, "kept")
	})
	t.Run("locked under us", func(t *testing.T) { newSession(t).run(t, unlocked, "locking") })
	t.Run("stopped", func(t *testing.T) { newSession(t).run(t, unlocked, "stopped") })
	t.Run("no collection", func(t *testing.T) { newSession(t).run(t, "", "empty") })
	t.Run("no service", func(t *testing.T) {
		s := newSession(t)
		s.config = filepath.Join(s.home, "bus.conf")
		if err := os.WriteFile(s.config, []byte(`<busconfig><type>session</type><listen>unix:dir=`+s.home+`/run</listen>
			<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`), 0o600); err != nil {
			t.Fatal(err)
		}
		s.run(t, "", "absent")
	})
	t.Run("no bus", func(t *testing.T) {
		newSession(t).run(t, "export DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent/bus; ", "nobus")
	})
}

func TestInSession(t *testing.T) {
	state := os.Getenv(sessionEnv)
	if state == "" {
		t.Skip("runs inside the session that TestSecretService starts")
	}
	o := keystore.Options{Service: "cred-session", Dir: state, Passphrase: ask}.Quick()
	fresh := func(t *testing.T) keystore.Options {
		n := o
		n.Dir = t.TempDir()
		n.Service = "cred-" + filepath.Base(filepath.Dir(n.Dir)) + filepath.Base(n.Dir)
		n.Service = regexp.MustCompile(`[^a-zA-Z0-9-]`).ReplaceAllString(n.Service, "")
		return n
	}
	// soon fails a call that takes longer than a person would wait.
	soon := func(t *testing.T, f func()) {
		t.Helper()
		start := time.Now()
		f()
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
	}

	t.Run("conformance", func(t *testing.T) {
		daemon(t)
		o := fresh(t)
		o.Kind = keystore.Keyring
		testStore(t, func() *keystore.Store { return open(t, o) })
	})
	t.Run("crashes", func(t *testing.T) {
		testCrashes(t, func(t *testing.T) keystore.Options {
			o := fresh(t)
			o.Kind = keystore.Keyring
			return o
		}, "longer put", "remove") // the others take a minute and differ in nothing that a keyring sees
	})
	t.Run("keep", func(t *testing.T) {
		daemon(t)
		s := open(t, o)
		if s.Kind() != keystore.Keyring || s.Why() != "the keyring: it answered" {
			t.Errorf("kind %q, why %q", s.Kind(), s.Why())
		}
		put(t, s, "railway", strings.Repeat("hunter2", 1000))
	})
	t.Run("kept", func(t *testing.T) {
		want(t, open(t, o), "railway", strings.Repeat("hunter2", 1000))
	})
	t.Run("locked", func(t *testing.T) {
		soon(t, func() {
			_, err := keystore.Open(t.Context(), o)
			wantErr(t, err, keystore.ErrLocked, "unlock it", "gnome-keyring-daemon --unlock", "nowhere else")
		})
		daemon(t)
		soon(t, func() {
			s := open(t, fresh(t))
			if s.Kind() != keystore.File || !strings.Contains(s.Why(), "the keyring is locked") {
				t.Errorf("kind %q, why %q", s.Kind(), s.Why())
			}
		})
	})
	t.Run("locking", func(t *testing.T) {
		daemon(t)
		o := fresh(t).Within(0, 0, time.Nanosecond)
		s := open(t, o)
		put(t, s, "railway", "hunter2")
		want(t, s, "railway", "hunter2")
		send(t, "org.freedesktop.secrets", "/org/freedesktop/secrets", "org.freedesktop.Secret.Service.Lock", "array:objpath:/org/freedesktop/secrets/collection/login")
		soon(t, func() {
			_, err := s.Secret("railway")
			wantErr(t, err, keystore.ErrLocked, "unlock it")
			wantErr(t, s.Put("railway", keystore.NewSecret("hunter22")), keystore.ErrLocked)
			wantErr(t, s.Remove("railway"), keystore.ErrLocked)
			_, err = s.Signer("lease")
			wantErr(t, err, keystore.ErrLocked)
			_, err = keystore.Open(t.Context(), o)
			wantErr(t, err, keystore.ErrLocked)
		})
	})
	t.Run("stopped", func(t *testing.T) {
		// A daemon that is stopped stands for one that waits for its prompt.
		pid := daemon(t)
		const limit = 300 * time.Millisecond
		o := fresh(t).Within(limit, limit, time.Nanosecond)
		s := open(t, o)
		put(t, s, "railway", "before")
		syscall.Kill(pid, syscall.SIGSTOP)
		defer syscall.Kill(pid, syscall.SIGCONT)
		soon(t, func() {
			_, err := s.Secret("railway")
			wantErr(t, err, keystore.ErrLocked, "does not answer", "unlock it")
			wantErr(t, s.Put("railway", keystore.NewSecret("given up")), keystore.ErrLocked)
			wantErr(t, s.Put("railway", keystore.NewSecret("given up too")), keystore.ErrLocked)
			_, err = keystore.Open(t.Context(), o)
			wantErr(t, err, keystore.ErrLocked)
			other := open(t, fresh(t).Within(limit, limit, 0))
			if other.Kind() != keystore.File || !strings.Contains(other.Why(), "does not answer") {
				t.Errorf("kind %q, why %q", other.Kind(), other.Why())
			}
		})
		syscall.Kill(pid, syscall.SIGCONT)
		time.Sleep(limit)
		want(t, s, "railway", "before")
		put(t, s, "railway", "after")
		want(t, open(t, o), "railway", "after")

		// The daemon stops while the header is on its way. That write is given
		// up, but may yet happen; whoever writes next waits for it, or the old
		// header would come back to chunks that are gone.
		late := strings.Repeat("late", 1000)
		n := 0
		stopping := open(t, o.Stepping(func(done string) {
			if done == "chunk written" {
				if n++; n == 3 {
					syscall.Kill(pid, syscall.SIGSTOP)
				}
			}
		}))
		wantErr(t, stopping.Put("railway", keystore.NewSecret(late)), keystore.ErrLocked)
		wantErr(t, s.Put("railway", keystore.NewSecret("too early")), keystore.ErrLocked, "another write")
		syscall.Kill(pid, syscall.SIGCONT)
		time.Sleep(limit)
		got, err := open(t, o).Secret("railway")
		if err != nil || got.Reveal() != late && got.Reveal() != "after" {
			t.Errorf("a write that was given up tore the value apart: %v", err)
		}
		put(t, s, "railway", "in time")
		want(t, open(t, o), "railway", "in time")
	})
	for part, says := range map[string]string{
		"empty":  "no default collection",
		"absent": "no keyring program runs",
		"nobus":  "/nonexistent/bus",
	} {
		t.Run(part, func(t *testing.T) {
			soon(t, func() {
				o := fresh(t)
				o.Kind = keystore.Keyring
				_, err := keystore.Open(t.Context(), o)
				wantErr(t, err, keystore.ErrUnavailable, says, "cred init --keystore file")
				s := open(t, fresh(t))
				if s.Kind() != keystore.File || !strings.Contains(s.Why(), says) {
					t.Errorf("kind %q, why %q", s.Kind(), s.Why())
				}
				put(t, s, "railway", "hunter2")
			})
		})
	}
}

// daemon says which process the keyring is, for this test and for the one that
// checks that it ends.
func daemon(t *testing.T) int {
	t.Helper()
	_, _ = keyring.Get("cred-test", "wake up")
	out := send(t, "org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetConnectionUnixProcessID", "string:org.freedesktop.secrets")
	m := regexp.MustCompile(`uint32 (\d+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no process: %s", out)
	}
	fmt.Printf("keyring daemon is process %s\n", m[1])
	pid, _ := strconv.Atoi(m[1])
	return pid
}

func send(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("dbus-send", append([]string{"--session", "--print-reply", "--dest=" + args[0]}, args[1:]...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dbus-send %q: %v: %s", args, err, out)
	}
	return string(out)
}
