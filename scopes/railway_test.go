package scopes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// railwayCatalog returns the catalog that ships.
func railwayCatalog(t testing.TB) *Catalog {
	t.Helper()
	c, err := railwayBuiltin()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var railwayBuiltin = sync.OnceValues(Builtin)

// railwayClassify classifies body as an ordinary client would send it.
func railwayClassify(c *Catalog, body string) (Call, []Act, error) {
	call, err := NewCall(Request{
		Provider: "railway", Method: "POST", Path: "/graphql/v2",
		Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body),
	})
	if err != nil {
		return Call{}, nil, err
	}
	return c.Classify(call)
}

// railwayBody returns the body for a document without variables.
func railwayBody(document string) string {
	body, err := json.Marshal(map[string]string{"query": document})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// railwayLines writes each act as: operation resource:action id in place.
func railwayLines(acts []Act) (lines []string) {
	for _, a := range acts {
		words := []string{a.Operation, fmt.Sprintf("%s:%s", a.Resource, a.Action)}
		if a.ID != "" {
			words = append(words, a.ID)
		}
		lines = append(lines, strings.Join(append(words, "in", a.Place.String()), " "))
	}
	return lines
}

func railwayWant(t *testing.T, got []Act, want []string) {
	t.Helper()
	g, w := railwayLines(got), slices.Clone(want)
	slices.Sort(g)
	slices.Sort(w)
	if !slices.Equal(g, w) {
		t.Errorf("acts:\n  %s\nwant:\n  %s", strings.Join(g, "\n  "), strings.Join(w, "\n  "))
	}
}

// The published schema.

type railwayType struct {
	Kind, Name    string
	OfType        *railwayType
	Fields        []railwayField
	InputFields   []railwayInput
	EnumValues    []struct{ Name string }
	PossibleTypes []railwayType
}

type railwayField struct {
	Name         string
	Args         []railwayInput
	Type         *railwayType
	IsDeprecated bool
}

type railwayInput struct {
	Name         string
	Type         *railwayType
	DefaultValue *string
}

func (t *railwayType) String() string {
	switch t.Kind {
	case "NON_NULL":
		return t.OfType.String() + "!"
	case "LIST":
		return "[" + t.OfType.String() + "]"
	}
	return t.Name
}

// TestRailwayIsSubset holds the catalog's schema to the published one. A field
// or argument that Railway does not have would be dead; a type that differs
// could be read in two ways; an argument that Railway requires and the catalog
// leaves out would make an operation unusable.
func TestRailwayIsSubset(t *testing.T) {
	const file = "../../shared/facts/railway-schema.json"
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not here: the published schema is no part of the module", file)
	}
	if err != nil {
		t.Fatal(err)
	}
	var published struct {
		Data struct {
			Schema struct {
				Types []railwayType
			} `json:"__schema"`
		}
	}
	if err := json.Unmarshal(data, &published); err != nil {
		t.Fatal(err)
	}
	real := map[string]railwayType{}
	for _, typ := range published.Data.Schema.Types {
		real[typ.Name] = typ
	}
	if len(real) < 500 {
		t.Fatalf("%s has %d types: is it the whole schema?", file, len(real))
	}

	var deprecated []string
	schema := railwayCatalog(t).providers["railway"].graphql.schema
	for _, name := range slices.Sorted(maps.Keys(schema.Types)) {
		ours := schema.Types[name]
		if ours.BuiltIn || name == "Reach" || strings.HasPrefix(name, "__") {
			continue
		}
		theirs, ok := real[name]
		if !ok || theirs.Kind != string(ours.Kind) {
			t.Errorf("%s: is %q, published as %q", name, ours.Kind, theirs.Kind)
			continue
		}
		switch ours.Kind {
		case ast.Object:
			for _, f := range ours.Fields {
				if strings.HasPrefix(f.Name, "__") {
					continue
				}
				i := slices.IndexFunc(theirs.Fields, func(r railwayField) bool { return r.Name == f.Name })
				if i < 0 {
					t.Errorf("%s.%s: is not published", name, f.Name)
					continue
				}
				r := theirs.Fields[i]
				if f.Type.String() != r.Type.String() {
					t.Errorf("%s.%s: is %s, published as %s", name, f.Name, f.Type, r.Type)
				}
				if r.IsDeprecated {
					deprecated = append(deprecated, name+"."+f.Name)
				}
				var args []railwayInput
				for _, a := range f.Arguments {
					args = append(args, railwayOurInput(a.Name, a.Type, a.DefaultValue))
				}
				railwayCompareInputs(t, name+"."+f.Name, args, r.Args)
			}
		case ast.InputObject:
			var fields []railwayInput
			for _, f := range ours.Fields {
				fields = append(fields, railwayOurInput(f.Name, f.Type, f.DefaultValue))
			}
			railwayCompareInputs(t, name, fields, theirs.InputFields)
		case ast.Enum:
			for _, v := range ours.EnumValues {
				if !slices.ContainsFunc(theirs.EnumValues, func(r struct{ Name string }) bool { return r.Name == v.Name }) {
					t.Errorf("%s.%s: is not published", name, v.Name)
				}
			}
		case ast.Scalar:
		default:
			t.Errorf("%s: the test cannot compare a %s", name, ours.Kind)
		}
	}
	if want := []string{"Service.serviceInstances", "Volume.volumeInstances"}; !slices.Equal(deprecated, want) {
		t.Errorf("deprecated fields in use: %q, want %q", deprecated, want)
	}
}

func railwayOurInput(name string, typ *ast.Type, value *ast.Value) railwayInput {
	in := railwayInput{Name: name, Type: &railwayType{Name: typ.String()}}
	if value != nil {
		s := value.String()
		in.DefaultValue = &s
	}
	return in
}

func railwayCompareInputs(t *testing.T, where string, ours, theirs []railwayInput) {
	t.Helper()
	text := func(s *string) string {
		if s == nil {
			return "none"
		}
		return *s
	}
	for _, r := range theirs {
		i := slices.IndexFunc(ours, func(o railwayInput) bool { return o.Name == r.Name })
		switch {
		case i < 0 && r.Type.Kind == "NON_NULL" && r.DefaultValue == nil:
			t.Errorf("%s(%s): is left out, and Railway requires it", where, r.Name)
		case i >= 0 && ours[i].Type.String() != r.Type.String():
			t.Errorf("%s(%s): is %s, published as %s", where, r.Name, ours[i].Type, r.Type)
		case i >= 0 && text(ours[i].DefaultValue) != text(r.DefaultValue):
			t.Errorf("%s(%s): has default %s, published with %s", where, r.Name, text(ours[i].DefaultValue), text(r.DefaultValue))
		}
	}
	for _, o := range ours {
		if !slices.ContainsFunc(theirs, func(r railwayInput) bool { return o.Name == r.Name }) {
			t.Errorf("%s(%s): is not published", where, o.Name)
		}
	}
}

