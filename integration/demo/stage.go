// Package demo is the stage on which cred demo replays the incident of April 2026: a Railway-shaped server with something
// to lose, the calls that the agent made, and the checks that decide whether the replay went well. The command tells the
// story; what it claims is found out here.
//
// The checks ask the server itself what it still has. They are worth something because the server deletes when the root
// key asks it to, which the tests of this package show.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/integration/railwayd"
)

// Stage is a server on this machine and a memory of all that it had when it began. Make it with [Open].
type Stage struct {
	URL string // address of the server, as Railway's would be

	account *railwayd.Server
	http    *http.Server
	had     []string
}

// Open starts a server that accepts key and nothing else.
func Open(key string) (*Stage, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	account := railwayd.New(key)
	s := &Stage{
		URL:     "http://" + l.Addr().String(),
		account: account,
		http:    &http.Server{Handler: account, ReadHeaderTimeout: 10 * time.Second},
		had:     inventory(account),
	}
	// Serve ends with Close, which is the only way that it ends.
	go func() { _ = s.http.Serve(l) }()
	return s, nil
}

// Close ends the server and every connection to it.
func (s *Stage) Close() error { return s.http.Close() }

// Check compares what the server has with what it had. It names everything that is gone and everything that was added, so
// that nil means: the account is as it was.
func (s *Stage) Check() error {
	has := inventory(s.account)
	var changes []string
	for _, thing := range s.had {
		if !slices.Contains(has, thing) {
			changes = append(changes, thing+" is gone")
		}
	}
	for _, thing := range has {
		if !slices.Contains(s.had, thing) {
			changes = append(changes, thing+" is new")
		}
	}
	if len(changes) > 0 {
		return errors.New(strings.Join(changes, "; "))
	}
	return nil
}

// Mutations says how many requests that could change something have reached the server.
func (s *Stage) Mutations() (n int) {
	for _, r := range s.account.Requests() {
		if strings.Contains(r.Query, "mutation") {
			n++
		}
	}
	return n
}

// Requests says how many requests have reached the server, the broker's own look-ups among them.
func (s *Stage) Requests() int { return len(s.account.Requests()) }

// inventory names everything that somebody could lose, and the counts of all the rest, so that a change of any kind shows.
func inventory(account *railwayd.Server) []string {
	var things []string
	for _, volume := range account.Volumes() {
		things = append(things, "volume "+volume)
		for _, instance := range account.VolumeInstances(volume) {
			things = append(things, "volume instance "+instance)
			for _, backup := range account.Backups(instance) {
				things = append(things, "backup "+backup)
			}
		}
	}
	for _, environment := range []string{railwayd.StagingID, railwayd.ProductionID} {
		for _, domain := range account.Domains(environment) {
			things = append(things, "domain "+domain)
		}
	}
	return append(things, fmt.Sprintf("the count %+v", account.Counts()))
}

// Table says what the server has at this moment, a column for each environment.
func (s *Stage) Table() [][]string {
	rows := [][]string{{"", "STAGING", "PRODUCTION"}}
	for _, v := range []struct{ name, id, staging, production string }{
		{"postgres-data", railwayd.ProductionVolumeID, "", railwayd.ProductionVolumeInstanceID},
		{"postgres-data-staging", railwayd.StagingVolumeID, railwayd.StagingVolumeInstanceID, ""},
		{"uploads", railwayd.SharedVolumeID, railwayd.SharedVolumeStagingInstanceID, railwayd.SharedVolumeProductionInstanceID},
	} {
		rows = append(rows, []string{"volume " + v.name, s.volume(v.id, v.staging), s.volume(v.id, v.production)})
	}
	staging, production := s.account.Domains(railwayd.StagingID), s.account.Domains(railwayd.ProductionID)
	for i := range max(len(staging), len(production)) {
		rows = append(rows, []string{"domain", at(staging, i), at(production, i)})
	}
	return rows
}

// volume says in words what there is of a volume's instance, which is empty where the volume never had one.
func (s *Stage) volume(volume, instance string) string {
	switch {
	case instance == "":
		return "-"
	case !slices.Contains(s.account.VolumeInstances(volume), instance):
		return "gone"
	}
	n := len(s.account.Backups(instance))
	if n == 1 {
		return "there, with 1 backup"
	}
	return fmt.Sprintf("there, with %d backups", n)
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "-"
}

// Agent makes calls as a Railway client does. It does not know whether a broker stands in between.
type Agent struct {
	URL   string // of the relay, or of the server itself
	Token string // a lease, or the root key
}

// Path is where the agent sends its calls.
const Path = railwayd.Path

// Answer is what came back.
type Answer struct {
	Status  int
	Body    string
	Refusal *broker.Problem // nil unless the broker refused
}

// Body is the request body for a document.
func Body(document string) ([]byte, error) { return json.Marshal(map[string]string{"query": document}) }

// Post sends one GraphQL document. A refusal is an answer, not an error.
func (a Agent) Post(ctx context.Context, document string) (Answer, error) {
	body, err := Body(document)
	if err != nil {
		return Answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL+Path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+a.Token)
	r.Header.Set("Content-Type", "application/json")
	// A client of its own, without the environment's proxy: the demonstration stays on this machine.
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Status: resp.StatusCode, Body: strings.TrimSpace(string(data))}
	var envelope struct {
		Errors []struct{ Extensions *broker.Problem }
	}
	// Whatever is not in the broker's words is the provider's, and shown as it is.
	if json.Unmarshal(data, &envelope) == nil && len(envelope.Errors) > 0 {
		if p := envelope.Errors[0].Extensions; p != nil && p.Code != "" && strings.HasPrefix(p.Type, "https://github.com/credbroker/") {
			answer.Refusal = p
		}
	}
	return answer, nil
}
