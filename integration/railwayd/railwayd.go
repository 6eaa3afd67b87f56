// Package railwayd is a small server with the shape of Railway's GraphQL API over an account that lives in memory. The
// demonstration replays an incident against it, and the acceptance tests use it in the vendor's place.
//
// It is honest in three ways:
//
//   - Names, arguments and types are the vendor's own, and a document is checked as a whole before any of it runs.
//   - A deletion deletes. volumeDelete takes no environment, so it takes the volume's instances in all of them, and the
//     backups, which live on the instances, go with them at once.
//   - A key that is accepted may do anything, whatever it was made for.
//
// It is not a copy of Railway: it serves a part of the schema (see schema.go), it does not know introspection, the tokens
// that it mints are counted but not accepted, and nothing outlives the process.
package railwayd

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
)

// Path is the only path that the server answers.
const Path = "/graphql/v2"

// maxBody is the longest request body that is read. A longer one is refused, never cut.
const maxBody = 1 << 20

// maxRequests is how many requests are remembered; older ones are forgotten.
const maxRequests = 1000

// Server is one account behind one key. Make it with [New]. It starts no goroutine, so it needs no closing.
type Server struct {
	key   string
	types map[string]*ast.Definition

	mu        sync.Mutex
	world     *world
	requests  []Request
	faults    []Fault
	pageLimit int
}

// Request is what arrived at [Path], whether or not it was authorized and whether or not it made sense.
type Request struct {
	Header        http.Header
	Query         string
	OperationName string
	Variables     map[string]any // numbers are json.Number
}

// Fault is a way to misbehave for one request. The zero value is no fault.
type Fault struct {
	// Delay passes before anything else happens, or until the caller goes away.
	Delay time.Duration

	// Status, if it is not zero, is answered together with Body, and the document is not run: nothing changes.
	// An empty answer is Fault{Status: 200}.
	Status int
	Body   string

	// EchoAuthorization repeats the key that arrived, in a header and in the body's "extensions", as an
	// indiscreet provider might. The document is run as usual.
	EchoAuthorization bool
}

// Counts says how much of each thing there is in the account.
type Counts struct {
	Projects, Environments, Services, ServiceInstances int
	Volumes, VolumeInstances, Backups, Schedules       int
	CustomDomains, ServiceDomains                      int
	Variables, Deployments, Tokens                     int
}

// New returns a server with one project, shop, that accepts key as an account token ("Authorization: Bearer KEY") and
// as a project token of the production environment ("project-access-token: KEY"). With an empty key nothing is accepted.
func New(key string) *Server {
	return &Server{key: key, types: parseSchema(), world: newWorld()}
}

// FaultNext makes the next n requests misbehave as f says. Faults that are already waiting come first.
func (s *Server) FaultNext(n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.faults = append(s.faults, f)
	}
}

// LimitPages makes every connection answer at most n items, whatever "first" asks for, so that a client that does not
// follow the pages is found out. Zero takes the limit away.
func (s *Server) LimitPages(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pageLimit = max(n, 0)
}

// Requests returns what arrived, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Counts returns how much there is at this moment.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.counts()
}

// Volumes returns the ids of the volumes that exist.
func (s *Server) Volumes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return idsOf(s.world.volumes, func(v *volume) (string, bool) { return v.id, true })
}

// VolumeInstances returns the ids of the instances of a volume, in all environments.
func (s *Server) VolumeInstances(volumeID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return idsOf(s.world.volumeInstances, func(v *volumeInstance) (string, bool) { return v.id, v.volumeID == volumeID })
}

// Backups returns the ids of the backups on a volume instance.
func (s *Server) Backups(volumeInstanceID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return idsOf(s.world.backups, func(b *backup) (string, bool) { return b.id, b.instanceID == volumeInstanceID })
}

// Domains returns the names of the domains of an environment, the custom ones first.
func (s *Server) Domains(environmentID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := func(d *domain) (string, bool) { return d.name, d.environmentID == environmentID }
	return append(idsOf(s.world.customDomains, name), idsOf(s.world.serviceDomains, name)...)
}

// Variables returns the variables of a service in an environment, or the shared ones if serviceID is empty.
func (s *Server) Variables(environmentID, serviceID string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.world.variables[place{environmentID, serviceID}])
}

// ServeHTTP answers POST /graphql/v2 with a JSON body. A document that cannot be run at all is answered with status 400;
// a field that fails, and a key that is not accepted, with status 200 and "errors", as the vendor does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != Path {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" || r.Header.Get("Content-Encoding") != "" {
		http.Error(w, "the body must be application/json, not encoded", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}

	req, malformed := decodeRequest(body)
	req.Header = r.Header.Clone()
	fault := s.arrive(req)
	if !sleep(r.Context(), fault.Delay) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if fault.Status != 0 {
		w.WriteHeader(fault.Status)
		_, _ = io.WriteString(w, fault.Body)
		return
	}

	status, answer := s.answer(req, malformed)
	if fault.EchoAuthorization {
		w.Header().Set("X-Received-Authorization", received(r.Header))
		answer.Extensions = map[string]any{"receivedAuthorization": received(r.Header)}
	}
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(answer) // the only failure is a caller who went away
}

// arrive remembers the request and takes the fault that waits for it, if there is one.
func (s *Server) arrive(req Request) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
	if extra := len(s.requests) - maxRequests; extra > 0 {
		s.requests = slices.Delete(s.requests, 0, extra)
	}
	if len(s.faults) == 0 {
		return Fault{}
	}
	fault := s.faults[0]
	s.faults = s.faults[1:]
	return fault
}

// answer decides who is asking, then runs the document. The account is locked for as long as the document runs, so two
// requests never interleave.
func (s *Server) answer(req Request, malformed error) (int, response) {
	who := s.identify(req.Header)
	if who == nobody {
		return http.StatusOK, response{Errors: []graphError{{Message: notAuthorized}}}
	}
	if malformed != nil {
		return refusal("BAD_REQUEST", malformed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account := resolvers{world: s.world, who: who, pageLimit: s.pageLimit}
	return run(s.types, account.query(), account.mutation(), req)
}

// identity is what kind of key came with a request.
type identity int

const (
	nobody identity = iota
	accountToken
	projectToken
)

func (s *Server) identify(h http.Header) identity {
	switch {
	case s.key == "":
		return nobody
	case sameText(h.Get("Authorization"), "Bearer "+s.key):
		return accountToken
	case sameText(h.Get("Project-Access-Token"), s.key):
		return projectToken
	}
	return nobody
}

func sameText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func received(h http.Header) string {
	if v := h.Get("Authorization"); v != "" {
		return v
	}
	return h.Get("Project-Access-Token")
}

// decodeRequest reads the envelope. Names are matched exactly, and names that it does not know are ignored. The request
// that it returns together with an error holds what could be read.
func decodeRequest(body []byte) (Request, error) {
	var req Request
	var envelope map[string]json.RawMessage
	if err := json.Unmarshal(body, &envelope); err != nil || envelope == nil {
		return req, errors.New("the body must be one JSON object")
	}
	if err := decodeMember(envelope["query"], &req.Query); err != nil || req.Query == "" {
		return req, errors.New("the body must have a query, a string that is not empty")
	}
	if err := decodeMember(envelope["operationName"], &req.OperationName); err != nil {
		return req, errors.New("operationName must be a string")
	}
	if err := decodeMember(envelope["variables"], &req.Variables); err != nil {
		return req, errors.New("variables must be a JSON object")
	}
	return req, nil
}

func decodeMember(raw json.RawMessage, into any) error {
	if raw == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// sleep waits, and reports false if the caller went away meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
