package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/keystore"
)

// connect returns a client for the owner's broker, and starts one in the
// background when none runs.
func connect(ctx context.Context, e env) (*broker.Client, error) {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return nil, err
	}
	c := broker.NewClient(home)
	if _, err := c.Status(ctx); !errors.Is(err, broker.ErrNotRunning) {
		return c, err
	}
	return c, start(ctx, e, home)
}

// What a broker in the background tells the command that started it, one line
// each on its standard output.
const (
	wordAsk     = "passphrase"     // it needs the keystore's passphrase on standard input
	wordAskNew  = "new passphrase" // the same, for a keystore that it is about to make
	wordReady   = "ready"
	wordRunning = "running" // another broker was faster
)

// startTimeout bounds how long a broker may take to open its doors. A keyring
// may be asking its owner to unlock it meanwhile.
const startTimeout = 90 * time.Second

// start runs a broker in the background and waits until its doors are open. The
// broker outlives the command.
func start(ctx context.Context, e env, home broker.Home) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("the broker did not start in time; %s says more", home.LogFile()))
	defer cancel()
	cmd := exec.Command(exe, "serve", "--background")
	cmd.Env = brokerEnviron(e.environ)
	cmd.Dir = os.TempDir() // so that it holds on to no folder of a project
	detach(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the broker: %w", err)
	}
	stop := e.progress("starting the broker")
	defer func() { stop() }()
	words := make(chan string)
	go func() {
		defer close(words)
		for s := bufio.NewScanner(out); s.Scan(); {
			words <- s.Text()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), cmd.Process.Kill())
		case word, ok := <-words:
			switch {
			case !ok:
				_ = cmd.Wait() // its last word is in the log
				return fmt.Errorf("the broker did not start; %s says why", home.LogFile())
			case word == wordAsk || word == wordAskNew:
				stop()
				if err := answer(in, e, word == wordAskNew); err != nil {
					return err
				}
				stop = e.progress("unlocking the keystore")
			case word == wordReady:
				return cmd.Process.Release()
			case word == wordRunning:
				_ = cmd.Wait() // it has nothing more to say
				return waitFor(ctx, home)
			default:
				_ = cmd.Wait()
				return errors.New(word)
			}
		}
	}
}

// answer gives the broker the passphrase that it asks for. Where there is nobody
// to ask, or the person did not say one, the broker ends.
func answer(in io.WriteCloser, e env, isNew bool) error {
	passphrase, err := prompt(e, isNew)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = fmt.Fprintln(in, passphrase)
	return err
}

// waitFor waits until the broker that was faster has opened its doors.
func waitFor(ctx context.Context, home broker.Home) error {
	c := broker.NewClient(home)
	defer c.Close()
	for {
		if _, err := c.Status(ctx); !errors.Is(err, broker.ErrNotRunning) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another broker holds %s and does not open its doors", home.Run)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// brokerEnviron is what a broker in the background needs of the environment of
// the command that started it. That command may be an agent's: variables that
// change which certificates or proxies are trusted do not pass.
func brokerEnviron(environ []string) []string {
	names := []string{"HOME", "USER", "LOGNAME", "PATH", "LANG", "TZ", "TMPDIR", "CRED_HOME", "CRED_KEYSTORE", "CRED_PASSPHRASE_FILE",
		"DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME",
		"USERPROFILE", "APPDATA", "LOCALAPPDATA", "SYSTEMROOT", "TEMP", "TMP", "GOCOVERDIR"}
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(names, name) {
			out = append(out, kv)
		}
	}
	return out
}

// errNoPassphrase says what can be done where nobody can be asked.
var errNoPassphrase = errors.New("the sealed keystore needs its passphrase: set CRED_PASSPHRASE_FILE, or run this in a terminal")

// passphraseFor returns how a keystore gets its passphrase: from the file that
// CRED_PASSPHRASE_FILE names, otherwise from ask.
func passphraseFor(e env, ask func(isNew bool) (string, error)) func(context.Context, bool) (string, error) {
	return func(_ context.Context, isNew bool) (string, error) {
		path := e.getenv("CRED_PASSPHRASE_FILE")
		if path == "" {
			return ask(isNew)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("CRED_PASSPHRASE_FILE: %w", err)
		}
		passphrase := trimNewline(string(data))
		if passphrase == "" {
			return "", fmt.Errorf("CRED_PASSPHRASE_FILE: %s is empty", path)
		}
		return passphrase, nil
	}
}

// trimNewline removes the line end that a terminal or an echo adds to a secret.
func trimNewline(s string) string { return strings.TrimRight(s, "\r\n") }

// prompt asks the person at the terminal for the passphrase, twice for a new
// one.
func prompt(e env, isNew bool) (string, error) {
	if e.stdin == nil || !term.IsTerminal(int(e.stdin.Fd())) {
		return "", errNoPassphrase
	}
	if !isNew {
		return readHidden(e, "passphrase of the keystore: ")
	}
	one, err := readHidden(e, "new passphrase for the keystore: ")
	if err != nil {
		return "", err
	}
	two, err := readHidden(e, "once more: ")
	if err == nil && one != two {
		err = errors.New("the two are not the same; nothing was made")
	}
	return one, err
}

// readHidden reads a line from the terminal without showing it.
func readHidden(e env, label string) (string, error) {
	fmt.Fprint(e.stderr, label)
	defer fmt.Fprintln(e.stderr)
	b, err := term.ReadPassword(int(e.stdin.Fd()))
	if err == nil && len(b) == 0 {
		err = errors.New("nothing was typed")
	}
	return string(b), err
}

// keystoreKind is the choice of CRED_KEYSTORE, which is empty when it is not
// set.
func keystoreKind(e env) (keystore.Kind, error) {
	switch k := keystore.Kind(e.getenv("CRED_KEYSTORE")); k {
	case "", keystore.Keyring, keystore.File:
		return k, nil
	default:
		return "", usagef("CRED_KEYSTORE: %q: want %s or %s", k, keystore.Keyring, keystore.File)
	}
}
