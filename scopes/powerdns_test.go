package scopes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	pdnsServer  = "/api/v1/servers/localhost"
	pdnsStaging = pdnsServer + "/zones/staging.example.com."
)

func powerDNS(t testing.TB) *Catalog {
	t.Helper()
	c, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// classifyPDNS does what the relay does with a request to PowerDNS.
func classifyPDNS(c *Catalog, method, path, query, body string) (Call, []Act, error) {
	call, err := NewCall(Request{Provider: "powerdns", Method: method, Path: path, Query: query, Body: []byte(body)})
	if err != nil {
		return Call{}, nil, err
	}
	return c.Classify(call)
}

// describe gives acts as "resource:action id", which the tables below are
// written in.
func describe(acts []Act) (out []string) {
	for _, a := range acts {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s:%s %s", a.Resource, a.Action, a.ID)))
	}
	return out
}

// TestPowerDNSMatrix says of every operation what it does, to what and where.
func TestPowerDNSMatrix(t *testing.T) {
	const (
		account    = "account"
		everywhere = "every environment"
		staging    = "zone staging.example.com."
		zone       = pdnsStaging
		s          = pdnsServer
	)
	tests := []struct {
		operation, place string
		method, path     string // path with query
		body             string
		acts             []string
	}{
		{"listVersions", account, "GET", "/api", ``, []string{"servers:read"}},
		{"error", account, "GET", "/api/v1/error", ``, []string{"servers:read"}},
		{"listServers", account, "GET", "/api/v1/servers", ``, []string{"servers:read"}},
		{"listServer", account, "GET", s, ``, []string{"servers:read localhost"}},
		{"getAutoprimaries", account, "GET", s + "/autoprimaries", ``, []string{"autoprimaries:read"}},
		{"createAutoprimary", account, "POST", s + "/autoprimaries", `{"ip":"192.0.2.1","nameserver":"ns.example.net.","account":""}`,
			[]string{"autoprimaries:grant 192.0.2.1 ns.example.net."}},
		{"deleteAutoprimary", account, "DELETE", s + "/autoprimaries/2001:db8::1/ns.example.net.", ``, []string{"autoprimaries:grant 2001:db8::1 ns.example.net."}},
		{"cacheFlushByName", account, "PUT", s + "/cache/flush?domain=staging.example.com.%24", ``, []string{"cache:write staging.example.com.$"}},
		{"getConfig", account, "GET", s + "/config", ``, []string{"config:reveal"}},
		{"getConfigSetting", account, "GET", s + "/config/webserver-port", ``, []string{"config:reveal webserver-port"}},
		{"listNetworks", account, "GET", s + "/networks", ``, []string{"networks:read"}},
		{"getNetwork", account, "GET", s + "/networks/192.0.2.0/24", ``, []string{"networks:read 192.0.2.0 24"}},
		{"setNetwork", account, "PUT", s + "/networks/192.0.2.0/24", `{"view":"inside"}`, []string{"networks:grant 192.0.2.0 24"}},
		{"searchData", everywhere, "GET", s + "/search-data?q=*&max=10&object_type=all", ``, []string{"search:read *"}},
		{"getStats", account, "GET", s + "/statistics?statistic=uptime&includerings=false", ``, []string{"statistics:read uptime"}},
		{"listTSIGKeys", account, "GET", s + "/tsigkeys", ``, []string{"tsigkeys:read"}},
		{"createTSIGKey", account, "POST", s + "/tsigkeys", `{"name":"k1","algorithm":"hmac-sha256"}`, []string{"tsigkeys:grant k1"}},
		{"getTSIGKey", account, "GET", s + "/tsigkeys/k1.", ``, []string{"tsigkeys:reveal k1."}},
		{"putTSIGKey", account, "PUT", s + "/tsigkeys/k1.", `{"name":"k2"}`, []string{"tsigkeys:grant k1.", "tsigkeys:reveal k1."}},
		{"deleteTSIGKey", account, "DELETE", s + "/tsigkeys/k1.", ``, []string{"tsigkeys:delete k1."}},
		{"listViews", account, "GET", s + "/views", ``, []string{"views:read"}},
		{"listView", account, "GET", s + "/views/inside", ``, []string{"views:read inside"}},
		{"addToView", account, "POST", s + "/views/inside", `{"name":"example.com..inside"}`, []string{"views:grant inside example.com..inside"}},
		{"deleteFromView", account, "DELETE", s + "/views/inside/example.com.", ``, []string{"views:grant inside example.com."}},

		{"listZones", account, "GET", s + "/zones", ``, []string{"zones:read"}},
		{"listZones", account, "GET", s + "/zones?zone=staging.example.com.&dnssec=false", ``, []string{"zones:read staging.example.com."}},
		{"createZone", staging, "POST", s + "/zones?rrsets=false", `{"name":"staging.example.com.","kind":"Native","nameservers":["ns."],"dnssec":false}`,
			[]string{"zones:write staging.example.com."}},
		// As terraform's provider sends it.
		{"createZone", staging, "POST", s + "/zones",
			`{"id":"","name":"staging.example.com.","url":"","kind":"Master","dnsssec":false,"serial":0,"account":"","nameservers":["ns."],"soa_edit_api":""}`,
			[]string{"zones:write staging.example.com."}},
		{"createZone", staging, "POST", s + "/zones", `{"name":"staging.example.com.","kind":"Secondary"}`,
			[]string{"zones:write staging.example.com.", "zones:grant staging.example.com."}},
		{"createZone", staging, "POST", s + "/zones", `{"name":"staging.example.com.","kind":"Native","dnssec":true}`,
			[]string{"zones:write staging.example.com.", "cryptokeys:grant staging.example.com."}},
		{"createZone", staging, "POST", s + "/zones", `{"name":"staging.example.com.","kind":"Native","masters":["192.0.2.1"]}`,
			[]string{"zones:write staging.example.com.", "zones:grant staging.example.com."}},
		{"createZone", staging, "POST", s + "/zones", `{"name":"staging.example.com.","kind":"Native","zone":"@ 60 IN LUA A x"}`,
			[]string{"zones:write staging.example.com.", "records:grant staging.example.com."}},
		{"createZone", staging, "POST", s + "/zones", `{"name":"staging.example.com.","kind":"Native","rrsets":[{"name":"a.staging.example.com.","type":"LUA","records":[]}]}`,
			[]string{"zones:write staging.example.com.", "records:grant staging.example.com."}},
		{"listZone", staging, "GET", zone, ``, []string{"records:read staging.example.com."}},
		{"listZone", staging, "GET", zone + "?rrsets=true&rrset_name=a.&rrset_type=TXT", ``, []string{"records:read staging.example.com."}},
		{"listZone", staging, "GET", zone + "?rrsets=false", ``, []string{"zones:read staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"soa_edit_api":"DEFAULT","api_rectify":true,"nsec3param":""}`, []string{"zones:write staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"kind":"Native"}`, []string{"zones:write staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"kind":"Slave"}`, []string{"zones:write staging.example.com.", "zones:grant staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"masters":[]}`, []string{"zones:write staging.example.com.", "zones:grant staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"catalog":""}`, []string{"zones:write staging.example.com.", "zones:grant staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"account":"x"}`, []string{"zones:write staging.example.com.", "zones:grant staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"master_tsig_key_ids":""}`, []string{"zones:write staging.example.com.", "zones:grant staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"slave_tsig_key_ids":["k1."]}`, []string{"zones:write staging.example.com.", "zones:grant staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"dnssec":true}`, []string{"zones:write staging.example.com.", "cryptokeys:grant staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"dnssec":false}`, []string{"zones:write staging.example.com.", "cryptokeys:delete staging.example.com."}},
		{"putZone", staging, "PUT", zone, `{"rrsets":[]}`,
			[]string{"zones:write staging.example.com.", "records:delete staging.example.com.", "records:grant staging.example.com."}},
		{"deleteZone", staging, "DELETE", zone, ``, []string{"zones:delete staging.example.com."}},
		{"patchZone", staging, "PATCH", zone,
			`{"rrsets":[{"name":"a.staging.example.com.","type":"A","ttl":60,"changetype":"REPLACE","records":[{"content":"192.0.2.1","disabled":false,"set-ptr":false}]},` +
				`{"name":"b.staging.example.com.","type":"TXT","changetype":"DELETE"},{"name":"c.staging.example.com.","type":"LUA","changetype":"REPLACE"}]}`,
			[]string{"records:write a.staging.example.com. A", "records:write b.staging.example.com. TXT", "records:grant c.staging.example.com. LUA"}},
		{"patchZone", staging, "PATCH", zone, `{"rrsets":[{"name":"a.","type":"A","changetype":"EXTEND","write_unchanged":true},{"name":"a.","type":"A","changetype":"PRUNE"}]}`,
			[]string{"records:write a. A"}},
		{"axfrRetrieveZone", staging, "PUT", zone + "/axfr-retrieve", ``, []string{"records:write staging.example.com."}},
		{"notifyZone", staging, "PUT", zone + "/notify", ``, []string{"records:write staging.example.com."}},
		{"rectifyZone", staging, "PUT", zone + "/rectify", ``, []string{"zones:write staging.example.com."}},
		{"axfrExportZone", staging, "GET", zone + "/export", ``, []string{"records:read staging.example.com."}},

		{"listMetadata", staging, "GET", zone + "/metadata", ``, []string{"metadata:read staging.example.com."}},
		{"createMetadata", staging, "POST", zone + "/metadata", `{"kind":"ALSO-NOTIFY","metadata":["192.0.2.1"]}`, []string{"metadata:write staging.example.com. ALSO-NOTIFY"}},
		{"createMetadata", staging, "POST", zone + "/metadata", `{"kind":"ALLOW-AXFR-FROM","metadata":["0.0.0.0/0"]}`, []string{"metadata:grant staging.example.com. ALLOW-AXFR-FROM"}},
		{"getMetadata", staging, "GET", zone + "/metadata/X-OURS", ``, []string{"metadata:read staging.example.com. X-OURS"}},
		{"modifyMetadata", staging, "PUT", zone + "/metadata/SOA-EDIT", `{"metadata":["INCEPTION-INCREMENT"]}`, []string{"metadata:write staging.example.com. SOA-EDIT"}},
		{"modifyMetadata", staging, "PUT", zone + "/metadata/LUA-AXFR-SCRIPT", `{"metadata":["/x.lua"]}`, []string{"metadata:grant staging.example.com. LUA-AXFR-SCRIPT"}},
		{"modifyMetadata", staging, "PUT", zone + "/metadata/SOA-EDIT", `{"kind":"LUA-AXFR-SCRIPT","metadata":["/x.lua"]}`, []string{"metadata:grant staging.example.com. SOA-EDIT"}},
		{"deleteMetadata", staging, "DELETE", zone + "/metadata/IXFR", ``, []string{"metadata:write staging.example.com. IXFR"}},
		{"deleteMetadata", staging, "DELETE", zone + "/metadata/TSIG-ALLOW-AXFR", ``, []string{"metadata:grant staging.example.com. TSIG-ALLOW-AXFR"}},

		{"listCryptokeys", staging, "GET", zone + "/cryptokeys", ``, []string{"cryptokeys:read staging.example.com."}},
		{"createCryptokey", staging, "POST", zone + "/cryptokeys", `{"keytype":"csk","active":true,"algorithm":"ed25519","bits":256}`, []string{"cryptokeys:grant staging.example.com."}},
		{"getCryptokey", staging, "GET", zone + "/cryptokeys/1", ``, []string{"cryptokeys:reveal staging.example.com. 1"}},
		{"modifyCryptokey", staging, "PUT", zone + "/cryptokeys/1", `{"active":false}`, []string{"cryptokeys:grant staging.example.com. 1"}},
		{"deleteCryptokey", staging, "DELETE", zone + "/cryptokeys/1", ``, []string{"cryptokeys:delete staging.example.com. 1"}},
	}
	c := powerDNS(t)
	hit := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.operation, func(t *testing.T) {
			path, query, _ := strings.Cut(tt.path, "?")
			_, acts, err := classifyPDNS(c, tt.method, path, query, tt.body)
			if err != nil {
				t.Fatalf("%s %s %s: %v", tt.method, tt.path, tt.body, err)
			}
			if got := describe(acts); !slices.Equal(got, tt.acts) {
				t.Errorf("%s %s %s:\n got %q\nwant %q", tt.method, tt.path, tt.body, got, tt.acts)
			}
			for _, a := range acts {
				if a.Operation != tt.operation || a.Place.String() != tt.place {
					t.Errorf("%s %s: got %s in %s, want %s in %s", tt.method, tt.path, a.Operation, a.Place, tt.operation, tt.place)
				}
			}
			hit[tt.operation] = true
		})
	}
	listed := c.providers["powerdns"].Operation
	for _, op := range listed {
		if !hit[op.Name] {
			t.Errorf("no line for %s", op.Name)
		}
	}
	if len(listed) != 44 { // 43 of the published description, and GET /api
		t.Errorf("%d operations are listed, want 44", len(listed))
	}
}

// TestPowerDNSClosedLists checks that types, kinds and metadata kinds are known
// in exactly one spelling, whatever else is in the call: the server reads the
// first two without regard to case.
func TestPowerDNSClosedLists(t *testing.T) {
	c := powerDNS(t)
	lists := map[string][]string{} // reference: all values that some condition knows
	for _, op := range c.providers["powerdns"].Operation {
		for _, cond := range op.Act {
			for ref, values := range cond.When {
				lists[op.Name+" "+ref] = append(lists[op.Name+" "+ref], values...)
			}
		}
	}
	refused := func(method, path, body string) {
		t.Helper()
		if _, acts, err := classifyPDNS(c, method, path, "", body); !errors.Is(err, ErrUnclassified) {
			t.Errorf("%s %s %s: got %q, %v, want it refused as unclassified", method, path, body, describe(acts), err)
		}
	}
	types := lists["patchZone each.type"]
	if len(types) < 50 || !slices.Contains(types, "LUA") {
		t.Fatalf("types: %q", types)
	}
	for _, known := range append(types, "TYPE65402", "TYPE1", "ANY", "AXFR", "OPT", "") {
		for _, spelling := range []string{strings.ToLower(known), known + " ", " " + known, "TYPE65402", "TYPE1", "ANY"} {
			refused("PATCH", pdnsStaging, fmt.Sprintf(`{"rrsets":[{"name":"a.","type":"A","changetype":"REPLACE"},{"name":"a.","type":%q,"changetype":"REPLACE"}]}`, spelling))
		}
	}
	for _, change := range []string{"replace", "Delete", "", "REPLACE ", "UPSERT"} {
		refused("PATCH", pdnsStaging, fmt.Sprintf(`{"rrsets":[{"name":"a.","type":"A","changetype":%q}]}`, change))
	}
	kinds := lists["putZone body.kind"]
	if !slices.Contains(kinds, "Slave") {
		t.Fatalf("kinds: %q", kinds)
	}
	others := []string{``, `,"masters":["192.0.2.1"]`, `,"catalog":"c."`, `,"master_tsig_key_ids":[]`, `,"slave_tsig_key_ids":[]`, `,"dnssec":true`,
		`,"dnssec":false`, `,"rrsets":[]`, `,"account":"x"`}
	for _, kind := range append(kinds, "Unknown", "") {
		for _, spelling := range []string{strings.ToLower(kind), strings.ToUpper(kind), kind + " "} {
			if spelling == "-" {
				continue // the engine takes the text "-" for "not given", which sets no more
			}
			for _, other := range others {
				refused("PUT", pdnsStaging, fmt.Sprintf(`{"kind":%q%s}`, spelling, other))
				refused("POST", pdnsServer+"/zones", fmt.Sprintf(`{"name":"staging.example.com.","kind":%q%s}`, spelling, other))
			}
		}
	}
	for _, other := range append(others, `,"zone":"x"`) {
		refused("POST", pdnsServer+"/zones", `{"name":"staging.example.com."`+other+`}`)
		refused("POST", pdnsServer+"/zones", `{"name":"staging.example.com.","kind":"-"`+other+`}`)
		refused("POST", pdnsServer+"/zones", `{"name":"staging.example.com.","kind":["Native"]`+other+`}`)
	}
	metadata := lists["deleteMetadata path.kind"]
	if len(metadata) < 25 {
		t.Fatalf("metadata kinds: %q", metadata)
	}
	for _, known := range metadata {
		for _, spelling := range []string{strings.ToLower(known), known + "S", "X-" + known} {
			refused("DELETE", pdnsStaging+"/metadata/"+spelling, "")
			refused("PUT", pdnsStaging+"/metadata/"+spelling, `{"metadata":[]}`)
			refused("PUT", pdnsStaging+"/metadata/SOA-EDIT", fmt.Sprintf(`{"kind":%q,"metadata":[]}`, spelling))
			refused("PUT", pdnsStaging+"/metadata/ALLOW-AXFR-FROM", fmt.Sprintf(`{"kind":%q,"metadata":[]}`, spelling))
			refused("POST", pdnsStaging+"/metadata", fmt.Sprintf(`{"kind":%q,"metadata":[]}`, spelling))
		}
	}
}

// TestPowerDNSSpellings checks which spellings of a zone in a path are one
// zone, sent in one spelling, and which are refused.
func TestPowerDNSSpellings(t *testing.T) {
	c := powerDNS(t)
	for _, s := range []string{
		"staging.example.com.", "staging.example.com", "STAGING.example.COM.", "=73taging.example.com.", "=53TAGING.example.com", "staging=2Eexample.com.",
		"staging=2eexample.com.", "staging%2Eexample.com.", "staging%2eexample.com", "staging.example.com=2E", "%73taging=2Eexample%2Ecom", "staging%3D2Eexample.com.",
	} {
		for suffix, method := range map[string]string{"": "DELETE", "/notify": "PUT", "/cryptokeys/1": "DELETE"} {
			call, acts, err := classifyPDNS(c, method, pdnsServer+"/zones/"+s+suffix, "", "")
			if err != nil {
				t.Errorf("%s: %v", s, err)
				continue
			}
			if call.Path != pdnsStaging+suffix || acts[0].Place.String() != "zone staging.example.com." {
				t.Errorf("%s: sent as %s, in %s", s, call.Path, acts[0].Place)
			}
		}
	}
	for _, s := range []string{
		"", ".", "..", "%2e", "%2e%2e", "=2e=2e", "=2E=2E", "staging..example.com.", "staging.example.com..", ".staging.example.com.", "=2Estaging.example.com.",
		"staging.example.com.;x", "staging.example.com.%3Bx", "staging.example.com.=3Bx", "staging.example.com.%2F", "staging.example.com./", "/staging.example.com.",
		"x/../staging.example.com.", "staging.example.com.%00", "staging.example.com.=00", "staging.example.com.%0a", "staging.example.com.%20", "%20staging.example.com.",
		`\115taging.example.com.`, "%5C115taging.example.com.", "=5C115taging.example.com.", "staging%252Eexample.com.", "staging=GGexample.com.", "staging.example.com.=",
		"staging.example.com.=2", "staging.example.com.=3D", "staging%GGexample.com.", "staging%2", "staging.example.com.%ff", "%C5%BFtaging.example.com.",
		"staging.example.com..inside", "*.example.com.", "staging.example.com.@x",
		strings.Repeat("a", 64) + ".example.com.", strings.Repeat("a.", 128), "staging.example.com." + strings.Repeat("=2E", 3),
	} {
		call, acts, err := classifyPDNS(c, "DELETE", pdnsServer+"/zones/"+s, "", "")
		if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnclassified) {
			t.Errorf("%q: sent as %s, %v, %v, want it refused", s, call.Path, acts, err)
		}
	}
}

