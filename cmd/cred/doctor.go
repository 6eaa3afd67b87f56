package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

func doctorCommand(e env) *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name:  "doctor",
		Usage: "say what works on this machine and what to do about the rest; changes nothing",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &asJSON}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return examine(c.Context, e, asJSON)
		},
	}
}

// A finding is one line of cred doctor.
type finding struct {
	State string `json:"state"`
	Check string `json:"check"`
	What  string `json:"what"`
	Next  string `json:"next,omitempty"` // what to do about it
}

// The states of a finding. Only the last makes the command fail: a warning is
// something that some people want like this.
const (
	stateOK   = "ok"
	stateWarn = "warn"
	stateFail = "FAIL"
)

// A doctor looks at one home. It starts no broker, asks for no passphrase,
// dials no provider and leaves nothing behind.
type doctor struct {
	env
	home     broker.Home
	catalog  *scopes.Catalog
	settings *broker.Settings // nil when the configuration cannot be used
	status   *broker.Status   // nil when no broker runs
	findings []finding
}

// Limits on how long somebody else may take to answer.
const (
	brokerPatience  = 2 * time.Second
	keyringPatience = 3 * time.Second
)

func examine(ctx context.Context, e env, asJSON bool) error {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	catalog, err := scopes.Builtin()
	if err != nil {
		return err
	}
	d := &doctor{env: e, home: home, catalog: catalog}
	stop := e.progress("looking")
	d.config()
	d.directories()
	d.broker(ctx)
	d.keystore(ctx)
	d.log(ctx)
	d.providers()
	stop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if asJSON {
		err = e.printJSON(d.findings)
	} else {
		d.print()
	}
	n := 0
	for _, f := range d.findings {
		if f.State == stateFail {
			n++
		}
	}
	if err == nil && n > 0 {
		return fmt.Errorf("%d %s not work", n, map[bool]string{true: "thing does", false: "things do"}[n == 1])
	}
	return err
}

func (d *doctor) print() {
	width := 0
	for _, f := range d.findings {
		width = max(width, len(f.Check))
	}
	for _, f := range d.findings {
		colour := map[string]string{stateOK: good, stateWarn: wait, stateFail: bad}[f.State]
		line := plain(f.What)
		if f.Next != "" {
			line += "; " + plain(f.Next)
		}
		d.printf("%s  %-*s  %s\n", d.paint(d.stdout, colour, fmt.Sprintf("%-4s", f.State)), width, f.Check, line)
	}
}

func (d *doctor) ok(check, format string, args ...any) {
	d.findings = append(d.findings, finding{stateOK, check, fmt.Sprintf(format, args...), ""})
}

func (d *doctor) warn(check, next, format string, args ...any) {
	d.findings = append(d.findings, finding{stateWarn, check, fmt.Sprintf(format, args...), next})
}

func (d *doctor) fail(check, next, format string, args ...any) {
	d.findings = append(d.findings, finding{stateFail, check, fmt.Sprintf(format, args...), next})
}

func (d *doctor) config() {
	s, err := broker.ReadSettings(d.home, d.catalog)
	if err != nil {
		d.fail("config", "correct that line; nothing is relayed until then", "%v", err)
		return
	}
	d.settings = s
	_, err = os.Stat(d.home.Config)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.warn("config", "run: cred init", "there is none yet (%s), so the defaults hold", d.home.Config)
	case err != nil:
		d.fail("config", "see who may read it", "%v", err)
	default:
		d.ok("config", "%s", d.home.Config)
	}
}

// directories checks what Home.Make would refuse, and the log's.
func (d *doctor) directories() {
	fine := true
	for _, dir := range []string{d.home.State, d.home.Run, d.home.AuditDir()} {
		info, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // it is made when it is needed
		case err != nil:
			d.fail("directories", "see who may enter the directory above it", "%v", err)
		case !info.IsDir():
			d.fail("directories", "move it away", "%s is not a directory", dir)
		case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
			d.fail("directories", "run: chmod 700 "+dir, "%s can be entered by others", dir)
		case !writable(dir):
			d.fail("directories", "no broker can start until it can; is the disk full, or mounted for reading only?", "nothing can be written in %s", dir)
		default:
			continue
		}
		fine = false
	}
	if fine {
		d.ok("directories", "%s and %s are yours alone", d.home.State, d.home.Run)
	}
}

