package broker_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/integration/railwayd"
)

// railway is a world whose provider is a Railway-shaped server with two
// environments: a volume in each, and one in both.
func railway(t *testing.T) (*world, *railwayd.Server) {
	t.Helper()
	server := railwayd.New(canary)
	up := httptest.NewServer(server)
	t.Cleanup(up.Close)
	w := newWorld(t)
	w.configure(fmt.Sprintf(`
listen = "127.0.0.1:0"
[policy]
allow = ["*/*:write@staging", "*/*:delete@staging", "*/*:read@*"]
hold = ["*/*:write@production", "*/*:delete@production"]
[provider.railway]
base_url = %q
[environment.staging]
railway = { project = %q, environment = %q }
[environment.production]
railway = { project = %[2]q, environment = %[4]q }
`, up.URL, railwayd.ProjectID, railwayd.StagingID, railwayd.ProductionID))
	return w, server
}

func mutation(format string, args ...any) string {
	return mustString(map[string]string{"query": "mutation { " + fmt.Sprintf(format, args...) + " }"})
}

func mustString(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// extensions returns the facts of a refusal towards a GraphQL client.
func extensions(t *testing.T, a answered) broker.Problem {
	t.Helper()
	var env struct {
		Errors []struct{ Extensions broker.Problem }
	}
	if err := json.Unmarshal([]byte(a.body), &env); err != nil || len(env.Errors) != 1 {
		t.Fatalf("%v: %+v", err, a)
	}
	return env.Errors[0].Extensions
}

// TestWhereAnIDLives holds that the environment of an id is asked of the
// provider, never guessed, and that one id in two environments is two acts.
func TestWhereAnIDLives(t *testing.T) {
	w, server := railway(t)
	staging := w.lease("railway/volumes:delete@staging", "railway/backups:delete@staging", "railway/domains:write@staging")
	for _, tt := range []struct {
		name, mutation string
		status         int
		code           broker.Code
		needed         []string
	}{
		{"the production volume", fmt.Sprintf(`volumeDelete(volumeId: %q)`, railwayd.ProductionVolumeID), 403, broker.Denied, []string{"railway/volumes:delete@production"}},
		{"the shared volume", fmt.Sprintf(`volumeDelete(volumeId: %q)`, railwayd.SharedVolumeID), 403, broker.Denied, []string{"railway/volumes:delete@production"}},
		{"a volume of nobody", `volumeDelete(volumeId: "00000000-0000-4000-8000-000000000000")`, 403, broker.Unplaced, nil},
		{"a production backup named beside a staging volume", fmt.Sprintf(`volumeInstanceBackupDelete(volumeInstanceBackupId: %q, volumeInstanceId: %q) { workflowId }`,
			railwayd.ProductionBackup1ID, railwayd.StagingVolumeInstanceID), 403, broker.Unplaced, nil},
		{"the production domain", fmt.Sprintf(`customDomainDelete(id: %q)`, railwayd.ProductionCustomDomainID), 403, broker.Denied, []string{"railway/domains:write@production"}},
		{"the staging volume", fmt.Sprintf(`volumeDelete(volumeId: %q)`, railwayd.StagingVolumeID), 200, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := server.Counts()
			a := w.call(staging, "POST", graphql, mutation("%s", tt.mutation))
			if a.status != tt.status {
				t.Fatalf("got %+v", a)
			}
			if tt.code == "" {
				return
			}
			if p := extensions(t, a); p.Code != tt.code || !slices.Equal(p.Needed, tt.needed) {
				t.Errorf("got %+v", p)
			}
			if server.Counts() != before {
				t.Errorf("the world changed: %+v, %+v", before, server.Counts())
			}
		})
	}
	if slices.Contains(server.Volumes(), railwayd.StagingVolumeID) {
		t.Error("the staging volume should be gone")
	}
}

