package railwayd

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"time"
)

// notAuthorized is the vendor's message to a caller whose key is not accepted, or not for this.
const notAuthorized = "Not Authorized"

// resolvers answers the fields of the schema for one request, over a world that the caller has locked.
type resolvers struct {
	world     *world
	who       identity
	pageLimit int // the most items that a page may have, or 0
}

// query is the value of the type Query. Each field is in the table of its subject, because one table of them all would
// not fit a screen. The same goes for mutation.
func (r resolvers) query() object {
	return merged(r.accountQueries(), r.projectQueries(), r.serviceQueries(), r.volumeQueries(), r.domainQueries())
}

// accountQueries answers who the caller is, and each kind of key may ask only about itself.
func (r resolvers) accountQueries() object {
	return object{
		"me": resolver(func(arguments) (any, error) {
			if r.who != accountToken {
				return nil, complaint(notAuthorized)
			}
			return r.user(), nil
		}),
		"apiToken": resolver(func(arguments) (any, error) {
			if r.who != accountToken {
				return nil, complaint(notAuthorized)
			}
			return object{"workspaces": []any{object{"id": WorkspaceID, "name": "Shopkeepers"}}}, nil
		}),
		"projectToken": resolver(func(arguments) (any, error) {
			if r.who != projectToken {
				return nil, complaint(notAuthorized)
			}
			return object{
				"id": ProjectTokenID, "name": "shop-production", "displayToken": "****-made-up",
				"projectId": ProjectID, "environmentId": ProductionID, "createdAt": timestamp(now()),
				"project": r.projectByID(ProjectID), "environment": r.environmentByID(ProductionID),
			}, nil
		}),
	}
}

// projectQueries answers what projects there are, and what environments they have.
func (r resolvers) projectQueries() object {
	w := r.world
	return object{
		"projects": resolver(func(args arguments) (any, error) {
			if r.who != accountToken {
				return nil, complaint(notAuthorized)
			}
			if id, given := args["workspaceId"].(string); given && id != WorkspaceID {
				return nil, complaint("Workspace not found")
			}
			return r.projects()(args)
		}),
		"project": resolver(func(args arguments) (any, error) {
			return one(r.project)(w.project(args.text("id")))
		}),
		"environment": resolver(func(args arguments) (any, error) {
			return one(r.environment)(w.environmentIn(args.text("id"), args.text("projectId")))
		}),
		"environments": resolver(func(args arguments) (any, error) {
			p, err := w.project(args.text("projectId"))
			if err != nil {
				return nil, err
			}
			return r.environments(p)(args)
		}),
	}
}

// serviceQueries answers what runs, and with which variables.
func (r resolvers) serviceQueries() object {
	w := r.world
	return object{
		"service": resolver(func(args arguments) (any, error) {
			return one(r.service)(w.service(args.text("id")))
		}),
		"serviceInstance": resolver(func(args arguments) (any, error) {
			return one(r.serviceInstance)(w.serviceInstance(args.text("serviceId"), args.text("environmentId")))
		}),
		"deployment": resolver(func(args arguments) (any, error) {
			return one(r.deployment)(w.deployment(args.text("id")))
		}),
		"deployments": resolver(func(args arguments) (any, error) {
			return r.deployments(wantedDeployment(args.input("input")))(args)
		}),
		"variables": resolver(func(args arguments) (any, error) {
			at, err := w.variablePlace(args)
			if err != nil {
				return nil, err
			}
			variables := maps.Clone(w.variables[at])
			if variables == nil {
				variables = map[string]string{}
			}
			return variables, nil
		}),
	}
}

