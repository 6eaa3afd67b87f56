package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credbroker/cred/broker"
)

func statusCommand(e env) *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name:  "status",
		Usage: "say how the broker is, without starting one",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &asJSON}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			home, err := broker.FindHome(e.getenv)
			if err != nil {
				return err
			}
			client := broker.NewClient(home)
			defer client.Close()
			s, err := client.OwnerStatus(c.Context)
			if errors.Is(err, broker.ErrNotRunning) {
				return errors.New("no broker is running; the next cred lease starts one, or run cred serve")
			}
			if err != nil {
				return err
			}
			if asJSON {
				return e.printJSON(s)
			}
			return e.printStatus(s)
		},
	}
}

func (e env) printStatus(s broker.Status) error {
	keys := strings.Join(s.Keys, ", ")
	if keys == "" {
		keys = "none; add one with: cred key add PROVIDER"
	}
	rows := [][]string{
		{"relay", s.Relay},
		{"running", fmt.Sprintf("pid %d, for %s", s.PID, ago(time.Now(), s.Since))},
		{"keystore", fmt.Sprintf("%s (%s)", s.Keystore, s.Why)},
		{"keys", keys},
		{"leases", fmt.Sprint(s.Leases)},
		{"log key", s.AuditKey},
	}
	if s.Audit != "" {
		rows = append(rows, []string{"log", "cannot be written, so nothing is relayed: " + s.Audit})
	}
	if s.Config != "" {
		rows = append(rows, []string{"config", "cannot be used, so nothing is relayed: " + s.Config})
	}
	return e.table(rows)
}