// TestPowerDNSRefused lists requests that are not let through in any form.
func TestPowerDNSRefused(t *testing.T) {
	const replaceA = `"name":"a.staging.example.com.","type":"A","changetype":"REPLACE"`
	tests := []struct {
		why, method, path, body string
		want                    error
	}{
		{"the name in a body is in its one spelling: case", "POST", pdnsServer + "/zones", `{"name":"Staging.example.com.","kind":"Native"}`, ErrMalformed},
		{"the name in a body is in its one spelling: dot", "POST", pdnsServer + "/zones", `{"name":"staging.example.com","kind":"Native"}`, ErrMalformed},
		{"the name in a body is in its one spelling: escape", "POST", pdnsServer + "/zones", `{"name":"\\115taging.example.com.","kind":"Native"}`, ErrMalformed},
		{"the name in a body is not escaped as in a path", "POST", pdnsServer + "/zones", `{"name":"=73taging.example.com.","kind":"Native"}`, ErrMalformed},
		{"a zone without a name", "POST", pdnsServer + "/zones", `{"kind":"Native"}`, ErrUnclassified},
		{"a name that is no text", "POST", pdnsServer + "/zones", `{"name":["staging.example.com."],"kind":"Native"}`, ErrUnclassified},
		{"path: empty segment", "GET", pdnsServer + "//zones", "", ErrMalformed},
		{"path: trailing slash", "GET", pdnsServer + "/zones/", "", ErrMalformed},
		{"path: dots", "GET", pdnsStaging + "/../example.com.", "", ErrMalformed},
		{"path: escaped dots", "DELETE", pdnsStaging + "/%2e%2e/example.com.", "", ErrMalformed},
		{"path: other case", "GET", "/API/v1/servers", "", ErrUnclassified},
		{"path: other case of a word", "GET", pdnsServer + "/Zones", "", ErrUnclassified},
		{"path: parameter", "GET", "/api/v1/servers;x", "", ErrMalformed},
		{"path: another server", "GET", "/api/v1/servers/LOCALHOST/zones", "", ErrUnclassified},
		{"path: outside the API", "GET", "/metrics", "", ErrUnclassified},
		{"path: of before version 1", "GET", "/servers/localhost/zones", "", ErrUnclassified},
		{"path: not listed", "POST", pdnsStaging, `{}`, ErrUnclassified},
		{"path: not listed below a zone", "PUT", pdnsStaging + "/check", "", ErrUnclassified},
		{"method: lower case", "delete", pdnsStaging, "", ErrMalformed},
		{"query: unknown", "GET", pdnsStaging + "?foo=1", "", ErrUnclassified},
		{"query: other case", "GET", pdnsStaging + "?RRSETS=false", "", ErrUnclassified},
		{"query: unknown value", "GET", pdnsStaging + "?rrsets=False", "", ErrUnclassified},
		{"query: empty value", "GET", pdnsStaging + "?rrsets=", "", ErrUnclassified},
		{"query: given twice", "GET", pdnsStaging + "?rrsets=false&rrsets=true", "", ErrMalformed},
		{"query: given twice in two spellings", "GET", pdnsStaging + "?rrsets=false&rrset%73=true", "", ErrMalformed},
		{"query: semicolon", "GET", pdnsStaging + "?rrsets=false;rrsets=true", "", ErrMalformed},
		{"query: records of all zones", "GET", pdnsServer + "/zones?rrsets=true", "", ErrUnclassified},
		{"query: method override", "GET", pdnsStaging + "?_method=DELETE", "", ErrUnclassified},
		{"body: on GET", "GET", pdnsStaging, `{}`, ErrUnclassified},
		{"body: on DELETE", "DELETE", pdnsStaging, `{}`, ErrUnclassified},
		{"body: on notify", "PUT", pdnsStaging + "/notify", `{}`, ErrUnclassified},
		{"body: none", "PATCH", pdnsStaging, ``, ErrMalformed},
		{"body: no JSON", "PATCH", pdnsStaging, `rrsets=1`, ErrMalformed},
		{"body: two values", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `}]}{}`, ErrMalformed},
		{"body: an array", "PATCH", pdnsStaging, `[{"rrsets":[{` + replaceA + `}]}]`, ErrMalformed},
		{"body: null", "PUT", pdnsStaging, `null`, ErrMalformed},
		{"body: duplicate name", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `,"type":"LUA"}]}`, ErrMalformed},
		{"body: duplicate name by escape", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `,"\u0074ype":"LUA"}]}`, ErrMalformed},
		{"body: duplicate list", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `}],"rrsets":[]}`, ErrMalformed},
		{"body: wrong case", "PATCH", pdnsStaging, `{"RRSETS":[{` + replaceA + `}]}`, ErrUnclassified},
		{"body: wrong case below", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `,"Type":"LUA"}]}`, ErrUnclassified},
		{"body: unknown member", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `}],"kind":"Slave"}`, ErrUnclassified},
		{"body: PTR in another zone", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `,"records":[{"content":"192.0.2.1","set-ptr":true}]}]}`, ErrUnclassified},
		{"body: PTR in another zone, as text", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `,"records":[{"content":"192.0.2.1","set-ptr":"true"}]}]}`, ErrUnclassified},
		{"body: invalid UTF-8", "PATCH", pdnsStaging, `{"rrsets":[{"name":"` + "\xff" + `","type":"A","changetype":"REPLACE"}]}`, ErrMalformed},
		{"rrsets: empty", "PATCH", pdnsStaging, `{"rrsets":[]}`, ErrUnclassified},
		{"rrsets: null", "PATCH", pdnsStaging, `{"rrsets":null}`, ErrUnclassified},
		{"rrsets: missing", "PATCH", pdnsStaging, `{}`, ErrUnclassified},
		{"rrsets: an object", "PATCH", pdnsStaging, `{"rrsets":{` + replaceA + `}}`, ErrUnclassified},
		{"rrsets: a text", "PATCH", pdnsStaging, `{"rrsets":"x"}`, ErrUnclassified},
		{"rrsets: an element is a text", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `},"x"]}`, ErrUnclassified},
		{"rrsets: an element is null", "PATCH", pdnsStaging, `{"rrsets":[{` + replaceA + `},null]}`, ErrUnclassified},
		{"rrsets: an element is a list", "PATCH", pdnsStaging, `{"rrsets":[[{` + replaceA + `}]]}`, ErrUnclassified},
		{"rrsets: type is a list", "PATCH", pdnsStaging, `{"rrsets":[{"name":"a.","type":["A"],"changetype":"REPLACE"}]}`, ErrUnclassified},
		{"rrsets: no type", "PATCH", pdnsStaging, `{"rrsets":[{"name":"a.","changetype":"REPLACE"}]}`, ErrUnclassified},
		{"rrsets: no change", "PATCH", pdnsStaging, `{"rrsets":[{"name":"a.","type":"A"}]}`, ErrUnclassified},
	}
	c := powerDNS(t)
	for _, tt := range tests {
		path, query, _ := strings.Cut(tt.path, "?")
		if _, acts, err := classifyPDNS(c, tt.method, path, query, tt.body); !errors.Is(err, tt.want) {
			t.Errorf("%s: %s %s %s: got %q, %v, want %v", tt.why, tt.method, tt.path, tt.body, describe(acts), err, tt.want)
		}
	}
	for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		h := http.Header{}
		h.Set(name, "DELETE")
		if _, err := NewCall(Request{Provider: "powerdns", Method: "GET", Path: pdnsStaging, Header: h}); !errors.Is(err, ErrMalformed) {
			t.Errorf("header %s: got %v, want %v", name, err, ErrMalformed)
		}
	}
}