// volumeQueries answers what is stored, and what backups there are of it.
func (r resolvers) volumeQueries() object {
	w := r.world
	return object{
		"volumeInstance": resolver(func(args arguments) (any, error) {
			return one(r.volumeInstance)(w.volumeInstance(args.text("id")))
		}),
		"volumeInstanceBackupList": resolver(func(args arguments) (any, error) {
			v, err := w.volumeInstance(args.text("volumeInstanceId"))
			if err != nil {
				return nil, err
			}
			return objects(w.backups, backupObject, func(b *backup) bool { return b.instanceID == v.id }), nil
		}),
		"volumeInstanceBackupScheduleList": resolver(func(args arguments) (any, error) {
			v, err := w.volumeInstance(args.text("volumeInstanceId"))
			if err != nil {
				return nil, err
			}
			return objects(w.schedules, scheduleObject, func(s *schedule) bool { return s.instanceID == v.id }), nil
		}),
		"adminVolumeInstancesForVolume": resolver(func(arguments) (any, error) {
			return nil, complaint(notAuthorized)
		}),
	}
}

// domainQueries answers where the services are reached, and which names are free.
func (r resolvers) domainQueries() object {
	w := r.world
	return object{
		"customDomain": resolver(func(args arguments) (any, error) {
			d, err := w.customDomain(args.text("id"))
			if err == nil && d.projectID != args.text("projectId") {
				return nil, complaint("CustomDomain not found")
			}
			return one(customDomainObject)(d, err)
		}),
		"domains": resolver(func(args arguments) (any, error) {
			if _, err := w.environmentIn(args.text("environmentId"), args.text("projectId")); err != nil {
				return nil, err
			}
			s, err := w.serviceInstance(args.text("serviceId"), args.text("environmentId"))
			if err != nil {
				return nil, err
			}
			return r.allDomains(s), nil
		}),
		"customDomainAvailable":  resolver(r.domainAvailable),
		"serviceDomainAvailable": resolver(r.domainAvailable),
	}
}

// mutation is the value of the type Mutation.
func (r resolvers) mutation() object {
	return merged(r.accountMutations(), r.projectMutations(), r.serviceMutations(), r.volumeMutations(), r.domainMutations())
}

// accountMutations makes tokens, which are counted and open nothing.
func (r resolvers) accountMutations() object {
	w := r.world
	return object{
		"apiTokenCreate": resolver(func(args arguments) (any, error) {
			input := args.input("input")
			if r.who != accountToken {
				return nil, complaint(notAuthorized)
			}
			if id, given := input["workspaceId"].(string); given && id != WorkspaceID {
				return nil, complaint("Workspace not found")
			}
			return w.mint(input.text("name")), nil
		}),
		"projectTokenCreate": resolver(func(args arguments) (any, error) {
			input := args.input("input")
			if _, err := w.project(input.text("projectId")); err != nil {
				return nil, err
			}
			if _, err := w.environmentIn(input.text("environmentId"), input.text("projectId")); err != nil {
				return nil, err
			}
			return w.mint(input.text("name")), nil
		}),
	}
}

// projectMutations changes projects and environments, or deletes them with all that is in them.
func (r resolvers) projectMutations() object {
	w := r.world
	return object{
		"environmentDelete": resolver(func(args arguments) (any, error) {
			return done(w.environmentDelete(args.text("id")))
		}),
		"environmentRename": resolver(func(args arguments) (any, error) {
			return one(r.environment)(w.environmentRename(args.text("id"), args.input("input").text("name")))
		}),
		"projectDelete": resolver(func(args arguments) (any, error) {
			return done(w.projectDelete(args.text("id")))
		}),
		"projectUpdate": resolver(func(args arguments) (any, error) {
			return one(r.project)(w.projectUpdate(args.text("id"), args.input("input")))
		}),
		"projectScheduleDelete": resolver(func(args arguments) (any, error) {
			return done(w.projectScheduleDelete(args.text("id"), now().Add(projectGrace)))
		}),
		"projectScheduleDeleteCancel": resolver(func(args arguments) (any, error) {
			return done(w.projectScheduleDelete(args.text("id"), time.Time{}))
		}),
	}
}