// TestRailwayLeadsNowhere lists every field that leads from one object to
// another, with the acts that it counts as. Adding one that could lead to
// another environment, or to a secret, has to be thought about here.
func TestRailwayLeadsNowhere(t *testing.T) {
	const part = "" // a part of the object that it is reached from
	want := map[string]string{
		"AllDomains.customDomains":          part,
		"AllDomains.serviceDomains":         part,
		"ApiTokenContext.workspaces":        part,
		"CustomDomain.status":               part,
		"CustomDomainStatus.certificates":   part,
		"CustomDomainStatus.dnsRecords":     part,
		"Deployment.instances":              part,
		"Deployment.meta":                   "deployments:reveal",
		"Environment.deployments":           "deployments:read",
		"Environment.serviceInstances":      "services:read",
		"Environment.volumeInstances":       "volumes:read",
		"Project.environments":              "environments:read",
		"Project.services":                  "services:read",
		"Project.volumes":                   "volumes:read",
		"Service.serviceInstances":          "services:read",
		"ServiceInstance.activeDeployments": "deployments:read",
		"ServiceInstance.buildCommand":      "services:reveal",
		"ServiceInstance.domains":           "domains:read",
		"ServiceInstance.latestDeployment":  "deployments:read",
		"ServiceInstance.source":            part,
		"ServiceInstance.startCommand":      "services:reveal",
		"User.workspaces":                   part,
		"Volume.volumeInstances":            "volumes:read",
	}
	got := map[string]string{}
	g := railwayCatalog(t).providers["railway"].graphql
	for name, typ := range g.schema.Types {
		if typ.BuiltIn || typ.Kind != ast.Object || typ == g.schema.Query || typ == g.schema.Mutation {
			continue
		}
		for _, f := range typ.Fields {
			if strings.HasSuffix(name, "Connection") || strings.HasSuffix(name, "ConnectionEdge") {
				continue
			}
			var does []string
			for _, d := range g.fields[f].does {
				does = append(does, fmt.Sprintf("%s:%s", d.resource, d.action))
			}
			if g.fields[f].place != nil {
				t.Errorf("%s.%s: is placed on its own", name, f.Name)
			}
			if g.schema.Types[f.Type.Name()].Kind == ast.Object || len(does) > 0 {
				got[name+"."+f.Name] = strings.Join(does, " ")
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("fields that lead on:\n  %v\nwant:\n  %v", got, want)
	}
}

// railwayMatrix has every root field with every argument that is listed, and
// the variants in which an argument decides.
var railwayMatrix = []struct {
	document string
	want     []string
}{
	// Account.
	{`query{me{id name username email workspaces{id name}}}`, []string{"me account:read in account"}},
	{`query{apiToken{workspaces{id name}}}`, []string{"apiToken tokens:read in account"}},
	{`query{projectToken{id name createdAt projectId environmentId}}`, []string{"projectToken tokens:read in account"}},
	{`mutation{apiTokenCreate(input:{name:"n",workspaceId:"w"})}`, []string{"apiTokenCreate tokens:grant n in account"}},
	{`mutation{apiTokenDelete(id:"t")}`, []string{"apiTokenDelete tokens:delete t in account"}},
	{`mutation{projectTokenCreate(input:{name:"n",projectId:"P",environmentId:"stg"})}`,
		[]string{"projectTokenCreate tokens:grant n in environment stg, project P"}},
	{`mutation{projectTokenDelete(id:"t")}`, []string{"projectTokenDelete tokens:delete t in account"}},

	// Projects.
	{`query{projects(after:"a",before:"b",first:1,last:2,includeDeleted:true,orderBy:NAME_ASC,workspaceId:"w"){edges{cursor node{id name description createdAt updatedAt deletedAt isPublic workspaceId baseEnvironmentId primaryEnvironmentId}} pageInfo{hasNextPage hasPreviousPage startCursor endCursor}}}`,
		[]string{"projects projects:read w in account"}},
	{`query{projects{edges{node{id environments{edges{node{id name}}} services{edges{node{id name}}} volumes{edges{node{id name}}}}}}}`,
		[]string{"projects projects:read in account", "environments environments:read in every environment",
			"services services:read in every environment", "volumes volumes:read in every environment"}},
	{`query{project(id:"P"){id name}}`, []string{"project projects:read P in look-up of project P"}},
	{`query{project(id:"P"){environments(after:"a",before:"b",first:1,last:2,isEphemeral:false,sort:asc){edges{cursor node{id name isEphemeral projectId createdAt updatedAt deletedAt unmergedChangesCount}}} services(after:"a",before:"b",first:1,last:2){edges{node{id name icon projectId createdAt updatedAt deletedAt}}} volumes(after:"a",before:"b",first:1,last:2){edges{node{id name projectId createdAt}}}}}`,
		[]string{"project projects:read P in look-up of project P", "environments environments:read P in look-up of project P",
			"services services:read P in look-up of project P", "volumes volumes:read P in look-up of project P"}},
	{`mutation{projectUpdate(id:"P",input:{name:"n",description:"d"}){id}}`,
		[]string{"projectUpdate projects:write P in look-up of project P"}},
	{`mutation{projectUpdate(id:"P",input:{name:"n",isPublic:true}){id}}`,
		[]string{"projectUpdate projects:write P in look-up of project P", "projectUpdate projects:grant P in look-up of project P"}},
	{`mutation{projectUpdate(id:"P",input:{isPublic:false}){id}}`,
		[]string{"projectUpdate projects:write P in look-up of project P", "projectUpdate projects:grant P in look-up of project P"}},
	{`mutation{projectDelete(id:"P")}`, []string{"projectDelete projects:delete P in look-up of project P"}},
	{`mutation{projectScheduleDelete(id:"P")}`, []string{"projectScheduleDelete projects:delete P in look-up of project P"}},
	{`mutation{projectScheduleDeleteForce(id:"P")}`, []string{"projectScheduleDeleteForce projects:delete P in look-up of project P"}},
	{`mutation{projectScheduleDeleteCancel(id:"P")}`, []string{"projectScheduleDeleteCancel projects:write P in look-up of project P"}},

	// Environments.
	{`query{environment(id:"stg"){id name}}`, []string{"environment environments:read stg in environment stg"}},
	{`query{environment(id:"stg",projectId:"P"){id serviceInstances(after:"a",before:"b",first:1,last:2){edges{node{id serviceName}}} volumeInstances(after:"a",before:"b",first:1,last:2){edges{node{id mountPath}}} deployments(after:"a",before:"b",first:1,last:2){edges{node{id status}}}}}`,
		[]string{"environment environments:read stg in environment stg, project P", "serviceInstances services:read in environment stg, project P",
			"volumeInstances volumes:read in environment stg, project P", "deployments deployments:read in environment stg, project P"}},
	{`query{environments(after:"a",before:"b",first:1,last:2,isEphemeral:true,projectId:"P"){edges{cursor node{id name}}}}`,
		[]string{"environments environments:read P in look-up of project P"}},
	{`mutation{environmentRename(id:"stg",input:{name:"n"}){id name}}`, []string{"environmentRename environments:write stg in environment stg"}},
	{`mutation{environmentDelete(id:"stg")}`, []string{"environmentDelete environments:delete stg in environment stg"}},

	// Services.
	{`query{service(id:"s"){id name serviceInstances(after:"a",before:"b",first:1,last:2){edges{node{id environmentId}}}}}`,
		[]string{"service services:read s in look-up of service s", "serviceInstances services:read s in look-up of service s"}},
	{`query{serviceInstance(environmentId:"stg",serviceId:"s"){id environmentId serviceId serviceName createdAt updatedAt deletedAt region numReplicas rootDirectory healthcheckPath healthcheckTimeout cronSchedule nextCronRunAt isUpdatable sleepApplication source{image repo}}}`,
		[]string{"serviceInstance services:read s in environment stg"}},
	{`query{serviceInstance(environmentId:"stg",serviceId:"s"){startCommand buildCommand domains{customDomains{id}} latestDeployment{id} activeDeployments{id}}}`,
		[]string{"serviceInstance services:read s in environment stg", "startCommand services:reveal in environment stg",
			"buildCommand services:reveal in environment stg", "domains domains:read in environment stg",
			"latestDeployment deployments:read in environment stg", "activeDeployments deployments:read in environment stg"}},
	{`mutation{serviceDelete(environmentId:"stg",id:"s")}`, []string{"serviceDelete services:delete s in environment stg"}},
	{`mutation{serviceDelete(id:"s")}`, []string{"serviceDelete services:delete s in every environment"}},
	{`mutation{serviceDelete(environmentId:null,id:"s")}`, []string{"serviceDelete services:delete s in every environment"}},

	// Deployments.
	{`query{deployment(id:"d"){id status url staticUrl createdAt updatedAt statusUpdatedAt environmentId projectId serviceId canRedeploy canRollback deploymentStopped suggestAddServiceDomain instances{id status}}}`,
		[]string{"deployment deployments:read d in look-up of deployment d"}},
	{`query{deployment(id:"d"){meta}}`,
		[]string{"deployment deployments:read d in look-up of deployment d", "meta deployments:reveal d in look-up of deployment d"}},
	{`query{deployments(after:"a",before:"b",first:1,last:2,input:{environmentId:"stg",projectId:"P",serviceId:"s",includeDeleted:true,status:{in:[SUCCESS],notIn:[FAILED]}}){edges{node{id}}}}`,
		[]string{"deployments deployments:read s in environment stg, project P"}},
	{`query{deployments(input:{projectId:"P",serviceId:"s"}){edges{node{id}}}}`,
		[]string{"deployments deployments:read s in every environment"}},
	{`mutation{serviceInstanceRedeploy(environmentId:"stg",serviceId:"s")}`, []string{"serviceInstanceRedeploy deployments:write s in environment stg"}},
	{`mutation{deploymentRedeploy(id:"d",usePreviousImageTag:true){id status}}`, []string{"deploymentRedeploy deployments:write d in look-up of deployment d"}},
	{`mutation{deploymentRestart(id:"d")}`, []string{"deploymentRestart deployments:write d in look-up of deployment d"}},

	// Domains.
	{`query{customDomain(id:"c",projectId:"P"){id domain environmentId serviceId projectId targetPort edgeId isRailwayDomain syncStatus createdAt updatedAt deletedAt status{verified verificationToken verificationDnsHost cdnProvider certificateStatus certificateStatusDetailed certificateErrorType certificateErrorMessage certificateRetryable certificates{domainNames expiresAt issuedAt fingerprintSha256 keyType} dnsRecords{fqdn hostlabel zone purpose recordType requiredValue currentValue status}}}}`,
		[]string{"customDomain domains:read c in look-up of customDomain c"}},
	{`query{domains(environmentId:"stg",projectId:"P",serviceId:"s"){customDomains{id domain} serviceDomains{id domain suffix targetPort environmentId serviceId projectId edgeId syncStatus createdAt updatedAt deletedAt}}}`,
		[]string{"domains domains:read s in environment stg, project P"}},
	{`query{customDomainAvailable(domain:"x.example.com"){available message}}`, []string{"customDomainAvailable domains:read x.example.com in account"}},
	{`query{serviceDomainAvailable(domain:"x.example.com"){available message}}`, []string{"serviceDomainAvailable domains:read x.example.com in account"}},
	{`mutation{customDomainCreate(input:{domain:"x.example.com",environmentId:"stg",projectId:"P",serviceId:"s",targetPort:80}){id status{dnsRecords{requiredValue}}}}`,
		[]string{"customDomainCreate domains:write x.example.com in environment stg, project P"}},
	{`mutation{customDomainUpdate(environmentId:"stg",id:"c",targetPort:80)}`,
		[]string{"customDomainUpdate domains:write c in look-up of customDomainIn c of stg"}},
	{`mutation{customDomainDelete(id:"c")}`, []string{"customDomainDelete domains:write c in look-up of customDomain c"}},
	{`mutation{customDomainIssueCertificate(id:"c")}`, []string{"customDomainIssueCertificate domains:write c in look-up of customDomain c"}},
	{`mutation{serviceDomainCreate(input:{environmentId:"stg",serviceId:"s",targetPort:80}){id domain}}`,
		[]string{"serviceDomainCreate domains:write s in environment stg"}},
	{`mutation{serviceDomainUpdate(input:{environmentId:"stg",serviceId:"s",serviceDomainId:"sd",domain:"x.up.railway.app",targetPort:80})}`,
		[]string{"serviceDomainUpdate domains:write sd in look-up of serviceDomainIn sd of stg"}},
	{`mutation{serviceDomainDelete(id:"sd")}`, []string{"serviceDomainDelete domains:write sd in look-up of serviceDomain sd"}},

	// Variables.
	{`query{variables(environmentId:"stg",projectId:"P",serviceId:"s",unrendered:true)}`, []string{"variables variables:reveal s in environment stg, project P"}},
	{`mutation{variableUpsert(input:{environmentId:"stg",projectId:"P",serviceId:"s",name:"N",value:"v",skipDeploys:true})}`,
		[]string{"variableUpsert variables:write N in environment stg, project P"}},
	{`mutation{variableDelete(input:{environmentId:"stg",projectId:"P",serviceId:"s",name:"N"})}`,
		[]string{"variableDelete variables:delete N in environment stg, project P"}},
	{`mutation{variableCollectionUpsert(input:{environmentId:"stg",projectId:"P",serviceId:"s",variables:{A:"1"},skipDeploys:true})}`,
		[]string{"variableCollectionUpsert variables:write s in environment stg, project P"}},
	{`mutation{variableCollectionUpsert(input:{environmentId:"stg",projectId:"P",serviceId:"s",variables:{A:"1"},replace:false})}`,
		[]string{"variableCollectionUpsert variables:write s in environment stg, project P"}},
	{`mutation{variableCollectionUpsert(input:{environmentId:"stg",projectId:"P",serviceId:"s",variables:{A:"1"},replace:true})}`,
		[]string{"variableCollectionUpsert variables:write s in environment stg, project P", "variableCollectionUpsert variables:delete s in environment stg, project P"}},

	// Volumes.
	{`query{volumeInstance(id:"vi"){id volumeId environmentId serviceId mountPath region sizeMB currentSizeMB state isPendingDeletion createdAt deletedAt}}`,
		[]string{"volumeInstance volumes:read vi in look-up of volumeInstance vi"}},
	{`mutation{volumeCreate(input:{environmentId:"stg",projectId:"P",serviceId:"s",mountPath:"/data",region:"r"}){id name}}`,
		[]string{"volumeCreate volumes:write /data in environment stg, project P"}},
	{`mutation{volumeCreate(input:{projectId:"P",mountPath:"/data"}){id}}`, []string{"volumeCreate volumes:write /data in every environment"}},
	{`mutation{volumeUpdate(input:{name:"n"},volumeId:"v"){id volumeInstances(after:"a",before:"b",first:1,last:2){edges{node{id}}}}}`,
		[]string{"volumeUpdate volumes:write v in look-up of volume v", "volumeInstances volumes:read v in look-up of volume v"}},
	{`mutation{volumeDelete(volumeId:"v")}`, []string{"volumeDelete volumes:delete v in look-up of volume v"}},
	{`mutation{volumeInstanceUpdate(environmentId:"stg",volumeId:"v",input:{mountPath:"/data",serviceId:"s"})}`,
		[]string{"volumeInstanceUpdate volumes:write v in environment stg"}},
	{`mutation{volumeInstanceUpdate(volumeId:"v",input:{mountPath:"/data",serviceId:"s"})}`,
		[]string{"volumeInstanceUpdate volumes:write v in every environment"}},
	{`mutation{volumeInstanceUpdate(environmentId:"stg",volumeId:"v",input:{serviceId:null})}`,
		[]string{"volumeInstanceUpdate volumes:write v in environment stg", "volumeInstanceUpdate volumes:delete v in environment stg"}},
	{`mutation{volumeInstanceUpdate(environmentId:"stg",volumeId:"v",input:{mountPath:"/data"})}`,
		[]string{"volumeInstanceUpdate volumes:write v in environment stg", "volumeInstanceUpdate volumes:delete v in environment stg"}},
	{`mutation{volumeInstanceUpdate(environmentId:"stg",volumeId:"v",input:{serviceId:"s",state:DELETED})}`,
		[]string{"volumeInstanceUpdate volumes:write v in environment stg", "volumeInstanceUpdate volumes:delete v in environment stg"}},

	// Backups.
	{`query{volumeInstanceBackupList(volumeInstanceId:"vi"){id name createdAt expiresAt creatorId scheduleId externalId usedMB referencedMB volumeInstanceSizeMB}}`,
		[]string{"volumeInstanceBackupList backups:read vi in look-up of volumeInstance vi"}},
	{`query{volumeInstanceBackupScheduleList(volumeInstanceId:"vi"){id name kind cron retentionSeconds createdAt}}`,
		[]string{"volumeInstanceBackupScheduleList backups:read vi in look-up of volumeInstance vi"}},
	{`mutation{volumeInstanceBackupCreate(name:"n",volumeInstanceId:"vi"){workflowId}}`,
		[]string{"volumeInstanceBackupCreate backups:write vi in look-up of volumeInstance vi"}},
	{`mutation{volumeInstanceBackupDelete(volumeInstanceBackupId:"b",volumeInstanceId:"vi"){workflowId}}`,
		[]string{"volumeInstanceBackupDelete backups:delete b in look-up of backup b of vi"}},
	{`mutation{volumeInstanceBackupLock(volumeInstanceBackupId:"b",volumeInstanceId:"vi")}`,
		[]string{"volumeInstanceBackupLock backups:write b in look-up of backup b of vi"}},
	{`mutation{volumeInstanceBackupRestore(volumeInstanceBackupId:"b",volumeInstanceId:"vi"){workflowId}}`,
		[]string{"volumeInstanceBackupRestore volumes:delete b in look-up of backup b of vi", "volumeInstanceBackupRestore backups:write b in look-up of backup b of vi"}},
	{`mutation{volumeInstanceBackupScheduleUpdate(kinds:[DAILY,WEEKLY],volumeInstanceId:"vi")}`,
		[]string{"volumeInstanceBackupScheduleUpdate backups:write vi in look-up of volumeInstance vi"}},
	{`mutation{volumeInstanceBackupScheduleUpdate(kinds:[],volumeInstanceId:"vi")}`,
		[]string{"volumeInstanceBackupScheduleUpdate backups:write vi in look-up of volumeInstance vi", "volumeInstanceBackupScheduleUpdate backups:delete vi in look-up of volumeInstance vi"}},
}

func TestRailwayMatrix(t *testing.T) {
	c := railwayCatalog(t)
	for _, tt := range railwayMatrix {
		t.Run(tt.document, func(t *testing.T) {
			_, acts, err := railwayClassify(c, railwayBody(tt.document))
			if err != nil {
				t.Fatal(err)
			}
			railwayWant(t, acts, tt.want)
		})
	}
}

// TestRailwayMatrixIsWhole fails when a root field, an argument or a member of
// an input is listed and occurs in no document of the matrix.
func TestRailwayMatrixIsWhole(t *testing.T) {
	used := map[string]bool{}
	for _, tt := range railwayMatrix {
		doc, err := parser.ParseQuery(&ast.Source{Input: tt.document})
		if err != nil {
			t.Fatalf("%s: %v", tt.document, err)
		}
		for _, s := range doc.Operations[0].SelectionSet {
			f := s.(*ast.Field)
			used[f.Name] = true
			for _, a := range f.Arguments {
				railwayUsed(used, f.Name+"."+a.Name, a.Value)
			}
		}
	}
	schema := railwayCatalog(t).providers["railway"].graphql.schema
	var check func(at string, typ *ast.Type)
	check = func(at string, typ *ast.Type) {
		if !used[at] {
			t.Errorf("%s occurs in no document", at)
		}
		if def := schema.Types[typ.Name()]; def.Kind == ast.InputObject {
			for _, f := range def.Fields {
				check(at+"."+f.Name, f.Type)
			}
		}
	}
	for _, root := range []*ast.Definition{schema.Query, schema.Mutation} {
		for _, f := range root.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			if !used[f.Name] {
				t.Errorf("%s occurs in no document", f.Name)
			}
			for _, a := range f.Arguments {
				check(f.Name+"."+a.Name, a.Type)
			}
		}
	}
}

func railwayUsed(used map[string]bool, at string, v *ast.Value) {
	used[at] = true
	if v.Kind == ast.ObjectValue {
		for _, c := range v.Children {
			railwayUsed(used, at+"."+c.Name, c.Value)
		}
	}
}

const (
	railwayStaging    = "volumeDelete volumes:delete stg-volume in look-up of volume stg-volume"
	railwayProduction = "volumeDelete volumes:delete prod-volume in look-up of volume prod-volume"
)

// railwayShown are bodies that hide an act, or seem to, and the acts that are
// found all the same. Where sent is given it is the document that goes out.
var railwayShown = []struct {
	name, body, sent string
	want             []string
}{
	{"an alias", `{"query":"mutation{customDomainUpdate:volumeDelete(volumeId:\"prod-volume\")}"}`, "", []string{railwayProduction}},
	{"an alias that names another field", `{"query":"mutation{ok:__typename volumeUpdate:volumeDelete(volumeId:\"prod-volume\")}"}`, "", []string{railwayProduction}},
	{"several root fields", `{"query":"mutation{a:volumeDelete(volumeId:\"stg-volume\") b:volumeDelete(volumeId:\"prod-volume\")}"}`, "", []string{railwayStaging, railwayProduction}},
	{"a fragment", `{"query":"mutation{...F} fragment F on Mutation{volumeDelete(volumeId:\"prod-volume\")}"}`, "", []string{railwayProduction}},
	{"a fragment in a fragment", `{"query":"mutation{...F} fragment F on Mutation{...G} fragment G on Mutation{volumeDelete(volumeId:\"prod-volume\")}"}`, "", []string{railwayProduction}},
	{"a fragment whose variable differs by operation", `{"query":"mutation A($v:String!){...F} mutation B($v:String! = \"stg-volume\"){...F} fragment F on Mutation{volumeDelete(volumeId:$v)}","operationName":"A","variables":{"v":"prod-volume"}}`, "", []string{railwayProduction}},
	{"one fragment in two places", `{"query":"{a:environment(id:\"stg\"){...F} b:environment(id:\"prod\"){...F}} fragment F on Environment{volumeInstances{edges{node{id}}}}"}`, "",
		[]string{"environment environments:read stg in environment stg", "volumeInstances volumes:read in environment stg",
			"environment environments:read prod in environment prod", "volumeInstances volumes:read in environment prod"}},
	{"an inline fragment", `{"query":"mutation{... on Mutation{... {volumeDelete(volumeId:\"prod-volume\")}}}"}`, "", []string{railwayProduction}},
	{"@skip(if: true)", `{"query":"mutation{__typename volumeDelete(volumeId:\"prod-volume\") @skip(if:true)}"}`, "", []string{railwayProduction}},
	{"@include(if: false)", `{"query":"mutation{__typename ... on Mutation @include(if:false){volumeDelete(volumeId:\"prod-volume\")}}"}`, "", []string{railwayProduction}},
	{"@skip by a variable, on a nested field", `{"query":"query($no:Boolean!){environment(id:\"stg\"){id deployments @skip(if:$no){edges{node{meta}}}}}","variables":{"no":true}}`, "",
		[]string{"environment environments:read stg in environment stg", "deployments deployments:read in environment stg", "meta deployments:reveal in environment stg"}},

	{"a variable", `{"query":"mutation($v:String!){volumeDelete(volumeId:$v)}","variables":{"v":"prod-volume"}}`, "", []string{railwayProduction}},
	{"a default", `{"query":"mutation($v:String! = \"prod-volume\"){volumeDelete(volumeId:$v)}"}`, "", []string{railwayProduction}},
	{"a variable over a default", `{"query":"mutation($v:String! = \"stg-volume\"){volumeDelete(volumeId:$v)}","variables":{"v":"prod-volume"}}`, "", []string{railwayProduction}},
	{"a variable nobody declared is not sent", `{"query":"mutation{volumeDelete(volumeId:\"prod-volume\")}","variables":{"volumeId":"stg-volume"}}`, "", []string{railwayProduction}},
	{"a block string", `{"query":"mutation{volumeDelete(volumeId:\"\"\"prod-volume\"\"\")}"}`, `mutation { volumeDelete(volumeId: "prod-volume") }`, []string{railwayProduction}},
	{"a block string that ends in a backslash", `{"query":"mutation{a:volumeDelete(volumeId:\"\"\"stg-volume\\\n\"\"\") b:volumeDelete(volumeId:\"\"\") c:projectDelete(id:\"P\") d:volumeDelete(volumeId:\"\"\")}"}`, "",
		[]string{`volumeDelete volumes:delete stg-volume\ in look-up of volume stg-volume\`, `volumeDelete volumes:delete ) c:projectDelete(id:"P") d:volumeDelete(volumeId: in look-up of volume ) c:projectDelete(id:"P") d:volumeDelete(volumeId:`}},
	{"JSON escapes in the document", `{"query":"mutation{\u0076olumeDelete(volumeId:\"\u0070rod-volume\")}"}`, `mutation { volumeDelete(volumeId: "prod-volume") }`, []string{railwayProduction}},
	{"JSON escapes in the envelope", `{"\u0071uery":"mutation{volumeDelete(volumeId:\"prod-volume\")}"}`, "", []string{railwayProduction}},
	{"GraphQL escapes in a string", `{"query":"mutation{volumeDelete(volumeId:\"\\u0070rod-volume\")}"}`, `mutation { volumeDelete(volumeId: "prod-volume") }`, []string{railwayProduction}},
	{"JSON escapes in a variable", `{"query":"mutation($v:String!){volumeDelete(volumeId:$v)}","variables":{"\u0076":"\u0070rod-volume"}}`, "", []string{railwayProduction}},
	{"a comment", `{"query":"mutation{ # __typename }\nvolumeDelete(volumeId:\"prod-volume\")}"}`, `mutation { volumeDelete(volumeId: "prod-volume") }`, []string{railwayProduction}},
	{"a comment that ends with a carriage return", `{"query":"mutation{__typename # x\rvolumeDelete(volumeId:\"prod-volume\")}"}`, "", []string{railwayProduction}},
	{"no comment after a Unicode line separator", `{"query":"mutation{__typename # x\u2028volumeDelete(volumeId:\"prod-volume\")\n projectDelete(id:\"P\")}"}`, `mutation { __typename projectDelete(id: "P") }`, []string{"projectDelete projects:delete P in look-up of project P"}},
	{"a byte order mark and commas", `{"query":"\ufeffmutation,{,volumeDelete(,volumeId:\"prod-volume\",),}"}`, `mutation { volumeDelete(volumeId: "prod-volume") }`, []string{railwayProduction}},
	{"an id that looks like another", `{"query":"mutation{volumeDelete(volumeId:\"prоd-volume\")}"}`, "", []string{"volumeDelete volumes:delete prоd-volume in look-up of volume prоd-volume"}}, // a Cyrillic o

	{"no operation name, one operation", `{"query":"mutation M{volumeDelete(volumeId:\"prod-volume\")}","operationName":null,"variables":null,"extensions":{}}`, "", []string{railwayProduction}},
	{"the operation that is chosen is the only one sent",
		`{"query":"query A{me{...F}} mutation B($v:String!){...D} fragment F on User{id} fragment D on Mutation{volumeDelete(volumeId:$v)}","operationName":"B","variables":{"v":"prod-volume","w":1}}`,
		`mutation B ($v: String!) { ... D } fragment D on Mutation { volumeDelete(volumeId: $v) }`, []string{railwayProduction}},
	{"the operation that is not chosen counts for nothing",
		`{"query":"query A{me{...F}} mutation B{volumeDelete(volumeId:\"prod-volume\")} fragment F on User{id}","operationName":"A"}`,
		`query A { me { ... F } } fragment F on User { id }`, []string{"me account:read in account"}},

	{"an optional environment that is a variable not given", `{"query":"mutation($e:String){serviceDelete(environmentId:$e,id:\"s\")}"}`, "", []string{"serviceDelete services:delete s in every environment"}},
	{"an optional environment that is a variable null", `{"query":"mutation($e:String){serviceDelete(environmentId:$e,id:\"s\")}","variables":{"e":null}}`, "", []string{"serviceDelete services:delete s in every environment"}},
	{"an optional environment that is null over a default", `{"query":"mutation($e:String=\"stg\"){serviceDelete(environmentId:$e,id:\"s\")}","variables":{"e":null}}`, "", []string{"serviceDelete services:delete s in every environment"}},
	{"an optional environment by default", `{"query":"mutation($e:String=\"stg\"){serviceDelete(environmentId:$e,id:\"s\")}"}`, "", []string{"serviceDelete services:delete s in environment stg"}},
	{"an optional environment in an input that is a variable", `{"query":"query($i:DeploymentListInput!){deployments(input:$i){edges{node{id}}}}","variables":{"i":{"environmentId":null,"projectId":"P"}}}`, "", []string{"deployments deployments:read in every environment"}},
	{"an optional environment in an input that is a default", `{"query":"query($i:DeploymentListInput!={environmentId:\"prod\"}){deployments(input:$i){edges{node{id}}}}"}`, "", []string{"deployments deployments:read in environment prod"}},
	{"a variable inside an input", `{"query":"query($e:String){deployments(input:{environmentId:$e}){edges{node{id}}}}","variables":{"e":"prod"}}`, "", []string{"deployments deployments:read in environment prod"}},
	{"a variable inside an input, not given", `{"query":"query($e:String){deployments(input:{environmentId:$e}){edges{node{id}}}}"}`, "", []string{"deployments deployments:read in every environment"}},

	{"replace by a variable", `{"query":"mutation($r:Boolean){variableCollectionUpsert(input:{environmentId:\"stg\",projectId:\"P\",variables:{},replace:$r})}","variables":{"r":true}}`, "",
		[]string{"variableCollectionUpsert variables:write in environment stg, project P", "variableCollectionUpsert variables:delete in environment stg, project P"}},
	{"replace by a default", `{"query":"mutation($r:Boolean=true){variableCollectionUpsert(input:{environmentId:\"stg\",projectId:\"P\",variables:{},replace:$r})}"}`, "",
		[]string{"variableCollectionUpsert variables:write in environment stg, project P", "variableCollectionUpsert variables:delete in environment stg, project P"}},
	{"replace inside a variable", `{"query":"mutation($i:VariableCollectionUpsertInput!){variableCollectionUpsert(input:$i)}","variables":{"i":{"environmentId":"stg","projectId":"P","variables":{"A":"1"},"replace":true}}}`, "",
		[]string{"variableCollectionUpsert variables:write in environment stg, project P", "variableCollectionUpsert variables:delete in environment stg, project P"}},
	{"no kinds by a variable", `{"query":"mutation($k:[VolumeInstanceBackupScheduleKind!]!){volumeInstanceBackupScheduleUpdate(kinds:$k,volumeInstanceId:\"vi\")}","variables":{"k":[]}}`, "",
		[]string{"volumeInstanceBackupScheduleUpdate backups:write vi in look-up of volumeInstance vi", "volumeInstanceBackupScheduleUpdate backups:delete vi in look-up of volumeInstance vi"}},
	{"no kinds by a default", `{"query":"mutation($k:[VolumeInstanceBackupScheduleKind!]!=[]){volumeInstanceBackupScheduleUpdate(kinds:$k,volumeInstanceId:\"vi\")}"}`, "",
		[]string{"volumeInstanceBackupScheduleUpdate backups:write vi in look-up of volumeInstance vi", "volumeInstanceBackupScheduleUpdate backups:delete vi in look-up of volumeInstance vi"}},
	{"one kind that is no list", `{"query":"mutation{volumeInstanceBackupScheduleUpdate(kinds:DAILY,volumeInstanceId:\"vi\")}"}`, "",
		[]string{"volumeInstanceBackupScheduleUpdate backups:write vi in look-up of volumeInstance vi"}},
	{"a service that is a variable not given", `{"query":"mutation($s:String){volumeInstanceUpdate(environmentId:\"stg\",volumeId:\"v\",input:{serviceId:$s})}"}`, "",
		[]string{"volumeInstanceUpdate volumes:write v in environment stg", "volumeInstanceUpdate volumes:delete v in environment stg"}},
}

func TestRailwayHidesNothing(t *testing.T) {
	c := railwayCatalog(t)
	for _, tt := range railwayShown {
		t.Run(tt.name, func(t *testing.T) {
			call, acts, err := railwayClassify(c, tt.body)
			if err != nil {
				t.Fatal(err)
			}
			railwayWant(t, acts, tt.want)
			var sent struct{ Query string }
			if err := json.Unmarshal(call.Body, &sent); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(strings.Fields(sent.Query), " "); tt.sent != "" && got != tt.sent {
				t.Errorf("sent %s\nwant %s", got, tt.sent)
			}
			railwayAgain(t, c, call, acts)
		})
	}
}

// railwayAgain fails when what is sent is not what was judged.
func railwayAgain(t *testing.T, c *Catalog, call Call, acts []Act) {
	t.Helper()
	again, acts2, err := railwayClassify(c, string(call.Body))
	if err != nil {
		t.Fatalf("what is sent is refused: %v\n%s", err, call.Body)
	}
	if string(again.Body) != string(call.Body) {
		t.Errorf("what is sent has another spelling:\n%s\n%s", call.Body, again.Body)
	}
	if a, b := railwayLines(acts), railwayLines(acts2); !slices.Equal(a, b) {
		t.Errorf("what is sent means something else:\n%q\n%q", a, b)
	}
}

// TestRailwaySendsVariables holds that the variables go out as they came in,
// those that the operation declares and no others.
func TestRailwaySendsVariables(t *testing.T) {
	call, _, err := railwayClassify(railwayCatalog(t),
		`{"query":"mutation M($v:String!,$n:String){volumeUpdate(volumeId:$v,input:{name:$n}){id}}","variables":{"x":{"a":1},"n":null,"v":"\u0076"},"operationName":"M"}`)
	if err != nil {
		t.Fatal(err)
	}
	var sent struct {
		OperationName string
		Variables     json.RawMessage
	}
	if err := json.Unmarshal(call.Body, &sent); err != nil {
		t.Fatal(err)
	}
	if got, want := string(sent.Variables), `{"n":null,"v":"v"}`; got != want || sent.OperationName != "M" {
		t.Errorf("sent variables %s of %q, want %s of M", got, sent.OperationName, want)
	}
}

// railwayRefused are requests that must not be judged at all, with a part of
// the reason that is given.
var railwayRefused = []struct {
	name string
	body string
	is   error
	says string
}{
	{"an unlisted mutation", `{"query":"mutation{templateDeployV2(input:{})}"}`, ErrUnclassified, "templateDeployV2"},
	{"deletion by a patch", `{"query":"mutation{environmentPatchCommit(environmentId:\"stg\",patch:{volumes:{x:{isDeleted:true}}})}"}`, ErrUnclassified, "environmentPatchCommit"},
	{"an unlisted field", `{"query":"{environment(id:\"stg\"){config(decryptVariables:true)}}"}`, ErrUnclassified, "config"},
	{"variables of an environment", `{"query":"{environment(id:\"stg\"){variables{edges{node{name}}}}}"}`, ErrUnclassified, "variables"},
	{"another environment", `{"query":"{environment(id:\"stg\"){sourceEnvironment{id}}}"}`, ErrUnclassified, "sourceEnvironment"},
	{"another environment by its volume", `{"query":"{volumeInstance(id:\"vi\"){volume{volumeInstances{edges{node{id}}}}}}"}`, ErrUnclassified, "volume"},
	{"another environment by its service", `{"query":"{serviceInstance(environmentId:\"stg\",serviceId:\"s\"){service{serviceInstances{edges{node{id}}}}}}"}`, ErrUnclassified, "service"},
	{"another environment by its project", `{"query":"{service(id:\"s\"){project{id}}}"}`, ErrUnclassified, "project"},
	{"a secret by a deployment", `{"query":"{deployment(id:\"d\"){environment{id}}}"}`, ErrUnclassified, "environment"},
	{"a part of a token", `{"query":"{projectToken{displayToken}}"}`, ErrUnclassified, "displayToken"},
	{"an unlisted argument", `{"query":"mutation{volumeInstanceBackupRestore(volumeInstanceBackupId:\"b\",volumeInstanceId:\"vi\",wipeServiceIds:[\"s\"]){workflowId}}"}`, ErrUnclassified, "wipeServiceIds"},
	{"another unlisted argument", `{"query":"mutation{volumeInstanceBackupRestore(volumeInstanceBackupId:\"b\",volumeInstanceId:\"vi\",replicaServiceIds:[\"s\"]){workflowId}}"}`, ErrUnclassified, "replicaServiceIds"},
	{"an unlisted member of an input", `{"query":"mutation{projectUpdate(id:\"P\",input:{baseEnvironmentId:\"prod\"}){id}}"}`, ErrUnclassified, "baseEnvironmentId"},
	{"an unlisted member of an input in a variable", `{"query":"mutation($i:ProjectUpdateInput!){projectUpdate(id:\"P\",input:$i){id}}","variables":{"i":{"prDeploys":true}}}`, ErrUnclassified, "prDeploys"},
	{"an unlisted type", `{"query":"mutation($i:ServiceCreateInput!){projectDelete(id:\"P\")}","variables":{"i":{}}}`, ErrUnclassified, "ServiceCreateInput"},
	{"an unlisted type in a fragment", `{"query":"{project(id:\"P\"){... on Node{id}}}"}`, ErrUnclassified, "Node"},
	{"a value of an enum that there is not", `{"query":"mutation{volumeInstanceUpdate(volumeId:\"v\",input:{serviceId:\"s\",state:GONE})}"}`, ErrUnclassified, "GONE"},
	{"the schema", `{"query":"{__schema{types{name}}}"}`, ErrUnclassified, "__schema"},
	{"the schema beside something else", `{"query":"{me{id} __type(name:\"User\"){name}}"}`, ErrUnclassified, "__type"},
	{"nothing but a type name", `{"query":"mutation{__typename}"}`, ErrUnclassified, "no known effect"},
	{"@defer", `{"query":"{project(id:\"P\"){id ... @defer{name}}}"}`, ErrUnclassified, "defer"},
	{"our own annotations", `{"query":"mutation{volumeDelete(volumeId:\"v\") @does(scope:\"volumes:read\")}"}`, ErrUnclassified, "does"},
	{"a subscription", `{"query":"subscription{me{id}}"}`, ErrUnclassified, ""},
	{"a definition of a type", `{"query":"extend type Mutation{x:Int} mutation{volumeDelete(volumeId:\"v\")}"}`, ErrMalformed, ""},

	{"a batch", `[{"query":"{me{id}}"}]`, ErrUnclassified, "batch"},
	{"an empty batch", `[]`, ErrUnclassified, "batch"},
	{"a stored document", `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}`, ErrUnclassified, "extensions"},
	{"a stored document beside a harmless one", `{"query":"{me{id}}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}`, ErrUnclassified, "extensions"},
	{"the id of a document", `{"query":"{me{id}}","id":"00"}`, ErrUnclassified, "id"},
	{"no document", `{}`, ErrUnclassified, ""},
	{"an empty document", `{"query":""}`, ErrUnclassified, ""},
	{"a document that is null", `{"query":null}`, ErrUnclassified, ""},
	{"no body", ``, ErrMalformed, ""},
	{"no JSON", `mutation{volumeDelete(volumeId:"v")}`, ErrMalformed, ""},
	{"two bodies", `{"query":"{me{id}}"}{"query":"{me{id}}"}`, ErrMalformed, ""},
	{"a document twice", `{"query":"{me{id}}","query":"mutation{volumeDelete(volumeId:\"v\")}"}`, ErrMalformed, "query"},
	{"a document twice, once in escapes", `{"query":"{me{id}}","\u0071uery":"mutation{volumeDelete(volumeId:\"v\")}"}`, ErrMalformed, "query"},
	{"a variable twice", `{"query":"mutation($v:String!){volumeDelete(volumeId:$v)}","variables":{"v":"stg-volume","v":"prod-volume"}}`, ErrMalformed, ""},
	{"a member of a variable twice", `{"query":"mutation($i:VariableUpsertInput!){variableUpsert(input:$i)}","variables":{"i":{"environmentId":"stg","environmentId":"prod","projectId":"P","name":"N","value":"v"}}}`, ErrMalformed, ""},
	{"a document in capitals", `{"QUERY":"{me{id}}"}`, ErrUnclassified, "QUERY"},
	{"a document in two cases", `{"query":"{me{id}}","Query":"mutation{volumeDelete(volumeId:\"v\")}"}`, ErrUnclassified, "Query"},
	{"a keyword in capitals", `{"query":"QUERY{me{id}}"}`, ErrMalformed, ""},
	{"a field in another case", `{"query":"mutation{volumedelete(volumeId:\"v\")}"}`, ErrUnclassified, "volumedelete"},
	{"GraphQL escapes in a name", `{"query":"mutation{\\u0076olumeDelete(volumeId:\"v\")}"}`, ErrMalformed, ""},
	{"a name with a Cyrillic o", `{"query":"mutation{vоlumeDelete(volumeId:\"v\")}"}`, ErrMalformed, ""},
	{"a name in full width", `{"query":"mutation{\uff56olumeDelete(volumeId:\"v\")}"}`, ErrMalformed, ""},
	{"a zero-width space in a name", "{\"query\":\"mutation{volume\u200bDelete(volumeId:\\\"v\\\")}\"}", ErrMalformed, ""},
	{"a lone surrogate", `{"query":"mutation{volumeDelete(volumeId:\"\ud800\")}"}`, ErrMalformed, ""},
	{"bad UTF-8", "{\"query\":\"mutation{volumeDelete(volumeId:\\\"\xff\\\")}\"}", ErrMalformed, ""},

	{"two operations and no name", `{"query":"query A{me{id}} mutation B{volumeDelete(volumeId:\"v\")}"}`, ErrUnclassified, "operationName"},
	{"two operations and an empty name", `{"query":"query A{me{id}} mutation B{volumeDelete(volumeId:\"v\")}","operationName":""}`, ErrUnclassified, "operationName"},
	{"two operations of one name", `{"query":"query A{me{id}} mutation A{volumeDelete(volumeId:\"v\")}","operationName":"A"}`, ErrUnclassified, "A"},
	{"an operation that there is not", `{"query":"query A{me{id}}","operationName":"B"}`, ErrUnclassified, "B"},
	{"two fragments of one name", `{"query":"mutation{...F} fragment F on Mutation{__typename} fragment F on Mutation{volumeDelete(volumeId:\"v\")}"}`, ErrUnclassified, "F"},
	{"a fragment in itself", `{"query":"mutation{...F} fragment F on Mutation{volumeDelete(volumeId:\"v\") ...F}"}`, ErrUnclassified, "F"},
	{"an argument twice", `{"query":"mutation{volumeDelete(volumeId:\"stg-volume\",volumeId:\"prod-volume\")}"}`, ErrUnclassified, "volumeId"},
	{"a member of an input twice", `{"query":"{deployments(input:{environmentId:\"stg\",environmentId:\"prod\"}){edges{node{id}}}}"}`, ErrUnclassified, "environmentId"},
	{"a variable declared twice", `{"query":"mutation($v:String!=\"stg-volume\",$v:String!=\"prod-volume\"){volumeDelete(volumeId:$v)}"}`, ErrUnclassified, "v"},
	{"a variable not declared", `{"query":"mutation{volumeDelete(volumeId:$v)}","variables":{"v":"prod-volume"}}`, ErrUnclassified, "v"},

	{"no id", `{"query":"mutation{volumeDelete}"}`, ErrUnclassified, "volumeId"},
	{"an id that is null", `{"query":"mutation{volumeDelete(volumeId:null)}"}`, ErrUnclassified, ""},
	{"an id that is empty", `{"query":"mutation{volumeDelete(volumeId:\"\")}"}`, ErrUnclassified, "volumeId"},
	{"an id that is a variable null", `{"query":"mutation($v:String!){volumeDelete(volumeId:$v)}","variables":{"v":null}}`, ErrUnclassified, ""},
	{"an id that is a variable not given", `{"query":"mutation($v:String!){volumeDelete(volumeId:$v)}"}`, ErrUnclassified, ""},
	{"an id that is a list", `{"query":"mutation($v:String!){volumeDelete(volumeId:$v)}","variables":{"v":["a","b"]}}`, ErrUnclassified, ""},
	{"an id that is a number", `{"query":"mutation($v:String!){volumeDelete(volumeId:$v)}","variables":{"v":5}}`, ErrUnclassified, ""},
	{"an environment that is empty", `{"query":"mutation{environmentDelete(id:\"\")}"}`, ErrUnclassified, "empty"},
	{"an optional environment that is empty", `{"query":"mutation{serviceDelete(environmentId:\"\",id:\"s\")}"}`, ErrUnclassified, "empty"},
	{"a boolean that is a text", `{"query":"mutation($r:Boolean){variableCollectionUpsert(input:{environmentId:\"stg\",projectId:\"P\",variables:{},replace:$r})}","variables":{"r":"true"}}`, ErrUnclassified, ""},
	{"a boolean that is a number", `{"query":"mutation{variableCollectionUpsert(input:{environmentId:\"stg\",projectId:\"P\",variables:{},replace:1})}"}`, ErrUnclassified, ""},
	{"a number that is too great", `{"query":"{environment(id:\"stg\"){deployments(first:99999999999999999999){edges{node{id}}}}}"}`, ErrUnclassified, "99999999999999999999"},
	{"a number that is too small", `{"query":"mutation{customDomainUpdate(environmentId:\"stg\",id:\"c\",targetPort:-99999999999999999999)}"}`, ErrUnclassified, "-99999999999999999999"},
	{"a number in a variable that is too great", `{"query":"query($n:Int){environment(id:\"stg\"){deployments(first:$n){edges{node{id}}}}}","variables":{"n":1e999}}`, ErrMalformed, ""},
	{"too many tokens", `{"query":"{me{` + strings.Repeat("id ", maxTokens) + `}}"}`, ErrMalformed, ""},
	{"too many fields", `{"query":"{me{` + strings.Repeat("...F ", maxFields) + `}} fragment F on User{id}"}`, ErrUnclassified, "fields"},
}

// TestRailwayFragmentsDoNotMultiply has fragments that name each other twice,
// forty times over: the selection has 2 to the power of 40 fields.
func TestRailwayFragmentsDoNotMultiply(t *testing.T) {
	const n = 40
	var b strings.Builder
	b.WriteString("{...A0 ...B0} ")
	for i := range n {
		for _, name := range []string{"A", "B"} {
			fmt.Fprintf(&b, "fragment %s%d on Query{...A%[3]d ...B%[3]d} ", name, i, i+1)
		}
	}
	fmt.Fprintf(&b, "fragment A%[1]d on Query{me{id}} fragment B%[1]d on Query{me{name}}", n)
	_, acts, err := railwayClassify(railwayCatalog(t), railwayBody(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	railwayWant(t, acts, []string{"me account:read in account"})
}

func TestRailwayRefuses(t *testing.T) {
	c := railwayCatalog(t)
	for _, tt := range railwayRefused {
		t.Run(tt.name, func(t *testing.T) {
			_, acts, err := railwayClassify(c, tt.body)
			if !errors.Is(err, tt.is) || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("error %v, acts %q; want an error that is %q and says %q", err, railwayLines(acts), tt.is, tt.says)
			}
		})
	}
}

// TestRailwayEnvelope has the same harmless document in requests that are not
// what an ordinary client sends.
func TestRailwayEnvelope(t *testing.T) {
	const harmless = `{"query":"{me{id}}"}`
	ordinary := Request{Provider: "railway", Method: "POST", Path: "/graphql/v2", Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(harmless)}
	for _, tt := range []struct {
		name string
		edit func(*Request)
		is   error // nil: it is taken
	}{
		{"ordinary", func(*Request) {}, nil},
		{"with a character set", func(r *Request) { r.Header = http.Header{"Content-Type": {"Application/JSON; charset=utf-8"}} }, nil},
		{"GET", func(r *Request) { r.Method, r.Query, r.Body = "GET", "query=%7Bme%7Bid%7D%7D", nil }, ErrUnclassified},
		{"GET with a body", func(r *Request) { r.Method = "GET" }, ErrUnclassified},
		{"PUT", func(r *Request) { r.Method = "PUT" }, ErrUnclassified},
		{"a second document in the query string", func(r *Request) { r.Query = "query=mutation%7BprojectDelete(id:%22P%22)%7D" }, ErrUnclassified},
		{"any query string", func(r *Request) { r.Query = "x=1" }, ErrUnclassified},
		{"no content type", func(r *Request) { r.Header = nil }, ErrUnclassified},
		{"text", func(r *Request) { r.Header = http.Header{"Content-Type": {"text/plain"}} }, ErrUnclassified},
		{"a form", func(r *Request) { r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}} }, ErrUnclassified},
		{"a multipart form", func(r *Request) { r.Header = http.Header{"Content-Type": {"multipart/form-data; boundary=x"}} }, ErrUnclassified},
		{"a document as such", func(r *Request) {
			r.Header, r.Body = http.Header{"Content-Type": {"application/graphql"}}, []byte("{me{id}}")
		}, ErrUnclassified},
		{"two content types", func(r *Request) {
			r.Header = http.Header{"Content-Type": {"application/json", "application/graphql"}}
		}, ErrMalformed},
		{"compressed", func(r *Request) {
			r.Header = http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}
		}, ErrMalformed},
		{"the older path", func(r *Request) { r.Path = "/graphql" }, ErrUnclassified},
		{"the dashboard's path", func(r *Request) { r.Path = "/graphql/internal" }, ErrUnclassified},
		{"the path in another case", func(r *Request) { r.Path = "/GraphQL/v2" }, ErrUnclassified},
		{"a slash at the end", func(r *Request) { r.Path = "/graphql/v2/" }, ErrMalformed},
		{"an upload of code", func(r *Request) { r.Path = "/project/P/environment/stg/up" }, ErrUnclassified},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := ordinary
			tt.edit(&r)
			call, err := NewCall(r)
			if err == nil {
				call, _, err = railwayCatalog(t).Classify(call)
			}
			switch {
			case tt.is == nil && err != nil:
				t.Errorf("refused: %v", err)
			case tt.is == nil && call.Header.Get("Content-Type") != "application/json":
				t.Errorf("sent as %q", call.Header.Get("Content-Type"))
			case tt.is != nil && !errors.Is(err, tt.is):
				t.Errorf("error %v, want one that is %q", err, tt.is)
			}
		})
	}
}

