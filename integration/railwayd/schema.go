package railwayd

// schema is the part of Railway's published schema that this server answers, in the vendor's own names, arguments and
// types. It is the single list of what exists: a field that is not here is an error, and the executor takes the argument
// types, the defaults and the rules about null from it. Every field that it names is answered by resolve.go.
const schema = `
type Query {
  me: User!
  projects(after: String, before: String, first: Int, includeDeleted: Boolean, last: Int, orderBy: ProjectsOrderBy, userId: String, workspaceId: String): QueryProjectsConnection!
  project(id: String!): Project!
  environment(id: String!, projectId: String): Environment!
  environments(after: String, before: String, first: Int, isEphemeral: Boolean, last: Int, projectId: String!): QueryEnvironmentsConnection!
  service(id: String!): Service!
  serviceInstance(environmentId: String!, serviceId: String!): ServiceInstance!
  volumeInstance(id: String!): VolumeInstance!
  volumeInstanceBackupList(volumeInstanceId: String!): [VolumeInstanceBackup!]!
  volumeInstanceBackupScheduleList(volumeInstanceId: String!): [VolumeInstanceBackupSchedule!]!
  customDomain(id: String!, projectId: String!): CustomDomain!
  domains(environmentId: String!, projectId: String!, serviceId: String!): AllDomains!
  customDomainAvailable(domain: String!): DomainAvailable!
  serviceDomainAvailable(domain: String!): DomainAvailable!
  deployment(id: String!): Deployment!
  deployments(after: String, before: String, first: Int, input: DeploymentListInput!, last: Int): QueryDeploymentsConnection!
  variables(environmentId: String!, projectId: String!, serviceId: String, unrendered: Boolean): EnvironmentVariables!
  apiToken: ApiTokenContext!
  projectToken: ProjectToken!
  adminVolumeInstancesForVolume(volumeId: String!): [VolumeInstance!]!
}

type Mutation {
  customDomainCreate(input: CustomDomainCreateInput!): CustomDomain!
  customDomainUpdate(environmentId: String!, id: String!, targetPort: Int): Boolean!
  customDomainDelete(id: String!): Boolean!
  serviceDomainCreate(input: ServiceDomainCreateInput!): ServiceDomain!
  serviceDomainUpdate(input: ServiceDomainUpdateInput!): Boolean!
  serviceDomainDelete(id: String!): Boolean!
  variableUpsert(input: VariableUpsertInput!): Boolean!
  variableDelete(input: VariableDeleteInput!): Boolean!
  variableCollectionUpsert(input: VariableCollectionUpsertInput!): Boolean!
  volumeCreate(input: VolumeCreateInput!): Volume!
  volumeUpdate(input: VolumeUpdateInput!, volumeId: String!): Volume!
  volumeInstanceUpdate(environmentId: String, input: VolumeInstanceUpdateInput!, volumeId: String!): Boolean!
  volumeDelete(volumeId: String!): Boolean!
  volumeInstanceBackupCreate(name: String, volumeInstanceId: String!): WorkflowId!
  volumeInstanceBackupDelete(volumeInstanceBackupId: String!, volumeInstanceId: String!): WorkflowId!
  volumeInstanceBackupLock(volumeInstanceBackupId: String!, volumeInstanceId: String!): Boolean!
  volumeInstanceBackupRestore(replicaServiceIds: [String!], volumeInstanceBackupId: String!, volumeInstanceId: String!, wipeServiceIds: [String!]): WorkflowId!
  volumeInstanceBackupScheduleUpdate(kinds: [VolumeInstanceBackupScheduleKind!]!, volumeInstanceId: String!): Boolean!
  environmentDelete(id: String!): Boolean!
  environmentRename(id: String!, input: EnvironmentRenameInput!): Environment!
  projectDelete(id: String!): Boolean!
  projectUpdate(id: String!, input: ProjectUpdateInput!): Project!
  projectScheduleDelete(id: String!): Boolean!
  projectScheduleDeleteCancel(id: String!): Boolean!
  serviceDelete(environmentId: String, id: String!): Boolean!
  serviceInstanceRedeploy(environmentId: String!, serviceId: String!): Boolean!
  deploymentRedeploy(id: String!, usePreviousImageTag: Boolean): Deployment!
  deploymentRestart(id: String!): Boolean!
  apiTokenCreate(input: ApiTokenCreateInput!): String!
  projectTokenCreate(input: ProjectTokenCreateInput!): String!
}

type Project implements Node {
  id: ID!
  name: String!
  description: String
  isPublic: Boolean!
  prDeploys: Boolean!
  botPrEnvironments: Boolean!
  baseEnvironmentId: String
  primaryEnvironmentId: String
  workspaceId: String
  workspace: Workspace
  createdAt: DateTime!
  updatedAt: DateTime!
  deletedAt: DateTime
  environments(after: String, before: String, first: Int, isEphemeral: Boolean, last: Int, sort: SortOrder): ProjectEnvironmentsConnection!
  services(after: String, before: String, first: Int, last: Int): ProjectServicesConnection!
  volumes(after: String, before: String, first: Int, last: Int): ProjectVolumesConnection!
  deployments(after: String, before: String, first: Int, last: Int): ProjectDeploymentsConnection!
}

type Environment implements Node {
  id: ID!
  name: String!
  projectId: String!
  isEphemeral: Boolean!
  canAccess: Boolean!
  config(decryptVariables: Boolean): EnvironmentConfig!
  createdAt: DateTime!
  updatedAt: DateTime!
  deletedAt: DateTime
  serviceInstances(after: String, before: String, first: Int, last: Int): EnvironmentServiceInstancesConnection!
  volumeInstances(after: String, before: String, first: Int, last: Int): EnvironmentVolumeInstancesConnection!
  variables(after: String, before: String, first: Int, last: Int): EnvironmentVariablesConnection!
  deployments(after: String, before: String, first: Int, last: Int): EnvironmentDeploymentsConnection!
}

type Service implements Node {
  id: ID!
  name: String!
  icon: String
  projectId: String!
  project: Project!
  createdAt: DateTime!
  updatedAt: DateTime!
  deletedAt: DateTime
  serviceInstances(after: String, before: String, first: Int, last: Int): ServiceServiceInstancesConnection!
  deployments(after: String, before: String, first: Int, last: Int): ServiceDeploymentsConnection!
}

type ServiceInstance implements Node {
  id: ID!
  serviceId: String!
  serviceName: String!
  environmentId: String!
  service: Service!
  domains: AllDomains!
  latestDeployment: Deployment
  activeDeployments: [Deployment!]!
  startCommand: String
  buildCommand: String
  rootDirectory: String
  healthcheckPath: String
  cronSchedule: String
  region: String
  numReplicas: Int
  isUpdatable: Boolean!
  createdAt: DateTime!
  updatedAt: DateTime!
  deletedAt: DateTime
}

type Volume implements Node {
  id: ID!
  name: String!
  projectId: String!
  project: Project!
  createdAt: DateTime!
  volumeInstances(after: String, before: String, first: Int, last: Int): VolumeVolumeInstancesConnection!
}

type VolumeInstance implements Node {
  id: ID!
  volumeId: String!
  environmentId: String!
  serviceId: String
  volume: Volume!
  environment: Environment!
  service: Service!
  mountPath: String!
  sizeMB: Int!
  currentSizeMB: Float!
  state: VolumeState
  region: String
  externalId: String
  isPendingDeletion: Boolean!
  createdAt: DateTime!
  deletedAt: DateTime
}

type VolumeInstanceBackup {
  id: String!
  name: String
  externalId: String!
  creatorId: String
  scheduleId: String
  usedMB: Int
  referencedMB: Int
  volumeInstanceSizeMB: Int
  createdAt: DateTime!
  expiresAt: DateTime
}

type VolumeInstanceBackupSchedule implements Node {
  id: ID!
  name: String!
  kind: VolumeInstanceBackupScheduleKind!
  cron: String!
  retentionSeconds: Int
  createdAt: DateTime!
}

type CustomDomain implements Domain {
  id: ID!
  domain: String!
  projectId: String
  environmentId: String!
  serviceId: String!
  targetPort: Int
  isRailwayDomain: Boolean!
  edgeId: String
  status: CustomDomainStatus!
  syncStatus: CustomDomainSyncStatus!
  createdAt: DateTime
  updatedAt: DateTime
  deletedAt: DateTime
}

type CustomDomainStatus {
  verified: Boolean!
  verificationToken: String
  verificationDnsHost: String
  certificateStatus: CertificateStatus!
  certificateErrorMessage: String
  cdnProvider: CDNProvider
  dnsRecords: [DNSRecords!]!
}

type DNSRecords {
  fqdn: String!
  hostlabel: String!
  zone: String!
  recordType: DNSRecordType!
  purpose: DNSRecordPurpose!
  requiredValue: String!
  currentValue: String!
  status: DNSRecordStatus!
}

type ServiceDomain implements Domain {
  id: ID!
  domain: String!
  suffix: String
  projectId: String
  environmentId: String!
  serviceId: String!
  targetPort: Int
  edgeId: String
  syncStatus: ServiceDomainSyncStatus!
  createdAt: DateTime
  updatedAt: DateTime
  deletedAt: DateTime
}

type AllDomains {
  customDomains: [CustomDomain!]!
  serviceDomains: [ServiceDomain!]!
}

type DomainAvailable {
  available: Boolean!
  message: String!
}

type Deployment implements Node {
  id: ID!
  status: DeploymentStatus!
  projectId: String!
  environmentId: String!
  serviceId: String
  environment: Environment!
  service: Service!
  url: String
  staticUrl: String
  canRedeploy: Boolean!
  canRollback: Boolean!
  deploymentStopped: Boolean!
  createdAt: DateTime!
  updatedAt: DateTime!
  statusUpdatedAt: DateTime
}

type Variable implements Node {
  id: ID!
  name: String!
  environmentId: String
  serviceId: String
  environment: Environment!
  service: Service!
  isSealed: Boolean!
  createdAt: DateTime!
}

type User implements Node {
  id: ID!
  name: String
  email: String!
  username: String
  isAdmin: Boolean!
  isVerified: Boolean!
  has2FA: Boolean!
  createdAt: DateTime!
  workspaces: [Workspace!]!
  projects(after: String, before: String, first: Int, last: Int): UserProjectsConnection!
}

type Workspace implements Node {
  id: ID!
  name: String!
  createdAt: DateTime!
  updatedAt: DateTime!
  projectCount(includeDeleted: Boolean): Int!
  projects(after: String, before: String, first: Int, last: Int): WorkspaceProjectsConnection!
}

type ApiTokenContext {
  workspaces: [ApiTokenWorkspace!]!
}

type ApiTokenWorkspace {
  id: String!
  name: String!
}

type ProjectToken implements Node {
  id: ID!
  name: String!
  displayToken: String!
  projectId: String!
  environmentId: String!
  project: Project!
  environment: Environment!
  createdAt: DateTime!
}

type WorkflowId {
  workflowId: String
}

type PageInfo {
  hasNextPage: Boolean!
  hasPreviousPage: Boolean!
  startCursor: String
  endCursor: String
}

interface Node {
  id: ID!
}

interface Domain {
  createdAt: DateTime
  deletedAt: DateTime
  domain: String!
  edgeId: String
  environmentId: String!
  id: ID!
  projectId: String
  serviceId: String!
  targetPort: Int
  updatedAt: DateTime
}

input DeploymentListInput {
  environmentId: String
  includeDeleted: Boolean
  projectId: String
  serviceId: String
  status: DeploymentStatusInput
}

input CustomDomainCreateInput {
  domain: String!
  environmentId: String!
  projectId: String!
  serviceId: String!
  targetPort: Int
}

input ServiceDomainCreateInput {
  environmentId: String!
  serviceId: String!
  targetPort: Int
}

input ServiceDomainUpdateInput {
  domain: String!
  environmentId: String!
  serviceDomainId: String!
  serviceId: String!
  targetPort: Int
}

input VariableUpsertInput {
  environmentId: String!
  name: String!
  projectId: String!
  serviceId: String
  skipDeploys: Boolean = false
  value: String!
}

input VariableDeleteInput {
  environmentId: String!
  name: String!
  projectId: String!
  serviceId: String
}

input VariableCollectionUpsertInput {
  environmentId: String!
  projectId: String!
  replace: Boolean = false
  serviceId: String
  skipDeploys: Boolean = false
  variables: EnvironmentVariables!
}

input VolumeCreateInput {
  environmentId: String
  mountPath: String!
  projectId: String!
  region: String
  serviceId: String
}

input VolumeUpdateInput {
  name: String
}

input VolumeInstanceUpdateInput {
  mountPath: String
  serviceId: String
  state: VolumeState
}

input EnvironmentRenameInput {
  name: String!
}

input ProjectUpdateInput {
  baseEnvironmentId: String
  botPrEnvironments: Boolean
  description: String
  focusedPrEnvironments: Boolean
  isPublic: Boolean
  name: String
  prDeploys: Boolean
}

input ApiTokenCreateInput {
  name: String!
  workspaceId: String
}

input ProjectTokenCreateInput {
  environmentId: String!
  name: String!
  projectId: String!
}

input DeploymentStatusInput {
  in: [DeploymentStatus!]
  notIn: [DeploymentStatus!]
}

enum CDNProvider { DETECTED_CDN_PROVIDER_CLOUDFLARE DETECTED_CDN_PROVIDER_UNSPECIFIED UNRECOGNIZED }
enum CertificateStatus {
  CERTIFICATE_STATUS_TYPE_ISSUE_FAILED
  CERTIFICATE_STATUS_TYPE_ISSUING
  CERTIFICATE_STATUS_TYPE_UNSPECIFIED
  CERTIFICATE_STATUS_TYPE_VALID
  CERTIFICATE_STATUS_TYPE_VALIDATING_OWNERSHIP
  UNRECOGNIZED
}
enum CustomDomainSyncStatus { ACTIVE CREATING DELETED DELETING UNSPECIFIED UPDATING }
enum DNSRecordPurpose {
  DNS_RECORD_PURPOSE_ACME_DNS01_CHALLENGE
  DNS_RECORD_PURPOSE_TRAFFIC_ROUTE
  DNS_RECORD_PURPOSE_UNSPECIFIED
  UNRECOGNIZED
}
enum DNSRecordStatus {
  DNS_RECORD_STATUS_PROPAGATED
  DNS_RECORD_STATUS_REQUIRES_UPDATE
  DNS_RECORD_STATUS_UNSPECIFIED
  UNRECOGNIZED
}
enum DNSRecordType {
  DNS_RECORD_TYPE_A
  DNS_RECORD_TYPE_CNAME
  DNS_RECORD_TYPE_NS
  DNS_RECORD_TYPE_TXT
  DNS_RECORD_TYPE_UNSPECIFIED
  UNRECOGNIZED
}
enum DeploymentStatus {
  BUILDING
  CRASHED
  DEPLOYING
  FAILED
  INITIALIZING
  NEEDS_APPROVAL
  QUEUED
  REMOVED
  REMOVING
  SKIPPED
  SLEEPING
  SUCCESS
  WAITING
}
enum ProjectsOrderBy { CREATED_AT_DESC NAME_ASC UPDATED_AT_DESC }
enum ServiceDomainSyncStatus { ACTIVE CREATING DELETED DELETING UNSPECIFIED UPDATING }
enum SortOrder { asc desc }
enum VolumeInstanceBackupScheduleKind { DAILY MONTHLY WEEKLY }
enum VolumeState { DELETED DELETING ERROR MIGRATING MIGRATION_PENDING READY RESTORING UPDATING }

scalar DateTime
scalar EnvironmentConfig
scalar EnvironmentVariables

type EnvironmentDeploymentsConnection { edges: [EnvironmentDeploymentsConnectionEdge!]! pageInfo: PageInfo! }
type EnvironmentDeploymentsConnectionEdge { cursor: String! node: Deployment! }
type EnvironmentServiceInstancesConnection { edges: [EnvironmentServiceInstancesConnectionEdge!]! pageInfo: PageInfo! }
type EnvironmentServiceInstancesConnectionEdge { cursor: String! node: ServiceInstance! }
type EnvironmentVariablesConnection { edges: [EnvironmentVariablesConnectionEdge!]! pageInfo: PageInfo! }
type EnvironmentVariablesConnectionEdge { cursor: String! node: Variable! }
type EnvironmentVolumeInstancesConnection { edges: [EnvironmentVolumeInstancesConnectionEdge!]! pageInfo: PageInfo! }
type EnvironmentVolumeInstancesConnectionEdge { cursor: String! node: VolumeInstance! }
type ProjectDeploymentsConnection { edges: [ProjectDeploymentsConnectionEdge!]! pageInfo: PageInfo! }
type ProjectDeploymentsConnectionEdge { cursor: String! node: Deployment! }
type ProjectEnvironmentsConnection { edges: [ProjectEnvironmentsConnectionEdge!]! pageInfo: PageInfo! }
type ProjectEnvironmentsConnectionEdge { cursor: String! node: Environment! }
type ProjectServicesConnection { edges: [ProjectServicesConnectionEdge!]! pageInfo: PageInfo! }
type ProjectServicesConnectionEdge { cursor: String! node: Service! }
type ProjectVolumesConnection { edges: [ProjectVolumesConnectionEdge!]! pageInfo: PageInfo! }
type ProjectVolumesConnectionEdge { cursor: String! node: Volume! }
type QueryDeploymentsConnection { edges: [QueryDeploymentsConnectionEdge!]! pageInfo: PageInfo! }
type QueryDeploymentsConnectionEdge { cursor: String! node: Deployment! }
type QueryEnvironmentsConnection { edges: [QueryEnvironmentsConnectionEdge!]! pageInfo: PageInfo! }
type QueryEnvironmentsConnectionEdge { cursor: String! node: Environment! }
type QueryProjectsConnection { edges: [QueryProjectsConnectionEdge!]! pageInfo: PageInfo! }
type QueryProjectsConnectionEdge { cursor: String! node: Project! }
type ServiceDeploymentsConnection { edges: [ServiceDeploymentsConnectionEdge!]! pageInfo: PageInfo! }
type ServiceDeploymentsConnectionEdge { cursor: String! node: Deployment! }
type ServiceServiceInstancesConnection { edges: [ServiceServiceInstancesConnectionEdge!]! pageInfo: PageInfo! }
type ServiceServiceInstancesConnectionEdge { cursor: String! node: ServiceInstance! }
type UserProjectsConnection { edges: [UserProjectsConnectionEdge!]! pageInfo: PageInfo! }
type UserProjectsConnectionEdge { cursor: String! node: Project! }
type VolumeVolumeInstancesConnection { edges: [VolumeVolumeInstancesConnectionEdge!]! pageInfo: PageInfo! }
type VolumeVolumeInstancesConnectionEdge { cursor: String! node: VolumeInstance! }
type WorkspaceProjectsConnection { edges: [WorkspaceProjectsConnectionEdge!]! pageInfo: PageInfo! }
type WorkspaceProjectsConnectionEdge { cursor: String! node: Project! }
`
