package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/integration/demo"
	"github.com/credbroker/cred/integration/railwayd"
)

func demoCommand(e env) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "replay an incident against a server of cred's own, in a throwaway home",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return replay(c.Context, e)
		},
	}
}

// teller tells the story of the demonstration: what it shows as a command is run, in this process, with an environment
// that knows nothing of the person's own home and keys.
type teller struct {
	env
	own   env // of the commands that are shown
	home  string
	files broker.Home
	stage *demo.Stage
	agent demo.Agent
	lease string // its id
}

// A scene is a part of the story under a heading.
type scene struct {
	title string
	play  func(context.Context) error
}

// replay tells the whole story and leaves nothing behind, however it ends. A closed terminal or pipe ends it as ctrl-c
// does: the usual death by signal would leave the broker running.
func replay(ctx context.Context, e env) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	began := time.Now()
	t := &teller{env: e}
	if err = t.setUp(); err == nil {
		err = t.tell(ctx)
	}
	if left := t.leave(); left != nil {
		e.say("cred: %v", left) // by itself: what ended the story may be said in one word
		err = cmp.Or(err, errSaid)
	}
	if err != nil {
		return err
	}
	t.printf("\n%s in %.1fs; the home, the broker and the server are gone\n", t.paint(t.stdout, good, "done"), time.Since(began).Seconds())
	return nil
}

func (t *teller) tell(ctx context.Context) error {
	t.prologue()
	for i, s := range []scene{
		{"the key leaves the project", t.keepKey},
		{"the agent gets a lease for its task, not the key", t.takeLease},
		{"the task works", t.doTask},
		{"the nine-second call", t.incident},
		{"its cousins", t.cousins},
		{"what is still there", t.takeStock},
		{"the end of the lease", t.endLease},
		{"the log", t.readLog},
	} {
		t.printf("\n%s\n", t.paint(t.stdout, "1", fmt.Sprintf("%d. %s", i+1, s.title)))
		err := s.play(ctx)
		if ctx.Err() != nil {
			return ctx.Err() // what failed, failed because of it
		}
		if err != nil {
			return fmt.Errorf("%s: %v", s.title, err) // the status of the demonstration is its own
		}
	}
	return nil
}

// setUp makes the throwaway home and starts the server. What it has made when it fails is for leave to remove.
func (t *teller) setUp() (err error) {
	if t.home, err = os.MkdirTemp("", "cred-demo-"); err != nil {
		return err
	}
	key := rand.Text()
	for name, secret := range map[string]string{"deploy.token": key, "passphrase": rand.Text()} {
		if err := os.WriteFile(filepath.Join(t.home, name), []byte(secret+"\n"), 0o600); err != nil {
			return err
		}
	}
	// Of the person's environment only what a program needs to run at all goes on to the commands and their broker.
	t.own = env{environ: []string{"CRED_HOME=" + t.home, "CRED_PASSPHRASE_FILE=" + filepath.Join(t.home, "passphrase"), "USER=agent"}}
	for _, name := range []string{"PATH", "TZ", "TMPDIR", "TMP", "TEMP", "SYSTEMROOT", "GOCOVERDIR"} {
		if v := t.getenv(name); v != "" {
			t.own.environ = append(t.own.environ, name+"="+v)
		}
	}
	if t.files, err = broker.FindHome(t.own.getenv); err != nil {
		return err
	}
	t.stage, err = demo.Open(key)
	return err
}

// leave removes everything, whether or not the story has come to its end. It does not heed the person's ctrl-c, which may
// be why it is called.
func (t *teller) leave() error {
	var errs []error
	if t.files.Run != "" {
		if status, out := t.run(context.Background(), "", "serve", "--stop"); status != exitDone {
			errs = append(errs, fmt.Errorf("the broker was not stopped: %s", out))
		}
	}
	if t.stage != nil {
		errs = append(errs, t.stage.Close())
	}
	// On a system with long paths the sockets lie elsewhere.
	for _, dir := range []string{t.home, t.files.Run} {
		if dir != "" {
			errs = append(errs, removeAll(dir))
		}
	}
	return errors.Join(errs...)
}