// railwayEnvironments is an owner with two environments in one project and one
// in another.
var railwayEnvironments = Environments{
	"staging":    {"railway": {"environment": {"stg"}, "project": {"P"}}},
	"production": {"railway": {"environment": {"prod"}, "project": {"P"}}},
	"elsewhere":  {"railway": {"environment": {"other"}, "project": {"Q"}}},
}

// A railwayQuestion is one of the look-ups: what is asked, and how Railway
// answers. Answer writes the answer to one call about the thing id that lives
// in envs; page is what is said of the next page, where there can be one.
type railwayQuestion struct {
	place  Place
	asks   []string // the variables of the first calls, in JSON
	next   string   // the variables of the call for the next page; empty: there are no pages
	many   bool     // the thing can live in several environments
	search bool     // several places are asked, and an error from one is no error
	answer func(id, page string, envs ...string) string
}

const railwayLast = `{"more":false,"cursor":null}`

func railwayNext(cursor string) string { return fmt.Sprintf(`{"more":true,"cursor":%q}`, cursor) }

// railwayEdges writes a list of edges, of which each node has format with one
// of values.
func railwayEdges(format string, values ...string) string {
	nodes := make([]string, len(values))
	for i, v := range values {
		nodes[i] = `{"node":` + strings.ReplaceAll(format, "%", v) + `}`
	}
	return `[` + strings.Join(nodes, ",") + `]`
}

