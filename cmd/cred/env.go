package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/scopes"
)

func envCommand(e env) *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name:  "env",
		Usage: "tie your environments to what providers call them",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list environments and what they are tied to",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &asJSON}},
				Action: func(c *cli.Context) error {
					if err := noArguments(c); err != nil {
						return err
					}
					return listEnvironments(e, asJSON)
				},
			},
			{
				Name: "add", ArgsUsage: "NAME PROVIDER.KEY=VALUE...",
				Usage:       "write an environment into the configuration",
				Description: "   cred env add staging powerdns.zone=staging.example.com. 'powerdns.zone=*.staging.example.com.'\n   cred env add staging railway.project=ID railway.environment=ID",
				Action:      func(c *cli.Context) error { return addEnvironment(e, c.Args().Slice()) },
			},
		},
	}
}

func listEnvironments(e env, asJSON bool) error {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	s, err := readSettings(home)
	if err != nil {
		return err
	}
	if asJSON {
		return e.printJSON(s.Environments)
	}
	if len(s.Environments) == 0 {
		e.say("no environments; add one with: cred env add NAME PROVIDER.KEY=VALUE")
		return nil
	}
	rows := [][]string{{"ENVIRONMENT", "PROVIDER", "TIED TO"}}
	for _, name := range s.Environments.Names() {
		for _, p := range slices.Sorted(maps.Keys(s.Environments[name])) {
			var words []string
			for _, key := range slices.Sorted(maps.Keys(s.Environments[name][p])) {
				words = append(words, key+" "+strings.Join(s.Environments[name][p][key], ", "))
			}
			rows = append(rows, []string{string(name), string(p), strings.Join(words, "; ")})
		}
	}
	return e.table(rows)
}

// addEnvironment appends a section to the configuration. What is written by
// hand is never rewritten: an environment that is there already is refused.
func addEnvironment(e env, args []string) error {
	if len(args) < 2 {
		return usagef("which environment, tied to what? say NAME PROVIDER.KEY=VALUE")
	}
	name := args[0]
	if !scopes.IsName(name) || scopes.Environment(name) == scopes.Account {
		return usagef("%q cannot be the name of an environment (lower-case letters, digits, . - _; account is built in)", name)
	}
	ties := map[string]map[string][]string{}
	for _, a := range args[1:] {
		ref, value, ok := strings.Cut(a, "=")
		provider, key, ok2 := strings.Cut(ref, ".")
		if !ok || !ok2 || !scopes.IsName(provider) || !scopes.IsName(key) || value == "" {
			return usagef("%q: want PROVIDER.KEY=VALUE, such as powerdns.zone=staging.example.com.", a)
		}
		if ties[provider] == nil {
			ties[provider] = map[string][]string{}
		}
		ties[provider][key] = append(ties[provider][key], value)
	}
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	before, err := readSettings(home)
	if err != nil {
		return err
	}
	if _, there := before.Environments[scopes.Environment(name)]; there {
		return fmt.Errorf("environment %q is in %s already; edit it there", name, home.Config)
	}
	data, err := os.ReadFile(home.Config)
	if os.IsNotExist(err) {
		return fmt.Errorf("there is no %s yet; run cred init first", home.Config)
	}
	if err != nil {
		return err
	}
	next := append(data, section(name, ties)...)
	catalog, err := scopes.Builtin()
	if err != nil {
		return err
	}
	if _, err := broker.ParseSettings(next, catalog); err != nil {
		_, what, _ := strings.Cut(err.Error(), ": ")
		return usagef("%s; nothing was changed", what)
	}
	if err := replaceFile(home.Config, next); err != nil {
		return err
	}
	e.say("environment %s is in %s", name, home.Config)
	return nil
}

// section is the TOML of one environment.
func section(name string, ties map[string]map[string][]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n[environment.%s]\n", tomlKey(name))
	for _, p := range slices.Sorted(maps.Keys(ties)) {
		var words []string
		for _, key := range slices.Sorted(maps.Keys(ties[p])) {
			var values []string
			for _, v := range ties[p][key] {
				values = append(values, fmt.Sprintf("%q", v))
			}
			words = append(words, fmt.Sprintf("%s = [%s]", tomlKey(key), strings.Join(values, ", ")))
		}
		fmt.Fprintf(&b, "%s = { %s }\n", tomlKey(p), strings.Join(words, ", "))
	}
	return b.String()
}

// tomlKey quotes a name in which a dot would be read as a path.
func tomlKey(s string) string {
	if strings.Contains(s, ".") {
		return fmt.Sprintf("%q", s)
	}
	return s
}
