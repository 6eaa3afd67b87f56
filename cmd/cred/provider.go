package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/scopes"
)

func providerCommand(e env) *cli.Command {
	var asJSON bool
	flags := []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &asJSON}}
	return &cli.Command{
		Name:  "provider",
		Usage: "say which providers are known and what can be done at them",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the providers that are known", Flags: flags,
				Action: func(c *cli.Context) error {
					if err := noArguments(c); err != nil {
						return err
					}
					return listProviders(e, asJSON)
				},
			},
			{
				Name: "show", ArgsUsage: "PROVIDER [RESOURCE]", Flags: flags,
				Usage:  "show what can be done and which scope it takes",
				Action: func(c *cli.Context) error { return showProvider(e, c.Args().Slice(), asJSON) },
				BashComplete: func(c *cli.Context) {
					if c.NArg() > 0 {
						return
					}
					if catalog, err := scopes.Builtin(); err == nil {
						for _, name := range catalog.Names() {
							e.printf("%s\n", name)
						}
					}
				},
			},
		},
	}
}

// providerInfo is a provider as --json shows it.
type providerInfo struct {
	Name       scopes.Provider `json:"name"`
	Title      string          `json:"title"`
	BaseURL    string          `json:"base_url,omitempty"` // none: the owner has to set it
	Keys       []string        `json:"keys"`               // what ties a resource to an environment
	Auth       []string        `json:"auth"`
	GraphQL    string          `json:"graphql,omitempty"`
	Operations int             `json:"operations"`
}

func describe(catalog *scopes.Catalog, name scopes.Provider, settings *broker.Settings) (providerInfo, error) {
	d, err := catalog.Describe(name)
	if err != nil {
		return providerInfo{}, err
	}
	ops, err := catalog.Operations(name)
	if err != nil {
		return providerInfo{}, err
	}
	p := providerInfo{Name: d.Name, Title: d.Title, BaseURL: d.BaseURL, Keys: d.Keys, GraphQL: d.GraphQL}
	if settings != nil {
		p.BaseURL = settings.BaseURL(catalog, name)
	}
	for _, a := range d.Auth {
		p.Auth = append(p.Auth, a.Name)
	}
	distinct := map[string]bool{} // one that has several acts is listed once for each
	for _, op := range ops {
		distinct[op.Match] = true
	}
	p.Operations = len(distinct)
	return p, nil
}

// ownSettings reads the owner's configuration, or says what is wrong with it
// and returns nil: what is known of the providers does not depend on it.
func ownSettings(e env) (*broker.Settings, error) {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return nil, err
	}
	settings, err := readSettings(home)
	if err != nil {
		e.say("cred: %v; addresses are those of the catalog", err)
	}
	return settings, nil
}

