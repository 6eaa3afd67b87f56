package railwayd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
)

const testKey = "0b1f8d6e-4f0a-4a57-9d0c-3f5e6c1b2a90"

// post sends a body with headers, given as names and values in turn, and returns the status and the text of the answer.
func post(s *Server, body string, headers ...string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// ask runs a document with the account's key.
func ask(s *Server, query string, variables map[string]any) (int, string) {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		panic(err)
	}
	return post(s, string(body), "Authorization", "Bearer "+testKey)
}

// fill puts ids into a document: %PRODUCTION% and the like.
func fill(document string) string {
	return strings.NewReplacer(
		"%PROJECT%", ProjectID, "%STAGING%", StagingID, "%PRODUCTION%", ProductionID,
		"%WEB%", WebServiceID, "%POSTGRES%", PostgresServiceID,
		"%VOLUME%", ProductionVolumeID, "%STAGINGVOLUME%", StagingVolumeID, "%SHARED%", SharedVolumeID,
		"%INSTANCE%", ProductionVolumeInstanceID, "%BACKUP%", ProductionBackup1ID,
		"%DOMAIN%", ProductionCustomDomainID, "%SERVICEDOMAIN%", ProductionServiceDomainID,
		"%DEPLOYMENT%", WebProductionDeploymentID,
	).Replace(document)
}

// TestEveryQueryAnswersWhatTheDocumentAsks reads the account through each root field.
func TestEveryQueryAnswersWhatTheDocumentAsks(t *testing.T) {
	for _, test := range []struct{ query, want string }{
		{`{ me { email workspaces { name } } }`, `{"me":{"email":"sam@shop.example.com","workspaces":[{"name":"Shopkeepers"}]}}`},
		{`{ projects { edges { node { name } } } }`, `{"projects":{"edges":[{"node":{"name":"shop"}}]}}`},
		{`{ project(id: "%PROJECT%") { environments { edges { node { name } } } } }`,
			`{"project":{"environments":{"edges":[{"node":{"name":"staging"}},{"node":{"name":"production"}}]}}}`},
		{`{ environment(id: "%STAGING%") { name isEphemeral } }`, `{"environment":{"name":"staging","isEphemeral":false}}`},
		{`{ environments(projectId: "%PROJECT%", isEphemeral: true) { edges { node { id } } } }`, `{"environments":{"edges":[]}}`},
		{`{ service(id: "%WEB%") { name project { name } } }`, `{"service":{"name":"web","project":{"name":"shop"}}}`},
		{`{ serviceInstance(environmentId: "%STAGING%", serviceId: "%WEB%") { serviceName domains { serviceDomains { domain } } } }`,
			`{"serviceInstance":{"serviceName":"web","domains":{"serviceDomains":[{"domain":"web-staging-4c1e.up.railway.app"}]}}}`},
		{`{ volumeInstance(id: "%INSTANCE%") { environmentId volume { name } state } }`,
			`{"volumeInstance":{"environmentId":"%PRODUCTION%","volume":{"name":"postgres-data"},"state":"READY"}}`},
		{`{ volumeInstanceBackupList(volumeInstanceId: "%INSTANCE%") { name } }`,
			`{"volumeInstanceBackupList":[{"name":"daily 2026-04-04"},{"name":"daily 2026-04-05"},{"name":"daily 2026-04-06"}]}`},
		{`{ volumeInstanceBackupScheduleList(volumeInstanceId: "%INSTANCE%") { kind } }`,
			`{"volumeInstanceBackupScheduleList":[{"kind":"DAILY"}]}`},
		{`{ customDomain(id: "%DOMAIN%", projectId: "%PROJECT%") { domain status { verified dnsRecords { status } } } }`,
			`{"customDomain":{"domain":"shop.example.com","status":{"verified":true,"dnsRecords":[{"status":"DNS_RECORD_STATUS_PROPAGATED"}]}}}`},
		{`{ domains(environmentId: "%PRODUCTION%", projectId: "%PROJECT%", serviceId: "%WEB%") { customDomains { domain } } }`,
			`{"domains":{"customDomains":[{"domain":"shop.example.com"}]}}`},
		{`{ customDomainAvailable(domain: "SHOP.example.com") { available } }`, `{"customDomainAvailable":{"available":false}}`},
		{`{ serviceDomainAvailable(domain: "free.up.railway.app") { available } }`, `{"serviceDomainAvailable":{"available":true}}`},
		{`{ deployment(id: "%DEPLOYMENT%") { status environment { name } } }`,
			`{"deployment":{"status":"SUCCESS","environment":{"name":"production"}}}`},
		{`{ deployments(input: {serviceId: "%WEB%", status: {in: [REMOVED]}}) { edges { node { status } } } }`,
			`{"deployments":{"edges":[{"node":{"status":"REMOVED"}}]}}`},
		{`{ variables(environmentId: "%STAGING%", projectId: "%PROJECT%", serviceId: "%WEB%") }`,
			`{"variables":{"PORT":"8080","SESSION_SECRET":"made-up-session-secret-of-staging"}}`},
		{`{ apiToken { workspaces { name } } }`, `{"apiToken":{"workspaces":[{"name":"Shopkeepers"}]}}`},
	} {
		status, got := ask(New(testKey), fill(test.query), nil)
		if want := fill(`{"data":` + test.want + `}`); status != http.StatusOK || got != want {
			t.Errorf("%s\n got %d %s\nwant 200 %s", test.query, status, got, want)
		}
	}
}

