package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/credbroker/cred/broker/audit"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) set(s string) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	c.mu.Lock()
	c.t = t
	c.mu.Unlock()
}

func at(s string) *clock { c := new(clock); c.set(s); return c }

func options(dir string, c *clock) audit.Options {
	o := audit.Options{Dir: dir, Origin: "cred.audit/test", Signer: key, Recent: 24 * time.Hour}
	if c != nil {
		o.Now = c.now
	}
	return o
}

func open(t testing.TB, o audit.Options) (*audit.Log, audit.Recovery) {
	t.Helper()
	if o.Logf == nil {
		o.Logf = t.Logf
	}
	l, rec, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l, rec
}

func begin(t testing.TB, l *audit.Log, sync bool) *audit.Pending {
	t.Helper()
	p, err := l.Begin(audit.Entry{
		Lease: "lease-1", Provider: "railway", Method: "POST", Path: "/graphql/v2", Verdict: "allow",
		Acts: []audit.Act{{Operation: "volumeDelete", Scope: "railway/volumes:delete@production", Resource: "vol-1"}},
		Peer: &audit.Peer{UID: 1000, PID: 4711, Exe: "/usr/bin/curl"},
	}, sync)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func call(t testing.TB, l *audit.Log, sync bool) {
	t.Helper()
	begin(t, l, sync).End(audit.Entry{Status: 200, Bytes: 12, Micros: 345})
}

func closeLog(t testing.TB, l *audit.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, dir string) audit.Report {
	t.Helper()
	r, err := audit.Verify(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func holds(t testing.TB, dir string) audit.Report {
	t.Helper()
	r := verify(t, dir)
	for _, p := range r.Problems {
		t.Errorf("unexpected problem: %s", p)
	}
	return r
}

func lines(t testing.TB, dir, day string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, day+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(func(yield func([]byte) bool) {
		for line := range bytes.Lines(text) {
			if !yield(bytes.TrimSuffix(line, []byte("\n"))) {
				return
			}
		}
	})
}

func TestCallIsTwoLines(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	l, _ := open(t, options(dir, c))
	p := begin(t, l, true)
	if got := lines(t, dir, "2026-11-22"); len(got) != 1 || !bytes.Contains(got[0], []byte(p.ID())) {
		t.Fatalf("after Begin: %q", got)
	}
	p.End(audit.Entry{Status: 200, Bytes: 5, Micros: 10})
	p.End(audit.Entry{Status: 500}) // only the first counts
	closeLog(t, l)

	got := lines(t, dir, "2026-11-22")
	if len(got) != 2 {
		t.Fatalf("%d lines, want 2: %q", len(got), got)
	}
	var e struct {
		Seq    int
		Time   string
		Kind   string
		ID     string
		Lease  string
		Status int
		Micros int
	}
	if err := json.Unmarshal(got[1], &e); err != nil {
		t.Fatal(err)
	}
	if e.Seq != 2 || e.Time != "2026-11-22T10:00:00.000000Z" || e.Kind != "outcome" || e.ID != p.ID() ||
		e.Lease != "lease-1" || e.Status != 200 || e.Micros != 10 {
		t.Errorf("outcome is %s", got[1])
	}
	r := holds(t, dir)
	if r.Lines != 2 || r.Files != 1 || r.Checkpoints == 0 || r.Unsigned != 0 || len(r.Unfinished) != 0 || r.Pinned {
		t.Errorf("report %+v", r)
	}
	for _, name := range []string{"2026-11-22.jsonl", "2026-11-22.checkpoints", "audit.pub", "audit.lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if info, _ := os.Stat(dir); runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v", info.Mode())
	}
}

func TestZeroLogRefuses(t *testing.T) {
	for name, l := range map[string]*audit.Log{"nil": nil, "zero": new(audit.Log)} {
		if _, err := l.Begin(audit.Entry{}, true); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("%s: Begin: %v", name, err)
		}
		if err := l.Append(audit.Entry{Kind: audit.KindStart}, true); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("%s: Append: %v", name, err)
		}
		if l.Err() == nil {
			t.Errorf("%s: Err is nil", name)
		}
		if _, err := l.Checkpoint(); err == nil {
			t.Errorf("%s: Checkpoint works", name)
		}
	}
	var p *audit.Pending
	p.End(audit.Entry{})
	new(audit.Pending).End(audit.Entry{})
}

