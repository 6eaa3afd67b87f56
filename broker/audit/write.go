package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Two goroutines share the work, so that a read does not wait for the fsync of
// somebody else's write. The writer takes what is queued and writes it with one
// call. The sealer syncs what was written, answers who waits for that, and signs
// checkpoints. Both answer for what they did by the same rule: an error that may
// have left the file in a state we do not know is fatal.

// A request is an entry on its way to the file.
type request struct {
	tail    []byte // from encode
	err     error  // from encode; answered by submit
	begin   bool   // of Begin: stops when checkpoints cannot be written
	outcome bool   // nobody waits, and it is kept until it is written
	sync    bool
	sign    bool   // answered when a checkpoint covers it
	id      string // of a begin that awaits an outcome

	state atomic.Int32
	done  chan error
}

const (
	waiting = iota
	answered
	abandoned
)

func newRequest(e *Entry, begin, sync bool) *request {
	r := &request{begin: begin, outcome: e.Kind == KindOutcome, sync: sync, done: make(chan error, 1)}
	if e.Kind == KindRevoke || e.Kind == KindLease {
		r.sync, r.sign = true, true // what a restart goes by is signed
	}
	if begin && e.awaits() {
		r.id = e.ID
	}
	r.tail, r.err = encode(e)
	return r
}

// submit queues r and waits for its answer, but not for ever.
func (l *Log) submit(r *request) error {
	if l == nil || l.wakeWriter == nil {
		return ErrClosed
	}
	if r.err != nil {
		return r.err
	}
	if f := l.fatal.Load(); f != nil {
		return *f
	}
	if err := l.hung(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	if len(l.queue) >= maxQueue {
		l.mu.Unlock()
		return fmt.Errorf("%w: %d entries wait already", ErrSlow, maxQueue)
	}
	l.queue = append(l.queue, r)
	l.mu.Unlock()
	wake(l.wakeWriter)

	slow := time.NewTimer(l.wait)
	defer slow.Stop()
	select {
	case err := <-r.done:
		return err
	case <-slow.C:
	}
	if !r.state.CompareAndSwap(waiting, abandoned) {
		return <-r.done
	}
	return ErrSlow
}

// outcome queues an outcome. It takes no part in the bound of the queue: there
// are never more outcomes than calls that were begun.
func (l *Log) outcome(e *Entry) {
	r := newRequest(e, false, false)
	if r.err != nil {
		l.logf("audit: the outcome of call %s is lost: %v", e.ID, r.err)
		return
	}
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.queue = append(l.queue, r)
	}
	l.mu.Unlock()
	if closed {
		l.logf("audit: the outcome of call %s is lost: the log is closed", e.ID)
		return
	}
	wake(l.wakeWriter)
}

// answer tells the caller of r. A caller who gave up was told that the call is
// refused; if its line landed all the same, the log says so in an outcome.
func (l *Log) answer(r *request, err error) {
	if r.outcome {
		return
	}
	if r.state.CompareAndSwap(waiting, answered) {
		r.done <- err
	} else if err == nil && r.id != "" {
		l.outcome(&Entry{Kind: KindOutcome, ID: r.id, Error: "refused: the line was written too late, and the call was not sent"})
	}
}