// TestEveryFieldOfTheSchemaIsServed walks the schema: each root field must have a resolver, and each field of each
// object that can be reached without arguments must answer.
func TestEveryFieldOfTheSchemaIsServed(t *testing.T) {
	types := parseSchema()
	all := resolvers{world: newWorld(), who: accountToken}
	for name, root := range map[string]object{"Query": all.query(), "Mutation": all.mutation()} {
		for _, field := range types[name].Fields {
			if root[field.Name] == nil {
				t.Errorf("%s.%s has no resolver", name, field.Name)
			}
		}
		if len(root) != len(types[name].Fields) {
			t.Errorf("%s has %d resolvers for %d fields", name, len(root), len(types[name].Fields))
		}
	}

	var everything func(def *ast.Definition, seen []string) string
	everything = func(def *ast.Definition, seen []string) string {
		var fields []string
		for _, field := range def.Fields {
			target := types[field.Type.Name()]
			if target == nil {
				t.Fatalf("%s.%s has the unknown type %s", def.Name, field.Name, field.Type)
			}
			// The service of a shared variable is null, which the vendor's schema does not allow.
			if len(seen) > 5 && target.Kind == ast.Object || slices.Contains(seen, target.Name) || def.Name == "Variable" && field.Name == "service" {
				continue
			}
			if target.Kind != ast.Object {
				fields = append(fields, field.Name)
				continue
			}
			fields = append(fields, field.Name+everything(target, append(slices.Clone(seen), target.Name)))
		}
		return "{ __typename " + strings.Join(fields, " ") + " }"
	}
	for _, root := range []string{
		`me`, `project(id: "%PROJECT%")`, `service(id: "%WEB%")`, `environment(id: "%PRODUCTION%")`,
		`serviceInstance(environmentId: "%PRODUCTION%", serviceId: "%WEB%")`, `volumeInstance(id: "%INSTANCE%")`,
		`volumeInstanceBackupList(volumeInstanceId: "%INSTANCE%")`, `volumeInstanceBackupScheduleList(volumeInstanceId: "%INSTANCE%")`,
		`customDomain(id: "%DOMAIN%", projectId: "%PROJECT%")`, `deployment(id: "%DEPLOYMENT%")`, `projectToken`,
	} {
		name, _, _ := strings.Cut(root, "(")
		target := types[types["Query"].Fields.ForName(name).Type.Name()]
		header := []string{"Authorization", "Bearer " + testKey}
		if name == "projectToken" {
			header = []string{"project-access-token", testKey}
		}
		body, _ := json.Marshal(map[string]any{"query": fill("{ " + root + " " + everything(target, []string{target.Name}) + " }")})
		status, got := post(New(testKey), string(body), header...)
		if status != http.StatusOK || strings.Contains(got, `"errors"`) {
			t.Errorf("%s: got %d %.400s", root, status, got)
		}
	}
}