func TestRefusedEntries(t *testing.T) {
	l, _ := open(t, options(t.TempDir(), nil))
	for _, k := range []audit.Kind{"", audit.KindOutcome, audit.KindRecovered} {
		if err := l.Append(audit.Entry{Kind: k}, false); err == nil {
			t.Errorf("Append of %q works", k)
		}
	}
	if _, err := l.Begin(audit.Entry{Kind: audit.KindLease}, false); err == nil {
		t.Error("Begin of a lease works")
	}
	closeLog(t, l)
	if _, err := l.Begin(audit.Entry{}, false); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Begin after Close: %v", err)
	}
	if err := l.Close(); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

func TestOptionsAreRequired(t *testing.T) {
	good := options(t.TempDir(), nil)
	for name, change := range map[string]func(*audit.Options){
		"dir":    func(o *audit.Options) { o.Dir = "" },
		"origin": func(o *audit.Options) { o.Origin = "" },
		"space":  func(o *audit.Options) { o.Origin = "a b" },
		"plus":   func(o *audit.Options) { o.Origin = "a+b" },
		"signer": func(o *audit.Options) { o.Signer = nil },
	} {
		o := good
		change(&o)
		if l, _, err := audit.Open(o); err == nil {
			l.Close()
			t.Errorf("%s: Open works", name)
		}
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, options(dir, nil))
	_, _, err := audit.Open(options(dir, nil))
	if want := fmt.Sprintf("process %d", os.Getpid()); err == nil || runtime.GOOS != "windows" && !strings.Contains(err.Error(), want) {
		t.Errorf("second Open: %v, want it to name %s", err, want)
	}
	closeLog(t, l)
	l, _ = open(t, options(dir, nil))
	closeLog(t, l)
}

func TestLongEntryIsCutVisibly(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	l, _ := open(t, options(dir, c))
	long := strings.Repeat("ü", 100_000)
	acts := make([]audit.Act, 5000)
	for i := range acts {
		acts[i] = audit.Act{Operation: "op", Scope: "p/r:read@e", Resource: fmt.Sprint(i)}
	}
	detail := map[string]string{}
	for i := range 5000 {
		detail[fmt.Sprintf("%05d-%s", i, strings.Repeat("\x01", i%300))] = strings.Repeat("\x02", 500)
	}
	for i, e := range []audit.Entry{
		{Path: long},
		{Path: long, Why: long, Error: long, Reason: long, Peer: &audit.Peer{Exe: long}, ID: long},
		{Acts: acts},
		{Detail: detail, Acts: acts, Scopes: strings.Split(long[:20_000], ""), Path: strings.Repeat("\x00", 100_000)},
		{Path: "bad \xff\xfe utf-8", ID: "\xff"},
	} {
		p, err := l.Begin(e, false)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		p.End(audit.Entry{Error: long})
	}
	closeLog(t, l)
	for i, line := range lines(t, dir, "2026-11-22") {
		if len(line)+1 > audit.MaxLine {
			t.Errorf("line %d has %d bytes", i+1, len(line)+1)
		}
		if i != 8 && !bytes.Contains(line, []byte("…[cut: ")) {
			t.Errorf("line %d has no mark", i+1)
		}
	}
	if r := holds(t, dir); r.Lines != 10 || len(r.Unfinished) != 0 {
		t.Errorf("report %+v", r)
	}
}

func TestEdgeIsTreeHash(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, n := range at {
			out[i] = stored[n]
		}
		return out, nil
	})
	var e audit.Edge
	for n := int64(0); n < 700; n++ {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Root(); got != want {
			t.Fatalf("root of %d leaves is %v, want %v", n, got, want)
		}
		if e.Len() > 10 {
			t.Fatalf("%d hashes kept for %d leaves", e.Len(), n)
		}
		data := fmt.Appendf(nil, "leaf %d", n)
		h, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, h...)
		e.Add(tlog.RecordHash(data))
	}
}

