package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/scopes"
)

// maxRequest bounds what is read as a request: a body of the size that the
// broker reads, and a head.
const maxRequest = 1<<20 + 64<<10

func explainCommand(e env) *cli.Command {
	var held cli.StringSlice
	var on string
	var asJSON bool
	return &cli.Command{
		Name:      "explain",
		Usage:     "say what a raw HTTP request would do, and the verdict, without sending it",
		ArgsUsage: "[FILE|-]",
		Description: "The request is read from FILE or standard input, as curl -v shows it or an agent has tried it:\n\n" +
			"   printf 'DELETE /powerdns/api/v1/servers/localhost/zones/example.com. HTTP/1.1\\n\\n' | cred explain\n\n" +
			"Exit status: 0 it would be allowed, 3 denied, 4 held for the owner.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "scope", Usage: "a `SCOPE` of the lease that would carry the request; without any: what a lease for exactly this call would get", Destination: &held},
			&cli.StringFlag{Name: "on", Usage: "`ENVIRONMENT` of the scopes that name none", Destination: &on},
			&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &asJSON},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("unexpected argument %q: one FILE, or - for standard input", c.Args().Get(1))
			}
			raw, err := readRequest(e, c.Args().First())
			if err != nil {
				return err
			}
			in := broker.ExplainRequest{HTTP: raw, Scopes: held.Value(), On: scopes.Environment(on)}
			x, err := explain(c.Context, e, in)
			if err != nil {
				return err
			}
			if err := e.printExplanation(x, asJSON); err != nil {
				return err
			}
			return verdictError(x.Verdict)
		},
	}
}

// readRequest reads the request from a file or standard input.
func readRequest(e env, name string) ([]byte, error) {
	var from io.Reader = e.stdin
	switch {
	case name != "" && name != "-":
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	case e.stdin == nil:
		return nil, usagef("no request: name a FILE, or give it on standard input")
	case term.IsTerminal(int(e.stdin.Fd())):
		e.say("type or paste an HTTP request: the line METHOD PATH HTTP/1.1, headers, an empty line, the body; end it with ctrl-d")
	}
	raw, err := io.ReadAll(io.LimitReader(from, maxRequest+1))
	switch {
	case err != nil:
		return nil, err
	case len(raw) > maxRequest:
		return nil, fmt.Errorf("the request is larger than %d bytes", maxRequest)
	case strings.TrimSpace(string(raw)) == "":
		return nil, usagef("no request: the input was empty")
	}
	return raw, nil
}

// An explanation is what the broker says, with what to do about it.
type explanation struct {
	broker.Explanation
	Ask string `json:"ask,omitempty"` // the command that asks for the scopes
}

// explain asks the running broker, which can look ids up at the provider. It
// starts none: a question is no reason to open the keystore.
func explain(ctx context.Context, e env, in broker.ExplainRequest) (explanation, error) {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return explanation{}, err
	}
	client := broker.NewClient(home)
	defer client.Close()
	stop := e.progress("asking the broker")
	x, err := client.Explain(ctx, in)
	stop()
	if errors.Is(err, broker.ErrNotRunning) {
		e.say("cred: no broker is running, so ids that need a look-up at the provider cannot be placed; cred serve starts one")
		x, err = explainOffline(ctx, home, in)
	}
	if err != nil {
		return explanation{}, err
	}
	out := explanation{Explanation: x}
	if len(in.Scopes) == 0 && x.Verdict != scopes.Deny.String() {
		out.Needed = narrowest(x.Acts)
	}
	if len(out.Needed) > 0 {
		out.Ask = "cred lease " + strings.Join(out.Needed, " ")
	}
	return out, nil
}

func explainOffline(ctx context.Context, home broker.Home, in broker.ExplainRequest) (broker.Explanation, error) {
	catalog, err := scopes.Builtin()
	if err != nil {
		return broker.Explanation{}, err
	}
	settings, err := broker.ReadSettings(home, catalog)
	if err != nil {
		return broker.Explanation{}, err
	}
	x, err := broker.Explain(ctx, catalog, settings, in)
	var r *broker.Refusal
	if errors.As(err, &r) && r.Code == broker.Malformed { // a scope is misspelt
		return x, usageError{errors.New(r.Detail)}
	}
	return x, err
}

// narrowest returns the fewest scopes that cover the acts.
func narrowest(acts []broker.ExplainedAct) []string {
	var all scopes.Set
	for _, a := range acts {
		if sc, err := scopes.Parse(a.Scope); err == nil && !slices.Contains(all, sc) {
			all = append(all, sc)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(sc scopes.Scope) bool {
		return slices.ContainsFunc(all, func(other scopes.Scope) bool { return other != sc && other.Covers(sc) })
	}).Strings()
}

func (e env) printExplanation(x explanation, asJSON bool) error {
	if asJSON {
		return e.printJSON(x)
	}
	verdict := e.paint(e.stdout, map[string]string{"allow": good, "hold": wait}[x.Verdict], x.Verdict)
	if x.Verdict == scopes.Deny.String() {
		verdict = e.paint(e.stdout, bad, x.Verdict)
		if x.Code != broker.Denied {
			verdict += " (" + string(x.Code) + ")"
		}
	}
	e.printf("%s: %s\n", verdict, plain(x.Why))
	if len(x.Acts) > 0 {
		e.printf("\n")
		rows := [][]string{{"OPERATION", "RESOURCE", "SCOPE", "PLACED BY"}}
		for _, a := range x.Acts {
			resource := a.Resource
			if resource == "" {
				resource = "-"
			}
			rows = append(rows, []string{a.Operation, resource, a.Scope, a.Placed})
		}
		if err := e.table(rows); err != nil {
			return err
		}
	}
	if x.Ask != "" {
		e.printf("\nit needs %s\nask for it with: %s\n", plain(strings.Join(x.Needed, " ")), plain(x.Ask))
	}
	return nil
}

// verdictError carries the verdict to the exit status; everything is said.
func verdictError(verdict string) error {
	code := broker.Denied
	switch verdict {
	case scopes.Allow.String():
		return nil
	case scopes.Hold.String():
		code = broker.Held
	}
	return errors.Join(errSaid, &broker.ProblemError{Problem: broker.Problem{Code: code}})
}
