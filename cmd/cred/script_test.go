package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/credbroker/cred/broker/audit"
)

// TestMain makes this binary the program too: scripts find it as cred on their
// PATH, and so does a broker that a command starts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cred": main})
}

// TestScript runs the program as it is typed. There is one script a subject.
//
// Each has a home of its own. A sealed keystore costs about a second each time
// its passphrase is used, and ten times that under the race detector. So a script
// that starts a broker says sealed first, which gives it a keystore that was
// sealed at the least cost there is; only init.txtar makes a real one.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUpScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sealed":   cmdSealed,
			"log":      cmdLog,
			"upstream": cmdUpstream,
			"call":     cmdCall,
			"remember": cmdRemember,
			"exits":    cmdExits,
		},
	})
}

// setUpScript gives a script its home. A home that the script itself made stays
// as it is.
func setUpScript(e *testscript.Env) error {
	home := filepath.Join(e.WorkDir, "home")
	passphrase := filepath.Join(e.WorkDir, "passphrase")
	e.Setenv("CRED_HOME", home)
	e.Setenv("CRED_KEYSTORE", "file")
	e.Setenv("CRED_PASSPHRASE_FILE", passphrase)
	e.Setenv("USER", "alice")
	e.Setenv("TZ", "UTC")
	e.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise every command ends with a second's sleep under -race
	sealed, err := filepath.Abs(filepath.Join("testdata", "keystore.sealed.json"))
	if err != nil {
		return err
	}
	e.Values[sealedKey{}] = sealed
	e.Defer(func() {
		if err := stopBrokers(e.Vars, home); err != nil {
			e.T().Fatal(err)
		}
	})
	if err := os.WriteFile(passphrase, []byte("correct horse battery staple\n"), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	config := filepath.Join(home, "config.toml")
	if _, err := os.Stat(config); err == nil {
		return nil
	}
	return os.WriteFile(config, []byte("listen = \"127.0.0.1:0\"\n"), 0o600)
}

// stopBrokers stops the broker of a home, and reports a process that still has
// the home after that. Only Linux shows the environment of a process.
func stopBrokers(environ []string, home string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// As a process of its own: the framework keeps its help flag in a package
	// variable, and scripts end side by side.
	stop := exec.CommandContext(ctx, "cred", "serve", "--stop")
	stop.Env = environ
	if out, err := stop.CombinedOutput(); err != nil {
		return fmt.Errorf("cred serve --stop: %w: %s", err, out)
	}
	for {
		left := processesOf(home)
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func processesOf(home string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil && bytes.Contains(append([]byte{0}, data...), []byte("\x00CRED_HOME="+home+"\x00")) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
			found = append(found, fmt.Sprintf("%s (%s)", filepath.Base(filepath.Dir(f)), bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// cmdSealed gives the home an empty keystore whose passphrase is the script's.
// The file was made by package keystore with a scrypt work factor of 10 instead
// of 18, which the file itself says.
func cmdSealed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: sealed")
	}
	data, err := os.ReadFile(ts.Value(sealedKey{}).(string))
	ts.Check(err)
	state := filepath.Join(ts.Getenv("CRED_HOME"), "state")
	ts.Check(os.MkdirAll(state, 0o700))
	ts.Check(os.WriteFile(filepath.Join(state, "keystore.sealed.json"), data, 0o600))
}

// sealedKey is where a script's environment keeps the path of the keystore that
// is copied: scripts run in directories of their own.
type sealedKey struct{}

// cmdLog writes a log into the home, with the entries of a file, one JSON
// document a line: log FILE. An outcome belongs to the call or look-up of its id.
func cmdLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: log FILE")
	}
	_, key, err := ed25519.GenerateKey(nil)
	ts.Check(err)
	log, _, err := audit.Open(audit.Options{Dir: filepath.Join(ts.Getenv("CRED_HOME"), "state", "audit"), Origin: "cred.audit/test", Signer: key})
	ts.Check(err)
	pending := map[string]*audit.Pending{}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		var e audit.Entry
		ts.Check(json.Unmarshal([]byte(line), &e))
		switch {
		case e.Kind == audit.KindOutcome:
			pending[e.ID].End(e)
		case e.Verdict == "allow":
			pending[e.ID], err = log.Begin(e, true)
			ts.Check(err)
		default:
			ts.Check(log.Append(e, true))
		}
	}
	ts.Check(log.Close())
}

// cmdUpstream starts a provider for the script, and writes its address over the
// word UPSTREAM in the files that are named. It answers {}; below /hang it
// writes the file "hanging" and answers when the script has ended.
func cmdUpstream(ts *testscript.TestScript, neg bool, files []string) {
	if neg {
		ts.Fatalf("upstream cannot fail")
	}
	hanging, ended := ts.MkAbs("hanging"), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "hang") {
			_ = os.WriteFile(hanging, nil, 0o600) // the script misses it and says so
			<-ended
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, "{}")
	}))
	ts.Defer(func() { close(ended); s.Close() })
	for _, f := range files {
		text := strings.ReplaceAll(strings.ReplaceAll(ts.ReadFile(f), "UPSTREAM_PORT", s.Listener.Addr().String()), "UPSTREAM", s.URL)
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(text), 0o600))
	}
}

// cmdCall sends a call through the relay with the lease in $TOKEN: call STATUS
// METHOD PATH [BODY]. A STATUS of - means that nobody waits for the answer.
func cmdCall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: call STATUS METHOD PATH [BODY]")
	}
	var body io.Reader
	if len(args) > 3 {
		body = strings.NewReader(args[3])
	}
	ctx, cancel := context.WithCancel(context.Background())
	ts.Defer(cancel)
	r, err := http.NewRequestWithContext(ctx, args[1], ts.Getenv("PDNS_API_URL")+args[2], body)
	ts.Check(err)
	r.Header.Set("X-API-Key", ts.Getenv("CRED_LEASE"))
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if args[0] == "-" {
		go func() {
			if resp, err := http.DefaultClient.Do(r); err == nil {
				_ = resp.Body.Close() // nobody waits for the answer
			}
		}()
		return
	}
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n", answer)
	if got := fmt.Sprint(resp.StatusCode); got != args[0] {
		ts.Fatalf("%s %s answers %s, not %s: %s", args[1], args[2], got, args[0], answer)
	}
}

// cmdRemember sets variables to words of the last output: remember FILE
// NAME=PREFIX..., where the word begins behind PREFIX and ends at white space,
// a quotation mark or a comma. A PREFIX of nothing is the whole file.
func cmdRemember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: remember FILE NAME=PREFIX...")
	}
	text := ts.ReadFile(args[0])
	for _, a := range args[1:] {
		name, prefix, _ := strings.Cut(a, "=")
		_, rest, ok := strings.Cut(text, prefix)
		if !ok {
			ts.Fatalf("no %q in %s", prefix, args[0])
		}
		if prefix != "" {
			if i := strings.IndexAny(rest, " \t\n\"',"); i >= 0 {
				rest = rest[:i]
			}
		}
		ts.Setenv(name, strings.TrimSpace(rest))
	}
}

// cmdExits runs a command that must end with a given exit status: exits N
// COMMAND [ARGS]. Scripts have exec for success and failure alone.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND [ARGS]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("it ends with %s, not %s", got, args[0])
	}
}