// TestMutationsChangeTheWorld runs one mutation against a fresh account and looks at what is different afterwards.
func TestMutationsChangeTheWorld(t *testing.T) {
	full := New(testKey).Counts()
	for _, test := range []struct {
		mutation string
		change   func(*Counts)
	}{
		{`volumeDelete(volumeId: "%VOLUME%")`, func(c *Counts) { c.Volumes--; c.VolumeInstances--; c.Backups -= 3; c.Schedules-- }},
		{`volumeDelete(volumeId: "%STAGINGVOLUME%")`, func(c *Counts) { c.Volumes--; c.VolumeInstances--; c.Backups-- }},
		{`volumeDelete(volumeId: "%SHARED%")`, func(c *Counts) { c.Volumes--; c.VolumeInstances -= 2; c.Backups -= 4; c.Schedules-- }},
		{`volumeCreate(input: {projectId: "%PROJECT%", mountPath: "/a"}) { id }`, func(c *Counts) { c.Volumes++; c.VolumeInstances += 2 }},
		{`volumeCreate(input: {projectId: "%PROJECT%", mountPath: "/a", environmentId: "%STAGING%"}) { id }`,
			func(c *Counts) { c.Volumes++; c.VolumeInstances++ }},
		{`volumeUpdate(volumeId: "%VOLUME%", input: {name: "other"}) { name }`, func(*Counts) {}},
		{`volumeInstanceUpdate(volumeId: "%SHARED%", input: {serviceId: null})`, func(*Counts) {}},
		{`volumeInstanceBackupCreate(volumeInstanceId: "%INSTANCE%", name: "mine") { workflowId }`, func(c *Counts) { c.Backups++ }},
		{`volumeInstanceBackupDelete(volumeInstanceId: "%INSTANCE%", volumeInstanceBackupId: "%BACKUP%") { workflowId }`, func(c *Counts) { c.Backups-- }},
		{`volumeInstanceBackupLock(volumeInstanceId: "%INSTANCE%", volumeInstanceBackupId: "%BACKUP%")`, func(*Counts) {}},
		{`volumeInstanceBackupRestore(volumeInstanceId: "%INSTANCE%", volumeInstanceBackupId: "%BACKUP%", wipeServiceIds: "%WEB%") { workflowId }`, func(*Counts) {}},
		{`volumeInstanceBackupScheduleUpdate(volumeInstanceId: "%INSTANCE%", kinds: [])`, func(c *Counts) { c.Schedules-- }},
		{`volumeInstanceBackupScheduleUpdate(volumeInstanceId: "%INSTANCE%", kinds: [DAILY, WEEKLY])`, func(c *Counts) { c.Schedules++ }},
		{`customDomainCreate(input: {domain: "new.example.com", projectId: "%PROJECT%", environmentId: "%STAGING%", serviceId: "%WEB%"}) { status { verified } }`,
			func(c *Counts) { c.CustomDomains++ }},
		{`customDomainUpdate(id: "%DOMAIN%", environmentId: "%PRODUCTION%", targetPort: 80)`, func(*Counts) {}},
		{`customDomainDelete(id: "%DOMAIN%")`, func(c *Counts) { c.CustomDomains-- }},
		{`serviceDomainCreate(input: {environmentId: "%STAGING%", serviceId: "%WEB%"}) { domain }`, func(c *Counts) { c.ServiceDomains++ }},
		{`serviceDomainUpdate(input: {serviceDomainId: "%SERVICEDOMAIN%", environmentId: "%PRODUCTION%", serviceId: "%WEB%", domain: "x.up.railway.app"})`, func(*Counts) {}},
		{`serviceDomainDelete(id: "%SERVICEDOMAIN%")`, func(c *Counts) { c.ServiceDomains-- }},
		{`variableUpsert(input: {projectId: "%PROJECT%", environmentId: "%STAGING%", name: "A", value: "b"})`, func(c *Counts) { c.Variables++ }},
		{`variableDelete(input: {projectId: "%PROJECT%", environmentId: "%STAGING%", serviceId: "%WEB%", name: "PORT"})`, func(c *Counts) { c.Variables-- }},
		{`variableCollectionUpsert(input: {projectId: "%PROJECT%", environmentId: "%STAGING%", serviceId: "%WEB%", variables: {A: "b"}})`,
			func(c *Counts) { c.Variables++ }},
		{`variableCollectionUpsert(input: {projectId: "%PROJECT%", environmentId: "%STAGING%", serviceId: "%WEB%", variables: {A: "b"}, replace: true})`,
			func(c *Counts) { c.Variables-- }},
		{`environmentDelete(id: "%PRODUCTION%")`, func(c *Counts) {
			c.Environments--
			c.ServiceInstances -= 2
			c.Volumes--
			c.VolumeInstances -= 2
			c.Backups -= 6
			c.Schedules -= 2
			c.CustomDomains--
			c.ServiceDomains--
			c.Variables -= 4
			c.Deployments -= 3
		}},
		{`environmentRename(id: "%STAGING%", input: {name: "qa"}) { name }`, func(*Counts) {}},
		{`projectDelete(id: "%PROJECT%")`, func(c *Counts) { *c = Counts{} }},
		{`projectUpdate(id: "%PROJECT%", input: {description: "closed"}) { description }`, func(*Counts) {}},
		{`projectScheduleDelete(id: "%PROJECT%")`, func(*Counts) {}},
		{`projectScheduleDeleteCancel(id: "%PROJECT%")`, func(*Counts) {}},
		{`serviceDelete(id: "%WEB%", environmentId: "%STAGING%")`, func(c *Counts) {
			c.ServiceInstances--
			c.CustomDomains--
			c.ServiceDomains--
			c.Variables -= 2
			c.Deployments--
		}},
		{`serviceDelete(id: "%POSTGRES%")`, func(c *Counts) { c.Services--; c.ServiceInstances -= 2; c.Variables -= 2; c.Deployments -= 2 }},
		{`serviceInstanceRedeploy(environmentId: "%STAGING%", serviceId: "%WEB%")`, func(c *Counts) { c.Deployments++ }},
		{`deploymentRedeploy(id: "%DEPLOYMENT%") { id status }`, func(c *Counts) { c.Deployments++ }},
		{`deploymentRestart(id: "%DEPLOYMENT%")`, func(*Counts) {}},
		{`apiTokenCreate(input: {name: "mine"})`, func(c *Counts) { c.Tokens++ }},
		{`projectTokenCreate(input: {name: "mine", projectId: "%PROJECT%", environmentId: "%STAGING%"})`, func(c *Counts) { c.Tokens++ }},
	} {
		s := New(testKey)
		if status, got := ask(s, fill("mutation { "+test.mutation+" }"), nil); status != http.StatusOK || strings.Contains(got, "errors") {
			t.Errorf("%s: got %d %s", test.mutation, status, got)
		}
		want := full
		test.change(&want)
		if got := s.Counts(); got != want {
			t.Errorf("%s\n got %+v\nwant %+v", test.mutation, got, want)
		}
	}
}