// railwayDomains writes the answer of the domain look-ups: two services, of
// which the second has the domain.
func railwayDomains(kind, inside string) func(id, page string, envs ...string) string {
	return func(id, page string, envs ...string) string {
		some := railwayEdges(`{"domains":{"`+kind+`":[{"match":"another","environment":"%"},{"match":"`+id+`","environment":"%"}]}}`, envs...)
		none := `{"node":{"domains":{"` + kind + `":[]}}}`
		return `{"data":{"environment":{` + inside + `"serviceInstances":{"pageInfo":` + page + `,"edges":[` +
			strings.TrimSuffix(none+","+some[1:len(some)-1], ",") + `]}}}}`
	}
}

var railwayQuestions = map[string]railwayQuestion{
	"project": {
		place: Place{Reach: ByLookup, Lookup: "project", ID: "x"},
		asks:  []string{`{"id":"x"}`}, next: `{"after":"c","id":"x"}`, many: true,
		answer: func(id, page string, envs ...string) string {
			// The project's own id, which is a key too, is left out here: what
			// it adds is in TestRailwayLookupTraps.
			return `{"data":{"project":{"match":"` + id + `","project":null,"environments":{"pageInfo":` + page + `,"edges":` + railwayEdges(`{"environment":"%"}`, envs...) + `}}}}`
		},
	},
	"service": {
		place: Place{Reach: ByLookup, Lookup: "service", ID: "x"},
		asks:  []string{`{"id":"x"}`}, next: `{"after":"c","id":"x"}`, many: true,
		answer: func(id, page string, envs ...string) string {
			return `{"data":{"service":{"match":"` + id + `","serviceInstances":{"pageInfo":` + page + `,"edges":` + railwayEdges(`{"environment":"%"}`, envs...) + `}}}}`
		},
	},
	"volume": {
		place: Place{Reach: ByLookup, Lookup: "volume", ID: "x"},
		asks:  []string{`{"project":"P"}`, `{"project":"Q"}`}, next: `{"after":"c","project":"P"}`, many: true, search: true,
		answer: func(id, page string, envs ...string) string {
			return `{"data":{"project":{"volumes":{"pageInfo":` + page + `,"edges":[{"node":{"match":"another","volumeInstances":{"pageInfo":{"partial":true},"edges":[{"node":{"environment":"unnamed"}}]}}},` +
				`{"node":{"match":"` + id + `","volumeInstances":{"pageInfo":{"partial":false},"edges":` + railwayEdges(`{"environment":"%"}`, envs...) + `}}}]}}}}`
		},
	},
	"volumeInstance": {
		place: Place{Reach: ByLookup, Lookup: "volumeInstance", ID: "x"},
		asks:  []string{`{"id":"x"}`},
		answer: func(id, _ string, envs ...string) string {
			if len(envs) == 0 {
				return `{"data":{"volumeInstance":null}}`
			}
			return `{"data":{"volumeInstance":{"match":"` + id + `","environment":"` + envs[0] + `"}}}`
		},
	},
	"backup": {
		place: Place{Reach: ByLookup, Lookup: "backup", ID: "x", By: "vi"},
		asks:  []string{`{"by":"vi"}`},
		answer: func(id, _ string, envs ...string) string {
			if len(envs) == 0 {
				return `{"data":{"volumeInstance":{"environment":"stg"},"volumeInstanceBackupList":[]}}`
			}
			return `{"data":{"volumeInstance":{"environment":"` + envs[0] + `"},"volumeInstanceBackupList":[{"match":"another"},{"match":"` + id + `"}]}}`
		},
	},
	"deployment": {
		place: Place{Reach: ByLookup, Lookup: "deployment", ID: "x"},
		asks:  []string{`{"id":"x"}`},
		answer: func(id, _ string, envs ...string) string {
			if len(envs) == 0 {
				return `{"data":{"deployment":null}}`
			}
			return `{"data":{"deployment":{"match":"` + id + `","environment":"` + envs[0] + `","project":"P"}}}`
		},
	},
	"customDomain": {
		place: Place{Reach: ByLookup, Lookup: "customDomain", ID: "x"},
		asks:  []string{`{"environment":"other"}`, `{"environment":"prod"}`, `{"environment":"stg"}`}, next: `{"after":"c","environment":"other"}`, search: true,
		answer: railwayDomains("customDomains", ""),
	},
	"serviceDomain": {
		place: Place{Reach: ByLookup, Lookup: "serviceDomain", ID: "x"},
		asks:  []string{`{"environment":"other"}`, `{"environment":"prod"}`, `{"environment":"stg"}`}, next: `{"after":"c","environment":"other"}`, search: true,
		answer: railwayDomains("serviceDomains", ""),
	},
	"customDomainIn": {
		place: Place{Reach: ByLookup, Lookup: "customDomainIn", ID: "x", By: "stg"},
		asks:  []string{`{"by":"stg"}`}, next: `{"after":"c","by":"stg"}`,
		answer: railwayDomains("customDomains", `"environment":"stg",`),
	},
	"serviceDomainIn": {
		place: Place{Reach: ByLookup, Lookup: "serviceDomainIn", ID: "x", By: "stg"},
		asks:  []string{`{"by":"stg"}`}, next: `{"after":"c","by":"stg"}`,
		answer: railwayDomains("serviceDomains", `"environment":"stg",`),
	},
}

