package acceptance

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// inSession is set in the environment of a test process that has a session bus
// and an unlocked keyring of its own.
const inSession = "CRED_TEST_IN_SESSION"

// TestMain runs the tests in a session of their own, with a real Secret Service
// on a real session bus, in a home that is thrown away. Nothing of the user's
// is touched.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(inSession) != "" {
		bin, err := buildCred()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH")+":/usr/sbin:/sbin")
		return m.Run()
	}
	session, why := "sh", ""
	for _, tool := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(tool); err != nil {
			why = tool + " is not installed (apt-get install dbus gnome-keyring)"
		}
	}
	home, err := os.MkdirTemp("", "cred-session-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(home)
	script := `exec "$@"`
	args := []string{"-c", script, "sh"}
	if why == "" {
		session = "dbus-run-session"
		script = `printf pass | gnome-keyring-daemon --unlock --components=secrets >/dev/null && exec "$@"`
		args = []string{"--", "sh", "-c", script, "sh"}
	}
	cmd := exec.Command(session, append(append(args, os.Args[0]), os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), inSession+"=1", noKeyring+"="+why, "HOME="+home, "XDG_RUNTIME_DIR="+home, "XDG_DATA_HOME="+home+"/data", "DISPLAY=",
		"GOCACHE="+goEnv("GOCACHE"), "GOMODCACHE="+goEnv("GOMODCACHE"), "GOPATH="+goEnv("GOPATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// noKeyring says, in the environment of a session, why it has no keyring.
const noKeyring = "CRED_TEST_NO_KEYRING"

func goEnv(name string) string {
	out, _ := exec.Command("go", "env", name).Output() // empty is what the go command takes for its usual choice
	return strings.TrimSpace(string(out))
}

// buildCred builds the program into a folder of its own.
func buildCred() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "cred-bin-"); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "cred"), "../../cmd/cred").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("building cred: %w\n%s", err, out)
	}
	return dir, nil
}

// needs skips a test, aloud, where a program that it starts is not installed.
// With CI=true nothing is skipped.
func needs(t testing.TB, tools ...string) {
	t.Helper()
	var missing []string
	for _, tool := range tools {
		if tool == "keyring" {
			if why := os.Getenv(noKeyring); why != "" {
				missing = append(missing, why)
			}
		} else if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool+" is not installed; make test installs it where it may")
		}
	}
	switch {
	case len(missing) == 0:
	case os.Getenv("CI") == "true":
		t.Fatalf("left out: %s", strings.Join(missing, ", "))
	default:
		t.Skipf("left out: %s", strings.Join(missing, ", "))
	}
}

// TestPowerDNS runs the stories in testdata/powerdns against a real PowerDNS.
func TestPowerDNS(t *testing.T) {
	needs(t, "keyring", "pdns_server", "sqlite3", "curl")
	testscript.Run(t, params("testdata/powerdns"))
}

// TestAttacks runs the stories in testdata/attacks: each tells an attack in
// prose and then tries it.
func TestAttacks(t *testing.T) {
	needs(t, "keyring", "pdns_server", "sqlite3", "curl")
	testscript.Run(t, params("testdata/attacks"))
}

// rootKey is the API key of the PowerDNS of these tests.
const rootKey = "root-key-7c1f3b9e5a"

func params(dir string) testscript.Params {
	return testscript.Params{
		Dir: dir, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: setup,
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"pdns":    startPDNS,
			"nowhere": nowhere,
			"kill9":   kill9,
			"replace": replace,
		},
	}
}

// setup gives each script a home of its own and ends its broker afterwards.
func setup(e *testscript.Env) error {
	for _, name := range []string{"PATH", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_DATA_HOME"} {
		e.Setenv(name, os.Getenv(name))
	}
	e.Setenv("CRED_HOME", filepath.Join(e.WorkDir, "home"))
	e.Setenv("ROOT_KEY", rootKey)
	e.Defer(func() {
		cmd := exec.Command("cred", "serve", "--stop")
		cmd.Env = e.Vars
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("the broker of a script did not stop: %v: %s", err, out))
		}
	})
	return nil
}

