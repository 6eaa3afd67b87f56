package railwayd

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The ids never change, so that documents and tests can name them.
const (
	// The one project and the workspace it is in.
	WorkspaceID = "d7309c21-4323-493b-a7c4-21528d9f6899"
	UserID      = "7b1f8f3b-12da-4e1c-9d36-2727bb115f4e"
	ProjectID   = "bd8dcf64-979c-4a58-bbc4-88f93b7b18ed"

	// The two environments.
	StagingID    = "faa879d1-0155-4882-b2d7-82c79cda3526"
	ProductionID = "1de2aa68-857b-43a3-aa29-931e819bfcd3"

	// The services, and their instances in each environment.
	WebServiceID                 = "455f2fd9-b251-4a9f-a829-fadb6eb07b09"
	PostgresServiceID            = "b5b133bc-8167-43f5-be6b-cb26f5e06442"
	WebStagingInstanceID         = "aa018a7c-00fe-46ee-b31c-5dd14d537456"
	WebProductionInstanceID      = "fcf62c98-4b12-4e3c-bcd0-0552dfe34112"
	PostgresStagingInstanceID    = "1d5dc05c-f386-4a8e-8a5f-a47d960f0faa"
	PostgresProductionInstanceID = "b9f09160-a034-46ed-acec-9082994eaecb"

	// The volumes: postgres-data-staging, postgres-data and uploads, which has an instance in both environments.
	StagingVolumeID    = "96c4141f-e673-4027-ab64-163a3ae717a5"
	ProductionVolumeID = "cfd47631-5307-4f89-9936-77acaabf9c24"
	SharedVolumeID     = "a969cb76-b9c1-44a3-ab85-3dd910e6489c"

	// The volume instances.
	StagingVolumeInstanceID          = "6fc36fc7-0832-4615-8b0d-0a942c0721b4"
	ProductionVolumeInstanceID       = "2536057d-6875-42a7-a176-d314d00c88e7"
	SharedVolumeStagingInstanceID    = "258af0e6-b41d-4198-8b96-c67236afd79d"
	SharedVolumeProductionInstanceID = "d7214c7b-852b-490a-92f1-c540c31450e2"

	// The backups: one on each staging instance, three on each production instance.
	StagingBackupID           = "73bb455b-f4d1-4175-87ab-e674b3412a33"
	ProductionBackup1ID       = "28bcc768-35d9-424d-9fd8-eab252b2a783"
	ProductionBackup2ID       = "0d2a96b7-326b-499d-abf9-80d8217cddeb"
	ProductionBackup3ID       = "542de819-d1fe-4ce9-8dde-07b21de0f785"
	SharedStagingBackupID     = "098a8231-e394-4cd6-a077-cd2760947d45"
	SharedProductionBackup1ID = "5dc3c3de-a9b3-4c6c-b897-08887bb82456"
	SharedProductionBackup2ID = "870b32d4-f1f2-4aa0-9423-b2a90d8f5690"
	SharedProductionBackup3ID = "fe5672e8-0137-48bc-b098-933bed4c831a"

	// The backup schedules of the two production instances.
	ProductionScheduleID       = "41750ac2-031c-4639-a37d-cc9e515143d5"
	SharedProductionScheduleID = "33a14c81-9817-4626-a91d-7b92730c6822"

	// The domains of the service web.
	StagingCustomDomainID     = "e4cdf9e6-2309-4e73-9b9a-56254e74b0b7"
	ProductionCustomDomainID  = "6722edb8-ccf1-4e79-9398-4347c11bc5b2"
	StagingServiceDomainID    = "c8289d43-8580-4fc0-86f6-cca68346d862"
	ProductionServiceDomainID = "7406f7df-d6d3-4ba0-82fe-3720a9504408"

	// The latest deployments, and one that was replaced.
	WebStagingDeploymentID         = "f144b320-0053-4773-9aeb-88626fb5ff7b"
	WebProductionDeploymentID      = "14c1f96d-fcdb-4fdc-a0ab-b59c48a949e2"
	WebProductionOldDeploymentID   = "b3f0c94e-f73a-4bfd-b53b-dd1f2be1686d"
	PostgresStagingDeploymentID    = "d945aacc-1ffe-42cc-9b9f-4babd7905b0b"
	PostgresProductionDeploymentID = "ee1d7422-8b31-4b6d-be9a-f2d881ecc12d"

	// The project token that a caller with a project-access-token learns about.
	ProjectTokenID = "3f3df859-72a8-485c-bfc7-abd7360a5b39"
)