// TestVolumeDeleteTakesTheBackupsInEveryEnvironment is the incident: one id, two environments, nothing left.
func TestVolumeDeleteTakesTheBackupsInEveryEnvironment(t *testing.T) {
	s := New(testKey)
	if got := len(s.VolumeInstances(SharedVolumeID)); got != 2 {
		t.Fatalf("the shared volume has %d instances, want 2", got)
	}
	_, got := ask(s, `mutation($id: String!) { volumeDelete(volumeId: $id) }`, map[string]any{"id": SharedVolumeID})
	if got != `{"data":{"volumeDelete":true}}` {
		t.Fatalf("got %s", got)
	}
	if slices.Contains(s.Volumes(), SharedVolumeID) || len(s.VolumeInstances(SharedVolumeID)) != 0 {
		t.Error("the volume or its instances are still there")
	}
	for _, id := range []string{SharedVolumeStagingInstanceID, SharedVolumeProductionInstanceID} {
		if left := s.Backups(id); len(left) != 0 {
			t.Errorf("backups are left on instance %s: %v", id, left)
		}
	}
	if got := len(s.Backups(ProductionVolumeInstanceID)); got != 3 {
		t.Errorf("the backups of another volume went too: %d are left", got)
	}
	_, got = ask(s, fill(`{ volumeInstance(id: "`+SharedVolumeProductionInstanceID+`") { id } }`), nil)
	if !strings.Contains(got, "VolumeInstance not found") || !strings.Contains(got, `"data":null`) {
		t.Errorf("got %s", got)
	}
}

// TestChangesAreVisibleToLaterReads covers the mutations that change no count.
func TestChangesAreVisibleToLaterReads(t *testing.T) {
	for _, test := range []struct{ mutation, query, want string }{
		{`volumeInstanceUpdate(volumeId: "%SHARED%", input: {serviceId: null, mountPath: "/x"})`,
			`{ environment(id: "%STAGING%") { volumeInstances(last: 1) { edges { node { serviceId mountPath } } } } }`, `"serviceId":null,"mountPath":"/x"`},
		{`volumeInstanceBackupLock(volumeInstanceId: "%INSTANCE%", volumeInstanceBackupId: "%BACKUP%")`,
			`{ volumeInstanceBackupList(volumeInstanceId: "%INSTANCE%") { expiresAt } }`, `[{"expiresAt":null},`},
		{`volumeInstanceBackupRestore(volumeInstanceId: "%INSTANCE%", volumeInstanceBackupId: "%BACKUP%") { workflowId }`,
			`{ volumeInstance(id: "%INSTANCE%") { currentSizeMB } }`, `"currentSizeMB":12000`},
		{`projectScheduleDelete(id: "%PROJECT%")`, `{ project(id: "%PROJECT%") { deletedAt } }`, `"deletedAt":"20`},
		{`customDomainUpdate(id: "%DOMAIN%", environmentId: "%PRODUCTION%", targetPort: 81)`,
			`{ customDomain(id: "%DOMAIN%", projectId: "%PROJECT%") { targetPort } }`, `"targetPort":81`},
		{`environmentRename(id: "%STAGING%", input: {name: "qa"}) { id }`, `{ environment(id: "%STAGING%") { name } }`, `"qa"`},
	} {
		s := New(testKey)
		if _, got := ask(s, fill("mutation { "+test.mutation+" }"), nil); strings.Contains(got, "errors") {
			t.Errorf("%s: got %s", test.mutation, got)
		}
		if _, got := ask(s, fill(test.query), nil); !strings.Contains(got, test.want) {
			t.Errorf("after %s\n got %s\nwant %s", test.mutation, got, test.want)
		}
	}
}