// serviceMutations changes what runs, and its variables.
func (r resolvers) serviceMutations() object {
	w := r.world
	return object{
		"serviceDelete": resolver(func(args arguments) (any, error) {
			return done(w.serviceDelete(args.text("id"), args.text("environmentId")))
		}),
		"serviceInstanceRedeploy": resolver(func(args arguments) (any, error) {
			_, err := w.redeploy(args.text("serviceId"), args.text("environmentId"))
			return done(err)
		}),
		"deploymentRedeploy": resolver(func(args arguments) (any, error) {
			d, err := w.deployment(args.text("id"))
			if err != nil {
				return nil, err
			}
			return one(r.deployment)(w.redeploy(d.serviceID, d.environmentID))
		}),
		"deploymentRestart": resolver(func(args arguments) (any, error) {
			_, err := w.deployment(args.text("id"))
			return done(err)
		}),
		"variableUpsert": resolver(func(args arguments) (any, error) {
			return done(w.variableUpsert(args.input("input")))
		}),
		"variableDelete": resolver(func(args arguments) (any, error) {
			return done(w.variableDelete(args.input("input")))
		}),
		"variableCollectionUpsert": resolver(func(args arguments) (any, error) {
			return done(w.variableCollectionUpsert(args.input("input")))
		}),
	}
}

// volumeMutations changes what is stored, and the backups of it.
func (r resolvers) volumeMutations() object {
	w := r.world
	return object{
		"volumeCreate": resolver(func(args arguments) (any, error) {
			return one(r.volume)(w.volumeCreate(args.input("input")))
		}),
		"volumeUpdate": resolver(func(args arguments) (any, error) {
			return one(r.volume)(w.volumeUpdate(args.text("volumeId"), args.input("input")))
		}),
		"volumeInstanceUpdate": resolver(func(args arguments) (any, error) {
			return done(w.volumeInstanceUpdate(args))
		}),
		"volumeDelete": resolver(func(args arguments) (any, error) {
			return done(w.volumeDelete(args.text("volumeId")))
		}),
		"volumeInstanceBackupCreate": resolver(func(args arguments) (any, error) {
			return workflow(w.backupCreate(args.text("volumeInstanceId"), args.text("name")))
		}),
		"volumeInstanceBackupDelete": resolver(func(args arguments) (any, error) {
			return workflow(w.backupDelete(args.text("volumeInstanceBackupId"), args.text("volumeInstanceId")))
		}),
		"volumeInstanceBackupLock": resolver(func(args arguments) (any, error) {
			return done(w.backupLock(args.text("volumeInstanceBackupId"), args.text("volumeInstanceId")))
		}),
		"volumeInstanceBackupRestore": resolver(func(args arguments) (any, error) {
			return workflow(w.backupRestore(args))
		}),
		"volumeInstanceBackupScheduleUpdate": resolver(func(args arguments) (any, error) {
			kinds, _ := args["kinds"].([]any)
			return done(w.scheduleUpdate(args.text("volumeInstanceId"), kinds))
		}),
	}
}

// domainMutations changes where the services are reached.
func (r resolvers) domainMutations() object {
	w := r.world
	return object{
		"customDomainCreate": resolver(func(args arguments) (any, error) {
			return one(customDomainObject)(w.customDomainCreate(args.input("input")))
		}),
		"customDomainUpdate": resolver(func(args arguments) (any, error) {
			return done(w.customDomainUpdate(args))
		}),
		"customDomainDelete": resolver(func(args arguments) (any, error) {
			return done(w.customDomainDelete(args.text("id")))
		}),
		"serviceDomainCreate": resolver(func(args arguments) (any, error) {
			return one(serviceDomainObject)(w.serviceDomainCreate(args.input("input")))
		}),
		"serviceDomainUpdate": resolver(func(args arguments) (any, error) {
			return done(w.serviceDomainUpdate(args.input("input")))
		}),
		"serviceDomainDelete": resolver(func(args arguments) (any, error) {
			return done(w.serviceDomainDelete(args.text("id")))
		}),
	}
}

// merged is one table of what several hold. No field may be in two of them, since the later one would win in silence.
func merged(tables ...object) object {
	all := object{}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}

// The objects follow. Fields that lead to other objects are resolvers, since the objects lead back.

func (r resolvers) user() object {
	created := timestamp(time.Date(2026, time.April, 1, 9, 0, 0, 0, time.UTC))
	workspace := object{
		"id": WorkspaceID, "name": "Shopkeepers", "createdAt": created, "updatedAt": created,
		"projectCount": len(r.world.projects), "projects": r.projects(),
	}
	return object{
		"id": UserID, "name": "Sam Shopkeeper", "email": "sam@shop.example.com", "username": "sam",
		"isAdmin": false, "isVerified": true, "has2FA": true, "createdAt": created,
		"workspaces": []any{workspace}, "projects": r.projects(),
	}
}