// projectGrace is how long a project that is scheduled for deletion can still be saved.
const projectGrace = 48 * time.Hour

// world is everything in the account. Its methods do not lock; [Server] does.
type world struct {
	projects         []*project
	environments     []*environment
	services         []*service
	serviceInstances []*serviceInstance
	volumes          []*volume
	volumeInstances  []*volumeInstance
	backups          []*backup
	schedules        []*schedule
	customDomains    []*domain
	serviceDomains   []*domain
	deployments      []*deployment
	variables        map[place]map[string]string
	tokens           []string // the names of the tokens that were minted
}

type project struct {
	id, name, description, baseEnvironmentID string
	isPublic, prDeploys, botPREnvironments   bool
	createdAt, updatedAt, deletedAt          time.Time // deletedAt lies ahead when deletion is scheduled
}

type environment struct {
	id, name, projectID  string
	createdAt, updatedAt time.Time
}

type service struct {
	id, name, projectID  string
	createdAt, updatedAt time.Time
}

type serviceInstance struct {
	id, serviceID, environmentID, startCommand string
	createdAt                                  time.Time
}

type volume struct {
	id, name, projectID string
	createdAt           time.Time
}

// volumeInstance is the disk itself: a volume has one in each environment that uses it.
type volumeInstance struct {
	id, volumeID, environmentID, serviceID string // serviceID is empty when the instance is detached
	mountPath, region, state               string
	sizeMB, usedMB                         int
	createdAt                              time.Time
}

// backup lives on a volume instance and dies with it.
type backup struct {
	id, name, instanceID string
	usedMB, instanceMB   int
	createdAt, expiresAt time.Time // a locked backup does not expire
}

type schedule struct {
	id, instanceID, kind string
	createdAt            time.Time
}

// domain is a custom domain or a service domain; which of the two is told by the list that it is in.
type domain struct {
	id, name, projectID, environmentID, serviceID string
	targetPort                                    int // 0 means none was given
	verified                                      bool
	createdAt, updatedAt                          time.Time
}

type deployment struct {
	id, projectID, environmentID, serviceID, status string
	createdAt                                       time.Time
}

// place is where variables are kept. Shared variables have no service.
type place struct{ environmentID, serviceID string }