// TestOnlyTheKeyIsAccepted tries the two ways to present the key, and some that are none.
func TestOnlyTheKeyIsAccepted(t *testing.T) {
	const document = `{"query":"{ project(id: \"` + ProjectID + `\") { name } }"}`
	for _, test := range []struct {
		headers []string
		allowed bool
	}{
		{[]string{"Authorization", "Bearer " + testKey}, true},
		{[]string{"Project-Access-Token", testKey}, true},
		{nil, false},
		{[]string{"Authorization", testKey}, false},
		{[]string{"Authorization", "Bearer "}, false},
		{[]string{"Authorization", "Bearer " + testKey + "0"}, false},
		{[]string{"Project-Access-Token", "Bearer " + testKey}, false},
	} {
		status, got := post(New(testKey), document, test.headers...)
		want := `{"errors":[{"message":"Not Authorized"}],"data":null}`
		if test.allowed {
			want = `{"data":{"project":{"name":"shop"}}}`
		}
		if status != http.StatusOK || got != want {
			t.Errorf("with %v got %d %s", test.headers, status, got)
		}
	}
	if _, got := post(New(""), document, "Authorization", "Bearer "); !strings.Contains(got, "Not Authorized") {
		t.Errorf("a server without a key accepted an empty one: %s", got)
	}
}

// TestKindsOfKeySeeDifferentRoots pins what only an account token, only a project token, and nobody may ask.
func TestKindsOfKeySeeDifferentRoots(t *testing.T) {
	for _, test := range []struct {
		query            string
		account, project bool
	}{
		{`{ me { id } }`, true, false},
		{`{ projects { edges { cursor } } }`, true, false},
		{`{ apiToken { workspaces { id } } }`, true, false},
		{`{ projectToken { environmentId } }`, false, true},
		{`{ adminVolumeInstancesForVolume(volumeId: "x") { id } }`, false, false},
	} {
		body, _ := json.Marshal(map[string]string{"query": test.query})
		_, asAccount := post(New(testKey), string(body), "Authorization", "Bearer "+testKey)
		_, asProject := post(New(testKey), string(body), "Project-Access-Token", testKey)
		if got := !strings.Contains(asAccount, "Not Authorized"); got != test.account {
			t.Errorf("%s with an account token: %s", test.query, asAccount)
		}
		if got := !strings.Contains(asProject, "Not Authorized"); got != test.project {
			t.Errorf("%s with a project token: %s", test.query, asProject)
		}
	}
}

// TestConnectionsHavePages follows the cursors forward, and looks back.
func TestConnectionsHavePages(t *testing.T) {
	s := New(testKey)
	const document = `query($first: Int, $after: String, $last: Int) { project(id: "` + ProjectID + `") {
		volumes(first: $first, after: $after, last: $last) { edges { node { name } } pageInfo { hasNextPage hasPreviousPage endCursor } } } }`
	type volumes struct {
		Edges    []struct{ Node struct{ Name string } }
		PageInfo struct {
			HasNextPage, HasPreviousPage bool
			EndCursor                    string
		}
	}
	read := func(variables map[string]any) (names []string, page volumes) {
		t.Helper()
		var answer struct {
			Data struct{ Project struct{ Volumes volumes } }
		}
		_, got := ask(s, document, variables)
		if err := json.Unmarshal([]byte(got), &answer); err != nil || strings.Contains(got, "errors") {
			t.Fatalf("got %s", got)
		}
		page = answer.Data.Project.Volumes
		for _, edge := range page.Edges {
			names = append(names, edge.Node.Name)
		}
		return names, page
	}

	names, page := read(map[string]any{"first": 2})
	if fmt.Sprint(names) != "[postgres-data-staging postgres-data]" || !page.PageInfo.HasNextPage || page.PageInfo.HasPreviousPage {
		t.Errorf("first page: %v %+v", names, page)
	}
	names, page = read(map[string]any{"first": 2, "after": page.PageInfo.EndCursor})
	if fmt.Sprint(names) != "[uploads]" || page.PageInfo.HasNextPage || !page.PageInfo.HasPreviousPage {
		t.Errorf("second page: %v %+v", names, page)
	}
	if names, _ = read(map[string]any{"last": 1}); fmt.Sprint(names) != "[uploads]" {
		t.Errorf("last: %v", names)
	}
	if names, page = read(map[string]any{"first": 0}); len(names) != 0 || !page.PageInfo.HasNextPage {
		t.Errorf("first 0: %v %+v", names, page)
	}
	s.LimitPages(1)
	if names, page = read(nil); len(names) != 1 || !page.PageInfo.HasNextPage {
		t.Errorf("limited: %v %+v", names, page)
	}
	for _, wrong := range []map[string]any{{"after": "nonsense"}, {"first": -1}} {
		if _, got := ask(s, document, wrong); !strings.Contains(got, "errors") {
			t.Errorf("%v: got %s", wrong, got)
		}
	}
}