func listProviders(e env, asJSON bool) error {
	catalog, err := scopes.Builtin()
	if err != nil {
		return err
	}
	settings, err := ownSettings(e)
	if err != nil {
		return err
	}
	var all []providerInfo
	for _, name := range catalog.Names() {
		p, err := describe(catalog, name, settings)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	if asJSON {
		return e.printJSON(all)
	}
	rows := [][]string{{"PROVIDER", "TITLE", "ADDRESS", "PLACED BY", "OPERATIONS"}}
	for _, p := range all {
		address, n := p.BaseURL, fmt.Sprint(p.Operations)
		if address == "" {
			address = "set base_url"
		}
		if p.GraphQL != "" {
			n += ", GraphQL"
		}
		rows = append(rows, []string{string(p.Name), p.Title, address, strings.Join(p.Keys, ", "), n})
	}
	return e.table(rows)
}

// operationInfo is one thing that can be done, as --json shows it.
type operationInfo struct {
	Scope     string `json:"scope"` // without provider and environment: resource:action
	Operation string `json:"operation"`
	Match     string `json:"match"`
	When      string `json:"when,omitempty"` // none: always
	Placed    string `json:"placed"`
}

func showProvider(e env, args []string, asJSON bool) error {
	var name, resource string
	switch len(args) {
	case 0:
		return usagef("which provider? cred provider list shows them")
	case 1:
		name = args[0]
	case 2:
		name, resource = args[0], args[1]
	default:
		return usagef("unexpected argument %q: one PROVIDER and at most one RESOURCE", args[2])
	}
	catalog, err := scopes.Builtin()
	if err != nil {
		return err
	}
	settings, err := ownSettings(e)
	if err != nil {
		return err
	}
	p, err := describe(catalog, scopes.Provider(name), settings)
	if err != nil {
		return usageError{err}
	}
	ops, err := operationsOn(catalog, p.Name, resource)
	if err != nil {
		return err
	}
	if asJSON {
		return e.printJSON(struct {
			providerInfo
			Acts []operationInfo `json:"acts"`
		}{p, ops})
	}
	return e.printProvider(p, ops, resource != "")
}

// operationsOn returns what can be done at a provider, or to one resource of it.
func operationsOn(catalog *scopes.Catalog, name scopes.Provider, resource string) ([]operationInfo, error) {
	all, err := catalog.Operations(name)
	if err != nil {
		return nil, err
	}
	var out []operationInfo
	var resources []string
	for _, op := range all {
		if resources = append(resources, string(op.Resource)); resource == "" || string(op.Resource) == resource {
			out = append(out, operationInfo{fmt.Sprintf("%s:%s", op.Resource, op.Action), op.Name, op.Match, op.When, op.Place})
		}
	}
	if resources = slices.Compact(resources); len(out) == 0 {
		if near := scopes.Nearest(resource, resources); near != "" {
			return nil, usagef("%s has no %q; did you mean %q?", name, resource, near)
		}
		return nil, usagef("%s has no %q; there is %s", name, resource, strings.Join(resources, ", "))
	}
	return out, nil
}

// pageWidth is how wide a listing may be.
const pageWidth = 100

// printProvider answers the question "which scope do I ask for?": what can be
// done stands under the scope that it takes. Conditions may be long, and are
// shown whole only where one resource was asked for.
func (e env) printProvider(p providerInfo, ops []operationInfo, whole bool) error {
	address := p.BaseURL
	if address == "" {
		address = fmt.Sprintf("none yet: set base_url under [provider.%s] in the config", p.Name)
	}
	if err := e.table([][]string{{"provider", string(p.Name) + ", " + p.Title}, {"address", address},
		{"keys by", strings.Join(p.Auth, " or ")}, {"placed by", strings.Join(p.Keys, " and ")}}); err != nil {
		return err
	}
	nameWidth, matchWidth := 0, 0
	for _, op := range ops {
		matchWidth = max(matchWidth, len(op.Match))
		if !saysName(op) {
			nameWidth = max(nameWidth, len(op.Operation)+2)
		}
	}
	scope := ""
	for _, op := range ops {
		if op.Scope != scope {
			scope = op.Scope
			e.printf("\n%s\n", e.paint(e.stdout, good, scope))
		}
		line := fmt.Sprintf("%-*s  %s", matchWidth, op.Match, op.Placed)
		if nameWidth > 0 {
			line = fmt.Sprintf("%-*s", nameWidth, op.Operation) + line
		}
		e.printf("  %s\n", line)
		if op.When == "" {
			continue
		}
		for i, l := range fold("when "+op.When, pageWidth-4) {
			if i == 2 && !whole {
				e.printf("      … cred provider show %s %s shows all\n", p.Name, scope[:strings.IndexByte(scope, ':')])
				break
			}
			e.printf("    %s\n", l)
		}
	}
	return nil
}

// saysName reports whether the match ends in the operation's name, as all of a
// GraphQL catalog do.
func saysName(op operationInfo) bool { return strings.HasSuffix(op.Match, " "+op.Operation) }

// fold breaks s at spaces into lines of at most width characters; those after
// the first are indented.
func fold(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, line)
			line = "  " + word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
