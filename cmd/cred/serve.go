package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
)

func serveCommand(e env) *cli.Command {
	var o struct {
		listen           string
		background, stop bool
	}
	return &cli.Command{
		Name:  "serve",
		Usage: "run the broker in the foreground (other commands start one when none runs)",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the relay, on this machine", Destination: &o.listen},
			&cli.BoolFlag{Name: "stop", Usage: "stop the broker that runs", Destination: &o.stop},
			&cli.BoolFlag{Name: "background", Hidden: true, Destination: &o.background},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			switch {
			case o.stop:
				return stopBroker(c.Context, e)
			case o.background:
				return serveInBackground(c.Context, e)
			}
			return serve(c.Context, e, o.listen)
		},
	}
}

func stopBroker(ctx context.Context, e env) error {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	client := broker.NewClient(home)
	defer client.Close()
	err = client.Stop(ctx)
	if errors.Is(err, broker.ErrNotRunning) {
		e.say("no broker was running")
		return nil
	}
	return err
}

// serve runs a broker for a person who watches it.
func serve(ctx context.Context, e env, listen string) error {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	kind, err := keystoreKind(e)
	if err != nil {
		return err
	}
	if err := harden(); err != nil {
		return err
	}
	err = broker.Serve(ctx, broker.ServeOptions{
		Home: home, Listen: listen, Keystore: kind, Log: slog.New(slog.NewTextHandler(e.stderr, nil)),
		Passphrase: passphraseFor(e, func(isNew bool) (string, error) { return prompt(e, isNew) }),
		Ready:      func(relay string) { e.say("the relay listens on %s; stop it with ctrl-c", relay) },
	})
	if errors.Is(err, broker.ErrRunning) {
		return errors.New("a broker is running already; cred status shows it, cred serve --stop ends it")
	}
	return err
}

// serveInBackground runs a broker for the command that started it, to which it
// speaks on standard output until it is ready.
func serveInBackground(ctx context.Context, e env) error {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	if err := home.Make(); err != nil {
		e.printf("%s\n", oneLine(err))
		return errSaid
	}
	file, err := os.OpenFile(home.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.printf("%s\n", oneLine(err))
		return errSaid
	}
	defer file.Close()
	// There is no terminal that would show why the program died.
	if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
		e.printf("%s\n", oneLine(err))
		return errSaid
	}
	log := slog.New(slog.NewTextHandler(file, nil))
	kind, err := keystoreKind(e)
	if err == nil {
		err = harden()
	}
	if err == nil {
		err = broker.Serve(ctx, broker.ServeOptions{
			Home: home, Keystore: kind, Log: log,
			Passphrase: passphraseFor(e, func(isNew bool) (string, error) { return askStarter(e, isNew) }),
			Ready: func(relay string) {
				log.Info("ready", "relay", relay, "pid", os.Getpid())
				e.printf("%s\n", wordReady)
				if out, ok := e.stdout.(io.Closer); ok {
					_ = out.Close() // the starter waits for the line, not for this
				}
			},
		})
	}
	switch {
	case errors.Is(err, broker.ErrRunning):
		e.printf("%s\n", wordRunning)
		return nil
	case err != nil:
		log.Error("stopped", "why", err)
		e.printf("%s\n", oneLine(err))
		return errSaid
	}
	log.Info("stopped")
	return nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// askStarter asks the command that started this broker for the passphrase.
func askStarter(e env, isNew bool) (string, error) {
	word := wordAsk
	if isNew {
		word = wordAskNew
	}
	fmt.Fprintln(e.stdout, word)
	line, err := bufio.NewReader(e.stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) == "" {
		return "", errNoPassphrase
	}
	return trimNewline(line), nil
}
