// Command cred lends credentials to agents without handing them over.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/scopes"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitDenied = 3
	exitHeld   = 4
)

// env is all that a command may touch of the world outside its arguments.
type env struct {
	stdin          *os.File // secrets are read from it without echo when it is a terminal
	stdout, stderr io.Writer
	environ        []string
	child          []string // what follows "--": a command to run, for those that run one
}

func (e env) getenv(name string) string {
	for i := len(e.environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(e.environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}, os.Args)
	stop()
	os.Exit(status)
}

// completeFlag is what a completion script adds to ask what may come next.
const completeFlag = "--generate-bash-completion"

// run is main without the process. It is the only place that turns an error
// into a message and an exit status.
func run(ctx context.Context, e env, args []string) int {
	completing := args[len(args)-1] == completeFlag
	switch i := slices.Index(args, "--"); {
	case i >= 0 && completing:
		return exitDone // what stands behind -- is another program's, and must not be run
	case i >= 0:
		args, e.child = args[:i:i], args[i+1:]
	}
	app := newApp(e)
	if !completing { // the framework wants that flag to be the last
		args = flagsFirst(app, args)
	}
	err := app.RunContext(ctx, args)
	status := exitStatus(err)
	var child *childExit
	if err != nil && !errors.As(err, &child) && !errors.Is(err, errSaid) {
		fmt.Fprintf(e.stderr, "cred: %s\n", message(err))
	}
	return status
}

func newApp(e env) *cli.App {
	app := &cli.App{
		Name:                 "cred",
		Usage:                "lend credentials to agents without handing them over",
		Version:              version(),
		HideVersion:          true,
		Reader:               e.stdin,
		Writer:               e.stdout,
		ErrWriter:            e.stderr,
		EnableBashCompletion: true,
		Commands: []*cli.Command{
			initCommand(e), doctorCommand(e), keyCommand(e), envCommand(e), providerCommand(e), serveCommand(e), statusCommand(e),
			leaseCommand(e), leasesCommand(e), revokeCommand(e), explainCommand(e), auditCommand(e), demoCommand(e),
			completionCommand(e), versionCommand(e),
		},
		// Leave exiting to run. The default handler would exit with the
		// status of any error that has one.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return cli.ShowAppHelp(c)
			}
			return usagef("unknown command %q%s; cred help lists them", c.Args().First(), nearestCommand(c))
		},
	}
	for _, c := range app.Commands {
		prepare(c, e)
	}
	return app
}

// prepare gives c and its subcommands the manners that all commands share.
func prepare(c *cli.Command, e env) {
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
	if len(c.Subcommands) > 0 && c.Action == nil {
		c.Action = func(ctx *cli.Context) error {
			if ctx.NArg() == 0 {
				return cli.ShowSubcommandHelp(ctx)
			}
			return usagef("unknown command %q; cred %s --help lists them", c.Name+" "+ctx.Args().First(), c.Name)
		}
	}
	group := len(c.Subcommands) > 0 // now: the framework adds help to every command later
	if action := c.Action; e.child != nil && c.Name != "lease" {
		c.Action = func(ctx *cli.Context) error {
			if group && c.Name != "audit" {
				return action(ctx)
			}
			return usagef("cred %s runs no command: nothing may follow --", c.Name)
		}
	}
	for _, sub := range c.Subcommands {
		prepare(sub, e)
	}
}

func nearestCommand(c *cli.Context) string {
	var names []string
	for _, cmd := range c.App.Commands {
		names = append(names, cmd.Name)
	}
	if near := scopes.Nearest(c.Args().First(), names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// flagsFirst moves the flags of a command before its arguments. The framework
// takes what follows the first argument for arguments too, in silence: "cred
// lease x --ttl 1m" would run with the usual ttl.
func flagsFirst(app *cli.App, args []string) []string {
	i, commands, flags := 1, app.Commands, app.Flags
	for i < len(args) {
		j := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[i]) })
		if j < 0 {
			break
		}
		commands, flags = commands[j].Subcommands, commands[j].Flags
		i++
	}
	takesValue := map[string]bool{}
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			takesValue[name] = ok && d.TakesValue()
		}
	}
	out := slices.Clone(args[:i])
	var rest []string
	for ; i < len(args); i++ {
		a := args[i]
		name := strings.TrimLeft(a, "-")
		if a == "-" || name == a {
			rest = append(rest, a)
			continue
		}
		out = append(out, a)
		if takesValue[name] {
			if i++; i == len(args) {
				return out // without the arguments: the flag would take the first for its value
			}
			out = append(out, args[i])
		}
	}
	return append(out, rest...)
}

// usageError is a call whose words are wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// noArguments refuses what is left over after the flags.
func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("unexpected argument %q", c.Args().First())
	}
	return nil
}

// childExit is the end of a command that cred ran for somebody. Its status is
// passed through, and it has said itself what there is to say.
type childExit struct{ status int }

func (e *childExit) Error() string { return fmt.Sprintf("the command ended with status %d", e.status) }

// errSaid is a failure of which everything has been printed.
var errSaid = errors.New("said")

func exitStatus(err error) int {
	var usage usageError
	var child *childExit
	var problem *broker.ProblemError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &child):
		return child.status
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &problem):
		switch problem.Code {
		case broker.Malformed:
			return exitUsage
		case broker.Denied:
			return exitDenied
		case broker.Held:
			return exitHeld
		}
	}
	return exitFailed
}

func message(err error) string {
	var problem *broker.ProblemError
	var notFound *exec.Error
	switch {
	case errors.As(err, &problem) && problem.Ask != "":
		return problem.Error() + "; to ask for it: " + problem.Ask
	case errors.As(err, &notFound):
		return fmt.Sprintf("%s: %v", notFound.Name, notFound.Err)
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	return err.Error()
}
