// Package audit keeps the append-only record of what the broker was asked and
// what it did. A call is two lines: what was decided, written before anything
// is sent, and what came of it. It is usable without a broker: [Verify] and
// [Read] need only the directory.
//
// # Laws
//
//   - Begin answers after its line is written, and after it is on the disk when
//     sync is asked for. Whoever gets an error from Begin must not go on.
//   - What cannot be written is refused. After a failed fsync, or when the file
//     was deleted, replaced or changed by somebody else, the log refuses
//     everything until it is opened again.
//   - A decision with no outcome is a call that may have happened. It is never
//     read as one that did not.
//   - A line that was answered for is never changed or taken away. Open cuts off
//     only what stands at the very end and is no line of ours, and keeps what it
//     was in a recovered entry.
//   - A checkpoint never signs a line that is not on the disk.
//   - Leases and revocations are rebuilt from lines that hold, or not at all.
//
// The log has no field for a secret: tokens and bodies appear as SHA-256
// ([Digest]), keys not at all. It cannot know what callers put into Path, Why,
// Error and Detail; keeping secrets out of those is their part.
//
// # Files
//
// One file a UTC day, 2026-11-22.jsonl, holds one JSON object a line. Each line
// ends with `,"hash":"<64 hex>"}`, the SHA-256 of the previous line's hash (32
// bytes; zeros before the first line of all) followed by the line as it is
// without that member. The first line of a later file names the file before it
// (prev_file) and that file's last hash (prev_hash). Because each line states
// its own hash, an edit is found at its line and does not hide the next one.
//
// Beside it, 2026-11-22.checkpoints holds signed tree heads: notes in the format
// of golang.org/x/mod/sumdb/note with the body of C2SP tlog-checkpoint
// (origin/day, number of lines, root), one empty line after each. The tree is
// that of RFC 6962, one leaf a line. audit.pub holds the verifier key.
//
// # What can be hidden
//
// Whoever can write to the directory but not sign can cut off, or replace, only
// what came after the newest checkpoint: at most about a second of lines, and
// never a revocation whose Append has returned. Whoever also takes away the newest
// checkpoints can cut the log back to the newest one that is left, and nothing
// in the directory shows it. Only a checkpoint kept elsewhere does: give it to
// [Verify].
package audit

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofrs/flock"
)

// A Kind says what an entry is about. The zero Kind is refused, except by Begin,
// which takes it for KindCall.
type Kind string

const (
	KindStart     Kind = "start"     // the broker began to serve
	KindStop      Kind = "stop"      // the broker ended in good order
	KindCall      Kind = "call"      // an agent's call and what was decided
	KindLookup    Kind = "lookup"    // a call of the broker's own, to place a resource
	KindOutcome   Kind = "outcome"   // what came of a call or lookup: written by End
	KindLease     Kind = "lease"     // a lease was given
	KindRevoke    Kind = "revoke"    // a lease was ended; signed at once
	KindKey       Kind = "key"       // a root key was added, replaced or removed
	KindConfig    Kind = "config"    // configuration or policy changed
	KindRecovered Kind = "recovered" // Open found damage: written by Open alone
)