// removeAll removes a directory into which a broker that is just being killed may still write.
func removeAll(dir string) (err error) {
	for range 20 {
		if err = os.RemoveAll(dir); err == nil {
			if _, err = os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s is left: %w", dir, err)
}

// run runs a command of this program with the demonstration's own environment. Stdin is a file of the throwaway home.
func (t *teller) run(ctx context.Context, stdin string, args ...string) (status int, out string) {
	var b bytes.Buffer
	e := t.own
	e.stdout, e.stderr = &b, &b
	if stdin != "" {
		f, err := os.Open(filepath.Join(t.home, stdin))
		if err != nil {
			return exitFailed, err.Error()
		}
		defer f.Close()
		e.stdin = f
	}
	status = run(ctx, e, append([]string{"cred"}, args...))
	return status, strings.TrimRight(b.String(), "\n")
}

// shown runs a command after it has shown how a person would type it, and returns what it printed.
func (t *teller) shown(ctx context.Context, args ...string) (string, error) {
	words := append([]string{"cred"}, args...)
	for i, w := range words {
		if strings.Contains(w, " ") {
			words[i] = `"` + w + `"`
		}
	}
	t.command(shortIDs(strings.Join(words, " ")))
	status, out := t.run(ctx, "", args...)
	if status != exitDone {
		return "", fmt.Errorf("cred %s ended with status %d: %s", args[0], status, out)
	}
	return out, nil
}

// because says why the next step matters.
func (t *teller) because(format string, args ...any) { t.printf(format+"\n", args...) }

// command shows what a person would type.
func (t *teller) command(line string) {
	t.printf("  %s %s\n", t.paint(t.stdout, quiet, "$"), t.paint(t.stdout, "1", strings.ReplaceAll(line, "\n", "\n    ")))
}

// answer shows what came back.
func (t *teller) answer(out string) {
	for line := range strings.Lines(out) {
		t.printf("  %s\n", plain(strings.TrimRight(line, "\n")))
	}
}

// width is how many columns the story takes at most.
const width = 100

var uuid = regexp.MustCompile(`([0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// shortIDs leaves of each of Railway's ids the beginning, which is enough to recognize it. Whole, they hide the words.
func shortIDs(s string) string { return uuid.ReplaceAllString(s, "$1…") }

func (t *teller) prologue() {
	t.because("in April 2026 a coding agent met a credential mismatch in staging, found an API token in an")
	t.because("unrelated file, and with one call deleted a production volume and its backups, in nine seconds")
	t.because("here is that agent with a lease instead; each step is really done, and only the ids are shortened")
	t.because("")
	t.because("  server  %s, shaped like Railway's: it checks its key, and it really deletes", t.stage.URL)
	t.because("  home    %s, with a keystore and a broker of its own", t.home)
}

func (t *teller) keepKey(ctx context.Context) error {
	t.because("the token that lay in a file goes into the keystore, and the file goes away")
	if _, err := t.shown(ctx, "init", "--keystore", "file"); err != nil {
		return err
	}
	if err := t.pointAtServer(); err != nil {
		return err
	}
	for _, e := range []struct{ name, id string }{{"staging", railwayd.StagingID}, {"production", railwayd.ProductionID}} {
		if _, err := t.shown(ctx, "env", "add", e.name, "railway.project="+railwayd.ProjectID, "railway.environment="+e.id); err != nil {
			return err
		}
	}
	t.command("cred key add railway < deploy.token && rm deploy.token")
	status, out := t.run(ctx, "deploy.token", "key", "add", "railway")
	if status != exitDone {
		return fmt.Errorf("cred key add: %s", out)
	}
	t.answer(out)
	return os.Remove(filepath.Join(t.home, "deploy.token"))
}

// pointAtServer sends the calls for Railway to the stage, and gives the relay whatever port is free: the usual one may be
// in use by the person's own broker.
func (t *teller) pointAtServer() error {
	f, err := os.OpenFile(t.files.Config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "\nlisten = \"127.0.0.1:0\"\n\n[provider.railway]\nbase_url = %q\n", t.stage.URL)
	return errors.Join(err, f.Close())
}

func (t *teller) takeLease(ctx context.Context) error {
	t.because("a lease names what the task needs, where, and for how long; its token is worth that much and no more")
	out, err := t.shown(ctx, "lease", "domains:write", "--on", "staging", "--reason", "preview domain")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		label, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		switch label {
		case "lease":
			t.lease = value
		case "railway":
			t.agent.URL = value
		case "token":
			t.agent.Token = value
			line = strings.Replace(line, value, value[:min(40, len(value))]+"…", 1)
		case "use":
			continue // the next lines show it
		}
		t.answer(line)
	}
	if t.lease == "" || t.agent.URL == "" || t.agent.Token == "" {
		return fmt.Errorf("the lease lacks its id, its address or its token:\n%s", out)
	}
	return nil
}

func (t *teller) doTask(ctx context.Context) error {
	t.because("a client needs no change: its address is the relay's, and the lease stands where the key would")
	t.command(`gql() { jq -n --arg q "$1" '{query: $q}' |` + "\n" +
		`  curl $RAILWAY` + demo.Path + ` -H "Authorization: Bearer $CRED_LEASE" --json @-; }`)
	answer, err := t.gql(ctx, demo.AddDomain())
	if err != nil {
		return err
	}
	t.answer(shortIDs(answer.Body))
	id, err := demo.Added(answer)
	if err != nil {
		return fmt.Errorf("adding a domain %w", err)
	}
	if answer, err = t.gql(ctx, demo.RemoveDomain(id)); err != nil {
		return err
	}
	t.answer(shortIDs(answer.Body))
	if err := demo.Worked(answer); err != nil {
		return fmt.Errorf("removing a domain %w", err)
	}
	return nil
}

// gql shows a call and makes it.
func (t *teller) gql(ctx context.Context, document string) (demo.Answer, error) {
	t.command("gql '" + shortIDs(document) + "'")
	return t.agent.Post(ctx, document)
}

func (t *teller) incident(ctx context.Context) error {
	t.because("then the agent guesses that a volume is staging's; it is production's, and its backups go with it")
	call := demo.Incident()
	body, err := demo.Body(call.Document)
	if err != nil {
		return err
	}
	t.command(`curl -X POST $RAILWAY` + demo.Path + ` -H "Authorization: Bearer $CRED_LEASE" \` + "\n" +
		`  -H "Content-Type: application/json" \` + "\n  -d '" + string(body) + "'")
	began := time.Now()
	answer, err := t.agent.Post(ctx, call.Document)
	if err != nil {
		return err
	}
	took := time.Since(began)
	if err := t.refused(call, answer); err != nil {
		return err
	}
	t.answer("to ask for it: " + answer.Refusal.Ask)
	t.because("the broker asked the server where the volume lives, and refused, in %.1f ms", float64(took.Microseconds())/1000)
	return nil
}

// refused shows a refusal, and fails if it is none or another one than it has to be.
func (t *teller) refused(call demo.Attempt, a demo.Answer) error {
	if err := call.Check(a); err != nil {
		t.answer(shortIDs(a.Body))
		return fmt.Errorf("%s: %w", call.Name, err)
	}
	code := fmt.Sprintf("%d %s", a.Status, a.Refusal.Code)
	for i, reason := range strings.Split(shortIDs(a.Refusal.Detail), "; ") {
		if i == 0 {
			reason = code + ": " + reason
		} else {
			reason = "  " + reason
		}
		text := strings.Join(fold(plain(reason), width-2), "\n")
		t.printf("  %s\n", strings.ReplaceAll(strings.Replace(text, code, t.paint(t.stdout, bad, code), 1), "\n", "\n  "))
	}
	return nil
}

func (t *teller) cousins(ctx context.Context) error {
	for _, call := range demo.Cousins() {
		t.because("%s", call.Why)
		answer, err := t.gql(ctx, call.Document)
		if err != nil {
			return err
		}
		if err := t.refused(call, answer); err != nil {
			return err
		}
	}
	return nil
}

func (t *teller) takeStock(context.Context) error {
	t.because("this is what the server has now; it is what it had in the beginning")
	if err := t.stage.Check(); err != nil {
		return err
	}
	var b bytes.Buffer
	e := t.own
	e.stdout = &b
	if err := e.table(t.stage.Table()); err != nil {
		return err
	}
	t.answer(b.String())
	if n := t.stage.Mutations(); n != 2 {
		return fmt.Errorf("%d calls that change something have reached the server; there should be two", n)
	}
	t.because("of %d requests that reached it, two could change anything: the domain added, the domain removed", t.stage.Requests())
	t.because("with the key itself they would have deleted: the server means it, and cred's tests show that")
	return nil
}

func (t *teller) endLease(ctx context.Context) error {
	t.because("a lease ends by itself, and at once when its owner says so: then even its own task is refused")
	out, err := t.shown(ctx, "revoke", t.lease)
	if err != nil {
		return err
	}
	t.answer(out)
	call := demo.AfterRevocation()
	answer, err := t.gql(ctx, call.Document)
	if err != nil {
		return err
	}
	if err := t.refused(call, answer); err != nil {
		return err
	}
	return t.stage.Check()
}

func (t *teller) readLog(ctx context.Context) error {
	t.because("every call is in the log, sent or refused, and what was written cannot be changed unseen")
	t.command("key=$(cred status --json | jq -r .audit_key); cred serve --stop")
	key, err := t.auditKey(ctx)
	if err != nil {
		return err
	}
	if status, out := t.run(ctx, "", "serve", "--stop"); status != exitDone {
		return fmt.Errorf("cred serve --stop: %s", out)
	}
	out, err := t.shown(ctx, "audit", "--kind", "call")
	if err != nil {
		return err
	}
	for line := range strings.Lines(shortIDs(out)) {
		if strings.HasPrefix(line, " ") {
			continue // the further acts of the call before
		}
		line = plain(short(strings.TrimRight(line, " \n"), width-2))
		line = strings.Replace(line, " deny ", " "+t.paint(t.stdout, bad, "deny")+" ", 1)
		t.printf("  %s\n", strings.Replace(line, " allow ", " "+t.paint(t.stdout, good, "allow")+" ", 1))
	}
	t.command("cred audit verify --key $key")
	status, out := t.run(ctx, "", "audit", "verify", "--key", key)
	if status != exitDone {
		return fmt.Errorf("the log does not hold: %s", out)
	}
	lines := slices.Collect(strings.Lines(out))
	t.answer(strings.Join(lines[max(0, len(lines)-3):], "")) // how much there is, how it is signed, and that it holds
	return nil
}

// auditKey asks the broker for the key that verifies the log, which an owner keeps where the log is not.
func (t *teller) auditKey(ctx context.Context) (string, error) {
	status, out := t.run(ctx, "", "status", "--json")
	if status != exitDone {
		return "", fmt.Errorf("cred status: %s", out)
	}
	var s broker.Status
	err := json.Unmarshal([]byte(out), &s)
	return s.AuditKey, err
}
