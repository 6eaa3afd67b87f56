package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func leasesCommand(e env) *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name:  "leases",
		Usage: "list the leases that have not expired",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &asJSON}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			client, err := connect(c.Context, e)
			if err != nil {
				return err
			}
			defer client.Close()
			leases, err := client.Leases(c.Context)
			switch {
			case err != nil:
				return err
			case asJSON:
				return e.printJSON(leases)
			case len(leases) == 0:
				e.say("no leases")
				return nil
			}
			rows := [][]string{{"LEASE", "ENDS IN", "FOR", "TASK", "SCOPES"}}
			for _, l := range leases {
				ends := time.Until(l.Expires).Round(time.Second).String()
				if l.Revoked {
					ends = "revoked"
				}
				rows = append(rows, []string{l.ID, ends, l.Subject, l.Reason, strings.Join(l.Scopes, " ")})
			}
			return e.table(rows)
		},
	}
}