// An Entry is one line. Every field may be empty but Seq, Time and Kind. Strings
// that are not UTF-8 are written with U+FFFD where they are not.
type Entry struct {
	Seq  uint64    `json:"seq"`  // position in its day, from 1; assigned by the log
	Time time.Time `json:"time"` // UTC, to the microsecond; assigned by the log
	Kind Kind      `json:"kind"`

	ID      string    `json:"id,omitempty"`           // of a call; an outcome has its call's
	Parent  string    `json:"parent,omitempty"`       // the call for which a lookup was made
	Lease   string    `json:"lease,omitempty"`        // jti
	Token   string    `json:"token_sha256,omitempty"` // Digest of the token; never the token
	Subject string    `json:"subject,omitempty"`
	Reason  string    `json:"reason,omitempty"` // the task for which the lease was asked
	Scopes  []string  `json:"scopes,omitempty"` // of a lease
	Expires time.Time `json:"expires_at,omitzero"`

	Provider string `json:"provider,omitempty"`
	Method   string `json:"method,omitempty"`
	Path     string `json:"path,omitempty"`
	Body     string `json:"body_sha256,omitempty"` // Digest of the body; never the body
	Acts     []Act  `json:"acts,omitempty"`
	Verdict  string `json:"verdict,omitempty"` // deny, hold or allow
	Code     string `json:"code,omitempty"`    // of a refusal
	Why      string `json:"why,omitempty"`     // one sentence
	Peer     *Peer  `json:"peer,omitempty"`

	// Of an outcome.
	Status int    `json:"status,omitzero"`
	Error  string `json:"error,omitempty"`
	Bytes  int64  `json:"bytes,omitzero"`
	Micros int64  `json:"micros,omitzero"` // duration in microseconds

	Detail map[string]string `json:"detail,omitempty"`

	// In the first line of a file that follows another; assigned by the log.
	PrevFile string `json:"prev_file,omitempty"`
	PrevHash string `json:"prev_hash,omitempty"`
}

// An Act is one operation of a call, on one resource in one environment.
type Act struct {
	Operation string `json:"operation,omitempty"`
	Scope     string `json:"scope,omitempty"` // railway/volumes:delete@production
	Resource  string `json:"resource,omitempty"`
}

// Peer is the process at the other end of a local connection, as the operating
// system tells it. Exe may be empty; a pid may have been used again since.
type Peer struct {
	UID int    `json:"uid"`
	PID int    `json:"pid"`
	Exe string `json:"exe,omitempty"`
}

// Digest is the text in which tokens and bodies appear: SHA-256 in lower-case
// hexadecimal.
func Digest[T ~string | ~[]byte](secret T) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// awaits reports whether e promises an outcome. A call that was denied or held
// was not sent, so it awaits none.
func (e *Entry) awaits() bool {
	return (e.Kind == KindCall || e.Kind == KindLookup) && (e.Verdict == "" || e.Verdict == "allow")
}

// MaxLine is the length in bytes that no line exceeds, its newline included.
// Longer entries are shortened visibly (see [Log.Begin]).
const MaxLine = 64 << 10

const (
	// signEvery is the shortest time between two checkpoints that nobody asked for.
	signEvery = time.Second
	// syncWithin is how long a line may be in the operating system's memory alone.
	syncWithin = 100 * time.Millisecond
	// patience is how long a caller waits for the disk.
	patience = 5 * time.Second
	// maxQueue and maxBatch bound what a hung or slow disk can make us hold.
	maxQueue = 8192
	maxBatch = 1 << 20
	// maxTorn is how much of a torn end is kept in the recovered entry.
	maxTorn = 24 << 10
)

var (
	// ErrClosed is what a closed, or never opened, log answers.
	ErrClosed = errors.New("audit: the log is closed")
	// ErrSlow means that the disk did not answer in five seconds. The entry may
	// still land. If it was a Begin, the log then adds an outcome which says that
	// the call was refused; should that not land either, the call reads as one
	// that may have happened.
	ErrSlow = errors.New("audit: the disk does not answer")
)

// Options say where the log is and who signs it.
type Options struct {
	Dir    string           // required; made with mode 0700, and tightened to it
	Origin string           // required; such as cred.audit/<install id>; no spaces, no "+"
	Signer crypto.Signer    // required; Ed25519; signs checkpoints
	Now    func() time.Time // time.Now when nil; stamps entries and names files

	// Recent is how far back Open checks the log and hands lines to Fold. Open
	// reads those days and the newest one whole, at about 10 µs a line.
	Recent time.Duration
	// Fold is called by Open, in order, for every recent line, after all of them
	// were found to hold. It is not called at all when they do not (see
	// [Recovery]). What was lost in this way stays lost: later Opens start at the
	// entry that says so.
	Fold func(Entry)

	// Logf is told what no caller can be told. It must not call the log. Nil drops it.
	Logf func(format string, args ...any)
}