// TestDocumentsAreExecutedAsGraphQL covers what the language adds: aliases, fragments, variables, directives.
func TestDocumentsAreExecutedAsGraphQL(t *testing.T) {
	for _, test := range []struct {
		name, query string
		variables   map[string]any
		want        string
	}{
		{"Aliases rename, and the answer keeps the order of the document.",
			`{ z: environment(id: "%STAGING%") { b: name a: name } a: service(id: "%WEB%") { name } }`, nil,
			`{"z":{"b":"staging","a":"staging"},"a":{"name":"web"}}`},
		{"Fragments and inline fragments are opened, also on an interface.",
			`query { ...Q } fragment Q on Query { environment(id: "%STAGING%") { ...N ... on Environment { name } ... { isEphemeral } } } fragment N on Node { __typename }`, nil,
			`{"environment":{"__typename":"Environment","name":"staging","isEphemeral":false}}`},
		{"Fields with one name are merged.",
			`{ environment(id: "%STAGING%") { name } environment(id: "%STAGING%") { name isEphemeral } }`, nil,
			`{"environment":{"name":"staging","isEphemeral":false}}`},
		{"A variable takes its default, and a value wins over it.",
			`query($e: String = "%STAGING%", $s: String! = "x") { environment(id: "%STAGING%", projectId: null) { name } e: environment(id: $s) { name } i: serviceInstance(environmentId: $e, serviceId: "%WEB%") { serviceName } }`,
			map[string]any{"s": ProductionID},
			`{"environment":{"name":"staging"},"e":{"name":"production"},"i":{"serviceName":"web"}}`},
		{"Directives leave out and take in.",
			`query($no: Boolean = false) { environment(id: "%STAGING%") { id @include(if: $no) name @skip(if: $no) ... @skip(if: true) { isEphemeral } } }`, nil,
			`{"environment":{"name":"staging"}}`},
	} {
		status, got := ask(New(testKey), fill(test.query), test.variables)
		if want := fill(`{"data":` + test.want + `}`); status != http.StatusOK || got != want {
			t.Errorf("%s\n got %d %s\nwant 200 %s", test.name, status, got, want)
		}
	}
}

// TestSeveralMutationsRunInOrder checks that earlier ones stand when a later one fails, as the vendor's would.
func TestSeveralMutationsRunInOrder(t *testing.T) {
	s := New(testKey)
	_, got := ask(s, fill(`mutation { a: volumeDelete(volumeId: "%VOLUME%") b: volumeDelete(volumeId: "%VOLUME%") c: volumeDelete(volumeId: "%SHARED%") }`), nil)
	if !strings.Contains(got, "Volume not found") || !strings.Contains(got, `"path":["b"]`) || !strings.Contains(got, `"data":null`) {
		t.Errorf("got %s", got)
	}
	if left := s.Volumes(); !slices.Equal(left, []string{StagingVolumeID, SharedVolumeID}) {
		t.Errorf("volumes left: %v", left)
	}
}