// A checkpoint verifies with nothing but the note package and the file's lines.
func TestCheckpointFormat(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	l, _ := open(t, options(dir, c))
	if text, err := l.Checkpoint(); text != nil || err != nil {
		t.Errorf("of an empty log: %q, %v", text, err)
	}
	for range 5 {
		call(t, l, true)
	}
	begin(t, l, false)
	text, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(text, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	var e audit.Edge
	all := lines(t, dir, "2026-11-22")
	for _, line := range all {
		e.Add(tlog.RecordHash(line))
	}
	root := e.Root()
	want := fmt.Sprintf("cred.audit/test/2026-11-22\n%d\n%s\n", len(all), base64.StdEncoding.EncodeToString(root[:]))
	if n.Text != want {
		t.Errorf("body %q, want %q", n.Text, want)
	}
	if again, err := l.Checkpoint(); err != nil || !bytes.Equal(again, text) {
		t.Errorf("with nothing new: %q, %v", again, err)
	}
	closeLog(t, l)
}

func TestRevokeIsSignedAtOnce(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	l, _ := open(t, options(dir, c))
	for i := 1; i <= 20; i++ {
		if err := l.Append(audit.Entry{Kind: audit.KindRevoke, Lease: fmt.Sprint(i)}, false); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "2026-11-22.checkpoints"))
		if err != nil || !bytes.Contains(text, fmt.Appendf(nil, "cred.audit/test/2026-11-22\n%d\n", i)) {
			t.Fatalf("revocation %d is not signed: %v\n%s", i, err, text)
		}
	}
	closeLog(t, l)
	holds(t, dir)
}

// Nothing new, nothing signed; something new, at most one a second.
func TestCheckpointsArePaced(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	l, _ := open(t, options(dir, c))
	start := time.Now()
	for time.Since(start) < 2200*time.Millisecond {
		call(t, l, false)
		time.Sleep(time.Millisecond)
	}
	time.Sleep(1300 * time.Millisecond)
	text, _ := os.ReadFile(filepath.Join(dir, "2026-11-22.checkpoints"))
	if n := bytes.Count(text, []byte("\n— ")); n < 2 || n > 4 {
		t.Errorf("%d checkpoints in 3.5 seconds with 2.2 of writing", n)
	}
	// Everything is signed without a Close.
	if r := holds(t, dir); r.Unsigned != 0 {
		t.Errorf("%d lines are unsigned after more than a second", r.Unsigned)
	}
	closeLog(t, l)
}

func TestDayChange(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T23:59:59Z")
	l, _ := open(t, options(dir, c))
	p := begin(t, l, true)
	denied := func() { // written when it returns, unlike an outcome
		t.Helper()
		if _, err := l.Begin(audit.Entry{Verdict: "deny"}, true); err != nil {
			t.Fatal(err)
		}
	}
	denied()
	denied()
	c.set("2026-11-23T00:00:01Z")
	p.End(audit.Entry{Status: 200}) // an outcome may be in the next day
	denied()
	c.set("2026-11-22T23:59:59Z") // a clock that goes back
	denied()
	c.set("2026-11-25T12:00:00Z") // a day without calls leaves no file
	denied()
	closeLog(t, l)

	if n := len(lines(t, dir, "2026-11-22")); n != 3 {
		t.Errorf("%d lines on the 22nd, want 3", n)
	}
	first := lines(t, dir, "2026-11-23")[0]
	last := lines(t, dir, "2026-11-22")[2]
	if !bytes.Contains(first, []byte(`"prev_file":"2026-11-22.jsonl"`)) || !bytes.Contains(first, last[len(last)-66:len(last)-2]) {
		t.Errorf("the 23rd begins with %s", first)
	}
	r := holds(t, dir)
	if r.Files != 3 || r.Lines != 7 || len(r.Unfinished) != 0 {
		t.Errorf("report %+v", r)
	}
	text, _ := os.ReadFile(filepath.Join(dir, "2026-11-22.checkpoints"))
	if !bytes.Contains(text, []byte("/2026-11-22\n3\n")) {
		t.Errorf("the 22nd has no final checkpoint:\n%s", text)
	}

	// An Open with a clock that is back keeps the later file too.
	c.set("2026-11-24T00:00:00Z")
	l, rec := open(t, options(dir, c))
	if rec.Broken != nil {
		t.Fatal(rec.Broken)
	}
	denied()
	closeLog(t, l)
	if n := len(lines(t, dir, "2026-11-25")); n != 2 {
		t.Errorf("%d lines on the 25th, want 2", n)
	}
	holds(t, dir)
}