// railwayAsk asks a look-up until it has no more calls, as the broker does, and
// returns the environments that are found. Answers are by the variables of the
// call; what is not in answers is answered with other.
func railwayAsk(t *testing.T, p Place, answers map[string]string, other string) ([]Environment, error) {
	t.Helper()
	c := railwayCatalog(t)
	l, err := c.NewLookup("railway", p, railwayEnvironments)
	if err != nil {
		return nil, err
	}
	unused := maps.Clone(answers)
	calls := slices.Clone(l.Calls())
	for n := 0; len(calls) > 0; n++ {
		if n > l.MaxPages() {
			t.Fatal("there is no end to the calls")
		}
		vars := railwayVariables(t, calls[0])
		answer, ok := answers[vars]
		if !ok {
			answer = other
		}
		delete(unused, vars)
		railwayFits(t, calls[0], answer)
		next, err := l.Read(calls[0], []byte(answer))
		if err != nil {
			return nil, err
		}
		calls = calls[1:]
		if next != nil {
			calls = append(calls, *next)
		}
	}
	if len(unused) > 0 {
		t.Errorf("never asked: %v", slices.Sorted(maps.Keys(unused)))
	}
	found, err := l.Keys()
	if err != nil {
		return nil, err
	}
	acts, err := Act{Provider: "railway", Operation: "x", Resource: "volumes", Action: Delete, Place: p}.Locate(railwayEnvironments, found)
	var names []Environment
	for _, a := range acts {
		names = append(names, a.Environment)
	}
	return names, err
}