// newWorld returns the account as it is before anything happens. The secrets in it are made up.
func newWorld() *world {
	then := time.Date(2026, time.April, 3, 9, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return then.AddDate(0, 0, n) }
	w := &world{
		projects: []*project{{
			id: ProjectID, name: "shop", description: "The shop and its database.", baseEnvironmentID: ProductionID,
			createdAt: then, updatedAt: then,
		}},
		environments: []*environment{
			{id: StagingID, name: "staging", projectID: ProjectID, createdAt: then, updatedAt: then},
			{id: ProductionID, name: "production", projectID: ProjectID, createdAt: then, updatedAt: then},
		},
		services: []*service{
			{id: WebServiceID, name: "web", projectID: ProjectID, createdAt: then, updatedAt: then},
			{id: PostgresServiceID, name: "postgres", projectID: ProjectID, createdAt: then, updatedAt: then},
		},
		serviceInstances: []*serviceInstance{
			{id: WebStagingInstanceID, serviceID: WebServiceID, environmentID: StagingID, startCommand: "./shop", createdAt: then},
			{id: WebProductionInstanceID, serviceID: WebServiceID, environmentID: ProductionID, startCommand: "./shop", createdAt: then},
			{id: PostgresStagingInstanceID, serviceID: PostgresServiceID, environmentID: StagingID, createdAt: then},
			{id: PostgresProductionInstanceID, serviceID: PostgresServiceID, environmentID: ProductionID, createdAt: then},
		},
		volumes: []*volume{
			{id: StagingVolumeID, name: "postgres-data-staging", projectID: ProjectID, createdAt: then},
			{id: ProductionVolumeID, name: "postgres-data", projectID: ProjectID, createdAt: then},
			{id: SharedVolumeID, name: "uploads", projectID: ProjectID, createdAt: then},
		},
		customDomains: []*domain{
			{id: StagingCustomDomainID, name: "staging.shop.example.com", environmentID: StagingID, verified: true},
			{id: ProductionCustomDomainID, name: "shop.example.com", environmentID: ProductionID, verified: true},
		},
		serviceDomains: []*domain{
			{id: StagingServiceDomainID, name: "web-staging-4c1e.up.railway.app", environmentID: StagingID},
			{id: ProductionServiceDomainID, name: "web-production-9f6a.up.railway.app", environmentID: ProductionID},
		},
		deployments: []*deployment{
			{id: WebProductionOldDeploymentID, environmentID: ProductionID, serviceID: WebServiceID, status: "REMOVED", createdAt: day(1)},
			{id: WebStagingDeploymentID, environmentID: StagingID, serviceID: WebServiceID, status: "SUCCESS", createdAt: day(2)},
			{id: WebProductionDeploymentID, environmentID: ProductionID, serviceID: WebServiceID, status: "SUCCESS", createdAt: day(3)},
			{id: PostgresStagingDeploymentID, environmentID: StagingID, serviceID: PostgresServiceID, status: "SUCCESS", createdAt: day(3)},
			{id: PostgresProductionDeploymentID, environmentID: ProductionID, serviceID: PostgresServiceID, status: "SUCCESS", createdAt: day(3)},
		},
		variables: map[place]map[string]string{
			{StagingID, ""}:                   {"LOG_LEVEL": "debug"},
			{ProductionID, ""}:                {"LOG_LEVEL": "info"},
			{StagingID, WebServiceID}:         {"PORT": "8080", "SESSION_SECRET": "made-up-session-secret-of-staging"},
			{ProductionID, WebServiceID}:      {"PORT": "8080", "SESSION_SECRET": "made-up-session-secret-of-production"},
			{StagingID, PostgresServiceID}:    {"DATABASE_URL": "postgres://shop:made-up-staging-password@postgres.railway.internal:5432/shop"},
			{ProductionID, PostgresServiceID}: {"DATABASE_URL": "postgres://shop:made-up-production-password@postgres.railway.internal:5432/shop"},
		},
	}
	for _, d := range append(slices.Clone(w.customDomains), w.serviceDomains...) {
		d.projectID, d.serviceID, d.targetPort = ProjectID, WebServiceID, 8080
		d.createdAt, d.updatedAt = then, then
	}
	for _, d := range w.deployments {
		d.projectID = ProjectID
	}
	w.seedVolume(StagingVolumeInstanceID, StagingVolumeID, StagingID, PostgresServiceID, "/var/lib/postgresql/data", then,
		StagingBackupID)
	w.seedVolume(ProductionVolumeInstanceID, ProductionVolumeID, ProductionID, PostgresServiceID, "/var/lib/postgresql/data", then,
		ProductionBackup1ID, ProductionBackup2ID, ProductionBackup3ID)
	w.seedVolume(SharedVolumeStagingInstanceID, SharedVolumeID, StagingID, WebServiceID, "/srv/uploads", then,
		SharedStagingBackupID)
	w.seedVolume(SharedVolumeProductionInstanceID, SharedVolumeID, ProductionID, WebServiceID, "/srv/uploads", then,
		SharedProductionBackup1ID, SharedProductionBackup2ID, SharedProductionBackup3ID)
	w.schedules = []*schedule{
		{id: ProductionScheduleID, instanceID: ProductionVolumeInstanceID, kind: "DAILY", createdAt: then},
		{id: SharedProductionScheduleID, instanceID: SharedVolumeProductionInstanceID, kind: "WEEKLY", createdAt: then},
	}
	return w
}

