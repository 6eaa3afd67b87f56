package audit_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/credbroker/cred/broker/audit"
)

// TestMain is also the program that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("AUDIT_TEST_WRITE_TO"); dir != "" {
		l, _, err := audit.Open(options(dir, nil))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for g := range 4 {
			go func() {
				for {
					p, err := l.Begin(audit.Entry{Verdict: "allow", Path: strings.Repeat("x", 300)}, g == 0)
					if err != nil {
						fmt.Println(err)
						os.Exit(1)
					}
					fmt.Println(p.ID()) // what was acknowledged
					p.End(audit.Entry{Status: 200})
				}
			}()
		}
		select {}
	}
	os.Exit(m.Run())
}

// Whatever Begin acknowledged before a kill -9 is in the log, and the log holds.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "AUDIT_TEST_WRITE_TO="+dir)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(150+90*round) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		text := out.String()
		for id := range strings.Lines(text[:strings.LastIndex(text, "\n")+1]) {
			acknowledged[strings.TrimSpace(id)] = true
		}
		r := holds(t, dir) // before and after an Open
		l, rec := open(t, options(dir, nil))
		if rec.Broken != nil {
			t.Fatal(rec.Broken)
		}
		if len(rec.Unfinished) != len(r.Unfinished) {
			t.Errorf("Open finds %d unfinished calls, Verify %d", len(rec.Unfinished), len(r.Unfinished))
		}
		call(t, l, true)
		closeLog(t, l)
		holds(t, dir)
	}
	if len(acknowledged) < 20 {
		t.Fatalf("only %d calls were acknowledged", len(acknowledged))
	}
	n := len(acknowledged)
	for line, err := range audit.Read(dir, audit.Filter{Kind: audit.KindCall}) {
		if err != nil {
			t.Fatal(err)
		}
		delete(acknowledged, line.ID)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d of %d acknowledged calls are not in the log", len(acknowledged), n)
	}
}