func railwayVariables(t *testing.T, call Call) string {
	t.Helper()
	var body struct{ Variables json.RawMessage }
	if err := json.Unmarshal(call.Body, &body); err != nil {
		t.Fatal(err)
	}
	return string(body.Variables)
}

// railwayFits fails when a server could not have given the answer to the call:
// the canned answers have to be about the queries that are really asked.
func railwayFits(t *testing.T, call Call, answer string) {
	t.Helper()
	var body struct{ Query string }
	var reply struct{ Data any }
	if json.Unmarshal(call.Body, &body) != nil || json.Unmarshal([]byte(answer), &reply) != nil {
		return // a test of an answer that cannot be read
	}
	doc, err := parser.ParseQuery(&ast.Source{Input: body.Query})
	if err != nil {
		t.Fatal(err)
	}
	var fits func(at string, set ast.SelectionSet, v any)
	fits = func(at string, set ast.SelectionSet, v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				fits(at, set, e)
			}
		case map[string]any:
			var want []string
			for _, s := range set {
				f := s.(*ast.Field)
				want = append(want, f.Alias)
				fits(at+"."+f.Alias, f.SelectionSet, v[f.Alias])
			}
			slices.Sort(want)
			if got := slices.Sorted(maps.Keys(v)); !slices.Equal(got, want) {
				t.Errorf("the canned answer has %q at %s, the query asks for %q", got, at, want)
			}
		}
	}
	fits("data", doc.Operations[0].SelectionSet, reply.Data)
}