// Recovery is what Open found.
type Recovery struct {
	// Torn is the end of a line that was being written when the broker died, at
	// most 24 KiB of it; TornBytes is its whole length. It was cut off, and a
	// recovered entry holds it. Nobody was told that this line is written.
	Torn      []byte
	TornBytes int64

	// Unsigned counts the lines after the newest checkpoint. Their chain holds,
	// but nobody has signed them. It is zero after a clean Close.
	Unsigned int64

	// Unfinished are the calls since the last start that have no outcome. They may
	// have happened.
	Unfinished []Entry

	// Broken is not nil when the recent lines do not hold: something was edited,
	// taken away or put in. Then Fold was not called, so every lease is void; a
	// recovered entry names the damage, and the chain goes on behind it.
	// [Verify] goes on reporting the damage.
	Broken error
}

// Log is the open log. Its methods may be called from many goroutines. The zero
// Log and the nil Log refuse everything.
type Log struct {
	dir    string
	origin string
	now    func() time.Time
	logf   func(string, ...any)
	wrap   func(file) file // tests only: puts faults between us and the file
	wait   time.Duration   // patience
	key    *signer
	lock   *flock.Flock

	fatal   atomic.Pointer[error] // once set, the log refuses until it is opened again
	soft    atomic.Pointer[error] // the last batch failed; the next one tries again
	unsign  atomic.Pointer[error] // the last checkpoint failed; the next batch tries again
	ioSince atomic.Int64          // when the writer began to wait for the disk; 0 when it does not
	syncing atomic.Int64          // the same of the sealer

	mu      sync.Mutex // never held over I/O
	closed  bool
	queue   []*request
	backlog backlog
	note    []byte // the newest checkpoint, when this process signed it

	wakeWriter chan struct{}
	wakeSealer chan struct{}
	drained    chan struct{} // closed when the writer has ended
	stopSealer chan struct{}
	sealed     chan struct{} // closed when the sealer has ended

	w tip    // the writer's own
	s sealer // the sealer's own
}

// Open opens the log in o.Dir, making it if there is none, and takes the
// directory for itself: while it is open, another Open fails and names the
// holder. It works on a log that was cut off at any byte, and on one that was
// tampered with; [Recovery] says what it found. It fails when the directory
// cannot be written or the disk is full, because then nothing could be relayed.
func Open(o Options) (*Log, Recovery, error) { return open(o, nil) }

func open(o Options, wrap func(file) file) (_ *Log, rec Recovery, err error) {
	fail := func(err error) (*Log, Recovery, error) { return nil, Recovery{}, fmt.Errorf("audit: %w", err) }
	if o.Dir == "" {
		return fail(errors.New("no directory given"))
	}
	key, err := newSigner(o.Origin, o.Signer)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fail(err)
	}
	if info, err := os.Stat(o.Dir); err != nil {
		return fail(err)
	} else if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		if err := os.Chmod(o.Dir, 0o700); err != nil {
			return fail(err)
		}
	}
	lock, err := takeLock(o.Dir)
	if err != nil {
		return fail(err)
	}
	l := &Log{
		dir: o.Dir, origin: o.Origin, now: o.Now, logf: o.Logf, wrap: wrap, wait: patience, key: key, lock: lock,
		wakeWriter: make(chan struct{}, 1), wakeSealer: make(chan struct{}, 1),
		drained: make(chan struct{}), stopSealer: make(chan struct{}), sealed: make(chan struct{}),
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.logf == nil {
		l.logf = func(string, ...any) {}
	}
	running := false
	defer func() {
		if err != nil && running {
			l.Close()
		} else if err != nil {
			l.w.close()
			l.s.close()
			lock.Close()
		}
	}()

	if err := storeKey(o.Dir, key.text); err != nil {
		return fail(err)
	}
	rec, heal, err := l.recover(o)
	if err != nil {
		return fail(err)
	}
	if rec.Broken == nil && o.Fold != nil {
		if err := fold(o.Dir, heal, o.Fold); err != nil {
			return fail(err)
		}
	}
	running = true
	go l.write()
	go l.seal()

	if rec.Broken != nil || rec.TornBytes > 0 {
		if err := l.submit(newRequest(recovered(rec), false, true)); err != nil {
			return fail(fmt.Errorf("noting the recovery: %w", err))
		}
	}
	if rec.Broken != nil || rec.TornBytes > 0 || rec.Unsigned > 0 {
		// The entry counts at the next Open only when it is signed.
		if _, err := l.Checkpoint(); err != nil {
			return fail(fmt.Errorf("signing what was recovered: %w", err))
		}
	}
	return l, rec, nil
}