// memory is a directory where fsync costs nothing, if there is one.
func memory(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "audit")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A log cut at any byte opens, keeps every whole line, goes on and verifies.
func TestCutAtEveryByte(t *testing.T) {
	src, c := t.TempDir(), at("2026-11-21T10:00:00Z")
	l, _ := open(t, options(src, c))
	call(t, l, true)
	closeLog(t, l)
	c.set("2026-11-22T10:00:00Z")
	l, _ = open(t, options(src, c))
	for range 2 {
		p, err := l.Begin(audit.Entry{Verdict: "allow"}, true)
		if err != nil {
			t.Fatal(err)
		}
		p.End(audit.Entry{Status: 200})
		if _, err := l.Begin(audit.Entry{Verdict: "deny"}, true); err != nil { // keeps the order of lines
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	text, err := os.ReadFile(filepath.Join(src, "2026-11-22.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join(src, "2026-11-22.checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	// A crash leaves no checkpoint of lines that are not on the disk.
	if err := os.Remove(filepath.Join(src, "2026-11-22.checkpoints")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(memory(t), "log")
	try := func(t *testing.T, cut, cutSigned int, zeros int, want audit.Recovery) {
		t.Helper()
		os.RemoveAll(dir)
		if err := os.CopyFS(dir, os.DirFS(src)); err != nil {
			t.Fatal(err)
		}
		end := append(bytes.Clone(text[:cut]), make([]byte, zeros)...)
		if err := os.WriteFile(filepath.Join(dir, "2026-11-22.jsonl"), end, 0o600); err != nil {
			t.Fatal(err)
		}
		if cutSigned > 0 {
			if err := os.WriteFile(filepath.Join(dir, "2026-11-22.checkpoints"), signed[:cutSigned], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		whole := bytes.Count(text[:cut], []byte("\n"))
		r := holds(t, dir)
		if r.TornBytes != want.TornBytes || r.Lines != int64(whole)+2 {
			t.Fatalf("cut at %d: Verify finds %d torn bytes and %d lines", cut, r.TornBytes, r.Lines)
		}
		o := options(dir, c)
		folded := 0
		o.Fold = func(audit.Entry) { folded++ }
		l, rec := open(t, o)
		if rec.Broken != nil || rec.TornBytes != want.TornBytes || !bytes.Equal(rec.Torn, end[len(end)-int(want.TornBytes):]) || folded != whole+2 {
			t.Fatalf("cut at %d: %+v, folded %d", cut, rec, folded)
		}
		if (whole == 1 || whole == 4) != (len(rec.Unfinished) == 1) {
			t.Fatalf("cut at %d: unfinished %+v", cut, rec.Unfinished)
		}
		call(t, l, false)
		closeLog(t, l)
		if r := holds(t, dir); r.Unsigned != 0 || r.TornBytes != 0 {
			t.Fatalf("cut at %d: %+v", cut, r)
		}
		after, err := os.ReadFile(filepath.Join(dir, "2026-11-22.jsonl"))
		if err != nil || !bytes.HasPrefix(after, text[:bytes.LastIndexByte(text[:cut], '\n')+1]) {
			t.Fatalf("cut at %d: whole lines were changed", cut)
		}
		if noted := bytes.Contains(after, []byte(`"kind":"recovered"`)); noted != (want.TornBytes > 0) {
			t.Fatalf("cut at %d: recovery noted: %v", cut, noted)
		}
	}
	step := 1
	if testing.Short() {
		step = 17
	}
	for cut := 0; cut <= len(text); cut += step {
		torn := cut - (bytes.LastIndexByte(text[:cut], '\n') + 1)
		try(t, cut, 0, 0, audit.Recovery{TornBytes: int64(torn)})
	}
	for cut := 0; cut <= len(signed); cut += step {
		try(t, len(text), cut, 0, audit.Recovery{})
	}
	try(t, len(text), len(signed), 5000, audit.Recovery{TornBytes: 5000}) // a power cut leaves zeros
	try(t, len(text)-3, 0, 100, audit.Recovery{TornBytes: 100 + int64(len(text)-3-bytes.LastIndexByte(text[:len(text)-3], '\n')-1)})
}

// Lines that are not ours, behind the last checkpoint and up to the end, are a
// crash's and not an attack's; what they were is kept.
func TestRubbishAtTheEnd(t *testing.T) {
	dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
	l, _ := open(t, options(dir, c))
	call(t, l, true)
	closeLog(t, l)
	path := filepath.Join(dir, "2026-11-22.jsonl")
	text, _ := os.ReadFile(path)
	rubbish := append(append(make([]byte, 70_000), "\nhalf a line\n"...), make([]byte, 30)...)
	if err := os.WriteFile(path, append(bytes.Clone(text), rubbish...), 0o600); err != nil {
		t.Fatal(err)
	}
	l, rec := open(t, options(dir, c))
	call(t, l, true)
	closeLog(t, l)
	if rec.Broken != nil || rec.TornBytes != int64(len(rubbish)) {
		t.Errorf("Broken = %v, %d torn bytes of %d", rec.Broken, rec.TornBytes, len(rubbish))
	}
	holds(t, dir)
}

// leaveOut skips a test aloud. With CI=true nothing is skipped.
func leaveOut(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("left out: " + why)
	}
	t.Skip("left out: " + why)
}

// fullDisk is a directory on a file system of 256 KiB.
func fullDisk(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		leaveOut(t, "mounting a small file system needs root on Linux")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", dir).CombinedOutput(); err != nil {
		leaveOut(t, fmt.Sprintf("mount: %v: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := fullDisk(t)
	o := options(dir, nil)
	var logged atomic.Int64
	o.Logf = func(string, ...any) { logged.Add(1) }
	l, _ := open(t, o)
	var held *audit.Pending
	var err error
	n := 0
	for ; n < 1000; n++ {
		var p *audit.Pending
		p, err = l.Begin(audit.Entry{Verdict: "allow", Path: strings.Repeat("x", 3000)}, n%3 == 0)
		if err != nil {
			break
		}
		held = p
		if n%2 == 0 {
			continue
		}
		p.End(audit.Entry{Status: 200})
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d calls: %v, want no space left", n, err)
	}
	if l.Err() == nil {
		t.Error("Err is nil on a full disk")
	}
	// Longer than whatever was refused, so that it must wait for space.
	held.End(audit.Entry{Status: 201, Error: strings.Repeat("y", 30000)})
	if r := holds(t, dir); r.TornBytes != 0 {
		t.Errorf("%d bytes of a failed write remain", r.TornBytes)
	}
	if _, err := l.Begin(audit.Entry{Path: strings.Repeat("x", 3000)}, false); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("still full: %v", err)
	}
	// The writer answers whoever waits before it says what it has to say.
	for began := time.Now(); logged.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 5*time.Second {
			t.Fatal("the outcome that waits was not logged")
		}
	}

	// The disk is freed, and the log goes on, first with the outcome that waits.
	if out, err := exec.Command("mount", "-o", "remount,size=4m", dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	call(t, l, true)
	if err := l.Err(); err != nil {
		t.Errorf("Err with space: %v", err)
	}
	closeLog(t, l)
	r := holds(t, dir)
	for _, line := range r.Unfinished {
		if line.ID == held.ID() {
			t.Error("the outcome that waited is lost")
		}
	}

	// A read-only file system says so, to Open and to Begin.
	l, _ = open(t, o)
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err == nil {
		if _, err := l.Begin(audit.Entry{}, false); err == nil {
			t.Error("a read-only file system takes a line")
		}
	} else {
		t.Logf("remount read-only: %v: %s", err, out) // a file is open for writing
	}
	l.Close()
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	if _, _, err := audit.Open(o); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open on a read-only file system: %v", err)
	}
	holds(t, dir) // Verify needs no more than reading
}

// Somebody deletes, replaces, cuts or extends the file under us.
func TestChangedUnderUs(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"deleted": os.Remove,
		"moved":   func(p string) error { return os.Rename(p, p+".1") },
		"replaced": func(p string) error {
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			return errors.Join(os.Rename(p, p+".1"), os.WriteFile(p, text, 0o600))
		},
		"cut": func(p string) error { return os.Truncate(p, 10) },
		"something else wrote": func(p string) error {
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("x")
			return errors.Join(err, f.Close())
		},
	} {
		for _, ext := range []string{".jsonl", ".checkpoints"} {
			t.Run(name+ext, func(t *testing.T) {
				if runtime.GOOS == "windows" {
					t.Skip("Windows keeps an open file in its place")
				}
				dir, c := t.TempDir(), at("2026-11-22T10:00:00Z")
				o := options(dir, c)
				o.Logf = func(string, ...any) {}
				l, _ := open(t, o)
				call(t, l, true)
				if _, err := l.Checkpoint(); err != nil {
					t.Fatal(err)
				}
				if err := change(filepath.Join(dir, "2026-11-22"+ext)); err != nil {
					t.Fatal(err)
				}
				if ext == ".checkpoints" { // noticed at the next one
					if err := l.Append(audit.Entry{Kind: audit.KindRevoke}, true); err == nil || !strings.Contains(err.Error(), name) {
						t.Errorf("a revocation that cannot be signed: %v", err)
					}
				}
				for range 2 {
					if _, err := l.Begin(audit.Entry{}, false); err == nil || !strings.Contains(err.Error(), name) {
						t.Errorf("Begin: %v", err)
					}
				}
				if l.Err() == nil {
					t.Error("Err is nil")
				}
				if l.Close() == nil {
					t.Error("Close is content")
				}
			})
		}
	}
}

// faulty is a file whose next calls fail as a test says.
type faulty struct {
	audit.File
	f *faults
}

type faults struct {
	sync, short, truncate atomic.Bool
	writes                atomic.Int64 // that were begun
	mu                    sync.Mutex   // held by a test: the disk hangs
}

var errFault = errors.New("broken disk")

func (f faulty) Write(p []byte) (int, error) {
	f.f.writes.Add(1)
	f.f.mu.Lock()
	defer f.f.mu.Unlock()
	if f.f.short.Load() {
		return f.File.Write(p[:len(p)/2])
	}
	return f.File.Write(p)
}

func (f faulty) Sync() error {
	f.f.mu.Lock()
	defer f.f.mu.Unlock()
	if f.f.sync.Load() {
		return errFault
	}
	return f.File.Sync()
}

func (f faulty) Truncate(n int64) error {
	if f.f.truncate.Load() {
		return errFault
	}
	return f.File.Truncate(n)
}

func (f faulty) Stat() (fs.FileInfo, error) { return f.File.Stat() }

func openFaulty(t *testing.T, dir string, wait time.Duration) (*audit.Log, *faults) {
	t.Helper()
	f := new(faults)
	o := options(dir, nil)
	l, _, err := audit.OpenFaulty(o, wait, func(in audit.File) audit.File { return faulty{in, f} })
	if err != nil {
		t.Fatal(err)
	}
	return l, f
}

func TestFsyncFailureIsFatal(t *testing.T) {
	dir := t.TempDir()
	l, f := openFaulty(t, dir, 5*time.Second)
	call(t, l, true)
	f.sync.Store(true)
	if _, err := l.Begin(audit.Entry{}, true); !errors.Is(err, errFault) {
		t.Fatalf("Begin with a failing fsync: %v", err)
	}
	f.sync.Store(false) // the next fsync would lie
	for _, sync := range []bool{true, false} {
		if _, err := l.Begin(audit.Entry{}, sync); !errors.Is(err, errFault) {
			t.Errorf("Begin(sync=%v) after a failed fsync: %v", sync, err)
		}
	}
	if !errors.Is(l.Err(), errFault) || !errors.Is(l.Close(), errFault) {
		t.Error("Err or Close has forgotten")
	}
	l, _ = open(t, options(dir, nil))
	call(t, l, true)
	closeLog(t, l)
	holds(t, dir)
}

// A line that asked for no fsync gets one all the same, within a tenth of a second.
func TestUnsyncedIsSyncedSoon(t *testing.T) {
	l, f := openFaulty(t, t.TempDir(), 5*time.Second)
	call(t, l, true)
	time.Sleep(20 * time.Millisecond)
	f.sync.Store(true)
	if _, err := l.Begin(audit.Entry{Verdict: "deny"}, false); err != nil {
		t.Fatalf("Begin without sync waited for one: %v", err)
	}
	for end := time.Now().Add(2 * time.Second); l.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody synced")
		}
	}
	l.Close()
}

func TestShortWrite(t *testing.T) {
	dir := t.TempDir()
	l, f := openFaulty(t, dir, 5*time.Second)
	call(t, l, true)
	f.short.Store(true)
	if _, err := l.Begin(audit.Entry{}, false); err == nil {
		t.Fatal("a short write passes")
	}
	if r := holds(t, dir); r.TornBytes != 0 {
		t.Errorf("%d bytes remain", r.TornBytes)
	}
	f.short.Store(false)
	call(t, l, true)
	f.short.Store(true)
	f.truncate.Store(true)
	if _, err := l.Begin(audit.Entry{}, false); !errors.Is(err, errFault) {
		t.Fatalf("a failed truncate: %v", err)
	}
	f.short.Store(false)
	f.truncate.Store(false)
	if _, err := l.Begin(audit.Entry{}, false); !errors.Is(err, errFault) {
		t.Errorf("after a failed truncate: %v", err)
	}
	l.Close()
	l, rec := open(t, options(dir, nil))
	if rec.TornBytes == 0 || rec.Broken != nil {
		t.Errorf("recovery %+v", rec)
	}
	closeLog(t, l)
	holds(t, dir)
}

// A disk that hangs fails callers in bounded time. What lands late and was
// refused says so.
func TestHungDisk(t *testing.T) {
	dir := t.TempDir()
	l, f := openFaulty(t, dir, time.Second)
	call(t, l, true)
	time.Sleep(300 * time.Millisecond) // its outcome is written
	f.mu.Lock()
	writes := f.writes.Load()
	const late, queued = "late", "queued"
	first := make(chan error, 1)
	go func() {
		_, err := l.Begin(audit.Entry{ID: late, Verdict: "allow"}, false)
		first <- err
	}()
	for f.writes.Load() == writes {
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	if _, err := l.Begin(audit.Entry{ID: queued, Verdict: "allow"}, false); !errors.Is(err, audit.ErrSlow) {
		t.Errorf("behind it: %v", err)
	}
	if err := <-first; !errors.Is(err, audit.ErrSlow) {
		t.Errorf("Begin on a hung disk: %v", err)
	}
	if _, err := l.Begin(audit.Entry{}, false); !errors.Is(err, audit.ErrSlow) || !errors.Is(l.Err(), audit.ErrSlow) {
		t.Errorf("afterwards: %v, %v", err, l.Err())
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	f.mu.Unlock()
	for end := time.Now().Add(5 * time.Second); l.Err() != nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	call(t, l, true)
	closeLog(t, l)
	if r := holds(t, dir); len(r.Unfinished) != 0 {
		t.Errorf("unfinished: %+v", r.Unfinished)
	}
	seen := ""
	for line, err := range audit.Read(dir, audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		switch line.ID {
		case late:
			seen += string(line.Kind) + " " + line.Error + ";"
		case queued:
			t.Error("an entry that was given up while it was queued has landed")
		}
	}
	if !strings.HasPrefix(seen, "call ;outcome refused: ") {
		t.Errorf("the late one reads %q", seen)
	}
}

func TestCloseOfAHungDisk(t *testing.T) {
	l, f := openFaulty(t, t.TempDir(), 500*time.Millisecond)
	call(t, l, true)
	time.Sleep(300 * time.Millisecond) // its outcome is written
	f.mu.Lock()
	defer f.mu.Unlock()
	writes := f.writes.Load()
	go l.Begin(audit.Entry{}, false)
	for f.writes.Load() == writes {
		time.Sleep(time.Millisecond)
	}
	if err := l.Close(); !errors.Is(err, audit.ErrSlow) {
		t.Errorf("Close: %v", err)
	}
}

// moody is a signer that fails, or lies, when told to.
type moody struct {
	ed25519.PrivateKey
	fail, lie atomic.Bool
}

func (m *moody) Sign(r io.Reader, msg []byte, o crypto.SignerOpts) ([]byte, error) {
	if m.fail.Load() {
		return nil, errFault
	}
	if m.lie.Load() {
		return make([]byte, ed25519.SignatureSize), nil
	}
	return m.PrivateKey.Sign(r, msg, o)
}

// A log that nobody can sign takes no calls, still takes revocations, and goes on
// when the signer is back.
func TestSignerFailure(t *testing.T) {
	m := &moody{PrivateKey: key}
	for name, mood := range map[string]*atomic.Bool{"fails": &m.fail, "lies": &m.lie} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := options(dir, at("2026-11-22T10:00:00Z"))
			o.Signer, o.Logf = m, func(string, ...any) {}
			l, _ := open(t, o)
			call(t, l, true)
			mood.Store(true)
			if _, err := l.Checkpoint(); err == nil {
				t.Error("a checkpoint without a signature")
			}
			if _, err := l.Begin(audit.Entry{}, false); err == nil || l.Err() == nil {
				t.Errorf("Begin without a signer: %v, %v", err, l.Err())
			}
			if err := l.Append(audit.Entry{Kind: audit.KindRevoke, Lease: "gone"}, true); err == nil || !strings.Contains(err.Error(), "written, but not signed") {
				t.Errorf("a revocation: %v", err)
			}
			text, _ := os.ReadFile(filepath.Join(dir, "2026-11-22.jsonl"))
			if !bytes.Contains(text, []byte(`"lease":"gone"`)) {
				t.Error("the revocation is not written")
			}
			mood.Store(false)
			call(t, l, true)
			if err := l.Err(); err != nil {
				t.Error(err)
			}
			closeLog(t, l)
			holds(t, dir)
		})
	}
}

// A checkpoint never signs a line that is not on the disk: what could vanish in a
// power cut would look like an attack.
func TestSyncedBeforeSigned(t *testing.T) {
	dir := t.TempDir()
	l, f := openFaulty(t, dir, 5*time.Second)
	call(t, l, true)
	if _, err := l.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	before := verify(t, dir).Checkpoints
	f.sync.Store(true)
	if err := l.Append(audit.Entry{Kind: audit.KindRevoke}, true); !errors.Is(err, errFault) {
		t.Errorf("a revocation that is not on the disk: %v", err)
	}
	if _, err := l.Checkpoint(); !errors.Is(err, errFault) {
		t.Errorf("Checkpoint: %v", err)
	}
	l.Close()
	if after := verify(t, dir).Checkpoints; after != before {
		t.Errorf("%d checkpoints, then %d", before, after)
	}
}