// TestWrongDocumentsChangeNothing puts a deletion in front of each mistake: the document is refused as a whole.
func TestWrongDocumentsChangeNothing(t *testing.T) {
	const kill = `k: volumeDelete(volumeId: "%VOLUME%")`
	for _, test := range []struct{ query, want string }{
		{`mutation { ` + kill + ` nonsense }`, `Cannot query field \"nonsense\" on type \"Mutation\".`},
		{`mutation { ` + kill + ` volumeDelete }`, "required"},
		{`mutation { ` + kill + ` volumeDelete(volumeId: 1) }`, "not of type"},
		{`mutation { ` + kill + ` volumeDelete(volumeId: null) }`, "found null"},
		{`mutation { ` + kill + ` volumeDelete(volumeId: $x) }`, "is not defined"},
		{`mutation { ` + kill + ` volumeDelete(volumeId: "a", volumeId: "b") }`, "only one argument"},
		{`mutation { ` + kill + ` volumeDelete(volumeId: "a", force: true) }`, "Unknown argument"},
		{`mutation($x: String!) { ` + kill + ` volumeDelete(volumeId: $x) }`, "invalid value"},
		{`mutation($x: Nonsense) { ` + kill + ` }`, "cannot be of type"},
		{`mutation($x: Volume) { ` + kill + ` }`, "cannot be of type"},
		{`mutation { ` + kill + ` ...F } fragment F on Query { me { id } }`, "cannot be spread"},
		{`mutation { ` + kill + ` ...F } fragment F on Mutation { ...F }`, "within itself"},
		{`mutation { ` + kill + ` ...F }`, "Unknown fragment"},
		{`mutation { ` + kill + ` k: volumeDelete(volumeId: "other") }`, "conflict"},
		{`mutation { ` + kill + ` volumeUpdate(volumeId: "a", input: {}) }`, "must have a selection"},
		{`mutation { ` + kill + ` volumeDelete(volumeId: "a") { id } }`, "must not have a selection"},
		{`mutation { ` + kill + ` volumeInstanceBackupScheduleUpdate(volumeInstanceId: "a", kinds: HOURLY) }`, "enum"},
		{`mutation { ` + kill + ` @later }`, "Unknown directive"},
		{`mutation { ` + kill + ` volumeUpdate(volumeId: "a", input: {nme: "x"}) { id } }`, "not defined by type"},
		{`mutation A { ` + kill + ` } mutation B { ` + kill + ` }`, "Must provide operation name"},
		{`subscription { ` + kill + ` }`, "Subscriptions"},
		{`mutation { ` + kill, "Expected"},
		{`query { ` + kill + ` }`, "Cannot query field"},
		{`mutation { ` + kill + ` ` + strings.Repeat(`volumeCreate(input: {projectId: "a", mountPath: "b"}) { project { volumes { edges { node { `, 30), "Expected"},
		{`mutation { ` + kill + ` projectUpdate(id: "a", input: {}) { ` +
			strings.Repeat(`volumes { edges { node { project { `, 30) + `id` + strings.Repeat(` }`, 121) + ` }`, "too deep"},
	} {
		s := New(testKey)
		before := s.Counts()
		status, got := ask(s, fill(test.query), nil)
		if status != http.StatusBadRequest || !strings.Contains(got, test.want) || !strings.Contains(got, `"data":null`) {
			t.Errorf("%s\n got %d %s\nwant 400 with %s", test.query, status, got, test.want)
		}
		if s.Counts() != before {
			t.Errorf("%s changed the account", test.query)
		}
	}
}

// TestLargeAnswersAreRefused follows a short document that would answer a great deal.
func TestLargeAnswersAreRefused(t *testing.T) {
	circle := `environments { edges { node { serviceInstances { edges { node { service { project {`
	document := fill(`{ project(id: "%PROJECT%") { ` + strings.Repeat(circle, 10) + ` id ` + strings.Repeat(`}`, 80) + ` } }`)
	start := time.Now()
	status, got := ask(New(testKey), document, nil)
	if status != http.StatusOK || !strings.Contains(got, "too large") || time.Since(start) > 10*time.Second {
		t.Errorf("after %s got %d %.200s", time.Since(start), status, got)
	}
	bomb := `{ ...F0 } `
	for i := range 40 {
		bomb += fmt.Sprintf(`fragment F%d on Query { a: project(id: "x") { ...P%d } ...F%d } fragment P%d on Project { environments { edges { node { name } } } } `, i, i, i+1, i)
	}
	bomb += `fragment F40 on Query { __typename }`
	if status, got := ask(New(testKey), bomb, nil); status != http.StatusOK {
		t.Errorf("many fragments: got %d %.200s", status, got)
	}
}

// TestTheDoorIsNarrow tries what is not POST /graphql/v2 with a JSON object of a sensible size.
func TestTheDoorIsNarrow(t *testing.T) {
	for _, test := range []struct {
		method, path, contentType, body string
		want                            int
	}{
		{"POST", "/graphql", "application/json", `{"query":"{me{id}}"}`, 404},
		{"POST", "/graphql/v2/", "application/json", `{"query":"{me{id}}"}`, 404},
		{"GET", Path + "?query={me{id}}", "application/json", "", 405},
		{"POST", Path, "text/plain", `{"query":"{me{id}}"}`, 415},
		{"POST", Path, "multipart/form-data; boundary=x", ``, 415},
		{"POST", Path, "application/json", strings.Repeat(" ", maxBody+1), 413},
		{"POST", Path, "application/json", `[{"query":"{me{id}}"}]`, 400},
		{"POST", Path, "application/json", `{"QUERY":"{me{id}}"}`, 400},
		{"POST", Path, "application/json", `{"query":"{me{id}}","variables":[]}`, 400},
		{"POST", Path, "application/json", `null`, 400},
		{"POST", Path, "application/json; charset=utf-8", `{"query":"{me{id}}"}`, 200},
	} {
		r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
		r.Header.Set("Content-Type", test.contentType)
		r.Header.Set("Authorization", "Bearer "+testKey)
		w := httptest.NewRecorder()
		New(testKey).ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%s %s %s %.40s: got %d, want %d", test.method, test.path, test.contentType, test.body, w.Code, test.want)
		}
	}
}