func (r resolvers) project(p *project) object {
	return object{
		"id": p.id, "name": p.name, "description": textOrNull(p.description), "isPublic": p.isPublic,
		"prDeploys": p.prDeploys, "botPrEnvironments": p.botPREnvironments,
		"baseEnvironmentId": textOrNull(p.baseEnvironmentID), "primaryEnvironmentId": textOrNull(p.baseEnvironmentID),
		"workspaceId": WorkspaceID,
		"workspace":   resolver(func(arguments) (any, error) { return r.user()["workspaces"].([]any)[0], nil }),
		"createdAt":   timestamp(p.createdAt), "updatedAt": timestamp(p.updatedAt), "deletedAt": timeOrNull(p.deletedAt),
		"environments": r.environments(p),
		"services":     list(r, &r.world.services, r.service, func(s *service) bool { return s.projectID == p.id }),
		"volumes":      list(r, &r.world.volumes, r.volume, func(v *volume) bool { return v.projectID == p.id }),
		"deployments":  r.deployments(func(d *deployment) bool { return d.projectID == p.id }),
	}
}

func (r resolvers) environment(e *environment) object {
	return object{
		"id": e.id, "name": e.name, "projectId": e.projectID, "isEphemeral": false, "canAccess": true,
		"createdAt": timestamp(e.createdAt), "updatedAt": timestamp(e.updatedAt), "deletedAt": nil,
		"config": resolver(func(args arguments) (any, error) {
			decrypt, _ := args["decryptVariables"].(bool)
			return r.environmentConfig(e, decrypt), nil
		}),
		"serviceInstances": list(r, &r.world.serviceInstances, r.serviceInstance,
			func(s *serviceInstance) bool { return s.environmentID == e.id }),
		"volumeInstances": list(r, &r.world.volumeInstances, r.volumeInstance,
			func(v *volumeInstance) bool { return v.environmentID == e.id }),
		"variables":   resolver(func(args arguments) (any, error) { return r.page(r.variables(e), args) }),
		"deployments": r.deployments(func(d *deployment) bool { return d.environmentID == e.id }),
	}
}

// environmentConfig is an opaque JSON value to the schema. It holds the secrets only if they are asked for.
func (r resolvers) environmentConfig(e *environment, decrypt bool) any {
	variablesAt := func(at place) map[string]any {
		out := map[string]any{}
		for name, value := range r.world.variables[at] {
			if decrypt {
				out[name] = map[string]any{"value": value}
			} else {
				out[name] = map[string]any{}
			}
		}
		return out
	}
	services, volumes := map[string]any{}, map[string]any{}
	for _, s := range r.world.serviceInstances {
		if s.environmentID == e.id {
			services[s.serviceID] = map[string]any{"variables": variablesAt(place{e.id, s.serviceID})}
		}
	}
	for _, v := range r.world.volumeInstances {
		if v.environmentID == e.id {
			volumes[v.volumeID] = map[string]any{"sizeMB": v.sizeMB, "region": v.region}
		}
	}
	return map[string]any{"services": services, "volumes": volumes, "sharedVariables": variablesAt(place{e.id, ""})}
}

// variables lists the variables of an environment without their values, sorted so that pages are stable.
func (r resolvers) variables(e *environment) []object {
	var all []object
	for at, variables := range r.world.variables {
		if at.environmentID != e.id {
			continue
		}
		for name := range variables {
			all = append(all, object{
				"id": at.environmentID + "/" + at.serviceID + "/" + name, "name": name, "isSealed": false,
				"environmentId": at.environmentID, "serviceId": textOrNull(at.serviceID), "createdAt": timestamp(e.createdAt),
				"environment": r.environmentByID(at.environmentID), "service": r.serviceByID(at.serviceID),
			})
		}
	}
	slices.SortFunc(all, func(a, b object) int { return strings.Compare(a["id"].(string), b["id"].(string)) })
	return all
}