// seedVolume adds a volume instance with a backup for each of the last days.
func (w *world) seedVolume(id, volumeID, environmentID, serviceID, mountPath string, created time.Time, backupIDs ...string) {
	w.volumeInstances = append(w.volumeInstances, &volumeInstance{
		id: id, volumeID: volumeID, environmentID: environmentID, serviceID: serviceID, mountPath: mountPath,
		region: "europe-west4", state: "READY", sizeMB: 50_000, usedMB: 12_400, createdAt: created,
	})
	for i, backupID := range backupIDs {
		made := created.AddDate(0, 0, i+1)
		w.backups = append(w.backups, &backup{
			id: backupID, name: "daily " + made.Format(time.DateOnly), instanceID: id, usedMB: 12_000 + 100*i, instanceMB: 50_000,
			createdAt: made, expiresAt: made.AddDate(0, 0, 30),
		})
	}
}

func (w *world) counts() Counts {
	c := Counts{
		Projects: len(w.projects), Environments: len(w.environments),
		Services: len(w.services), ServiceInstances: len(w.serviceInstances),
		Volumes: len(w.volumes), VolumeInstances: len(w.volumeInstances),
		Backups: len(w.backups), Schedules: len(w.schedules),
		CustomDomains: len(w.customDomains), ServiceDomains: len(w.serviceDomains),
		Deployments: len(w.deployments), Tokens: len(w.tokens),
	}
	for _, variables := range w.variables {
		c.Variables += len(variables)
	}
	return c
}

// find returns the first item that matches, or an error that says what was not found.
func find[T any](what string, list []*T, matches func(*T) bool) (*T, error) {
	if i := slices.IndexFunc(list, matches); i >= 0 {
		return list[i], nil
	}
	return nil, complaint("%s not found", what)
}