// damage is the member of a recovered entry's Detail that voids all before it.
const damage = "damage"

func recovered(rec Recovery) *Entry {
	e := &Entry{Kind: KindRecovered, Detail: map[string]string{}}
	if rec.TornBytes > 0 {
		e.Detail["torn_bytes"] = strconv.FormatInt(rec.TornBytes, 10)
		e.Detail["torn"] = base64.StdEncoding.EncodeToString(rec.Torn)
		e.Why = fmt.Sprintf("the last line was torn; %d bytes were cut off", rec.TornBytes)
	}
	if rec.Broken != nil {
		e.Detail[damage] = rec.Broken.Error()
		e.Why = "the log was damaged; every earlier lease is void"
	}
	return e
}

// takeLock makes the directory ours. The lock is the operating system's, so a
// holder that dies lets go of it; the text in the file only says who it is.
func takeLock(dir string) (*flock.Flock, error) {
	path := filepath.Join(dir, "audit.lock")
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, err
	}
	if !ok {
		lock.Close()
		by := "another process"
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			by = strings.TrimSpace(string(text[:min(len(text), 512)]))
		}
		return nil, fmt.Errorf("%s is in use by %s", dir, by)
	}
	exe, err := os.Executable()
	if err != nil {
		exe = "unknown"
	}
	who := fmt.Sprintf("process %d (%s) since %s\n", os.Getpid(), exe, time.Now().UTC().Format(time.RFC3339))
	// This may fail, on a full disk or where a lock keeps even its holder from
	// writing (Windows); then the holder has no name, and is a holder all the same.
	_ = os.WriteFile(path, []byte(who), 0o600)
	return lock, nil
}