func (r resolvers) service(s *service) object {
	return object{
		"id": s.id, "name": s.name, "icon": nil, "projectId": s.projectID, "project": r.projectByID(s.projectID),
		"createdAt": timestamp(s.createdAt), "updatedAt": timestamp(s.updatedAt), "deletedAt": nil,
		"serviceInstances": list(r, &r.world.serviceInstances, r.serviceInstance,
			func(i *serviceInstance) bool { return i.serviceID == s.id }),
		"deployments": r.deployments(func(d *deployment) bool { return d.serviceID == s.id }),
	}
}

func (r resolvers) serviceInstance(s *serviceInstance) object {
	name := ""
	if of, err := r.world.service(s.serviceID); err == nil {
		name = of.name
	}
	latest := func() any {
		if d := r.world.latestDeployment(s.serviceID, s.environmentID); d != nil {
			return r.deployment(d)
		}
		return nil
	}
	return object{
		"id": s.id, "serviceId": s.serviceID, "serviceName": name, "environmentId": s.environmentID,
		"service": r.serviceByID(s.serviceID), "startCommand": textOrNull(s.startCommand),
		"buildCommand": nil, "rootDirectory": nil, "healthcheckPath": nil, "cronSchedule": nil,
		"region": "europe-west4", "numReplicas": 1, "isUpdatable": true,
		"createdAt": timestamp(s.createdAt), "updatedAt": timestamp(s.createdAt), "deletedAt": nil,
		"domains":          resolver(func(arguments) (any, error) { return r.allDomains(s), nil }),
		"latestDeployment": resolver(func(arguments) (any, error) { return latest(), nil }),
		"activeDeployments": resolver(func(arguments) (any, error) {
			return objects(r.world.deployments, r.deployment, func(d *deployment) bool {
				return d.serviceID == s.serviceID && d.environmentID == s.environmentID && d.status == "SUCCESS"
			}), nil
		}),
	}
}

func (r resolvers) allDomains(s *serviceInstance) object {
	here := func(d *domain) bool { return d.serviceID == s.serviceID && d.environmentID == s.environmentID }
	return object{
		"customDomains":  objects(r.world.customDomains, customDomainObject, here),
		"serviceDomains": objects(r.world.serviceDomains, serviceDomainObject, here),
	}
}

func (r resolvers) volume(v *volume) object {
	return object{
		"id": v.id, "name": v.name, "projectId": v.projectID, "project": r.projectByID(v.projectID), "createdAt": timestamp(v.createdAt),
		"volumeInstances": list(r, &r.world.volumeInstances, r.volumeInstance,
			func(i *volumeInstance) bool { return i.volumeID == v.id }),
	}
}

func (r resolvers) volumeInstance(v *volumeInstance) object {
	return object{
		"id": v.id, "volumeId": v.volumeID, "environmentId": v.environmentID, "serviceId": textOrNull(v.serviceID),
		"mountPath": v.mountPath, "sizeMB": v.sizeMB, "currentSizeMB": float64(v.usedMB), "state": v.state, "region": v.region,
		"externalId": nil, "isPendingDeletion": false, "createdAt": timestamp(v.createdAt), "deletedAt": nil,
		"volume":      resolver(func(arguments) (any, error) { return one(r.volume)(r.world.volume(v.volumeID)) }),
		"environment": r.environmentByID(v.environmentID), "service": r.serviceByID(v.serviceID),
	}
}

func (r resolvers) deployment(d *deployment) object {
	var url any
	for _, s := range r.world.serviceDomains {
		if s.serviceID == d.serviceID && s.environmentID == d.environmentID {
			url = s.name
		}
	}
	return object{
		"id": d.id, "status": d.status, "projectId": d.projectID, "environmentId": d.environmentID, "serviceId": d.serviceID,
		"environment": r.environmentByID(d.environmentID), "service": r.serviceByID(d.serviceID),
		"url": url, "staticUrl": url, "canRedeploy": true, "canRollback": d.status == "REMOVED", "deploymentStopped": d.status == "REMOVED",
		"createdAt": timestamp(d.createdAt), "updatedAt": timestamp(d.createdAt), "statusUpdatedAt": timestamp(d.createdAt),
	}
}

