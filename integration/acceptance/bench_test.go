package acceptance

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// installed is a home with a broker of the real program and a provider on this
// machine.
type installed struct {
	b     testing.TB
	env   []string
	relay string
	pid   int
}

// install sets up a home as an owner does, with the key in the keyring.
func install(b testing.TB) *installed {
	b.Helper()
	needs(b, "keyring")
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"name":"staging.example.com."}`)
	}))
	b.Cleanup(upstream.Close)
	i := &installed{b: b, env: append(os.Environ(), "CRED_HOME="+b.TempDir())}
	i.cred("", "init", "--keystore", "keyring")
	config := filepath.Join(strings.TrimPrefix(i.env[len(i.env)-1], "CRED_HOME="), "config.toml")
	text := fmt.Sprintf("listen = \"127.0.0.1:0\"\n[provider.powerdns]\nbase_url = %q\n[environment.staging]\npowerdns = { zone = \"staging.example.com.\" }\n", upstream.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	i.cred(rootKey, "key", "add", "powerdns")
	var status struct {
		PID   int
		Relay string
	}
	if err := json.Unmarshal(i.cred("", "status", "--json"), &status); err != nil {
		b.Fatal(err)
	}
	i.pid, i.relay = status.PID, status.Relay
	b.Cleanup(func() { i.cred("", "serve", "--stop") })
	return i
}

// cred runs the program.
func (i *installed) cred(stdin string, args ...string) []byte {
	i.b.Helper()
	cmd := exec.Command("cred", args...)
	cmd.Env, cmd.Stdin = i.env, strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		i.b.Fatalf("cred %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// BenchmarkCredLease is cred lease as a whole process, with a broker running,
// beside cred version, which does nothing but start and end.
func BenchmarkCredLease(b *testing.B) {
	i := install(b)
	for name, args := range map[string][]string{
		"lease":   {"lease", "records:write", "--on", "staging", "--json"},
		"version": {"version"},
	} {
		b.Run(name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				began := time.Now()
				i.cred("", args...)
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// BenchmarkMemory reports what the broker holds in memory (its resident set)
// at rest and while 64 connections keep it busy.
func BenchmarkMemory(b *testing.B) {
	i := install(b)
	var lease struct{ Token string }
	if err := json.Unmarshal(i.cred("", "lease", "records:write", "--on", "staging", "--json"), &lease); err != nil {
		b.Fatal(err)
	}
	time.Sleep(time.Second)
	rest := i.resident()
	busy := rest
	const path = "/powerdns/api/v1/servers/localhost/zones/staging.example.com."
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for b.Loop() {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 200 {
					req, _ := http.NewRequest("GET", i.relay+path, nil)
					req.Header.Set("X-API-Key", lease.Token)
					resp, err := client.Do(req)
					if err != nil || resp.StatusCode != 200 {
						b.Errorf("%v %v", resp, err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
		wg.Wait()
		busy = max(busy, i.resident())
	}
	b.ReportMetric(rest, "rest-MiB")
	b.ReportMetric(busy, "busy-MiB")
}

// resident is the broker's resident set in MiB.
func (i *installed) resident() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.pid))
	if err != nil {
		i.b.Skipf("left out: no /proc here: %v", err)
	}
	_, after, _ := strings.Cut(string(data), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		i.b.Fatal(err)
	}
	return float64(kib) / 1024
}