// TestPowerDNSHead checks that HEAD, which the server refuses, is not judged as
// less than GET.
func TestPowerDNSHead(t *testing.T) {
	c := powerDNS(t)
	for _, path := range []string{"/api", pdnsStaging, pdnsStaging + "/cryptokeys/1"} {
		_, get, err := classifyPDNS(c, "GET", path, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, head, err := classifyPDNS(c, "HEAD", path, "", ""); err == nil && !reflect.DeepEqual(head, get) {
			t.Errorf("HEAD %s: got %v, want an error or %v", path, head, get)
		}
	}
}

// TestPowerDNSKeyInQuery checks that a key in the query string is not sent, in
// any case that the server takes.
func TestPowerDNSKeyInQuery(t *testing.T) {
	c := powerDNS(t)
	for _, name := range []string{"api-key", "API-KEY", "Api-Key", "api%2Dkey", "%61pi-key"} {
		call, _, err := classifyPDNS(c, "GET", pdnsStaging, name+"=s3cret&rrsets=false", "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if call.Query != "rrsets=false" {
			t.Errorf("%s: sent with %q", name, call.Query)
		}
	}
}

// TestPowerDNSLego checks which scopes a certificate client needs: these
// requests are those of lego 4.9.1.
func TestPowerDNSLego(t *testing.T) {
	lease, err := ParseSet("powerdns/servers:read@account powerdns/records:write@staging")
	if err != nil {
		t.Fatal(err)
	}
	envs := Environments{"staging": {"powerdns": {"zone": {"staging.example.com."}}}, "production": {"powerdns": {"zone": {"example.com."}}}}
	c := powerDNS(t)
	if err := c.Check(envs); err != nil {
		t.Fatal(err)
	}
	covered := func(method, path, body string) bool {
		t.Helper()
		_, acts, err := classifyPDNS(c, method, path, "", body)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		for _, a := range acts {
			placed, err := a.Locate(envs, nil)
			if err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			for _, p := range placed {
				if !lease.Covers(p.Scope()) {
					return false
				}
			}
		}
		return true
	}
	const present = `{"rrsets":[{"name":"_acme-challenge.staging.example.com.","type":"TXT","kind":"Master","changetype":"REPLACE",` +
		`"records":[{"content":"\"x\"","disabled":false,"name":"_acme-challenge.staging.example.com.","type":"TXT","ttl":120}],"ttl":120}]}`
	const cleanUp = `{"rrsets":[{"name":"_acme-challenge.staging.example.com.","type":"TXT","kind":"","changetype":"DELETE"}]}`
	for _, r := range [][3]string{
		{"GET", "/api", ""}, {"GET", pdnsStaging, ""}, {"PATCH", pdnsStaging, present}, {"PUT", pdnsStaging + "/notify", ""}, {"PATCH", pdnsStaging, cleanUp},
	} {
		if !covered(r[0], r[1], r[2]) {
			t.Errorf("%s %s %s: not covered by %s", r[0], r[1], r[2], lease)
		}
	}
	production := strings.Replace(pdnsStaging, "staging.", "", 1)
	for _, r := range [][3]string{
		{"GET", production, ""}, {"PATCH", production, present}, {"PUT", production + "/notify", ""}, {"DELETE", pdnsStaging, ""},
		{"GET", pdnsServer + "/zones", ""}, {"GET", pdnsServer + "/search-data", ""}, {"PATCH", pdnsStaging, strings.ReplaceAll(present, `"TXT"`, `"LUA"`)},
	} {
		if covered(r[0], r[1], r[2]) {
			t.Errorf("%s %s %s: covered by %s", r[0], r[1], r[2], lease)
		}
	}
}

// TestPowerDNSDocument checks docs/providers/powerdns.md against the catalog,
// both ways.
func TestPowerDNSDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/providers/powerdns.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) >= 7 && strings.HasPrefix(line, "| `") {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[strings.Join(cells[1:5], " ")]++
		}
	}
	ops, err := powerDNS(t).Operations("powerdns")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, op := range ops {
		want[fmt.Sprintf("`%s` `%s` `%s:%s` %s", op.Name, op.Match, op.Resource, op.Action, op.Place)] = true
	}
	for row := range want {
		if rows[row] == 0 {
			t.Errorf("not in the document: %s", row)
		}
	}
	for row := range rows {
		if !want[row] {
			t.Errorf("in the document but not in the catalog: %s", row)
		}
	}
}