// TestLookupsThatFail holds that an answer that cannot be used refuses.
func TestLookupsThatFail(t *testing.T) {
	w, server := railway(t)
	token := w.lease("railway/volumes:delete@staging")
	for name, fault := range map[string]railwayd.Fault{
		"an error":    {Status: 500},
		"nothing":     {Status: 200},
		"no JSON":     {Status: 200, Body: "<html>"},
		"no data":     {Status: 200, Body: `{"data":null}`},
		"errors":      {Status: 200, Body: `{"data":null,"errors":[{"message":"Not Authorized"}]}`},
		"a redirect":  {Status: 302},
		"other types": {Status: 200, Body: `{"data":{"project":{"volumes":{"edges":[{"node":{"match":1,"environment":true}}]}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(server.Requests())
			server.FaultNext(1, fault)
			a := w.call(token, "POST", graphql, mutation(`volumeDelete(volumeId: %q)`, railwayd.StagingVolumeID))
			if a.code != "unplaced" && a.code != "upstream-failed" {
				t.Errorf("got %+v", a)
			}
			if n := len(server.Requests()) - before; n != 1 {
				t.Errorf("%d requests arrived, want the look-up alone", n)
			}
		})
	}
	if !slices.Contains(server.Volumes(), railwayd.StagingVolumeID) {
		t.Error("the volume is gone")
	}
}

// TestLookupPages holds that a look-up reads every page before it says that
// something is not there.
func TestLookupPages(t *testing.T) {
	w, server := railway(t)
	server.LimitPages(1)
	a := w.call(w.lease("railway/volumes:delete@staging"), "POST", graphql, mutation(`volumeDelete(volumeId: %q)`, railwayd.StagingVolumeID))
	if a.status != 200 {
		t.Errorf("got %+v", a)
	}
	a = w.call(w.lease("railway/volumes:delete@staging"), "POST", graphql, mutation(`volumeDelete(volumeId: %q)`, railwayd.SharedVolumeID))
	if a.code == "" {
		t.Errorf("an answer that leaves an environment out was used: %+v", a)
	}
}

// TestLookupCache holds that answers serve again for writes, and never for
// deletes.
func TestLookupCache(t *testing.T) {
	w, server := railway(t)
	token := w.lease("railway/volumes:write@staging", "railway/volumes:delete@staging")
	asked := func(f func()) int {
		before := len(server.Requests())
		f()
		return len(server.Requests()) - before
	}
	rename := func() {
		if a := w.call(token, "POST", graphql, mutation(`volumeUpdate(volumeId: %q, input: {name: "x"}) { id }`, railwayd.StagingVolumeID)); a.status != 200 {
			t.Fatalf("got %+v", a)
		}
	}
	if n := asked(rename); n != 2 {
		t.Errorf("the first write made %d requests, want the look-up and the call", n)
	}
	if n := asked(rename); n != 1 {
		t.Errorf("the second write made %d requests, want the call alone", n)
	}
	if n := asked(func() {
		w.call(token, "POST", graphql, mutation(`volumeDelete(volumeId: %q)`, railwayd.ProductionVolumeID))
	}); n != 1 {
		t.Errorf("a delete made %d requests, want one look-up", n)
	}
	if n := asked(func() {
		w.call(token, "POST", graphql, mutation(`volumeDelete(volumeId: %q)`, railwayd.ProductionVolumeID))
	}); n != 1 {
		t.Errorf("a second delete made %d requests: its look-up must be fresh", n)
	}
	if n := asked(func() {
		w.call(token, "POST", graphql, mutation(`a: volumeDelete(volumeId: %q) b: volumeDelete(volumeId: %[1]q)`, railwayd.ProductionVolumeID))
	}); n != 1 {
		t.Errorf("two acts on one id in one call made %d look-ups", n)
	}
}

// TestLeaseForAnotherProvider holds that a provider is asked nothing for an
// agent whose lease does not reach it.
func TestLeaseForAnotherProvider(t *testing.T) {
	w, server := railway(t)
	w.configure(strings.ReplaceAll(`
listen = "127.0.0.1:0"
[provider.railway]
base_url = "URL"
[environment.staging]
powerdns = { zone = "staging.example.com." }
`, "URL", w.provider.URL))
	a := w.call(w.lease("powerdns/records:read@staging"), "POST", graphql, mutation(`volumeDelete(volumeId: %q)`, railwayd.StagingVolumeID))
	if a.code != "denied" || len(server.Requests()) != 0 || len(w.arrived()) != 0 {
		t.Errorf("got %+v", a)
	}
}

// TestSlowLookup holds that a provider may take its time.
func TestSlowLookup(t *testing.T) {
	w, server := railway(t)
	server.FaultNext(1, railwayd.Fault{Delay: 300 * time.Millisecond})
	a := w.call(w.lease("railway/volumes:delete@staging"), "POST", graphql, mutation(`volumeDelete(volumeId: %q)`, railwayd.StagingVolumeID))
	if a.status != 200 {
		t.Errorf("got %+v", a) // slow is not wrong
	}
}
