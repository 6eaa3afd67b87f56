package main

import (
	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
)

func revokeCommand(e env) *cli.Command {
	var all, asJSON bool
	return &cli.Command{
		Name:      "revoke",
		Usage:     "end leases at once, with what is under way",
		ArgsUsage: "ID...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "every lease there is", Destination: &all},
			&cli.BoolFlag{Name: "json", Usage: "answer the leases that it ended, as one JSON document", Destination: &asJSON},
		},
		Action: func(c *cli.Context) error {
			requests := []broker.RevokeRequest{{All: true}}
			switch {
			case all && c.NArg() > 0:
				return usagef("--all or ids, not both")
			case !all && c.NArg() == 0:
				return usagef("which lease? cred leases lists them; --all ends every one")
			case !all:
				requests = nil
				for _, id := range c.Args().Slice() {
					requests = append(requests, broker.RevokeRequest{ID: id})
				}
			}
			client, err := connect(c.Context, e)
			if err != nil {
				return err
			}
			defer client.Close()
			ended := []broker.LeaseInfo{}
			for _, r := range requests {
				some, err := client.Revoke(c.Context, r)
				if err != nil {
					return err
				}
				ended = append(ended, some...)
			}
			if asJSON {
				return e.printJSON(ended)
			}
			for _, l := range ended {
				e.printf("%s revoked\n", l.ID)
			}
			if len(ended) == 0 {
				e.say("nothing to revoke: it has ended already")
			}
			return nil
		},
	}
}