// FuzzREST checks that nothing makes the classifier panic, and that what is
// sent has, when read again, the same acts and the same bytes.
func FuzzREST(f *testing.F) {
	f.Add("GET", "/api", "", "")
	f.Add("DELETE", pdnsServer+"/zones/=73TAGING%2eexample.com", "api-key=x", "")
	f.Add("GET", pdnsStaging, "rrsets=false", "")
	f.Add("PATCH", pdnsStaging, "", `{"rrsets":[{"name":"a.","type":"A","changetype":"REPLACE","ttl":1e2,"records":[{"content":"\u0061"}]}]}`)
	f.Add("POST", pdnsServer+"/zones", "rrsets=true", `{"name":"staging.example.com.","kind":"Native","rrsets":[],"dnssec":true}`)
	f.Add("PUT", pdnsStaging+"/metadata/SOA-EDIT", "", `{"kind":null,"metadata":["x"]}`)
	f.Add("DELETE", pdnsServer+"/views/a%20b/0=2F25.2.0.192.in-addr.arpa.", "", "")
	f.Add("GET", pdnsServer+"/search-data", "q=%2A&max=+1", "")
	c := powerDNS(f)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		call, acts, err := classifyPDNS(c, method, path, query, body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnclassified) {
				t.Fatalf("an error of no known kind: %v", err)
			}
			return
		}
		for _, a := range acts {
			if a.Action == 0 || !IsName(string(a.Resource)) || a.Place.Reach == 0 {
				t.Fatalf("incomplete act %+v", a)
			}
			if a.Place.Reach == ByValue && strings.Contains(call.Path, "/zones/") {
				if zone := url.PathEscape(zoneForm.encode(a.Place.Keys[0].Value)); !strings.Contains(call.Path+"/", "/zones/"+zone+"/") {
					t.Fatalf("placed in %s but sent to %s", a.Place, call.Path)
				}
			}
		}
		again, err := NewCall(Request(call))
		if err != nil {
			t.Fatalf("%+v: %v", call, err)
		}
		again, acts2, err := c.Classify(again)
		if err != nil {
			t.Fatalf("%+v: %v", call, err)
		}
		if !reflect.DeepEqual(acts, acts2) {
			t.Fatalf("acts %v, then %v", acts, acts2)
		}
		if again.Method != call.Method || again.Path != call.Path || again.Query != call.Query || !bytes.Equal(again.Body, call.Body) {
			t.Fatalf("sent %+v, then %+v", call, again)
		}
	})
}

