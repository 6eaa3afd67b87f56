package broker_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credbroker/cred/broker"
)

// BenchmarkRelay measures calls through the relay beside calls straight to the
// same server and calls through httputil.ReverseProxy alone, in the same run.
// Compare the rows of one run; the machine differs from run to run.
func BenchmarkRelay(b *testing.B) {
	w := newWorld(b)
	answer := []byte(`{"name":"staging.example.com.","kind":"Native","rrsets":[` + strings.Repeat(`{"type":"A"},`, 10) + `{}]}`)
	upstream := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.Header.Get("X-API-Key") == "" {
			rw.WriteHeader(401)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.Write(answer)
	}))
	defer upstream.Close()
	w.configure(fmt.Sprintf(settings, upstream.URL))
	token := w.lease("powerdns/records:write@staging")

	target, _ := url.Parse(upstream.URL)
	plain := httputil.NewSingleHostReverseProxy(target)
	plain.Transport = &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 128}
	proxy := httptest.NewServer(plain)
	defer proxy.Close()

	const path = "/api/v1/servers/localhost/zones/staging.example.com."
	const write = `{"rrsets":[{"name":"_acme-challenge.staging.example.com.","type":"TXT","ttl":60,"changetype":"REPLACE","records":[{"content":"\"x\"","disabled":false}]}]}`
	for _, kind := range []struct{ name, method, body string }{{"read", "GET", ""}, {"write", "PATCH", write}} {
		for _, conns := range []int{1, 8, 64} {
			for _, to := range []struct{ name, base string }{{"direct", upstream.URL}, {"reverseproxy", proxy.URL}, {"relay", w.relay + "/powerdns"}} {
				b.Run(fmt.Sprintf("%s/conns=%d/%s", kind.name, conns, to.name), func(b *testing.B) {
					load(b, conns, func(c *http.Client) error {
						req, _ := http.NewRequest(kind.method, to.base+path, strings.NewReader(kind.body))
						req.Header.Set("X-API-Key", token)
						resp, err := c.Do(req)
						if err != nil {
							return err
						}
						defer resp.Body.Close()
						io.Copy(io.Discard, resp.Body)
						if resp.StatusCode != 200 {
							return fmt.Errorf("status %d", resp.StatusCode)
						}
						return nil
					})
				})
			}
		}
	}
}

// load runs b.N calls over conns connections and reports the rate and the
// latencies.
func load(b *testing.B, conns int, call func(*http.Client) error) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns}}
	defer c.CloseIdleConnections()
	for range conns {
		if err := call(c); err != nil {
			b.Fatal(err)
		}
	}
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range conns {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				began := time.Now()
				if err := call(c); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkLease measures how many leases are issued, each on disk before it is
// given away.
func BenchmarkLease(b *testing.B) {
	w := newWorld(b)
	for _, conns := range []int{1, 8} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			load(b, conns, func(*http.Client) error {
				_, err := w.client.Lease(b.Context(), broker.LeaseRequest{Scopes: []string{"records:write"}, On: "staging"})
				return err
			})
		})
	}
}
