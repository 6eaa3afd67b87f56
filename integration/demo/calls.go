package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/integration/railwayd"
)

// Domain is the name that the agent adds to staging, which is the task that it was given.
const Domain = "preview.staging.shop.example.com"

// AddDomain is the document that adds [Domain]. Documents are in lines because they are shown.
func AddDomain() string {
	return `mutation { customDomainCreate(input: {domain: "` + Domain + `",
  projectId: "` + railwayd.ProjectID + `", environmentId: "` + railwayd.StagingID + `", serviceId: "` + railwayd.WebServiceID + `"}) { id } }`
}

// Added returns the id of the domain that an answer to [AddDomain] says was made.
func Added(a Answer) (string, error) {
	var out struct {
		Data struct {
			CustomDomainCreate struct{ ID string }
		}
	}
	if err := Worked(a); err != nil {
		return "", err
	}
	if err := json.Unmarshal([]byte(a.Body), &out); err != nil || out.Data.CustomDomainCreate.ID == "" {
		return "", fmt.Errorf("the answer names no domain: %s", a.Body)
	}
	return out.Data.CustomDomainCreate.ID, nil
}

// RemoveDomain is the document that removes a domain.
func RemoveDomain(id string) string { return `mutation { customDomainDelete(id: "` + id + `") }` }

// Worked returns nil if the provider did what it was asked to.
func Worked(a Answer) error {
	if a.Refusal != nil {
		return fmt.Errorf("was refused: %s: %s", a.Refusal.Code, a.Refusal.Detail)
	}
	var out struct{ Errors []json.RawMessage }
	if err := json.Unmarshal([]byte(a.Body), &out); err != nil || a.Status != http.StatusOK || len(out.Errors) > 0 {
		return fmt.Errorf("was answered with status %d: %s", a.Status, a.Body)
	}
	return nil
}

// Attempt is a call that has to be refused, and how.
type Attempt struct {
	Name     string
	Why      string // in one sentence, what it would do
	Document string
	Code     broker.Code
	Needed   []string // the scopes that the refusal has to name
	Never    bool     // the policy permits no lease with them, so there is nothing to ask for
}

// Check returns nil if the answer to the attempt is the refusal that it has to be.
func (t Attempt) Check(a Answer) error {
	switch {
	case a.Refusal == nil:
		return fmt.Errorf("should have been refused and was not: status %d, %s", a.Status, a.Body)
	case a.Refusal.Code != t.Code:
		return fmt.Errorf("should have been refused with %s and was with %s: %s", t.Code, a.Refusal.Code, a.Refusal.Detail)
	case t.Never && len(a.Refusal.Needed) > 0:
		return fmt.Errorf("the refusal says to ask for %q, which nobody should get", a.Refusal.Needed)
	case !t.Never && !slices.Equal(a.Refusal.Needed, t.Needed):
		return fmt.Errorf("the refusal says to ask for %q, not for %q", a.Refusal.Needed, t.Needed)
	}
	for _, scope := range t.Needed {
		if !strings.Contains(a.Refusal.Detail, scope) {
			return fmt.Errorf("the refusal does not name %s: %s", scope, a.Refusal.Detail)
		}
	}
	return nil
}

// Incident is the call of April 2026, in the form in which it was sent: no variables, and no environment.
func Incident() Attempt {
	return Attempt{
		Name:     "the production volume",
		Document: deleteVolume(railwayd.ProductionVolumeID),
		Code:     broker.Denied,
		Needed:   []string{"railway/volumes:delete@production"},
	}
}

func deleteVolume(id string) string { return `mutation { volumeDelete(volumeId: "` + id + `") }` }

// Cousins are other ways to the same loss.
func Cousins() []Attempt {
	return []Attempt{
		{
			Name:     "the shared volume",
			Why:      "a volume of staging and of production: one id, and a deletion takes both",
			Document: deleteVolume(railwayd.SharedVolumeID),
			Code:     broker.Denied,
			Needed:   []string{"railway/volumes:delete@production", "railway/volumes:delete@staging"},
		}, {
			Name: "the backup",
			Why:  "not the volume, only a backup of it",
			Document: `mutation { volumeInstanceBackupDelete(volumeInstanceBackupId: "` + railwayd.ProductionBackup1ID + `",
  volumeInstanceId: "` + railwayd.ProductionVolumeInstanceID + `") { workflowId } }`,
			Code:   broker.Denied,
			Needed: []string{"railway/backups:delete@production"},
		}, {
			Name: "the alias",
			Why:  "a deletion under another name, behind a call that the lease permits",
			Document: `mutation { serviceDomainDelete(id: "` + railwayd.StagingServiceDomainID + `")
  customDomainUpdate: volumeDelete(volumeId: "` + railwayd.ProductionVolumeID + `") }`,
			Code:   broker.Denied,
			Needed: []string{"railway/volumes:delete@production"},
		}, {
			Name:     "the token",
			Why:      "a token of the agent's own, which would need no lease",
			Document: `mutation { apiTokenCreate(input: {name: "ci"}) }`,
			Code:     broker.Denied,
			Needed:   []string{"railway/tokens:grant@account"},
			Never:    true,
		},
	}
}

// AfterRevocation is a call that the lease permitted while it was valid.
func AfterRevocation() Attempt {
	return Attempt{Name: "the revoked lease", Document: RemoveDomain(railwayd.StagingCustomDomainID), Code: broker.BadLease}
}
