//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/credbroker/cred/integration/demo"
)

// demoRun is the demonstration as a process of its own, in directories in which nothing but it writes.
type demoRun struct {
	*exec.Cmd
	temp, home string
	out        *bufferedPipe
	stderr     bytes.Buffer
	broker     chan int // its process id, once it has opened its doors
	stop       chan struct{}
}

// startDemo starts it. TestMain has put this very binary on the PATH as cred.
func startDemo(t *testing.T, temp string) *demoRun {
	t.Helper()
	exe, err := exec.LookPath("cred")
	if err != nil {
		t.Fatal(err)
	}
	d := &demoRun{Cmd: exec.Command(exe, "demo"), temp: temp, home: t.TempDir(), broker: make(chan int, 1), stop: make(chan struct{})}
	// A person's own settings, none of which may matter: a home, a keystore, a lease, a proxy.
	d.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + temp, "HOME=" + d.home, "CRED_HOME=" + filepath.Join(d.home, "cred"),
		"CRED_KEYSTORE=keyring", "CRED_PASSPHRASE_FILE=/nonexistent", "CRED_LEASE=mine", "HTTP_PROXY=http://127.0.0.1:1"}
	d.Stderr = &d.stderr
	stdout, err := d.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out = &bufferedPipe{from: stdout}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	go d.watch()
	return d
}

// bufferedPipe remembers what it has read.
type bufferedPipe struct {
	from io.ReadCloser
	text strings.Builder
}

// until reads until the text has come, and fails if it does not.
func (p *bufferedPipe) until(t *testing.T, text string) {
	t.Helper()
	b := make([]byte, 512)
	for !strings.Contains(p.text.String(), text) {
		n, err := p.from.Read(b)
		p.text.Write(b[:n])
		if err != nil {
			t.Fatalf("%q was never said: %v\n%s", text, err, p.text.String())
		}
	}
}