// FuzzZoneForm checks that a zone has one spelling, and that it survives the
// path it is sent in.
func FuzzZoneForm(f *testing.F) {
	for _, s := range []string{"staging.example.com.", "STAGING.example.com", "=73taging=2Eexample.com.", "=2E", ".", "0=2F25.2.0.192.in-addr.arpa", "=2e=2e", "a=", "!#.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		zone, err := zoneForm.decode(s)
		if err != nil {
			return
		}
		if one, err := zoneForm.canonical(zone); err != nil || one != zone {
			t.Fatalf("%q means %q, whose one spelling is %q, %v", s, zone, one, err)
		}
		sent := zoneForm.encode(zone)
		if back, err := zoneForm.decode(sent); err != nil || back != zone || zoneForm.encode(back) != sent {
			t.Fatalf("%q means %q, sent as %q, which means %q, %v", s, zone, sent, back, err)
		}
		if path, err := canonicalPath("/" + url.PathEscape(sent)); err != nil || path != "/"+url.PathEscape(sent) {
			t.Fatalf("%q sent as %q becomes %q, %v", s, sent, path, err)
		}
		if strings.ContainsAny(sent, "/\\%;") || zone != strings.ToLower(zone) || !strings.HasSuffix(zone, ".") {
			t.Fatalf("%q means %q, sent as %q", s, zone, sent)
		}
	})
}