// TestRequestsAreRemembered checks that a test can see what reached the vendor, header and variables included.
func TestRequestsAreRemembered(t *testing.T) {
	s := New(testKey)
	post(s, `{"query":"query Q { me { id } }","operationName":"Q","variables":{"a":"b"}}`, "Authorization", "Bearer wrong")
	got := s.Requests()
	if len(got) != 1 {
		t.Fatalf("got %d requests", len(got))
	}
	r := got[0]
	if r.Header.Get("Authorization") != "Bearer wrong" || r.Query != "query Q { me { id } }" || r.OperationName != "Q" || r.Variables["a"] != "b" {
		t.Errorf("got %+v", r)
	}
	for range maxRequests + 5 {
		post(s, `{}`)
	}
	if got := len(s.Requests()); got != maxRequests {
		t.Errorf("%d requests are remembered, want %d", got, maxRequests)
	}
}

// TestFaultsHappenOnceEach checks the ways to misbehave, and that the account is well again afterwards.
func TestFaultsHappenOnceEach(t *testing.T) {
	s := New(testKey)
	kill := fill(`mutation { volumeDelete(volumeId: "%VOLUME%") }`)
	s.FaultNext(2, Fault{Status: http.StatusInternalServerError, Body: "oops"})
	s.FaultNext(1, Fault{Status: http.StatusOK})
	s.FaultNext(1, Fault{EchoAuthorization: true})
	for i, want := range []string{"500 oops", "500 oops", "200 "} {
		if status, got := ask(s, kill, nil); fmt.Sprint(status, " ", got) != want {
			t.Errorf("fault %d: got %d %s, want %s", i, status, got, want)
		}
	}
	if len(s.Volumes()) != 3 {
		t.Error("a fault that answers in the place of the account changed it")
	}
	if _, got := ask(s, `{ me { id } }`, nil); !strings.Contains(got, "Bearer "+testKey) || !strings.Contains(got, UserID) {
		t.Errorf("the key is not echoed: %s", got)
	}
	if _, got := ask(s, kill, nil); got != `{"data":{"volumeDelete":true}}` {
		t.Errorf("after the faults: %s", got)
	}
}

// TestADelayEndsWhenTheCallerGoesAway checks that nothing is run for a caller who has left.
func TestADelayEndsWhenTheCallerGoesAway(t *testing.T) {
	s := New(testKey)
	s.FaultNext(1, Fault{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	body := strings.NewReader(fill(`{"query":"mutation { volumeDelete(volumeId: \"%VOLUME%\") }"}`))
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, Path, body)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+testKey)
	s.ServeHTTP(httptest.NewRecorder(), r)
	if len(s.Volumes()) != 3 {
		t.Error("the volume was deleted for a caller who had left")
	}
}

// TestManyCallersAtOnce is for the race detector.
func TestManyCallersAtOnce(t *testing.T) {
	s := New(testKey)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 10 {
				ask(s, fill(`mutation { volumeCreate(input: {projectId: "%PROJECT%", mountPath: "/a"}) { id project { volumes { edges { node { id } } } } } }`), nil)
				s.Counts()
				s.Requests()
				s.Domains(StagingID)
				s.Variables(StagingID, WebServiceID)
			}
		})
	}
	wait.Wait()
	if got := s.Counts().Volumes; got != 3+80 {
		t.Errorf("got %d volumes, want 83", got)
	}
}

// FuzzNoBodyMakesItPanic sends arbitrary bodies; every answer must be JSON with a known status.
func FuzzNoBodyMakesItPanic(f *testing.F) {
	for _, query := range []string{
		`{ me { ...F } } fragment F on User { id @skip(if: true) projects(first: 1) { edges { cursor } } }`,
		`mutation($i: VolumeUpdateInput = {name: "x"}, $k: [VolumeInstanceBackupScheduleKind!]! = [DAILY]) { volumeUpdate(volumeId: "%VOLUME%", input: $i) { name } volumeInstanceBackupScheduleUpdate(volumeInstanceId: "%INSTANCE%", kinds: $k) }`,
		`mutation { variableCollectionUpsert(input: {projectId: "%PROJECT%", environmentId: "%STAGING%", variables: {A: 1}}) projectDelete(id: "%PROJECT%") }`,
		`query A { apiToken { workspaces { id } } } query B { projects(after: "x", last: 3) { pageInfo { endCursor } } }`,
	} {
		body, _ := json.Marshal(map[string]any{"query": fill(query), "operationName": nil, "variables": map[string]any{"i": nil}})
		f.Add(string(body))
	}
	f.Add(`{"query":"{", "variables":{"a":{"b":[1.5e300,null]}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		status, got := post(New(testKey), body, "Authorization", "Bearer "+testKey)
		if status != 200 && status != 400 && status != 413 {
			t.Errorf("status %d", status)
		}
		if status != 413 && !json.Valid([]byte(got)) {
			t.Errorf("the answer is not JSON: %.200s", got)
		}
	})
}