// TestRailwayLookups asks every look-up about a thing in one environment, in
// two, in one that the owner has not named, on a second page, and so on.
func TestRailwayLookups(t *testing.T) {
	for name := range railwayCatalog(t).providers["railway"].graphql.lookups {
		if _, ok := railwayQuestions[name]; !ok {
			t.Errorf("look-up %s has no test", name)
		}
	}
	const failed = `{"errors":[{"message":"Not Authorized"}],"data":null}`
	for _, name := range slices.Sorted(maps.Keys(railwayQuestions)) {
		q := railwayQuestions[name]
		first := q.asks[0]
		elsewhere := q.answer("another", railwayLast)
		for _, tt := range []struct {
			name    string
			answers map[string]string
			want    []Environment // nil: it is refused
			only    bool
		}{
			{"in one environment", map[string]string{first: q.answer("x", railwayLast, "stg")}, []Environment{"staging"}, true},
			{"in two environments", map[string]string{first: q.answer("x", railwayLast, "stg", "prod")}, []Environment{"production", "staging"}, q.many},
			{"in an environment without a name", map[string]string{first: q.answer("x", railwayLast, "unnamed")}, nil, true},
			{"in one without a name and in one with", map[string]string{first: q.answer("x", railwayLast, "stg", "unnamed")}, nil, q.many},
			{"in no environment", map[string]string{first: q.answer("x", railwayLast)}, nil, true},
			{"the answer is about another id", map[string]string{first: q.answer("another", railwayLast, "stg")}, nil, true},
			{"the answer spells the id otherwise", map[string]string{first: q.answer("X", railwayLast, "stg")}, nil, true},
			{"an error", map[string]string{first: failed}, nil, true},
			{"an error from the first, an answer from the last", map[string]string{first: failed, q.asks[len(q.asks)-1]: q.answer("x", railwayLast, "stg")}, []Environment{"staging"}, q.search},
			{"no data", map[string]string{first: `{"data":null}`}, nil, true},
			{"no JSON", map[string]string{first: `<html>`}, nil, true},
			{"a member twice", map[string]string{first: `{"data":null,"data":null}`}, nil, true},
			{"nothing", map[string]string{first: ``}, nil, true},
			{"on the second page", map[string]string{first: q.answer("another", railwayNext("c"), "stg"), q.next: q.answer("x", railwayLast, "stg")}, []Environment{"staging"}, q.next != "" && name != "project" && name != "service"},
			{"on both pages", map[string]string{first: q.answer("x", railwayNext("c"), "stg"), q.next: q.answer("x", railwayLast, "prod")}, []Environment{"production", "staging"}, q.many && q.next != ""},
			{"pages that do not end", map[string]string{first: q.answer("x", railwayNext("c"), "stg"), q.next: q.answer("x", railwayNext("c"), "stg")}, nil, q.next != ""},
			{"a page without a cursor", map[string]string{first: q.answer("x", `{"more":true,"cursor":null}`, "stg")}, nil, q.next != ""},
			{"an answer to each page but the last", map[string]string{first: q.answer("x", railwayNext("c"), "stg"), q.next: `<html>`}, nil, q.next != ""},
		} {
			if !tt.only {
				continue
			}
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				got, err := railwayAsk(t, q.place, tt.answers, elsewhere)
				if !slices.Equal(got, tt.want) || (tt.want == nil) != errors.Is(err, ErrUnplaced) {
					t.Errorf("in %q, error %v; want %q", got, err, tt.want)
				}
			})
		}
		t.Run(name+"/asks", func(t *testing.T) {
			l, err := railwayCatalog(t).NewLookup("railway", q.place, railwayEnvironments)
			if err != nil {
				t.Fatal(err)
			}
			var asks []string
			for _, call := range l.Calls() {
				asks = append(asks, railwayVariables(t, call))
			}
			if !slices.Equal(asks, q.asks) {
				t.Errorf("asks %q, want %q", asks, q.asks)
			}
			// What the broker asks, it has to be able to judge: it only reads.
			for _, call := range l.Calls() {
				_, acts, err := railwayCatalog(t).Classify(call)
				if err != nil || slices.ContainsFunc(acts, func(a Act) bool { return a.Action != Read }) {
					t.Errorf("%v %v: the look-up does more than read", acts, err)
				}
			}
		})
	}
}

