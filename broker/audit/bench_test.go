package audit_test

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/credbroker/cred/broker/audit"
)

// BenchmarkCall is a Begin and its End; ns/op is the time between two calls over
// all goroutines. AUDIT_BENCH_DIR chooses the file system.
func BenchmarkCall(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, n := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("sync=%v/goroutines=%d", sync, n), func(b *testing.B) {
				l, _ := open(b, options(benchDir(b), nil))
				defer closeLog(b, l)
				b.ReportAllocs()
				run(b.N, n, func() { call(b, l, sync) })
			})
		}
	}
}

// BenchmarkReadBesideSync is the price of a read while another caller changes things: the
// read must not wait for the other's fsync.
func BenchmarkReadBesideSync(b *testing.B) {
	l, _ := open(b, options(benchDir(b), nil))
	defer closeLog(b, l)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			call(b, l, true)
		}
	})
	for b.Loop() {
		call(b, l, false)
	}
	stop.Store(true)
	wg.Wait()
}

// BenchmarkVerify reports the time for a line.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	l, _ := open(b, options(dir, at("2026-11-22T10:00:00Z")))
	const calls = 10_000
	run(calls, 8, func() {
		if _, err := l.Begin(audit.Entry{Verdict: "deny", Provider: "railway", Path: "/graphql/v2"}, false); err != nil {
			b.Fatal(err)
		}
	})
	closeLog(b, l)
	for b.Loop() {
		if r, err := audit.Verify(dir, ""); err != nil || r.Err() != nil || r.Lines != calls {
			b.Fatal(err, r.Err())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/calls, "ns/line")
}

func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp(os.Getenv("AUDIT_BENCH_DIR"), "audit")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func run(times, goroutines int, do func()) {
	var left atomic.Int64
	left.Store(int64(times))
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				do()
			}
		})
	}
	wg.Wait()
}