// watch learns the process id of the broker from its log, for as long as there is one.
func (d *demoRun) watch() {
	defer close(d.broker)
	said := regexp.MustCompile(`msg=ready .*pid=([0-9]+)`)
	for {
		logs, _ := filepath.Glob(filepath.Join(d.temp, "cred-demo-*", "state", "broker.log")) // the pattern is good
		for _, path := range logs {
			data, _ := os.ReadFile(path) // it may be gone again
			if m := said.FindSubmatch(data); m != nil {
				pid, _ := strconv.Atoi(string(m[1])) // it consists of digits
				d.broker <- pid
				return
			}
		}
		select {
		case <-d.stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// finish waits for the end and checks what must hold after every end: nothing is left on disk, and the broker, if one
// opened its doors, is no more.
func (d *demoRun) finish(t *testing.T, statuses ...int) {
	t.Helper()
	defer d.brokerEnded(t)
	rest, _ := io.ReadAll(d.out.from) // a pipe that the test itself has closed gives nothing more
	d.out.text.Write(rest)
	err := d.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := d.ProcessState.ExitCode(); !slices.Contains(statuses, got) {
		t.Errorf("exit status %d, want %d\n%s\n%s", got, statuses, d.out.text.String(), d.stderr.String())
	}
	for _, dir := range []string{d.temp, d.home} {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v %v", dir, left, err)
		}
	}
}

// brokerEnded gives up the watch, and checks that what it has found is no more.
func (d *demoRun) brokerEnded(t *testing.T) {
	t.Helper()
	close(d.stop)
	if pid := <-d.broker; pid != 0 && !demoEnded(pid) {
		t.Errorf("the broker, process %d, has not ended", pid)
	}
}

// demoEnded waits a moment for the end of a process. One that nobody has waited for has ended too.
func demoEnded(pid int) bool {
	for range 200 {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if syscall.Kill(pid, 0) != nil || err == nil && bytes.Contains(stat, []byte(") Z ")) {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// TestDemo runs the whole of it.
func TestDemo(t *testing.T) {
	t.Parallel() // most of its time goes into the keystore's passphrase
	d := startDemo(t, t.TempDir())
	pid := <-d.broker
	d.broker = make(chan int, 1)
	d.broker <- pid
	d.finish(t, exitDone)

	out := d.out.text.String()
	if n := strings.Count(out, "\n"); n > 100 {
		t.Errorf("%d lines are too many to read", n)
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if n := strings.Count(out, "  403 denied: "); n != 1+len(demo.Cousins()) {
		t.Errorf("%d calls were denied", n)
	}
	for _, want := range []string{
		`{"data":{"customDomainCreate":{"id":"`, `{"data":{"customDomainDelete":true}}`,
		"volumes:delete@production: the lease does not cover it", "volumes:delete@staging: the lease does not cover it",
		"backups:delete@production: the lease", "tokens:grant@account: the lease does not cover it",
		"401 bad-lease: the lease was revoked", "there, with 3 backups", "shop.example.com",
		"two could change anything", "the log holds", "\ndone in ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the story lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "  gone") || strings.Contains(out, "\x1b") || d.stderr.Len() > 0 {
		t.Errorf("something was lost, coloured or complained about:\n%s\n%s", out, d.stderr.String())
	}
}

// TestDemoInterrupted ends it early in every way in which a person may, at moments that differ in what there is to clean
// up. It may be faster than the signal, in which case it has to be whole.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	send := func(s os.Signal) func(*demoRun) error {
		return func(d *demoRun) error { return d.Process.Signal(s) }
	}
	for _, test := range []struct {
		name, after string
		end         func(*demoRun) error
	}{
		{"ctrl-c before there is a broker", "cred init", send(os.Interrupt)},
		{"ctrl-c while the broker starts", "cred key add", send(os.Interrupt)},
		{"ctrl-c in the middle", "4. the nine-second call", send(os.Interrupt)},
		{"a closed terminal", "cred init", send(syscall.SIGHUP)},
		{"a closed pipe", "cred init", func(d *demoRun) error { return d.out.from.Close() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(t, longDir(t))
			d.out.until(t, test.after)
			if err := test.end(d); err != nil {
				t.Fatal(err)
			}
			d.finish(t, exitFailed, exitDone)
			whole := strings.Contains(d.out.text.String(), "\ndone in ") && d.stderr.Len() == 0
			if said := d.stderr.String(); said != "cred: interrupted\n" && !whole {
				t.Errorf("it said %q", said)
			}
		})
	}
}

// longDir returns a directory with so long a name that the sockets of a home in it lie outside that home, where most
// systems allow it.
func longDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	long := filepath.Join(dir, strings.Repeat("l", max(1, 70-len(dir)-1)))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	return long
}

// TestDemoSaysWhichStepFailed takes the key away before it is kept.
func TestDemoSaysWhichStepFailed(t *testing.T) {
	t.Parallel() // most of its time goes into the keystore's passphrase
	d := startDemo(t, t.TempDir())
	d.out.until(t, "cred init") // which takes a while, as it makes the keystore
	tokens, err := filepath.Glob(filepath.Join(d.temp, "cred-demo-*", "deploy.token"))
	if err != nil || len(tokens) != 1 {
		t.Fatalf("%q %v", tokens, err)
	}
	if err := os.Remove(tokens[0]); err != nil {
		t.Fatal(err)
	}
	d.finish(t, exitFailed)
	if said := d.stderr.String(); !strings.HasPrefix(said, "cred: the key leaves the project: ") {
		t.Errorf("it said %q", said)
	}
}

// TestDemoFailsWhenNothingIsRefused plays the agent's part with the root key and without a broker. The scenes must not
// pass, or they prove nothing with one.
func TestDemoFailsWhenNothingIsRefused(t *testing.T) {
	stage, err := demo.Open("the-root-key")
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	teller := &teller{env: env{stdout: io.Discard}, stage: stage, agent: demo.Agent{URL: stage.URL, Token: "the-root-key"}}
	for _, test := range []struct {
		name string
		play func() error
		want string
	}{
		{"the task", func() error { return teller.doTask(t.Context()) }, ""},
		{"the account as it was", func() error { return teller.takeStock(t.Context()) }, ""},
		{"the incident", func() error { return teller.incident(t.Context()) }, "the production volume: should have been refused and was not"},
		{"its cousins", func() error { return teller.cousins(t.Context()) }, "the shared volume: should have been refused and was not"},
		{"what is gone", func() error { return teller.takeStock(t.Context()) }, "is gone"},
	} {
		err := test.play()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want an error that says %q", test.name, err, test.want)
		}
	}
}