// pdns is a PowerDNS server of a test's own.
type pdns struct {
	t    *testing.T
	addr string
}

// startPDNS starts a PowerDNS server on loopback with the zones example.com.
// and staging.example.com., and stops it when the test ends.
func startPDNS(t *testing.T) *pdns {
	t.Helper()
	bin, err := exec.LookPath("pdns_server")
	schema, readErr := os.ReadFile("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
	if err != nil || readErr != nil {
		const how = "PowerDNS is not installed; run: apt-get install -y --no-install-recommends pdns-server pdns-backend-sqlite3 sqlite3"
		if os.Getenv("CI") == "true" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	dir := t.TempDir()
	sqlite := exec.Command("sqlite3", filepath.Join(dir, "db"))
	sqlite.Stdin = bytes.NewReader(schema)
	if out, err := sqlite.CombinedOutput(); err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	dns, api := freePort(t), freePort(t)
	conf := fmt.Sprintf("launch=gsqlite3\ngsqlite3-database=%s/db\ngsqlite3-pragma-synchronous=0\ngsqlite3-dnssec=yes\nenable-lua-records=yes\n"+
		"local-address=127.0.0.1\nlocal-port=%s\napi=yes\napi-key=k\nwebserver=yes\nwebserver-address=127.0.0.1\nwebserver-port=%s\nsocket-dir=%s\n"+
		"tcp-control-secret=s3cret\ndaemon=no\nguardian=no\nsetuid=\nsetgid=\ndisable-syslog=yes\nloglevel=3\nsecurity-poll-suffix=\n", dir, dns, api, dir)
	if err := os.WriteFile(filepath.Join(dir, "pdns.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(bin, "--config-dir="+dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})
	p := &pdns{t, "127.0.0.1:" + api}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", p.addr); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("pdns_server does not listen")
		}
	}
	for _, zone := range []string{"example.com.", "staging.example.com."} {
		p.must(201, "POST", pdnsServer+"/zones", fmt.Sprintf(`{"name":%q,"kind":"Native","nameservers":["ns.example.com."],"dnssec":true}`, zone))
	}
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// send sends target as it stands, which net/http would not do.
func (p *pdns) send(method, target, body string) (int, string) {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nX-API-Key: k\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		method, target, p.addr, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "" // the server hangs up on what it cannot read
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer)
}

func (p *pdns) must(status int, method, target, body string) string {
	p.t.Helper()
	got, answer := p.send(method, target, body)
	if got != status {
		p.t.Fatalf("%s %s %s: got %d %s, want %d", method, target, body, got, answer, status)
	}
	return answer
}

// zone returns the name of the zone that the server finds at target, or "".
func (p *pdns) zone(target string) string {
	status, answer := p.send("GET", target, "")
	var z struct{ Name string }
	if status != 200 || json.Unmarshal([]byte(answer), &z) != nil {
		return ""
	}
	return z.Name
}

// TestPowerDNSReal asks a real server whether it reads zones as we do, and
// checks what the catalog's comments say of it.
func TestPowerDNSReal(t *testing.T) {
	p, c := startPDNS(t), powerDNS(t)

	t.Run("spellings", func(t *testing.T) {
		agreed, refused := 0, 0
		check := func(spelling string) {
			theirs := p.zone(pdnsServer + "/zones/" + spelling)
			call, acts, err := classifyPDNS(c, "GET", pdnsServer+"/zones/"+spelling, "", "")
			if err != nil {
				if theirs != "" {
					refused++
				}
				return
			}
			ours := acts[0].Place.Keys[0].Value
			if theirs != "" && theirs != ours {
				t.Errorf("%q: the server reads %s, we read %s", spelling, theirs, ours)
			}
			want := ""
			if ours == "example.com." || ours == "staging.example.com." {
				want = ours
			}
			if sent := p.zone(call.Path); sent != want {
				t.Errorf("%q: we read %s and send %s, which the server reads as %q", spelling, ours, call.Path, sent)
			}
			if theirs != "" {
				agreed++
			}
		}
		for _, s := range []string{
			"staging.example.com.", "staging.example.com", "STAGING.example.com.", "=73taging.example.com.", "staging=2Eexample.com.", "staging=2eexample.com.",
			"staging%2Eexample.com", "staging%252Eexample.com", "staging%3D2Eexample.com.", `\115taging.example.com.`, "%5C115taging.example.com.", "=5C115taging.example.com.",
			"staging.example.com..", "staging..example.com.", ".example.com.", "=2e=2e", "=2E", "%2e%2e", "x/../example.com.", "staging.example.com./../example.com.",
			"staging.example.com.;x", "staging.example.com.%00", "staging.example.com.%00.example.com.", "staging.example.com.=00", "staging.example.com.%20", "%20example.com.",
			"staging+example.com.", "example.com.?x=staging", "example.com.#staging", "example.com.%23", "example.com.%3Fx", "ſtaging.example.com.", "%C5%BFtaging.example.com.",
			"=C5=BFtaging.example.com.", "staging.=65xample.com.", "staging.example=GG", "staging.example.com.=", "staging.example.com.=2", "staging.example.com.:53", "*.example.com.",
		} {
			check(s)
		}
		// The same names with every byte in a way chosen by lot.
		r := rand.New(rand.NewPCG(1, 2))
		ways := []func(byte) string{
			func(b byte) string { return string(b) },
			func(b byte) string { return strings.ToUpper(string(b)) },
			func(b byte) string { return fmt.Sprintf("%%%02X", b) },
			func(b byte) string { return fmt.Sprintf("%%%02x", b) },
			func(b byte) string { return fmt.Sprintf("=%02X", b) },
			func(b byte) string { return fmt.Sprintf("=%02x", b) },
			func(b byte) string { return fmt.Sprintf("%%3D%02X", b) },
			func(b byte) string { return fmt.Sprintf("%%25%02X", b) },
			func(b byte) string { return fmt.Sprintf(`\%03d`, b) },
			func(b byte) string { return fmt.Sprintf("=5C%03d", b) },
		}
		for range 400 {
			var s strings.Builder
			for _, b := range []byte([]string{"example.com.", "staging.example.com."}[r.IntN(2)]) {
				way := 0
				if r.IntN(3) == 0 {
					way = r.IntN(len(ways))
				}
				s.WriteString(ways[way](b))
			}
			check(s.String())
		}
		if agreed < 20 || refused < 20 {
			t.Errorf("of what the server takes, we read %d alike and refuse %d: the list proves nothing", agreed, refused)
		}
	})

	t.Run("names with other characters", func(t *testing.T) {
		for _, zone := range []string{"0/25.2.0.192.in-addr.arpa.", "_x.example.com.", "a-b.example.com."} {
			call, acts, err := classifyPDNS(c, "POST", pdnsServer+"/zones", "", fmt.Sprintf(`{"name":%q,"kind":"Native","nameservers":[]}`, zone))
			if err != nil || acts[0].Place.Keys[0].Value != zone {
				t.Errorf("%s: %v, %v", zone, acts, err)
				continue
			}
			p.must(201, call.Method, call.Path, string(call.Body))
			call, _, err = classifyPDNS(c, "GET", pdnsServer+"/zones/"+strings.ToUpper(zoneForm.encode(zone)), "", "")
			if err != nil || p.zone(call.Path) != zone {
				t.Errorf("%s: sent as %s, which the server reads as %q, %v", zone, call.Path, p.zone(call.Path), err)
			}
		}
	})

	t.Run("names in bodies", func(t *testing.T) {
		taken := 0
		for i, s := range []string{`b%d.staging.example.com.`, `B%d.staging.example.com.`, `b%d.staging.example.com`, `\\098%d.staging.example.com.`, `=62%d.staging.example.com.`} {
			body := fmt.Sprintf(`{"name":"`+s+`","kind":"Native","nameservers":[]}`, i)
			call, acts, err := classifyPDNS(c, "POST", pdnsServer+"/zones", "", body)
			if err != nil {
				continue
			}
			taken++
			var z struct{ Name string }
			if err := json.Unmarshal([]byte(p.must(201, call.Method, call.Path, string(call.Body))), &z); err != nil {
				t.Fatal(err)
			}
			if z.Name != acts[0].Place.Keys[0].Value {
				t.Errorf("%s: we read %s, the server makes %s", body, acts[0].Place, z.Name)
			}
		}
		if taken != 1 {
			t.Errorf("%d spellings taken, want 1", taken)
		}
	})

	t.Run("types", func(t *testing.T) {
		for i, typ := range []string{"LUA", "lua", "Lua", "TYPE65402", "type65402"} {
			body := fmt.Sprintf(`{"rrsets":[{"name":"t%d.staging.example.com.","type":%q,"ttl":60,"changetype":"replace","records":[{"content":"A \"x\"","disabled":false}]}]}`, i, typ)
			p.must(204, "PATCH", pdnsStaging, body)
			if all := p.must(200, "GET", pdnsStaging+"/export", ""); !strings.Contains(all, fmt.Sprintf(`t%d.staging.example.com.\t60\tIN\tLUA`, i)) {
				t.Errorf("%s is not LUA to this server", typ)
			}
			if _, acts, err := classifyPDNS(c, "PATCH", pdnsStaging, "", strings.Replace(body, "replace", "REPLACE", 1)); err == nil && acts[0].Action != Grant {
				t.Errorf("%s: %v", typ, acts)
			}
		}
		// What a record says of its own name and type is not read.
		p.must(204, "PATCH", pdnsStaging, `{"rrsets":[{"name":"u.staging.example.com.","type":"TXT","ttl":60,"changetype":"REPLACE","records":[{"content":"\"x\"","name":"v.staging.example.com.","type":"LUA"}]}]}`)
		if all := p.must(200, "GET", pdnsStaging+"/export", ""); !strings.Contains(all, `u.staging.example.com.\t60\tIN\tTXT`) || strings.Contains(all, "v.staging") {
			t.Errorf("the record is not where the set says: %s", all)
		}
	})

	t.Run("one zone only", func(t *testing.T) {
		production := pdnsServer + "/zones/example.com."
		p.must(204, "PATCH", production, `{"rrsets":[{"name":"www.example.com.","type":"A","ttl":60,"changetype":"REPLACE","records":[{"content":"192.0.2.1"}]}]}`)
		p.must(204, "PATCH", pdnsStaging, `{"rrsets":[{"name":"www.example.com.","type":"A","changetype":"DELETE"}]}`)
		if all := p.must(200, "GET", production+"/export", ""); !strings.Contains(all, "www.example.com.") {
			t.Error("a call to staging has deleted a record of production")
		}
		p.must(204, "PUT", pdnsStaging, `{"name":"example.com.","account":"x"}`)
		if z := p.must(200, "GET", production+"?rrsets=false", ""); !strings.Contains(z, `"account": ""`) {
			t.Errorf("a call to staging has changed production: %s", z)
		}
		var keys []struct{ ID int }
		if err := json.Unmarshal([]byte(p.must(200, "GET", production+"/cryptokeys", "")), &keys); err != nil || len(keys) == 0 {
			t.Fatal(err, keys)
		}
		p.must(404, "GET", fmt.Sprintf("%s/cryptokeys/%d", pdnsStaging, keys[0].ID), "")
	})

	t.Run("secrets", func(t *testing.T) {
		var keys []struct{ ID int }
		list := p.must(200, "GET", pdnsStaging+"/cryptokeys", "")
		if err := json.Unmarshal([]byte(list), &keys); err != nil || len(keys) == 0 || strings.Contains(list, "privatekey") {
			t.Errorf("the list of keys: %v, %s", err, list)
		}
		if one := p.must(200, "GET", fmt.Sprintf("%s/cryptokeys/%d", pdnsStaging, keys[0].ID), ""); !strings.Contains(one, `"privatekey": "Private-key-format`) {
			t.Errorf("no private key in %s", one)
		}
		var made struct{ Key string }
		if err := json.Unmarshal([]byte(p.must(201, "POST", pdnsServer+"/tsigkeys", `{"name":"k1","algorithm":"hmac-sha256"}`)), &made); err != nil || made.Key == "" {
			t.Fatal(err, made)
		}
		if list := p.must(200, "GET", pdnsServer+"/tsigkeys", ""); !strings.Contains(list, `"key": ""`) || strings.Contains(list, made.Key) {
			t.Errorf("the list of TSIG keys: %s", list)
		}
		if one := p.must(200, "PUT", pdnsServer+"/tsigkeys/k1.", `{"name":"k2"}`); !strings.Contains(one, made.Key) {
			t.Errorf("renaming a TSIG key does not answer it: %s", one)
		}
		if config := p.must(200, "GET", pdnsServer+"/config", ""); !strings.Contains(config, `"value": "s3cret"`) {
			t.Error("no secret in the configuration")
		}
		p.must(204, "PUT", pdnsStaging, `{"dnssec":false}`)
		if list := p.must(200, "GET", pdnsStaging+"/cryptokeys", ""); list != "[]" {
			t.Errorf("keys after dnssec has been switched off: %s", list)
		}
		p.must(405, "HEAD", pdnsStaging, "")
	})
}