func TestFold(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-20T10:00:00Z")
	o := options(dir, c)
	l, _ := open(t, o)
	lease := func(id string) {
		t.Helper()
		if err := l.Append(audit.Entry{Kind: audit.KindLease, Lease: id, Scopes: []string{"p/r:read@e"}, Expires: c.now().Add(time.Hour)}, true); err != nil {
			t.Fatal(err)
		}
	}
	lease("too old, other file")
	c.set("2026-11-22T09:00:00Z")
	lease("too old, same file")
	c.set("2026-11-22T23:00:00Z")
	lease("a")
	lease("b")
	c.set("2026-11-23T01:00:00Z")
	if err := l.Append(audit.Entry{Kind: audit.KindRevoke, Lease: "a"}, true); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)

	c.set("2026-11-23T10:00:00Z")
	var got []string
	o.Fold = func(e audit.Entry) {
		got = append(got, fmt.Sprintf("%s %s", e.Kind, e.Lease))
		if e.Kind == audit.KindLease && !e.Expires.Equal(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("expires %v", e.Expires)
		}
	}
	l, rec := open(t, o)
	closeLog(t, l)
	if want := []string{"lease a", "lease b", "revoke a"}; !slices.Equal(got, want) {
		t.Errorf("folded %q, want %q", got, want)
	}
	if rec.Broken != nil || rec.Unsigned != 0 || rec.TornBytes != 0 || rec.Unfinished != nil {
		t.Errorf("recovery %+v", rec)
	}
	holds(t, dir)
}