// TestRailwayLookupTraps has what only one of the look-ups can meet.
func TestRailwayLookupTraps(t *testing.T) {
	volume := func(partial bool, id string) string {
		return fmt.Sprintf(`{"data":{"project":{"volumes":{"pageInfo":{"more":false,"cursor":null},"edges":[{"node":{"match":%q,"volumeInstances":{"pageInfo":{"partial":%t},"edges":[{"node":{"environment":"stg"}}]}}}]}}}}`, id, partial)
	}
	backups := func(env string, ids ...string) string {
		list := make([]string, len(ids))
		for i, id := range ids {
			list[i] = fmt.Sprintf(`{"match":%q}`, id)
		}
		return `{"data":{"volumeInstance":{"environment":"` + env + `"},"volumeInstanceBackupList":[` + strings.Join(list, ",") + `]}}`
	}
	project := func(id string, envs ...string) string {
		return `{"data":{"project":{"match":"` + id + `","project":"` + id + `","environments":{"pageInfo":` + railwayLast + `,"edges":` + railwayEdges(`{"environment":"%"}`, envs...) + `}}}}`
	}
	for _, tt := range []struct {
		name    string
		place   Place
		answers map[string]string
		want    []Environment
	}{
		{"a volume with more instances than the page has", Place{Reach: ByLookup, Lookup: "volume", ID: "v"},
			map[string]string{`{"project":"P"}`: volume(true, "v"), `{"project":"Q"}`: volume(false, "w")}, nil},
		{"another volume with more instances than the page has", Place{Reach: ByLookup, Lookup: "volume", ID: "v"},
			map[string]string{`{"project":"P"}`: volume(false, "v"), `{"project":"Q"}`: volume(true, "w")}, []Environment{"staging"}},
		{"a volume in the second project", Place{Reach: ByLookup, Lookup: "volume", ID: "v"},
			map[string]string{`{"project":"P"}`: volume(false, "w"), `{"project":"Q"}`: volume(false, "v")}, []Environment{"staging"}},
		{"a backup of the volume instance", Place{Reach: ByLookup, Lookup: "backup", ID: "b", By: "vi"},
			map[string]string{`{"by":"vi"}`: backups("prod", "a", "b")}, []Environment{"production"}},
		{"a backup of another volume instance", Place{Reach: ByLookup, Lookup: "backup", ID: "b", By: "vi"},
			map[string]string{`{"by":"vi"}`: backups("stg", "a", "c")}, nil},
		{"a domain that says that it is elsewhere", Place{Reach: ByLookup, Lookup: "customDomainIn", ID: "c", By: "stg"},
			map[string]string{`{"by":"stg"}`: railwayDomains("customDomains", `"environment":"stg",`)("c", railwayLast, "prod")}, []Environment{"production", "staging"}},
		{"a deployment whose project is not that of its environment", Place{Reach: ByLookup, Lookup: "deployment", ID: "d"},
			map[string]string{`{"id":"d"}`: `{"data":{"deployment":{"match":"d","environment":"stg","project":"Q"}}}`}, nil},
		{"a project that does not show all of its environments", Place{Reach: ByLookup, Lookup: "project", ID: "P"},
			map[string]string{`{"id":"P"}`: project("P", "stg")}, []Environment{"production", "staging"}},
		{"a project with an environment that has no name", Place{Reach: ByLookup, Lookup: "project", ID: "P"},
			map[string]string{`{"id":"P"}`: project("P", "stg", "prod", "pr-12")}, nil},
		{"a project that is not the owner's", Place{Reach: ByLookup, Lookup: "project", ID: "R"},
			map[string]string{`{"id":"R"}`: project("R", "stg")}, nil},
		{"a look-up that there is not", Place{Reach: ByLookup, Lookup: "volumes", ID: "v"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := railwayAsk(t, tt.place, tt.answers, "")
			if !slices.Equal(got, tt.want) || (tt.want == nil) != errors.Is(err, ErrUnplaced) {
				t.Errorf("in %q, error %v; want %q", got, err, tt.want)
			}
		})
	}
	t.Run("nothing is tied", func(t *testing.T) {
		_, err := railwayCatalog(t).NewLookup("railway", Place{Reach: ByLookup, Lookup: "volume", ID: "v"}, Environments{"staging": {"powerdns": {"zone": {"a."}}}})
		if !errors.Is(err, ErrUnplaced) {
			t.Errorf("error %v, want one that is %q", err, ErrUnplaced)
		}
	})
}

// TestRailwayPlaces holds the places that are given by value against the
// owner's environments.
func TestRailwayPlaces(t *testing.T) {
	for _, tt := range []struct {
		document string
		want     []Environment // nil: it is refused
	}{
		{`mutation{environmentDelete(id:"stg")}`, []Environment{"staging"}},
		{`mutation{environmentDelete(id:"STG")}`, nil},
		{`mutation{environmentDelete(id:"unnamed")}`, nil},
		{`query{environment(id:"stg",projectId:"P"){id}}`, []Environment{"staging"}},
		{`query{environment(id:"stg",projectId:"Q"){id}}`, nil},
		{`query{variables(environmentId:"prod",projectId:"P")}`, []Environment{"production"}},
		{`query{variables(environmentId:"prod",projectId:"Q")}`, nil},
		{`mutation{customDomainCreate(input:{domain:"d",environmentId:"other",projectId:"P",serviceId:"s"}){id}}`, nil},
		{`mutation{serviceDelete(id:"s")}`, []Environment{Account, "elsewhere", "production", "staging"}},
		{`query{me{id}}`, []Environment{Account}},
	} {
		t.Run(tt.document, func(t *testing.T) {
			_, acts, err := railwayClassify(railwayCatalog(t), railwayBody(tt.document))
			if err != nil {
				t.Fatal(err)
			}
			placed, err := acts[0].Locate(railwayEnvironments, nil)
			var got []Environment
			for _, a := range placed {
				got = append(got, a.Environment)
			}
			if !slices.Equal(got, tt.want) || (tt.want == nil) != errors.Is(err, ErrUnplaced) {
				t.Errorf("in %q, error %v; want %q", got, err, tt.want)
			}
		})
	}
}

// TestRailwayDescription holds what clients and the hand go by.
func TestRailwayDescription(t *testing.T) {
	d, err := railwayCatalog(t).Describe("railway")
	if err != nil {
		t.Fatal(err)
	}
	if d.Title != "Railway" || d.BaseURL != "https://backboard.railway.com" || d.GraphQL != "/graphql/v2" {
		t.Errorf("%+v", d)
	}
	if want := []string{"environment", "project"}; !slices.Equal(d.Keys, want) {
		t.Errorf("keys %q, want %q: the first is the one without which a call is everywhere", d.Keys, want)
	}
	if want := []Auth{{Name: "account", Type: Bearer}, {Name: "project", Type: Header, In: "Project-Access-Token"}}; !slices.Equal(d.Auth, want) {
		t.Errorf("auth %+v, want %+v", d.Auth, want)
	}
	if len(d.Client.URL) > 0 {
		t.Errorf("client url %q: no released client reads one", d.Client.URL)
	}
}

// FuzzGraphQL: whatever the body, nothing panics, and what is accepted is sent
// in a spelling that is judged alike.
func FuzzGraphQL(f *testing.F) {
	for _, tt := range railwayMatrix {
		f.Add(railwayBody(tt.document))
	}
	for _, tt := range railwayShown {
		f.Add(tt.body)
	}
	for _, tt := range railwayRefused {
		if len(tt.body) < 2000 {
			f.Add(tt.body)
		}
	}
	c := railwayCatalog(f)
	f.Fuzz(func(t *testing.T, body string) {
		call, acts, err := railwayClassify(c, body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnclassified) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		if len(acts) == 0 {
			t.Error("accepted, and does nothing")
		}
		railwayAgain(t, c, call, acts)
	})
}