// writable tries whether a file can be made in dir, and every log in it be
// written on.
func writable(dir string) bool {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return false
	}
	_, err = f.Write([]byte{0})
	if errors.Join(err, f.Close(), os.Remove(f.Name())) != nil {
		return false
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.jsonl")) // the pattern is well formed
	for _, name := range logs {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return false
		}
		_ = f.Close() // nothing was written
	}
	return true
}

func (d *doctor) broker(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, brokerPatience)
	defer cancel()
	client := broker.NewClient(d.home)
	defer client.Close()
	s, err := client.OwnerStatus(ctx)
	switch {
	case errors.Is(err, broker.ErrNotRunning):
		d.port()
		return
	case err != nil:
		d.fail("broker", "see "+d.home.LogFile()+", then end it and let the next command start another", "%v", err)
		return
	}
	d.status = &s
	switch {
	case s.Config != "":
		d.fail("broker", "correct the config", "it runs on %s and relays nothing: the config cannot be used", s.Relay)
	case s.Audit != "":
		d.fail("broker", "see whether the disk is full, then run: cred serve --stop", "it runs on %s and relays nothing: the log cannot be written: %s", s.Relay, s.Audit)
	default:
		d.ok("broker", "it runs on %s, process %d", s.Relay, s.PID)
	}
}

// port says whether the next broker would get its address.
func (d *doctor) port() {
	if d.settings == nil {
		d.warn("broker", "correct the config first", "none is running")
		return
	}
	l, err := net.Listen("tcp", d.settings.Listen)
	if err != nil {
		d.fail("broker", fmt.Sprintf("end the program that has it, or set listen in %s to another port", d.home.Config),
			"none is running, and %s is not free for it: %v", d.settings.Listen, err)
		return
	}
	if err := l.Close(); err != nil {
		d.fail("broker", "try again", "%v", err)
		return
	}
	d.ok("broker", "none is running; the next command that needs one starts it on %s", d.settings.Listen)
}

// keystore says where the keys are and whether they can be reached. It opens a
// keyring that has keys, because only that shows whether it answers; it opens no
// sealed file, which needs the passphrase, and makes nothing.
func (d *doctor) keystore(ctx context.Context) {
	asked, err := keystoreKind(d.env)
	if err != nil {
		d.fail("keystore", "correct CRED_KEYSTORE, or unset it", "%v", err)
		return
	}
	if asked == "" && d.settings != nil {
		asked = d.settings.Keystore
	}
	has, err := rememberedKind(d.home.State)
	switch {
	case err != nil:
		d.fail("keystore", "restore it from a backup", "%v", err)
	case d.status != nil:
		d.ok("keystore", "the broker has it open: %s", d.status.Why)
	case has == "" && asked == keystore.File:
		d.warn("keystore", "run: cred init", "none yet; it will be a sealed file, as you chose")
	case has == "":
		d.warn("keystore", "run: cred init", "none yet; cred init finds out whether the keyring of the system works, and takes a sealed file otherwise")
	case asked != "" && asked != has:
		d.fail("keystore", "unset CRED_KEYSTORE, and set keystore to "+string(has)+" in "+d.home.Config, "the keys are in the %s, and the %s is asked for", has, asked)
	case has == keystore.File:
		d.sealedFile()
	default:
		d.keyring(ctx)
	}
}

// rememberedKind reads which kind of keystore a home has, and "" when it has
// none yet. The file is the keystore's own; only this member of it is read.
func rememberedKind(state string) (keystore.Kind, error) {
	path := filepath.Join(state, "keystore.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(state, "keystore.sealed.json")); err == nil {
			return keystore.File, nil
		}
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var index struct {
		Kind keystore.Kind `json:"kind"`
	}
	if err := json.Unmarshal(data, &index); err != nil || index.Kind != keystore.File && index.Kind != keystore.Keyring {
		return "", fmt.Errorf("%s cannot be read", path)
	}
	return index.Kind, nil
}