// What Open cannot trust is void, once and for all; what comes after counts again.
func TestFoldAfterDamage(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	o := options(dir, c)
	lease := func(l *audit.Log, id string) {
		t.Helper()
		if err := l.Append(audit.Entry{Kind: audit.KindLease, Lease: id}, true); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := open(t, o)
	for i := range 10 {
		lease(l, fmt.Sprintf("old %d", i))
	}
	closeLog(t, l)
	path := filepath.Join(dir, "2026-11-22.jsonl")
	text, _ := os.ReadFile(path)
	for name, damaged := range map[string][]byte{
		"edited":    bytes.Replace(text, []byte("old 3"), []byte("OLD 3"), 1),
		"truncated": bytes.Join(bytes.SplitAfter(text, []byte("\n"))[:6], nil),
		"emptied":   {},
		"last line": append(bytes.TrimSuffix(text, []byte("}\n")), "x\n"...),
	} {
		t.Run(name, func(t *testing.T) {
			sub := t.TempDir()
			if err := os.CopyFS(sub, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(sub, "2026-11-22.jsonl"), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			o := o
			o.Dir = sub
			var got []string
			o.Fold = func(e audit.Entry) { got = append(got, string(e.Kind)+" "+e.Lease) }
			l, rec := open(t, o)
			if rec.Broken == nil || len(got) != 0 {
				t.Fatalf("Broken = %v, folded %q", rec.Broken, got)
			}
			lease(l, "new")
			closeLog(t, l)
			l, rec = open(t, o)
			closeLog(t, l)
			if want := []string{"recovered ", "lease new"}; rec.Broken != nil || !slices.Equal(got, want) {
				t.Errorf("second Open: Broken = %v, folded %q, want %q", rec.Broken, got, want)
			}
			r := verify(t, sub)
			if r.Err() == nil {
				t.Error("Verify has forgotten the damage")
			}
			t.Log(r.Err())

			// Damage after the recovery counts as damage, whether the lines, the
			// checkpoints or both show it.
			text, _ := os.ReadFile(filepath.Join(sub, "2026-11-22.jsonl"))
			if !bytes.HasPrefix(text, damaged) {
				t.Error("Open changed whole lines")
			}
			for name, damage := range map[string][]byte{
				"edited":   bytes.Replace(text, []byte(`"new"`), []byte(`"New"`), 1),
				"cut":      text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1],
				"repeated": append(bytes.Clone(text), text[bytes.LastIndexByte(text[:len(text)-1], '\n')+1:]...),
			} {
				again := t.TempDir()
				if err := os.CopyFS(again, os.DirFS(sub)); err != nil {
					t.Fatal(err)
				}
				os.WriteFile(filepath.Join(again, "2026-11-22.jsonl"), damage, 0o600)
				got = nil
				o := o
				o.Dir = again
				l, rec = open(t, o)
				closeLog(t, l)
				if rec.Broken == nil || len(got) != 0 {
					t.Errorf("then %s: Broken = %v, folded %q", name, rec.Broken, got)
				}
			}
		})
	}
}

// Only a recovered entry that the broker has signed counts. An attacker who writes
// one behind his own damage gains nothing.
func TestForgedRecovery(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	o := options(dir, c)
	l, _ := open(t, o)
	call(t, l, true)
	closeLog(t, l)
	all := lines(t, dir, "2026-11-22")
	last := all[len(all)-1]
	forged := func(seq int, kind string, prev []byte) []byte {
		return rehash([][]byte{fmt.Appendf(nil,
			`{"seq":%d,"time":"2026-11-22T10:00:01Z","kind":"%s","detail":{"damage":"x"},"hash":"%064d"}`, seq, kind, 0)}, prev)[0]
	}
	gap := forged(9, "lease", hashOf(last))
	fake := forged(10, "recovered", hashOf(gap))
	text := append(bytes.Join(append(all, gap, fake), []byte("\n")), '\n')
	if err := os.WriteFile(filepath.Join(dir, "2026-11-22.jsonl"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); len(r.Problems) != 1 || r.Problems[0].Kind != audit.Dropped || r.Unsigned != 2 {
		t.Fatalf("report %+v", r)
	}
	o.Fold = func(e audit.Entry) { t.Errorf("folded %+v", e) }
	l, rec := open(t, o)
	closeLog(t, l)
	if rec.Broken == nil {
		t.Error("a forged recovery heals")
	}
}

func TestUnfinishedMayHaveHappened(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	l, _ := open(t, options(dir, c))
	if err := l.Append(audit.Entry{Kind: audit.KindStart}, true); err != nil {
		t.Fatal(err)
	}
	call(t, l, false)
	p := begin(t, l, false)
	if _, err := l.Begin(audit.Entry{Verdict: "deny", Code: "denied"}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin(audit.Entry{Verdict: "hold"}, false); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	l, rec := open(t, options(dir, c))
	if len(rec.Unfinished) != 1 || rec.Unfinished[0].ID != p.ID() {
		t.Errorf("unfinished: %+v", rec.Unfinished)
	}
	if err := l.Append(audit.Entry{Kind: audit.KindStart}, true); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	l, rec = open(t, options(dir, c))
	closeLog(t, l)
	if len(rec.Unfinished) != 0 {
		t.Errorf("told twice: %+v", rec.Unfinished)
	}
	r := holds(t, dir)
	if len(r.Unfinished) != 1 || r.Unfinished[0].ID != p.ID() || r.Unfinished[0].Number != 4 {
		t.Errorf("Verify: %+v", r.Unfinished)
	}
	n := 0
	for line, err := range audit.Read(dir, audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Unfinished {
			n++
			if line.ID != p.ID() {
				t.Errorf("Read marks %+v", line)
			}
		}
	}
	if n != 1 {
		t.Errorf("Read marks %d lines", n)
	}
}

func TestRead(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-21T10:00:00Z")
	l, _ := open(t, options(dir, c))
	do := func(e audit.Entry) {
		t.Helper()
		p, err := l.Begin(e, false)
		if err != nil {
			t.Fatal(err)
		}
		if e.Verdict == "allow" {
			p.End(audit.Entry{Status: 200})
		}
	}
	act := func(scope string) []audit.Act { return []audit.Act{{Scope: scope}} }
	do(audit.Entry{ID: "1", Lease: "a", Provider: "railway", Verdict: "allow", Acts: act("railway/volumes:read@staging")})
	do(audit.Entry{ID: "2", Lease: "a", Provider: "railway", Verdict: "deny", Acts: act("railway/volumes:delete@production")})
	c.set("2026-11-22T10:00:00Z")
	do(audit.Entry{ID: "3", Lease: "b", Provider: "powerdns", Verdict: "allow", Acts: act("powerdns/zones:write@production")})
	if err := l.Append(audit.Entry{Kind: audit.KindLease, ID: "4", Lease: "b", Scopes: []string{"powerdns/zones:write@production"}}, false); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	day := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		f    audit.Filter
		want string
	}{
		{audit.Filter{}, "call 1, outcome 1, call 2, call 3, outcome 3, lease 4"},
		{audit.Filter{Lease: "a"}, "call 1, outcome 1, call 2"},
		{audit.Filter{Provider: "powerdns"}, "call 3, outcome 3"},
		{audit.Filter{Environment: "production"}, "call 2, call 3, outcome 3, lease 4"},
		{audit.Filter{Verdict: "deny"}, "call 2"},
		{audit.Filter{Verdict: "allow", Provider: "railway"}, "call 1, outcome 1"},
		{audit.Filter{Kind: audit.KindOutcome}, "outcome 1, outcome 3"},
		{audit.Filter{Since: day}, "call 3, outcome 3, lease 4"},
		{audit.Filter{Until: day}, "call 1, outcome 1, call 2"},
		{audit.Filter{Lease: "nobody"}, ""},
	} {
		var got []string
		for line, err := range audit.Read(dir, test.f) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(line.Kind)+" "+line.ID)
		}
		if s := strings.Join(got, ", "); s != test.want {
			t.Errorf("%+v: %s, want %s", test.f, s, test.want)
		}
	}

	// A damaged line is told and does not end the reading.
	path := filepath.Join(dir, "2026-11-22.jsonl")
	text, _ := os.ReadFile(path)
	os.WriteFile(path, append([]byte("rubbish\n"), text...), 0o600)
	bad, good := 0, 0
	for line, err := range audit.Read(dir, audit.Filter{}) {
		if err != nil {
			bad++
			if line.Number != 1 || line.File != "2026-11-22.jsonl" {
				t.Errorf("the error is at %+v", line)
			}
		} else {
			good++
		}
	}
	if bad != 1 || good != 6 {
		t.Errorf("%d bad and %d good lines", bad, good)
	}
	for _, err := range audit.Read(filepath.Join(dir, "nowhere"), audit.Filter{}) {
		if err == nil {
			t.Error("a missing directory reads")
		}
	}
}

