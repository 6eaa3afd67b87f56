package demo

import (
	"net/http"
	"strings"
	"testing"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/integration/railwayd"
)

const key = "the-root-key-of-this-test"

func open(t *testing.T) *Stage {
	t.Helper()
	s, err := Open(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func post(t *testing.T, a Agent, document string) Answer {
	t.Helper()
	answer, err := a.Post(t.Context(), document)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want one that says %q", parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("got the error %q, want one that says %q", err, p)
		}
	}
}

// TestTheServerDeletesForTheRootKey is why the demonstration shows anything: without the broker the call of April 2026
// does what it did, and the check sees it.
func TestTheServerDeletesForTheRootKey(t *testing.T) {
	s := open(t)
	if err := s.Check(); err != nil {
		t.Fatalf("nothing has happened yet: %v", err)
	}
	call := Incident()
	answer := post(t, Agent{s.URL, key}, call.Document)
	if err := Worked(answer); err != nil {
		t.Fatalf("the deletion %v", err)
	}
	wantError(t, s.Check(), "volume "+railwayd.ProductionVolumeID+" is gone", "volume instance "+railwayd.ProductionVolumeInstanceID+" is gone",
		"backup "+railwayd.ProductionBackup1ID+" is gone", "backup "+railwayd.ProductionBackup2ID+" is gone", "backup "+railwayd.ProductionBackup3ID+" is gone")
	wantError(t, call.Check(answer), "should have been refused and was not")
	if row := s.Table()[1]; row[2] != "gone" {
		t.Errorf("the table says %q", row)
	}
}

// TestEveryAttemptWouldDoHarm makes each call with the root key: it has to work, the attempt's own check has to say that
// it was not refused, and the stage has to see that something is different.
func TestEveryAttemptWouldDoHarm(t *testing.T) {
	for _, call := range append([]Attempt{Incident(), AfterRevocation()}, Cousins()...) {
		t.Run(call.Name, func(t *testing.T) {
			s := open(t)
			answer := post(t, Agent{s.URL, key}, call.Document)
			if err := Worked(answer); err != nil {
				t.Errorf("the call %v", err)
			}
			wantError(t, call.Check(answer), "should have been refused and was not")
			wantError(t, s.Check(), "is new")
			if n := s.Mutations(); n != 1 {
				t.Errorf("%d mutations were counted", n)
			}
		})
	}
}

// TestTheTaskLeavesTheAccountAsItWas adds and removes the domain.
func TestTheTaskLeavesTheAccountAsItWas(t *testing.T) {
	s := open(t)
	agent := Agent{s.URL, key}
	id, err := Added(post(t, agent, AddDomain()))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Check(), "domain "+Domain+" is new")
	if err := Worked(post(t, agent, RemoveDomain(id))); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if n := s.Mutations(); n != 2 {
		t.Errorf("%d mutations were counted", n)
	}
}

// TestOnlyTheBrokersRefusalCounts: a provider that says no has not been kept from anything by a broker.
func TestOnlyTheBrokersRefusalCounts(t *testing.T) {
	s := open(t)
	answer := post(t, Agent{s.URL, "another key"}, Incident().Document)
	wantError(t, Incident().Check(answer), "should have been refused and was not", "Not Authorized")
	wantError(t, Worked(answer), "Not Authorized")
	_, err := Added(answer)
	wantError(t, err, "Not Authorized")
}

// TestCheckWantsTheVeryRefusal changes one thing at a time in the refusal that an attempt has to meet.
func TestCheckWantsTheVeryRefusal(t *testing.T) {
	needed := []string{"railway/volumes:delete@production"}
	good := broker.Problem{Code: broker.Denied, Detail: "volumeDelete v railway/volumes:delete@production: no", Needed: needed}
	call := Attempt{Code: broker.Denied, Needed: needed}
	never := Attempt{Code: broker.Denied, Needed: needed, Never: true}
	for name, test := range map[string]struct {
		call   Attempt
		change func(*broker.Problem)
		want   string // empty: it passes
	}{
		"the refusal itself":         {call, func(*broker.Problem) {}, ""},
		"another code":               {call, func(p *broker.Problem) { p.Code = broker.UpstreamFailed }, "with denied and was with upstream-failed"},
		"another scope to ask for":   {call, func(p *broker.Problem) { p.Needed = []string{"railway/volumes:delete@staging"} }, "says to ask for"},
		"a reason that names none":   {call, func(p *broker.Problem) { p.Detail = "no" }, "does not name railway/volumes:delete@production"},
		"nothing to ask for":         {never, func(p *broker.Problem) { p.Needed = nil }, ""},
		"what nobody should ask for": {never, func(*broker.Problem) {}, "which nobody should get"},
	} {
		p := good
		test.change(&p)
		err := test.call.Check(Answer{Status: http.StatusForbidden, Refusal: &p})
		switch {
		case test.want != "":
			wantError(t, err, test.want)
		case err != nil:
			t.Errorf("%s: %v", name, err)
		}
	}
}