// hung fails at once, rather than after five seconds for each caller, while the
// disk has not answered for that long.
func (l *Log) hung() error {
	for _, since := range []*atomic.Int64{&l.ioSince, &l.syncing} {
		if t := since.Load(); t != 0 && time.Since(time.Unix(0, t)) > l.wait {
			return fmt.Errorf("%w since %s", ErrSlow, time.Unix(0, t).UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// die makes err the answer to everything from now on.
func (l *Log) die(err error) error {
	err = fmt.Errorf("audit: stopped until the broker is started again: %w", err)
	if l.fatal.CompareAndSwap(nil, &err) {
		l.logf("%v", err)
	}
	return *l.fatal.Load()
}

// tip is the end of the log: the file that is written and what the next line
// needs to know. The writer owns it.
type tip struct {
	f    file
	day  string // 2026-11-22; empty before the first file
	path string
	size int64 // bytes in f, all of them whole lines

	seq  uint64 // of the last line, by its own account
	prev [sha256.Size]byte
	tree edge

	// The newest file that has lines, when that is not f.
	before string

	again []*request // outcomes that could not be written
	buf   []byte
}

func (t *tip) close() error {
	if t.f == nil {
		return nil
	}
	return t.f.Close()
}

// write is the writer.
func (l *Log) write() {
	defer close(l.drained)
	for {
		l.mu.Lock()
		batch, closed := l.queue, l.closed
		l.queue = nil
		l.mu.Unlock()
		if len(l.w.again) > 0 && (len(batch) > 0 || closed) {
			batch = append(l.w.again, batch...)
			l.w.again = nil
		}
		if len(batch) == 0 {
			if closed {
				return
			}
			<-l.wakeWriter
			continue
		}
		for len(batch) > 0 {
			n, size := 0, 0
			for n < len(batch) && (n == 0 || size+len(batch[n].tail)+overhead <= maxBatch) {
				size += len(batch[n].tail) + overhead
				n++
			}
			l.ioSince.Store(time.Now().UnixNano())
			l.commit(batch[:n])
			l.ioSince.Store(0)
			batch = batch[n:]
		}
		if closed {
			for _, r := range l.w.again {
				l.logf("audit: an outcome is lost: %s", r.tail)
			}
			l.w.again = nil
		}
	}
}

// commit writes one batch and answers it, or hands it to the sealer.
func (l *Log) commit(batch []*request) {
	live := batch[:0:0]
	unsigned := l.resign()
	for _, r := range batch {
		switch {
		case r.state.Load() == abandoned: // never lands
		case unsigned != nil && r.begin:
			l.answer(r, unsigned)
		default:
			live = append(live, r)
		}
	}
	if len(live) == 0 {
		return
	}
	err := l.append(live)
	if err != nil {
		l.soft.Store(&err)
		for _, r := range live {
			if r.outcome && len(l.w.again) < maxQueue {
				l.w.again = append(l.w.again, r)
			}
			if r.outcome {
				l.logf("audit: an outcome waits: %v", err)
			}
			l.answer(r, err)
		}
		return
	}
	l.soft.Store(nil)

	t := &l.backlog
	l.mu.Lock()
	urgent, first := false, !t.dirty
	t.dirty = true
	if first {
		t.since = time.Now()
	}
	t.tree.copy(&l.w.tree)
	for _, r := range live {
		if r.sync {
			t.waiters = append(t.waiters, r)
			urgent = true
		}
		t.sign = t.sign || r.sign
	}
	l.mu.Unlock()
	if urgent || first {
		wake(l.wakeSealer)
	}
	for _, r := range live {
		if !r.sync {
			l.answer(r, nil)
		}
	}
}

// resign tries a checkpoint again when the last one failed. Without it a log
// that nobody can sign would go on, and could be rewritten unseen.
func (l *Log) resign() error {
	if l.unsign.Load() == nil {
		return nil
	}
	_, err := l.sealNow(l.wait)
	return err
}

// append makes the lines of a batch, writes them with one call, and moves the
// tip. When it fails, nothing of the batch is in the file.
func (l *Log) append(batch []*request) error {
	if f := l.fatal.Load(); f != nil {
		return *f
	}
	now := l.now().UTC()
	if day := now.Format(time.DateOnly); l.w.f == nil || day > l.w.day {
		// A clock that goes back does not reopen an older day.
		if err := l.rotate(day); err != nil {
			return err
		}
	}
	t := &l.w
	if err := l.unchanged(t.f, t.path, t.size); err != nil {
		return err
	}

	seq, prev := t.seq, t.prev
	leaves := make([]tlog.Hash, 0, 8)
	buf := t.buf[:0]
	sum := sha256.New()
	for _, r := range batch {
		seq++
		start := len(buf)
		buf = append(buf, `{"seq":`...)
		buf = strconv.AppendUint(buf, seq, 10)
		buf = append(buf, `,"time":"`...)
		buf = now.AppendFormat(buf, timeFormat)
		buf = append(buf, `",`...)
		buf = append(buf, r.tail...)
		if t.tree.n == 0 && len(leaves) == 0 && t.before != "" {
			buf = fmt.Appendf(buf, `,"prev_file":"%s","prev_hash":"%x"`, t.before, prev)
		}
		sum.Reset()
		sum.Write(prev[:])
		sum.Write(buf[start:])
		sum.Write([]byte{'}'})
		sum.Sum(prev[:0])
		buf = append(buf, hashMember...)
		buf = hex.AppendEncode(buf, prev[:])
		buf = append(buf, `"}`...)
		leaves = append(leaves, tlog.RecordHash(buf[start:]))
		buf = append(buf, '\n')
	}
	if cap(buf) <= maxBatch/4 {
		t.buf = buf // one huge batch is not kept for ever
	}

	n, err := t.f.Write(buf)
	if err != nil || n != len(buf) {
		if err == nil {
			err = fmt.Errorf("wrote %d of %d bytes", n, len(buf))
		}
		if cut := t.f.Truncate(t.size); cut != nil {
			return l.die(fmt.Errorf("a write to %s failed (%w), and what it left cannot be cut off: %w", t.path, err, cut))
		}
		return fmt.Errorf("audit: %w", err)
	}
	t.size += int64(n)
	t.seq, t.prev = seq, prev
	for _, leaf := range leaves {
		t.tree.add(leaf)
	}
	return nil
}

const timeFormat = "2006-01-02T15:04:05.000000Z"

// rotate ends the day that is open, with a checkpoint over all of it, and starts
// the next one.
func (l *Log) rotate(day string) error {
	if l.w.f != nil {
		if _, err := l.sealNow(l.wait); err != nil {
			return err
		}
	}
	path := filepath.Join(l.dir, day+logExt)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("audit: starting a day: %w", err)
	}
	if err := syncDir(l.dir); err != nil {
		f.Close()
		os.Remove(path) // so that the next entry can try again
		return fmt.Errorf("audit: starting a day: %w", err)
	}
	if err := l.w.close(); err != nil {
		l.logf("audit: %v", err) // it is synced and signed
	}
	if l.w.tree.n > 0 {
		l.w.before = l.w.day + logExt
	}
	l.w.f, l.w.day, l.w.path, l.w.size, l.w.seq, l.w.tree = l.wrapped(f), day, path, 0, 0, edge{}

	l.mu.Lock()
	l.backlog.f, l.backlog.day, l.backlog.dirty = l.w.f, day, false
	l.backlog.tree.copy(&l.w.tree)
	l.mu.Unlock()
	return nil
}

// unchanged holds that the file is the one we opened and ends where we ended it.
// A log that was deleted goes on growing where nobody can read it, and one that
// was cut or added to has no chain any more; both are fatal.
func (l *Log) unchanged(f file, path string, size int64) error {
	mine, err := f.Stat()
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	there, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.die(fmt.Errorf("%s was deleted or moved away", path))
	case err != nil:
		return fmt.Errorf("audit: %w", err)
	case !os.SameFile(mine, there):
		return l.die(fmt.Errorf("%s was replaced by another file", path))
	case mine.Size() < size:
		return l.die(fmt.Errorf("%s was cut to %d bytes, of %d", path, mine.Size(), size))
	case mine.Size() > size:
		return l.die(fmt.Errorf("something else wrote to %s: it has %d bytes, we wrote %d", path, mine.Size(), size))
	}
	return nil
}

// file is what the log needs of an *os.File. Tests put faults behind it.
type file interface {
	Write([]byte) (int, error)
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(int64) error
	Close() error
}

// diskFile is an *os.File opened to append. On Windows such a handle cannot
// truncate, so a second one does.
type diskFile struct{ *os.File }

func (f diskFile) Truncate(size int64) error {
	if runtime.GOOS == "windows" {
		return os.Truncate(f.Name(), size)
	}
	return f.File.Truncate(size)
}

func (l *Log) wrapped(f *os.File) file {
	if l.wrap != nil {
		return l.wrap(diskFile{f})
	}
	return diskFile{f}
}

// syncDir makes a new name in dir survive a crash. Windows has no such call; its
// file systems keep names by themselves.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// wake leaves a token for a sleeper, unless one is there already.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