func (r resolvers) domainAvailable(args arguments) (any, error) {
	if r.world.domainTaken(args.text("domain")) {
		return object{"available": false, "message": "This domain is already in use"}, nil
	}
	return object{"available": true, "message": "This domain is available"}, nil
}

func backupObject(b *backup) object {
	return object{
		"id": b.id, "name": textOrNull(b.name), "externalId": "snapshot-" + b.id, "creatorId": nil, "scheduleId": nil,
		"usedMB": b.usedMB, "referencedMB": b.usedMB, "volumeInstanceSizeMB": b.instanceMB,
		"createdAt": timestamp(b.createdAt), "expiresAt": timeOrNull(b.expiresAt),
	}
}

func scheduleObject(s *schedule) object {
	crons := map[string]string{"DAILY": "0 3 * * *", "WEEKLY": "0 3 * * 0", "MONTHLY": "0 3 1 * *"}
	days := map[string]int{"DAILY": 6, "WEEKLY": 30, "MONTHLY": 90}
	return object{
		"id": s.id, "name": strings.ToLower(s.kind), "kind": s.kind, "cron": crons[s.kind],
		"retentionSeconds": days[s.kind] * 24 * 60 * 60, "createdAt": timestamp(s.createdAt),
	}
}

func domainObject(d *domain) object {
	return object{
		"id": d.id, "domain": d.name, "projectId": d.projectID, "environmentId": d.environmentID, "serviceId": d.serviceID,
		"targetPort": portOrNull(d.targetPort), "edgeId": nil, "syncStatus": "ACTIVE",
		"createdAt": timestamp(d.createdAt), "updatedAt": timestamp(d.updatedAt), "deletedAt": nil,
	}
}

func customDomainObject(d *domain) object {
	label, zone, _ := strings.Cut(d.name, ".")
	target := d.id[:8] + ".up.railway.app"
	record := object{
		"fqdn": d.name, "hostlabel": label, "zone": zone, "recordType": "DNS_RECORD_TYPE_CNAME",
		"purpose": "DNS_RECORD_PURPOSE_TRAFFIC_ROUTE", "requiredValue": target, "currentValue": "",
		"status": "DNS_RECORD_STATUS_REQUIRES_UPDATE",
	}
	certificate := "CERTIFICATE_STATUS_TYPE_VALIDATING_OWNERSHIP"
	if d.verified {
		record["currentValue"], record["status"] = target, "DNS_RECORD_STATUS_PROPAGATED"
		certificate = "CERTIFICATE_STATUS_TYPE_VALID"
	}
	o := domainObject(d)
	o["isRailwayDomain"] = false
	o["status"] = object{
		"verified": d.verified, "verificationToken": "railway-verify=" + d.id, "verificationDnsHost": "_railway-verify." + label,
		"certificateStatus": certificate, "certificateErrorMessage": nil, "cdnProvider": nil, "dnsRecords": []any{record},
	}
	return o
}

func serviceDomainObject(d *domain) object {
	o := domainObject(d)
	_, o["suffix"], _ = strings.Cut(d.name, ".")
	return o
}

// The links from one object to another follow.

func (r resolvers) projectByID(id string) resolver {
	return func(arguments) (any, error) { return one(r.project)(r.world.project(id)) }
}

func (r resolvers) environmentByID(id string) resolver {
	return func(arguments) (any, error) { return one(r.environment)(r.world.environment(id)) }
}

func (r resolvers) serviceByID(id string) resolver {
	return func(arguments) (any, error) { return one(r.service)(r.world.service(id)) }
}

func (r resolvers) projects() resolver {
	return list(r, &r.world.projects, r.project, func(*project) bool { return true })
}

// environments leaves out everything if only ephemeral ones are wanted, as there are none.
func (r resolvers) environments(p *project) resolver {
	return func(args arguments) (any, error) {
		ephemeral, _ := args["isEphemeral"].(bool)
		return list(r, &r.world.environments, r.environment, func(e *environment) bool {
			return e.projectID == p.id && !ephemeral
		})(args)
	}
}