// startPDNS is "pdns ZONE...": it starts a PowerDNS with these zones and sets
// PDNS to its address.
func startPDNS(ts *testscript.TestScript, neg bool, zones []string) {
	dir := ts.MkAbs("pdns")
	ts.Check(os.MkdirAll(dir, 0o755))
	dns, api := freePort(ts), freePort(ts)
	db := filepath.Join(dir, "pdns.sqlite3")
	ts.Check(ts.Exec("sqlite3", db, ".read /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"))
	conf := fmt.Sprintf(`launch=gsqlite3
gsqlite3-database=%s
gsqlite3-pragma-synchronous=0
local-address=127.0.0.1
local-port=%d
api=yes
api-key=%s
webserver=yes
webserver-address=127.0.0.1
webserver-port=%d
webserver-allow-from=127.0.0.0/8
socket-dir=%s
setuid=
setgid=
security-poll-suffix=
`, db, dns, rootKey, api, dir)
	ts.Check(os.WriteFile(filepath.Join(dir, "pdns.conf"), []byte(conf), 0o600))
	var log bytes.Buffer
	cmd := exec.Command("pdns_server", "--config-dir="+dir, "--daemon=no", "--guardian=no", "--disable-syslog=yes", "--loglevel=4")
	cmd.Stdout, cmd.Stderr = &log, &log
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	base := fmt.Sprintf("http://127.0.0.1:%d", api)
	ts.Setenv("PDNS", base)
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if ts.Exec("curl", "-fsS", "-o", os.DevNull, "-H", "X-API-Key: "+rootKey, base+"/api/v1/servers") == nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			ts.Fatalf("pdns_server does not answer: %s", log.String())
		}
	}
	for _, z := range zones {
		body := fmt.Sprintf(`{"name":%q,"kind":"Native","nameservers":["ns.%s"]}`, z, z)
		ts.Check(ts.Exec("curl", "-fsS", "-o", os.DevNull, "-H", "X-API-Key: "+rootKey, "-d", body, base+"/api/v1/servers/localhost/zones"))
	}
}

func freePort(ts *testscript.TestScript) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// nowhere is "nowhere VARIABLE": the value occurs in no file of the home, in no
// process's environment and in none of its arguments but this test's own and
// those of PowerDNS.
func nowhere(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: nowhere VARIABLE")
	}
	needle := []byte(ts.Getenv(args[0]))
	if len(needle) < 8 {
		ts.Fatalf("%s is not set", args[0])
	}
	var found []string
	err := filepath.WalkDir(ts.Getenv("CRED_HOME"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, needle) {
			found = append(found, path)
		}
		return err
	})
	ts.Check(err)
	for _, file := range []string{"environ", "cmdline"} {
		paths, err := filepath.Glob("/proc/[0-9]*/" + file)
		ts.Check(err)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err == nil && bytes.Contains(data, needle) {
				found = append(found, path+": "+strings.ReplaceAll(string(data[:min(len(data), 80)]), "\x00", " "))
			}
		}
	}
	if (len(found) > 0) != neg {
		ts.Fatalf("found in %q", found)
	}
}

// kill9 is "kill9": it kills the script's broker as a crash would.
func kill9(ts *testscript.TestScript, neg bool, args []string) {
	lock := filepath.Join(ts.Getenv("CRED_HOME"), "state", "broker.log")
	data, err := os.ReadFile(lock)
	ts.Check(err)
	_, after, ok := strings.Cut(string(data[strings.LastIndex(string(data), "msg=ready"):]), "pid=")
	if !ok {
		ts.Fatalf("no broker in %s", lock)
	}
	pid, err := strconv.Atoi(strings.Fields(after)[0])
	ts.Check(err)
	// The broker closes most of /proc to its user, but not its name.
	comm := fmt.Sprintf("/proc/%d/comm", pid)
	if name, err := os.ReadFile(comm); err != nil || strings.TrimSpace(string(name)) != "cred" {
		ts.Fatalf("process %d is %q (%v)", pid, name, err)
	}
	process, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(process.Kill())
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(comm); err != nil {
			return
		}
	}
	ts.Fatalf("process %d does not end", pid)
}

// replace is "replace FILE OLD NEW": it edits a file in place, as an attacker
// would. OLD must occur.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	if !strings.Contains(string(data), args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(string(data), args[1], args[2], 1)), 0o600))
}