// storeKey keeps the verifier key beside the log, for those who have no better
// copy. It adds the key when others are there, so that what they signed can still
// be checked.
func storeKey(dir, key string) error {
	path := filepath.Join(dir, keyFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(old)) {
		if strings.TrimSpace(line) == key {
			return nil
		}
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		old = append(old, '\n')
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(old, key+"\n"...), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// A Pending is a decision that is written and waits for its outcome. Only Begin
// makes one, which is what lets the relay demand it before it opens a secret.
type Pending struct {
	log   *Log
	entry Entry // what of the decision its outcome repeats
	ended atomic.Bool
}

// Begin writes e, which is a KindCall unless it says otherwise, and gives it an
// ID unless it has one. When Begin returns without error the line is written; if
// sync, it is on the disk. When it returns an error the caller must not go on.
// Begin takes no context: it waits at most five seconds and then fails with
// [ErrSlow].
//
// An entry that would make a line longer than [MaxLine] is shortened: long
// strings end in a mark with the length and the SHA-256 of the whole, long lists
// in a mark with the number of members left out. That alone is never an error.
//
// A call whose Verdict is deny or hold was not sent; its Pending needs no End.
func (l *Log) Begin(e Entry, sync bool) (*Pending, error) {
	if e.Kind == "" {
		e.Kind = KindCall
	}
	if e.Kind != KindCall && e.Kind != KindLookup {
		return nil, fmt.Errorf("audit: Begin of a %q, which has no outcome", e.Kind)
	}
	if e.ID == "" {
		e.ID = strings.ToLower(rand.Text()[:16])
	}
	e.ID = strings.ToValidUTF8(e.ID, "\uFFFD")
	if len(e.ID) > 256 {
		e.ID = Digest(e.ID) // an id must be whole in both lines, whatever else is shortened
	}
	r := newRequest(&e, true, sync)
	if err := l.submit(r); err != nil {
		return nil, err
	}
	return &Pending{log: l, entry: Entry{Kind: KindOutcome, ID: e.ID, Lease: e.Lease, Provider: e.Provider}}, nil
}

// Append writes an entry that has no outcome; sync is as in Begin. A KindRevoke
// is always synced, and signed before Append returns; if only the signing fails,
// the error says that the line is written. After an error the entry may have
// landed or not, so folding it must be harmless: a lease must not be given out,
// a revocation must be kept in memory all the same.
func (l *Log) Append(e Entry, sync bool) error {
	switch e.Kind {
	case "", KindOutcome, KindRecovered:
		return fmt.Errorf("audit: Append of a %q", e.Kind)
	}
	return l.submit(newRequest(&e, false, sync))
}

// ID is the call's id.
func (p *Pending) ID() string {
	if p == nil {
		return ""
	}
	return p.entry.ID
}

// End records what came of the call: Status, Error, Bytes, Micros and, if
// wanted, Why and Detail. It does not wait, because the answer has left already.
// An outcome that cannot be written is kept and tried again with the next entry,
// Logf is told, and Begin fails meanwhile. Only the first End counts.
func (p *Pending) End(o Entry) {
	if p == nil || p.log == nil || p.ended.Swap(true) {
		return
	}
	o.Kind, o.ID = p.entry.Kind, p.entry.ID
	if o.Lease == "" {
		o.Lease = p.entry.Lease
	}
	if o.Provider == "" {
		o.Provider = p.entry.Provider
	}
	p.log.outcome(&o)
}

// Err says what is wrong with the log now, or is nil. It is for showing, not for
// asking whether Begin may be called: a full disk is found to be free again only
// by the next entry.
func (l *Log) Err() error {
	if l == nil || l.wakeWriter == nil {
		return ErrClosed
	}
	for _, p := range []*atomic.Pointer[error]{&l.fatal, &l.soft, &l.unsign} {
		if err := p.Load(); err != nil {
			return *err
		}
	}
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return l.hung()
}

// VerifierKey is the key that verifies the checkpoints, in the text form of
// golang.org/x/mod/sumdb/note. Keep it elsewhere and give it to [Verify].
func (l *Log) VerifierKey() string {
	if l == nil || l.key == nil {
		return ""
	}
	return l.key.text
}

// Checkpoint syncs and signs what is written, and returns the signed note, which
// is also in the day's checkpoints file. Kept elsewhere it proves, by [Verify],
// what the log held now. A log with no line yet has nothing to sign: nil, nil.
func (l *Log) Checkpoint() ([]byte, error) {
	if l == nil || l.wakeWriter == nil {
		return nil, ErrClosed
	}
	return l.sealNow(l.wait)
}

// Close writes what is queued, signs a last checkpoint and lets go of the
// directory. It waits at most about fifteen seconds for the disk, then returns
// [ErrSlow] and leaves the directory locked, because a line may still land. The
// outcome of a call that ends after Close is lost: the call may have happened.
func (l *Log) Close() error {
	if l == nil || l.wakeWriter == nil {
		return ErrClosed
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	wake(l.wakeWriter)
	slow := time.NewTimer(2 * l.wait)
	defer slow.Stop()
	select {
	case <-l.drained:
	case <-slow.C:
		return ErrSlow
	}
	_, err := l.sealNow(l.wait)
	if errors.Is(err, ErrSlow) {
		return err
	}
	close(l.stopSealer)
	<-l.sealed
	if f := l.fatal.Load(); f != nil {
		err = *f
	} else if s := l.soft.Load(); s != nil && err == nil {
		err = *s
	}
	return errors.Join(err, l.w.close(), l.s.close(), l.lock.Close())
}

// encode is e as the writer wants it: everything after the time, from the kind
// to the last member, with neither braces nor the members that only the writer
// knows. What it returns fits in a line with them.
func encode(e *Entry) ([]byte, error) {
	c := *e
	c.Seq, c.Time, c.PrevFile, c.PrevHash = 0, time.Time{}, "", ""
	c.Expires = c.Expires.UTC()
	for i := 0; ; i++ {
		text, err := json.Marshal(&c, jsontext.AllowInvalidUTF8(true), json.Deterministic(true))
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		const head = `{"seq":0,"time":"0001-01-01T00:00:00Z",`
		if len(text) <= MaxLine-overhead {
			if !strings.HasPrefix(string(text[:len(head)]), head) {
				return nil, fmt.Errorf("audit: an entry encodes as %.60q", text)
			}
			return text[len(head) : len(text)-1], nil
		}
		limits := [...]struct{ text, list int }{{16384, 512}, {4096, 256}, {1024, 128}, {256, 64}, {64, 32}, {32, 8}}
		if i == len(limits) {
			return nil, fmt.Errorf("audit: an entry of %d bytes cannot be shortened", len(text))
		}
		c = shorten(e, limits[i].text, limits[i].list)
	}
}

// overhead is room for what the writer adds: seq, time, prev_file, prev_hash,
// hash and the newline.
const overhead = 512

// shorten returns e with no string longer than text bytes and no list longer
// than list members, marks not counted.
func shorten(e *Entry, text, list int) Entry {
	cut := func(s string) string {
		if len(s) <= text {
			return s
		}
		n := text
		for n > 0 && n > text-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		return fmt.Sprintf("%s…[cut: %d bytes, sha256 %s]", s[:n], len(s), Digest(s))
	}
	c := *e
	c.Expires = c.Expires.UTC()
	c.Seq, c.Time, c.PrevFile, c.PrevHash = 0, time.Time{}, "", ""
	c.Kind = Kind(cut(string(c.Kind)))
	for _, s := range []*string{
		&c.Parent, &c.Lease, &c.Token, &c.Subject, &c.Reason, &c.Provider, &c.Method,
		&c.Path, &c.Body, &c.Verdict, &c.Code, &c.Why, &c.Error,
	} {
		*s = cut(*s)
	}
	c.Scopes, c.Acts, c.Detail = nil, nil, nil
	more := func(n int) string { return fmt.Sprintf("…[cut: %d more]", n-list) }
	for i, s := range e.Scopes {
		if i == list {
			c.Scopes = append(c.Scopes, more(len(e.Scopes)))
			break
		}
		c.Scopes = append(c.Scopes, cut(s))
	}
	for i, a := range e.Acts {
		if i == list {
			c.Acts = append(c.Acts, Act{Operation: more(len(e.Acts))})
			break
		}
		c.Acts = append(c.Acts, Act{cut(a.Operation), cut(a.Scope), cut(a.Resource)})
	}
	for i, k := range sortedKeys(e.Detail) {
		if c.Detail == nil {
			c.Detail = make(map[string]string, min(list, len(e.Detail))+1)
		}
		if i == list {
			c.Detail["…"] = more(len(e.Detail))
			break
		}
		c.Detail[cut(k)] = cut(e.Detail[k])
	}
	if e.Peer != nil {
		p := *e.Peer
		p.Exe = cut(p.Exe)
		c.Peer = &p
	}
	return c
}
