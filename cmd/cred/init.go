package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

// firstConfig is the configuration of an owner who has written none. What is
// commented out is what holds without it.
const firstConfig = `# The configuration of cred. A change counts from the next call on.
%s
# listen = "127.0.0.1:2733"

# [policy]
# ttl     = "15m"        # of a lease that names none
# max_ttl = "8h"
# allow   = ["*/*:read@*", "*/*:write@staging"]
# hold    = ["*/*:write@production", "*/*:delete@*", "*/*:reveal@*"]
# deny    = ["*/*:grant@*"]

# [provider.powerdns]
# base_url = "http://127.0.0.1:8081"

# What your environments are called at each provider.
# [environment.staging]
# railway  = { project = "PROJECT-ID", environment = "ENVIRONMENT-ID" }
# powerdns = { zone = ["staging.example.com.", "*.staging.example.com."] }
`

func initCommand(e env) *cli.Command {
	var kind string
	return &cli.Command{
		Name:  "init",
		Usage: "set up: directories, configuration, keystore; safe to run again",
		Flags: []cli.Flag{&cli.StringFlag{Name: "keystore", Usage: "where root keys are kept: keyring or file", Destination: &kind}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if k := keystore.Kind(kind); k != "" && k != keystore.Keyring && k != keystore.File {
				return usagef("--keystore %q: want %s or %s", kind, keystore.Keyring, keystore.File)
			}
			return setUp(c.Context, e, keystore.Kind(kind))
		},
	}
}

func setUp(ctx context.Context, e env, kind keystore.Kind) error {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	if err := home.Make(); err != nil {
		return err
	}
	client := broker.NewClient(home)
	defer client.Close()
	if s, err := client.Status(ctx); err == nil {
		if kind != "" && string(kind) != s.Keystore {
			return fmt.Errorf("the keys are in the %s keystore already; a home does not change its keystore", s.Keystore)
		}
		e.say("set up already: config %s, keystore %s, and a broker is running on %s", home.Config, s.Keystore, s.Relay)
		return nil
	}
	settings, err := readSettings(home)
	if err != nil {
		return err
	}
	if kind == "" {
		if kind, err = keystoreKind(e); err != nil {
			return err
		}
	}
	store, err := broker.OpenStore(ctx, home, kind, settings,
		passphraseFor(e, func(isNew bool) (string, error) { return prompt(e, isNew) }))
	if err != nil {
		return err
	}
	defer store.Close()
	made, err := writeFirstConfig(home, kind)
	if err != nil {
		return err
	}
	rows := [][]string{{"config", home.Config}, {"state", home.State}, {"keystore", fmt.Sprintf("%s: %s", store.Kind(), store.Why())}}
	if !made {
		rows[0][1] += " (kept as it was)"
	}
	if err := e.table(rows); err != nil {
		return err
	}
	e.say("next: cred key add PROVIDER, then tie your environments in the config or with cred env add")
	return nil
}

// readSettings reads the configuration of a home without a broker.
func readSettings(home broker.Home) (*broker.Settings, error) {
	catalog, err := scopes.Builtin()
	if err != nil {
		return nil, err
	}
	return broker.ReadSettings(home, catalog)
}

// writeFirstConfig writes the configuration unless there is one. A choice of
// keystore goes into it, so that every later command makes the same.
func writeFirstConfig(home broker.Home, kind keystore.Kind) (made bool, err error) {
	choice := "# keystore = \"keyring\"   # or \"file\""
	if kind != "" {
		choice = fmt.Sprintf("keystore = %q", kind)
	}
	f, err := os.OpenFile(home.Config, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = fmt.Fprintf(f, firstConfig, choice)
	return true, errors.Join(err, f.Sync(), f.Close())
}

// replaceFile writes a file anew in one step: whoever reads sees the old or the
// new. A link stays a link.
func replaceFile(path string, data []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