func TestConcurrent(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	l, _ := open(t, options(dir, c))
	var wg sync.WaitGroup
	const callers, each = 16, 50
	for g := range callers {
		wg.Go(func() {
			for i := range each {
				if g == 0 && i == each/2 {
					c.set("2026-11-23T00:00:00Z")
				}
				call(t, l, (g+i)%4 == 0)
				if i%10 == 0 {
					if _, err := l.Checkpoint(); err != nil {
						t.Error(err)
					}
					if err := l.Append(audit.Entry{Kind: audit.KindRevoke, Lease: "x"}, true); err != nil {
						t.Error(err)
					}
				}
				if g == 1 && i%10 == 0 { // while others write
					if r, err := audit.Verify(dir, l.VerifierKey()); err != nil || r.Err() != nil {
						t.Error(err, r.Err())
					}
				}
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	r := holds(t, dir)
	if want := int64(callers * (each*2 + each/10)); r.Lines != want || len(r.Unfinished) != 0 || r.Files != 2 {
		t.Errorf("%d lines in %d files and %d unfinished, want %d lines", r.Lines, r.Files, len(r.Unfinished), want)
	}
}

func TestDigest(t *testing.T) {
	const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if audit.Digest("abc") != want || audit.Digest([]byte("abc")) != want {
		t.Error("Digest is not SHA-256")
	}
}