// deployments answers the newest first, as the vendor does.
func (r resolvers) deployments(wanted func(*deployment) bool) resolver {
	return func(args arguments) (any, error) {
		newestFirst := slices.Clone(r.world.deployments)
		slices.Reverse(newestFirst)
		return list(r, &newestFirst, r.deployment, wanted)(args)
	}
}

// wantedDeployment is the filter that a DeploymentListInput describes.
func wantedDeployment(input arguments) func(*deployment) bool {
	same := func(name, value string) bool { return input.text(name) == "" || input.text(name) == value }
	listed := func(name, status string) (given, found bool) {
		words, given := input.input("status")[name].([]any)
		return given, slices.Contains(words, any(enumWord(status)))
	}
	return func(d *deployment) bool {
		in, isIn := listed("in", d.status)
		_, isNotIn := listed("notIn", d.status)
		return same("projectId", d.projectID) && same("environmentId", d.environmentID) && same("serviceId", d.serviceID) &&
			(!in || isIn) && !isNotIn
	}
}

// one turns what a lookup returns into what a resolver returns.
func one[T any](describe func(*T) object) func(*T, error) (any, error) {
	return func(item *T, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		return describe(item), nil
	}
}

// done is the answer of a mutation that answers true.
func done(err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return true, nil
}

// workflow is the answer of a mutation that the vendor would go on with in the background. Here it is already over.
func workflow(err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return object{"workflowId": newID()}, nil
}

// objects describes the items that are wanted.
func objects[T any](items []*T, describe func(*T) object, wanted func(*T) bool) []any {
	out := []any{}
	for _, item := range items {
		if wanted(item) {
			out = append(out, describe(item))
		}
	}
	return out
}

// list resolves a connection over the wanted items. It reads the items when it is asked, not before.
func list[T any](r resolvers, items *[]*T, describe func(*T) object, wanted func(*T) bool) resolver {
	return func(args arguments) (any, error) {
		var nodes []object
		for _, item := range *items {
			if wanted(item) {
				nodes = append(nodes, describe(item))
			}
		}
		return r.page(nodes, args)
	}
}

// page cuts a connection out of nodes: what lies between the cursors "after" and "before", then its "first" or its "last".
func (r resolvers) page(nodes []object, args arguments) (any, error) {
	from, to := 0, len(nodes)
	if after, given := args["after"].(string); given {
		at := slices.IndexFunc(nodes, func(n object) bool { return cursorOf(n) == after })
		if at < 0 {
			return nil, complaint("Invalid cursor")
		}
		from = at + 1
	}
	if before, given := args["before"].(string); given {
		at := slices.IndexFunc(nodes, func(n object) bool { return cursorOf(n) == before })
		if at < 0 {
			return nil, complaint("Invalid cursor")
		}
		to = max(at, from)
	}
	first, wantsFirst := args["first"].(int)
	last, wantsLast := args["last"].(int)
	if wantsFirst && first < 0 || wantsLast && last < 0 {
		return nil, complaint("A page cannot have a negative size")
	}
	if wantsFirst {
		to = from + min(first, to-from)
	}
	if wantsLast {
		from = to - min(last, to-from)
	}
	if r.pageLimit > 0 && to-from > r.pageLimit {
		if wantsLast && !wantsFirst {
			from = to - r.pageLimit
		} else {
			to = from + r.pageLimit
		}
	}

	edges := []any{}
	for _, node := range nodes[from:to] {
		edges = append(edges, object{"node": node, "cursor": cursorOf(node)})
	}
	info := object{"hasPreviousPage": from > 0, "hasNextPage": to < len(nodes)}
	if from < to {
		info["startCursor"], info["endCursor"] = cursorOf(nodes[from]), cursorOf(nodes[to-1])
	}
	return object{"edges": edges, "pageInfo": info}, nil
}

func cursorOf(node object) string {
	id, _ := node["id"].(string)
	return base64.RawURLEncoding.EncodeToString([]byte(id))
}

func timestamp(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return timestamp(t)
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func portOrNull(port int) any {
	if port == 0 {
		return nil
	}
	return port
}