func (d *doctor) sealedFile() {
	if path := d.getenv("CRED_PASSPHRASE_FILE"); path == "" {
		d.ok("keystore", "a sealed file; its passphrase is asked for when the broker starts")
	} else if _, err := passphraseFor(d.env, nil)(context.Background(), false); err != nil {
		d.fail("keystore", "write the passphrase into that file, or unset CRED_PASSPHRASE_FILE", "a sealed file, and %v", err)
	} else {
		d.ok("keystore", "a sealed file; its passphrase comes from %s", path)
	}
}

func (d *doctor) keyring(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keyringPatience)
	defer cancel()
	store, err := keystore.Open(ctx, keystore.Options{Kind: keystore.Keyring, Service: d.home.Ring, Dir: d.home.State})
	if err == nil {
		err = store.Close()
	}
	switch {
	case errors.Is(err, keystore.ErrLocked):
		d.warn("keystore", "unlock it, or answer its prompt when a command asks", "the keyring does not answer now: %v", err)
	case err != nil:
		d.fail("keystore", "the message says what could be done", "%v", err)
	default:
		d.ok("keystore", "the keyring of the system, and it answers")
	}
}

// quickLog is as much of the log as is checked in passing, in bytes: about a
// second's work.
const quickLog = 64 << 20

func (d *doctor) log(ctx context.Context) {
	dir := d.home.AuditDir()
	var size int64
	files, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.ok("log", "nothing has been logged yet")
		return
	case err != nil:
		d.fail("log", "see who may read it", "%v", err)
		return
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			size += info.Size()
		}
	}
	if size > quickLog {
		d.warn("log", "run: cred audit verify", "%d MiB, too much to be checked in passing", size>>20)
		return
	}
	key, how := "", "the key beside it"
	if d.status != nil {
		key, how = d.status.AuditKey, "the broker's key"
	}
	r, err := verify(ctx, dir, key, nil)
	switch {
	case err != nil:
		d.fail("log", "see who may read it", "%v", err)
	case len(r.Problems) > 0:
		d.fail("log", "run: cred audit verify", "it does not hold: %s", r.Problems[0])
	default:
		d.ok("log", "%d lines in %d %s hold, by %s", r.Lines, r.Files, plural(r.Files, "file"), how)
	}
}

// providers says of each what stands in the way of calls to it. One that nobody
// has set up is no fault. Whether a provider can be reached is not tried.
func (d *doctor) providers() {
	if d.settings == nil {
		return
	}
	for _, name := range d.catalog.Names() {
		p, err := describe(d.catalog, name, d.settings)
		if err != nil {
			d.fail(string(name), "", "%v", err)
			continue
		}
		var tied []string
		for _, in := range d.settings.Environments.Names() {
			if len(d.settings.Environments[in][name]) > 0 {
				tied = append(tied, string(in))
			}
		}
		hasKey := d.status != nil && slices.Contains(d.status.Keys, string(name))
		switch wanted := d.settings.Configured(name) || hasKey || len(tied) > 0; {
		case !wanted && d.status == nil:
			d.ok(string(name), "not set up in the config; whether it has a key is known when a broker runs")
		case !wanted:
			d.ok(string(name), "not set up")
		case p.BaseURL == "":
			d.fail(string(name), fmt.Sprintf("set base_url under [provider.%s] in %s", name, d.home.Config), "it has no address")
		case d.status != nil && !hasKey:
			d.warn(string(name), "run: cred key add "+string(name), "there is no key for it")
		case len(tied) == 0:
			d.warn(string(name), fmt.Sprintf("run: cred env add NAME %s.%s=VALUE", name, strings.Join(p.Keys, fmt.Sprintf("=VALUE %s.", name))), "no environment is tied to it, so only what is in the account can be done")
		case d.status == nil:
			d.ok(string(name), "at %s, in %s; whether it has a key is known when a broker runs", p.BaseURL, strings.Join(tied, ", "))
		default:
			d.ok(string(name), "at %s, in %s, and it has a key", p.BaseURL, strings.Join(tied, ", "))
		}
	}
}
