package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/credbroker/cred/scopes"
)

// maxKey bounds what is read as a key, in bytes.
const maxKey = 64 << 10

func keyCommand(e env) *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name:  "key",
		Usage: "keep the root keys of providers",
		Subcommands: []*cli.Command{
			{
				Name: "add", ArgsUsage: "PROVIDER",
				Usage:  "put a root key into the keystore, from the terminal or standard input",
				Action: func(c *cli.Context) error { return addKey(c.Context, e, c.Args().Slice()) },
			},
			{
				Name: "list", Usage: "list the providers that have a key",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &asJSON}},
				Action: func(c *cli.Context) error { return listKeys(c, e, asJSON) },
			},
			{
				Name: "remove", ArgsUsage: "PROVIDER", Usage: "remove a root key from the keystore",
				Action: func(c *cli.Context) error { return removeKey(c.Context, e, c.Args().Slice()) },
			},
		},
	}
}

// oneProvider returns the provider that the arguments name. A second argument
// may be a key typed in the wrong place, so it is not repeated.
func oneProvider(args []string) (string, error) {
	switch len(args) {
	case 0:
		return "", usagef("which provider? cred provider list shows them")
	case 1:
		return args[0], nil
	}
	return "", usagef("one provider, nothing else; a key is typed at the prompt or comes on standard input, because arguments are seen by others")
}

func addKey(ctx context.Context, e env, args []string) error {
	provider, err := oneProvider(args)
	if err != nil {
		return err
	}
	catalog, err := scopes.Builtin()
	if err != nil {
		return err
	}
	d, err := catalog.Describe(scopes.Provider(provider))
	if err != nil && scopes.Nearest(provider, catalog.Names()) == "" {
		return usagef("the word after add is no provider; cred provider list shows them, and a key is never an argument")
	}
	if err != nil {
		return usageError{err}
	}
	key, err := readKey(e, d.Title)
	if err != nil {
		return err
	}
	client, err := connect(ctx, e)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.PutKey(ctx, provider, key); err != nil {
		return err
	}
	s, err := client.Status(ctx)
	if err != nil {
		return err
	}
	e.say("the key for %s is in the %s keystore", provider, s.Keystore)
	return nil
}

// readKey reads a key from the terminal without echo, or from standard input.
func readKey(e env, title string) (string, error) {
	if e.stdin != nil && term.IsTerminal(int(e.stdin.Fd())) {
		return readHidden(e, "key for "+title+": ")
	}
	if e.stdin == nil {
		return "", errors.New("no key: give it on standard input")
	}
	data, err := io.ReadAll(io.LimitReader(e.stdin, maxKey+1))
	if err != nil {
		return "", err
	}
	key := trimNewline(string(data))
	switch {
	case len(data) > maxKey:
		return "", fmt.Errorf("the key is larger than %d bytes", maxKey)
	case key == "":
		return "", usagef("no key: standard input was empty; nothing was changed")
	}
	return key, nil
}

func listKeys(c *cli.Context, e env, asJSON bool) error {
	if err := noArguments(c); err != nil {
		return err
	}
	client, err := connect(c.Context, e)
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := client.OwnerStatus(c.Context)
	if err != nil {
		return err
	}
	if asJSON {
		keys := []map[string]string{}
		for _, k := range s.Keys {
			keys = append(keys, map[string]string{"provider": k, "keystore": s.Keystore})
		}
		return e.printJSON(keys)
	}
	for _, k := range s.Keys {
		e.printf("%s\n", k)
	}
	if len(s.Keys) == 0 {
		e.say("no keys; add one with: cred key add PROVIDER")
	}
	return nil
}

func removeKey(ctx context.Context, e env, args []string) error {
	provider, err := oneProvider(args)
	if err != nil {
		return err
	}
	if !scopes.IsName(provider) {
		return usagef("the word after remove is not the name of a provider")
	}
	client, err := connect(ctx, e)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.RemoveKey(ctx, provider); err != nil {
		return err
	}
	e.say("the key for %s is gone from the keystore; it is still valid at the provider until you revoke it there", provider)
	return nil
}