// idsOf collects the names of the items that pick accepts.
func idsOf[T any](list []*T, pick func(*T) (string, bool)) []string {
	var ids []string
	for _, item := range list {
		if id, ok := pick(item); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func (w *world) project(id string) (*project, error) {
	return find("Project", w.projects, func(p *project) bool { return p.id == id })
}

func (w *world) environment(id string) (*environment, error) {
	return find("Environment", w.environments, func(e *environment) bool { return e.id == id })
}

// environmentIn is environment for callers who also name a project; an empty projectID is any.
func (w *world) environmentIn(id, projectID string) (*environment, error) {
	return find("Environment", w.environments, func(e *environment) bool {
		return e.id == id && (projectID == "" || e.projectID == projectID)
	})
}

func (w *world) service(id string) (*service, error) {
	return find("Service", w.services, func(s *service) bool { return s.id == id })
}

func (w *world) serviceInstance(serviceID, environmentID string) (*serviceInstance, error) {
	return find("ServiceInstance", w.serviceInstances, func(s *serviceInstance) bool {
		return s.serviceID == serviceID && s.environmentID == environmentID
	})
}

func (w *world) volume(id string) (*volume, error) {
	return find("Volume", w.volumes, func(v *volume) bool { return v.id == id })
}

func (w *world) volumeInstance(id string) (*volumeInstance, error) {
	return find("VolumeInstance", w.volumeInstances, func(v *volumeInstance) bool { return v.id == id })
}

func (w *world) backupOn(id, instanceID string) (*backup, error) {
	return find("Backup", w.backups, func(b *backup) bool { return b.id == id && b.instanceID == instanceID })
}

func (w *world) customDomain(id string) (*domain, error) {
	return find("CustomDomain", w.customDomains, func(d *domain) bool { return d.id == id })
}

func (w *world) serviceDomain(id string) (*domain, error) {
	return find("ServiceDomain", w.serviceDomains, func(d *domain) bool { return d.id == id })
}

func (w *world) deployment(id string) (*deployment, error) {
	return find("Deployment", w.deployments, func(d *deployment) bool { return d.id == id })
}

// domainTaken reports whether a name is in use, whatever its case.
func (w *world) domainTaken(name string) bool {
	same := func(d *domain) bool { return strings.EqualFold(d.name, name) }
	return slices.ContainsFunc(w.customDomains, same) || slices.ContainsFunc(w.serviceDomains, same)
}

// latestDeployment returns the newest deployment of a service in an environment, or nil. The list is in order of time.
func (w *world) latestDeployment(serviceID, environmentID string) *deployment {
	for _, d := range slices.Backward(w.deployments) {
		if d.serviceID == serviceID && d.environmentID == environmentID {
			return d
		}
	}
	return nil
}

// variablePlace says where the variables are that the arguments name, after checking that there is such a place.
func (w *world) variablePlace(args arguments) (place, error) {
	at := place{args.text("environmentId"), args.text("serviceId")}
	if _, err := w.project(args.text("projectId")); err != nil {
		return place{}, err
	}
	if _, err := w.environmentIn(at.environmentID, args.text("projectId")); err != nil {
		return place{}, err
	}
	if at.serviceID != "" {
		if _, err := w.serviceInstance(at.serviceID, at.environmentID); err != nil {
			return place{}, err
		}
	}
	return at, nil
}

// The mutations follow, in the order of the schema. Each answers what its field answers.

func (w *world) customDomainCreate(input arguments) (*domain, error) {
	name := input.text("domain")
	if _, err := w.project(input.text("projectId")); err != nil {
		return nil, err
	}
	if _, err := w.environmentIn(input.text("environmentId"), input.text("projectId")); err != nil {
		return nil, err
	}
	if _, err := w.serviceInstance(input.text("serviceId"), input.text("environmentId")); err != nil {
		return nil, err
	}
	if !strings.Contains(name, ".") {
		return nil, complaint("Invalid domain")
	}
	if w.domainTaken(name) {
		return nil, complaint("Domain is already in use")
	}
	d := newDomain(name, input.text("projectId"), input)
	w.customDomains = append(w.customDomains, d)
	return d, nil
}

func newDomain(name, projectID string, input arguments) *domain {
	port, _ := input["targetPort"].(int)
	return &domain{
		id: newID(), name: name, projectID: projectID, environmentID: input.text("environmentId"), serviceID: input.text("serviceId"),
		targetPort: port, createdAt: now(), updatedAt: now(),
	}
}

func (w *world) customDomainUpdate(args arguments) error {
	d, err := w.customDomain(args.text("id"))
	if err != nil {
		return err
	}
	if d.environmentID != args.text("environmentId") {
		return complaint("CustomDomain not found")
	}
	d.targetPort, _ = args["targetPort"].(int)
	d.updatedAt = now()
	return nil
}

func (w *world) customDomainDelete(id string) error {
	if _, err := w.customDomain(id); err != nil {
		return err
	}
	w.customDomains = slices.DeleteFunc(w.customDomains, func(d *domain) bool { return d.id == id })
	return nil
}

func (w *world) serviceDomainCreate(input arguments) (*domain, error) {
	e, err := w.environment(input.text("environmentId"))
	if err != nil {
		return nil, err
	}
	s, err := w.service(input.text("serviceId"))
	if err != nil {
		return nil, err
	}
	if _, err := w.serviceInstance(s.id, e.id); err != nil {
		return nil, err
	}
	d := newDomain(s.name+"-"+e.name+"-"+newID()[:4]+".up.railway.app", e.projectID, input)
	w.serviceDomains = append(w.serviceDomains, d)
	return d, nil
}

func (w *world) serviceDomainUpdate(input arguments) error {
	d, err := w.serviceDomain(input.text("serviceDomainId"))
	if err != nil {
		return err
	}
	if d.environmentID != input.text("environmentId") || d.serviceID != input.text("serviceId") {
		return complaint("ServiceDomain not found")
	}
	name := input.text("domain")
	if !strings.EqualFold(d.name, name) && w.domainTaken(name) {
		return complaint("Domain is already in use")
	}
	d.name, d.updatedAt = name, now()
	if port, given := input["targetPort"]; given {
		d.targetPort, _ = port.(int)
	}
	return nil
}

func (w *world) serviceDomainDelete(id string) error {
	if _, err := w.serviceDomain(id); err != nil {
		return err
	}
	w.serviceDomains = slices.DeleteFunc(w.serviceDomains, func(d *domain) bool { return d.id == id })
	return nil
}

func (w *world) variableUpsert(input arguments) error {
	at, err := w.variablePlace(input)
	if err != nil {
		return err
	}
	w.setVariables(at, map[string]string{input.text("name"): input.text("value")})
	return nil
}

func (w *world) setVariables(at place, variables map[string]string) {
	if w.variables[at] == nil {
		w.variables[at] = map[string]string{}
	}
	maps.Copy(w.variables[at], variables)
}

func (w *world) variableDelete(input arguments) error {
	at, err := w.variablePlace(input)
	if err != nil {
		return err
	}
	if _, exists := w.variables[at][input.text("name")]; !exists {
		return complaint("Variable not found")
	}
	delete(w.variables[at], input.text("name"))
	return nil
}

// variableCollectionUpsert sets many variables; with replace, those that it does not name are gone.
func (w *world) variableCollectionUpsert(input arguments) error {
	at, err := w.variablePlace(input)
	if err != nil {
		return err
	}
	given, ok := input["variables"].(map[string]any)
	if !ok {
		return complaint("Variables must be an object of strings")
	}
	variables := map[string]string{}
	for name, value := range given {
		text, ok := value.(string)
		if !ok {
			return complaint("Variables must be an object of strings")
		}
		variables[name] = text
	}
	if replace, _ := input["replace"].(bool); replace {
		delete(w.variables, at)
	}
	w.setVariables(at, variables)
	return nil
}

// volumeCreate makes a volume with an instance in the named environment, or in all of them if none is named.
func (w *world) volumeCreate(input arguments) (*volume, error) {
	p, err := w.project(input.text("projectId"))
	if err != nil {
		return nil, err
	}
	environmentID, serviceID, region := input.text("environmentId"), input.text("serviceId"), input.text("region")
	if environmentID != "" {
		if _, err := w.environmentIn(environmentID, p.id); err != nil {
			return nil, err
		}
	}
	if serviceID != "" {
		if _, err := w.service(serviceID); err != nil {
			return nil, err
		}
	}
	if region == "" {
		region = "europe-west4"
	}
	v := &volume{id: newID(), name: "volume-" + newID()[:4], projectID: p.id, createdAt: now()}
	w.volumes = append(w.volumes, v)
	for _, e := range w.environments {
		if e.projectID == p.id && (environmentID == "" || e.id == environmentID) {
			w.volumeInstances = append(w.volumeInstances, &volumeInstance{
				id: newID(), volumeID: v.id, environmentID: e.id, serviceID: serviceID, mountPath: input.text("mountPath"),
				region: region, state: "READY", sizeMB: 50_000, createdAt: now(),
			})
		}
	}
	return v, nil
}

func (w *world) volumeUpdate(id string, input arguments) (*volume, error) {
	v, err := w.volume(id)
	if err != nil {
		return nil, err
	}
	if name := input.text("name"); name != "" {
		v.name = name
	}
	return v, nil
}

// volumeInstanceUpdate changes the instance in the named environment, or in all of them if none is named. An explicit
// null for serviceId detaches.
func (w *world) volumeInstanceUpdate(args arguments) error {
	volumeID, environmentID, input := args.text("volumeId"), args.text("environmentId"), args.input("input")
	if _, err := w.volume(volumeID); err != nil {
		return err
	}
	if serviceID := input.text("serviceId"); serviceID != "" {
		if _, err := w.service(serviceID); err != nil {
			return err
		}
	}
	concerned := slices.DeleteFunc(slices.Clone(w.volumeInstances), func(v *volumeInstance) bool {
		return v.volumeID != volumeID || environmentID != "" && v.environmentID != environmentID
	})
	if len(concerned) == 0 {
		return complaint("VolumeInstance not found")
	}
	for _, v := range concerned {
		if path := input.text("mountPath"); path != "" {
			v.mountPath = path
		}
		if state, ok := input["state"].(enumWord); ok {
			v.state = string(state)
		}
		if _, given := input["serviceId"]; given {
			v.serviceID = input.text("serviceId")
		}
	}
	return nil
}

// volumeDelete is the call of the incident: one id, no environment, no second question. The instances in every
// environment go, and the backups with them.
func (w *world) volumeDelete(id string) error {
	if _, err := w.volume(id); err != nil {
		return err
	}
	w.removeVolumeInstances(func(v *volumeInstance) bool { return v.volumeID == id })
	w.volumes = slices.DeleteFunc(w.volumes, func(v *volume) bool { return v.id == id })
	return nil
}

// removeVolumeInstances removes instances and what lives on them.
func (w *world) removeVolumeInstances(gone func(*volumeInstance) bool) {
	ids := idsOf(w.volumeInstances, func(v *volumeInstance) (string, bool) { return v.id, gone(v) })
	w.volumeInstances = slices.DeleteFunc(w.volumeInstances, gone)
	w.backups = slices.DeleteFunc(w.backups, func(b *backup) bool { return slices.Contains(ids, b.instanceID) })
	w.schedules = slices.DeleteFunc(w.schedules, func(s *schedule) bool { return slices.Contains(ids, s.instanceID) })
}

func (w *world) backupCreate(instanceID, name string) error {
	v, err := w.volumeInstance(instanceID)
	if err != nil {
		return err
	}
	w.backups = append(w.backups, &backup{
		id: newID(), name: name, instanceID: v.id, usedMB: v.usedMB, instanceMB: v.sizeMB,
		createdAt: now(), expiresAt: now().AddDate(0, 0, 30),
	})
	return nil
}

func (w *world) backupDelete(id, instanceID string) error {
	if _, err := w.backupOn(id, instanceID); err != nil {
		return err
	}
	w.backups = slices.DeleteFunc(w.backups, func(b *backup) bool { return b.id == id })
	return nil
}

func (w *world) backupLock(id, instanceID string) error {
	b, err := w.backupOn(id, instanceID)
	if err != nil {
		return err
	}
	b.expiresAt = time.Time{}
	return nil
}

// backupRestore overwrites the live volume with the backup, and empties the volumes of the services to wipe. What is on
// a volume is known here only by its size.
func (w *world) backupRestore(args arguments) error {
	b, err := w.backupOn(args.text("volumeInstanceBackupId"), args.text("volumeInstanceId"))
	if err != nil {
		return err
	}
	restored, err := w.volumeInstance(b.instanceID)
	if err != nil {
		return err
	}
	wiped := args.texts("wipeServiceIds")
	for _, v := range w.volumeInstances {
		if v.environmentID == restored.environmentID && slices.Contains(wiped, v.serviceID) {
			v.usedMB = 0
		}
	}
	restored.usedMB = b.usedMB
	return nil
}

// scheduleUpdate replaces the schedules of an instance; an empty list of kinds ends its backups.
func (w *world) scheduleUpdate(instanceID string, kinds []any) error {
	if _, err := w.volumeInstance(instanceID); err != nil {
		return err
	}
	w.schedules = slices.DeleteFunc(w.schedules, func(s *schedule) bool { return s.instanceID == instanceID })
	for _, kind := range kinds {
		word, _ := kind.(enumWord)
		w.schedules = append(w.schedules, &schedule{id: newID(), instanceID: instanceID, kind: string(word), createdAt: now()})
	}
	return nil
}

// environmentDelete removes an environment with everything in it. A volume that has no instance left goes too.
func (w *world) environmentDelete(id string) error {
	if _, err := w.environment(id); err != nil {
		return err
	}
	w.removeVolumeInstances(func(v *volumeInstance) bool { return v.environmentID == id })
	w.volumes = slices.DeleteFunc(w.volumes, func(v *volume) bool {
		return !slices.ContainsFunc(w.volumeInstances, func(i *volumeInstance) bool { return i.volumeID == v.id })
	})
	w.removeServiceInstances(func(s *serviceInstance) bool { return s.environmentID == id })
	maps.DeleteFunc(w.variables, func(at place, _ map[string]string) bool { return at.environmentID == id })
	w.environments = slices.DeleteFunc(w.environments, func(e *environment) bool { return e.id == id })
	return nil
}

// removeServiceInstances removes instances with their domains, deployments and variables. Volumes are only detached.
func (w *world) removeServiceInstances(gone func(*serviceInstance) bool) {
	places := map[place]bool{}
	for _, s := range w.serviceInstances {
		if gone(s) {
			places[place{s.environmentID, s.serviceID}] = true
		}
	}
	w.serviceInstances = slices.DeleteFunc(w.serviceInstances, gone)
	inPlace := func(d *domain) bool { return places[place{d.environmentID, d.serviceID}] }
	w.customDomains = slices.DeleteFunc(w.customDomains, inPlace)
	w.serviceDomains = slices.DeleteFunc(w.serviceDomains, inPlace)
	w.deployments = slices.DeleteFunc(w.deployments, func(d *deployment) bool { return places[place{d.environmentID, d.serviceID}] })
	maps.DeleteFunc(w.variables, func(at place, _ map[string]string) bool { return places[at] })
	for _, v := range w.volumeInstances {
		if places[place{v.environmentID, v.serviceID}] {
			v.serviceID = ""
		}
	}
}

func (w *world) environmentRename(id, name string) (*environment, error) {
	e, err := w.environment(id)
	if err != nil {
		return nil, err
	}
	e.name, e.updatedAt = name, now()
	return e, nil
}

func (w *world) projectDelete(id string) error {
	if _, err := w.project(id); err != nil {
		return err
	}
	for _, e := range slices.Clone(w.environments) {
		if e.projectID == id {
			if err := w.environmentDelete(e.id); err != nil {
				return err
			}
		}
	}
	w.volumes = slices.DeleteFunc(w.volumes, func(v *volume) bool { return v.projectID == id })
	w.services = slices.DeleteFunc(w.services, func(s *service) bool { return s.projectID == id })
	w.projects = slices.DeleteFunc(w.projects, func(p *project) bool { return p.id == id })
	return nil
}

func (w *world) projectUpdate(id string, input arguments) (*project, error) {
	p, err := w.project(id)
	if err != nil {
		return nil, err
	}
	texts := map[string]*string{"name": &p.name, "description": &p.description, "baseEnvironmentId": &p.baseEnvironmentID}
	for name, field := range texts {
		if value, ok := input[name].(string); ok {
			*field = value
		}
	}
	flags := map[string]*bool{"isPublic": &p.isPublic, "prDeploys": &p.prDeploys, "botPrEnvironments": &p.botPREnvironments}
	for name, field := range flags {
		if value, ok := input[name].(bool); ok {
			*field = value
		}
	}
	p.updatedAt = now()
	return p, nil
}

// projectScheduleDelete sets the hour, or with the zero time takes it back. Nothing here waits for the hour to come.
func (w *world) projectScheduleDelete(id string, at time.Time) error {
	p, err := w.project(id)
	if err != nil {
		return err
	}
	p.deletedAt = at
	return nil
}

// serviceDelete removes a service from the named environment, or altogether if none is named.
func (w *world) serviceDelete(id, environmentID string) error {
	if _, err := w.service(id); err != nil {
		return err
	}
	if environmentID != "" {
		if _, err := w.serviceInstance(id, environmentID); err != nil {
			return err
		}
	}
	w.removeServiceInstances(func(s *serviceInstance) bool {
		return s.serviceID == id && (environmentID == "" || s.environmentID == environmentID)
	})
	if environmentID == "" {
		w.services = slices.DeleteFunc(w.services, func(s *service) bool { return s.id == id })
	}
	return nil
}

// redeploy puts a new deployment in the place of the present one.
func (w *world) redeploy(serviceID, environmentID string) (*deployment, error) {
	if _, err := w.serviceInstance(serviceID, environmentID); err != nil {
		return nil, err
	}
	s, err := w.service(serviceID)
	if err != nil {
		return nil, err
	}
	if present := w.latestDeployment(serviceID, environmentID); present != nil {
		present.status = "REMOVED"
	}
	d := &deployment{
		id: newID(), projectID: s.projectID, environmentID: environmentID, serviceID: serviceID, status: "SUCCESS", createdAt: now(),
	}
	w.deployments = append(w.deployments, d)
	return d, nil
}

// mint makes a token. It is remembered by name only, and it opens nothing.
func (w *world) mint(name string) string {
	w.tokens = append(w.tokens, name)
	return newID()
}

// newID returns a random UUID, version 4.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails; it ends the program instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func now() time.Time { return time.Now().UTC() }
