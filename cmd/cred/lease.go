package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/scopes"
)

// leaseInput is what a person says to cred lease.
type leaseInput struct {
	broker.LeaseRequest
	json, export bool
	command      []string
}

func leaseCommand(e env) *cli.Command {
	var in leaseInput
	var on string
	return &cli.Command{
		Name:      "lease",
		Usage:     "take a lease: a short-lived token for one task",
		ArgsUsage: "SCOPE... [on ENVIRONMENT] [-- COMMAND...]",
		Description: "A scope is PROVIDER/RESOURCE:ACTION@ENVIRONMENT; the provider may be left out where only one has the resource,\n" +
			"and the environment may be said once, with --on.\n\n" +
			"   cred lease domains:write --on staging\n" +
			"   cred lease records:write on staging -- ./deploy.sh\n" +
			"   eval \"$(cred lease records:write@staging --export)\"",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "on", Usage: "`ENVIRONMENT` of the scopes that name none", Destination: &on},
			&cli.StringFlag{Name: "ttl", Usage: "`DURATION` of the lease, such as 15m", Destination: &in.TTL},
			&cli.StringFlag{Name: "reason", Usage: "the task, in a few `WORDS`, for the log", Destination: &in.Reason},
			&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &in.json},
			&cli.BoolFlag{Name: "export", Usage: "answer shell commands that set the variables of the providers' usual clients", Destination: &in.export},
		},
		Action: func(c *cli.Context) error {
			in.On, in.command, in.Subject = scopes.Environment(on), e.child, e.getenv("USER")
			if err := in.read(c.Args().Slice()); err != nil {
				return err
			}
			return lease(c.Context, e, in)
		},
	}
}

// read takes the arguments: scopes, and "on ENVIRONMENT" among them.
func (in *leaseInput) read(args []string) error {
	for i := 0; i < len(args); i++ {
		if args[i] != "on" {
			in.Scopes = append(in.Scopes, args[i])
			continue
		}
		if i++; i == len(args) {
			return usagef("on which environment?")
		}
		if in.On != "" && string(in.On) != args[i] {
			return usagef("is it %s or %s? a lease names one environment with on; say @NAME on each scope instead", in.On, args[i])
		}
		in.On = scopes.Environment(args[i])
	}
	switch {
	case in.command != nil && len(in.command) == 0:
		return usagef("no command after --")
	case len(in.Scopes) == 0:
		return usagef("a lease for what? say RESOURCE:ACTION, such as domains:write")
	case in.json && in.export:
		return usagef("--json or --export, not both")
	case len(in.command) > 0 && (in.json || in.export):
		return usagef("a command after -- gets the lease itself; leave out --json and --export")
	}
	return nil
}

func lease(ctx context.Context, e env, in leaseInput) error {
	if len(in.command) > 0 {
		if _, err := exec.LookPath(in.command[0]); err != nil {
			return err // before a lease is spent on it
		}
	}
	client, err := connect(ctx, e)
	if err != nil {
		return err
	}
	defer client.Close()
	g, err := client.Lease(ctx, in.LeaseRequest)
	if err != nil {
		return err
	}
	for _, w := range g.Warnings {
		e.say("cred: %s", w)
	}
	switch {
	case len(in.command) > 0:
		return with(ctx, e, client, g, in.command)
	case in.json:
		return e.printJSON(g)
	case in.export:
		for _, name := range slices.Sorted(maps.Keys(g.Env)) {
			e.printf("export %s=%s\n", name, quote(g.Env[name]))
		}
		return nil
	}
	rows := [][]string{{"lease", g.ID}, {"scopes", strings.Join(g.Scopes, " ")},
		{"ends", fmt.Sprintf("%s (in %s)", g.Expires.Local().Format("15:04:05"), time.Until(g.Expires).Round(time.Second))}}
	for _, p := range slices.Sorted(maps.Keys(g.BaseURLs)) {
		rows = append(rows, []string{p, g.BaseURLs[p]})
	}
	if err := e.table(append(rows, []string{"token", g.Token})); err != nil {
		return err
	}
	e.say("use the token where %s's own key would go; end it early with: cred revoke %s", strings.Join(slices.Sorted(maps.Keys(g.BaseURLs)), " or "), g.ID)
	return nil
}

// quote writes s for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// with runs a command that has the lease in its environment, passes its exit
// status through, and ends the lease with it.
func with(ctx context.Context, e env, client *broker.Client, g broker.LeaseGrant, command []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.stdin, e.stdout, e.stderr
	cmd.Env = slices.DeleteFunc(slices.Clone(e.environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, ours := g.Env[name]
		return ours || name == "CRED_PASSPHRASE_FILE" // the owner's, not the command's
	})
	for _, name := range slices.Sorted(maps.Keys(g.Env)) {
		cmd.Env = append(cmd.Env, name+"="+g.Env[name])
	}
	err := runChild(ctx, cmd)
	ended := client.GiveBack(context.WithoutCancel(ctx), g.Token)
	if ended != nil && time.Now().Before(g.Expires) && !errors.Is(ended, context.Canceled) {
		var p *broker.ProblemError
		if !errors.As(ended, &p) || p.Code != broker.BadLease { // it had been revoked already
			e.say("cred: the lease %s was not given back: %v", g.ID, ended)
		}
	}
	return err
}

// runChild waits for cmd. An interrupt at the terminal reaches the command by
// itself; a request to end is passed on. Either way it is the command that
// decides when it ends.
func runChild(ctx context.Context, cmd *exec.Cmd) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM {
				_ = cmd.Process.Signal(s) // it has ended
			}
		case err := <-done:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return nil
			case errors.As(err, &exit):
				return &childExit{statusOf(exit.ProcessState)}
			}
			return err
		}
	}
}
