package audit

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	logExt  = ".jsonl"
	signExt = ".checkpoints"
	keyFile = "audit.pub"
)

// edge is the right edge of an RFC 6962 tree (section 2.1): the roots of the
// perfect subtrees that n leaves make, largest first. It is all that is needed to
// go on, and at most 64 hashes.
type edge struct {
	n     uint64
	roots []tlog.Hash
}

func (e *edge) add(leaf tlog.Hash) {
	e.roots = append(e.roots, leaf)
	for i := e.n; i&1 == 1; i >>= 1 {
		last := len(e.roots) - 1
		e.roots[last-1] = tlog.NodeHash(e.roots[last-1], e.roots[last])
		e.roots = e.roots[:last]
	}
	e.n++
}

func (e *edge) root() tlog.Hash {
	if e.n == 0 {
		return sha256.Sum256(nil)
	}
	last := len(e.roots) - 1
	h := e.roots[last]
	for i := last - 1; i >= 0; i-- {
		h = tlog.NodeHash(e.roots[i], h)
	}
	return h
}

func (e *edge) copy(from *edge) {
	e.n = from.n
	e.roots = append(e.roots[:0], from.roots...)
}

// signer is a note.Signer over the owner's crypto.Signer, under the log's origin
// as its name. Its key hash is the one of the note package, because it is asked.
type signer struct {
	note.Verifier
	text string // verifier key
	key  crypto.Signer
}

func newSigner(origin string, key crypto.Signer) (*signer, error) {
	if key == nil {
		return nil, errors.New("no signer given")
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the signer's key is a %T, not Ed25519", key.Public())
	}
	text, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("origin %q cannot name a key: %w", origin, err)
	}
	return &signer{v, text, key}, nil
}

func (s *signer) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, msg, crypto.Hash(0))
}

// A checkpoint is a signed statement about one day: its first size lines make the
// tree with this root.
type checkpoint struct {
	index int // in its file, from 1; 0 for one that was kept elsewhere
	size  uint64
	root  tlog.Hash
}

// bodyOf is the body of C2SP tlog-checkpoint, without extension lines.
func bodyOf(origin, day string, size uint64, root tlog.Hash) string {
	return fmt.Sprintf("%s/%s\n%d\n%s\n", origin, day, size, root)
}

// openCheckpoint verifies a note and reads it. The day is that of the origin
// line, so a checkpoint of one day cannot stand in for another's.
func openCheckpoint(text []byte, keys note.Verifiers) (day string, c checkpoint, err error) {
	n, err := note.Open(text, keys)
	if err != nil {
		return "", c, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 {
		return "", c, errors.New("malformed checkpoint")
	}
	c.size, err = strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return "", c, errors.New("malformed checkpoint: size")
	}
	if c.root, err = tlog.ParseHash(lines[2]); err != nil {
		return "", c, errors.New("malformed checkpoint: root")
	}
	for _, sig := range n.Sigs {
		day, ok := strings.CutPrefix(lines[0], sig.Name+"/")
		if ok && isDay(day) && bodyOf(sig.Name, day, c.size, c.root) == n.Text {
			return day, c, nil
		}
	}
	return "", c, fmt.Errorf("checkpoint of another origin, or badly formed: %q", n.Text)
}

func isDay(s string) bool {
	t, err := time.Parse(time.DateOnly, s)
	return err == nil && t.Format(time.DateOnly) == s
}

// maxCheckpoints bounds what one day's file can make a reader hold: twelve times
// one a second.
const maxCheckpoints = 1 << 20

// readCheckpoints calls each for every record of a checkpoints file: its text, or
// nil if it is too long to be one. It returns the offset behind the last record that
// is followed by its empty line, and what comes behind it, shortened to one
// record's length.
func readCheckpoints(r io.Reader, each func(text []byte) error) (good int64, rest []byte, err error) {
	const maxRecord = 4 << 10
	br := bufio.NewReaderSize(r, maxRecord)
	var record []byte
	var off int64
	long, signed, start := false, false, true // where in a record, and in a line, we are
	for {
		line, err := br.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return good, nil, err
		}
		off += int64(len(line))
		if start && len(line) == 1 && signed { // an empty line behind a signature
			text := record
			if long {
				text = nil
			}
			if err := each(text); err != nil {
				return good, nil, err
			}
			record, long, signed, good = record[:0], false, false, off
			continue
		}
		if start {
			signed = bytes.HasPrefix(line, []byte("— ")) && err == nil
		}
		start = err == nil
		if !long && len(record)+len(line) <= maxRecord {
			record = append(record, line...)
		} else {
			long = true
		}
		if err == io.EOF {
			return good, record, nil
		}
	}
}

// backlog is what the writer leaves for the sealer. Log.mu guards it.
type backlog struct {
	f       file
	day     string
	tree    edge      // of all that is written
	dirty   bool      // something is written and not synced
	since   time.Time // since when
	sign    bool      // a waiter wants a checkpoint too
	waiters []*request
	force   []chan<- sealing
}

type sealing struct {
	note []byte
	err  error
}

// sealer is what the sealer alone owns: the checkpoints file of the day.
type sealer struct {
	f      file
	day    string
	path   string
	size   int64
	signed uint64 // lines under the newest checkpoint
	last   time.Time
}

func (s *sealer) close() error {
	if s.f == nil {
		return nil
	}
	return errors.Join(s.f.Sync(), s.f.Close())
}

// sealNow has the sealer sync and sign all that is written, and waits for it.
func (l *Log) sealNow(wait time.Duration) ([]byte, error) {
	c := make(chan sealing, 1)
	l.mu.Lock()
	l.backlog.force = append(l.backlog.force, c)
	l.mu.Unlock()
	wake(l.wakeSealer)
	slow := time.NewTimer(wait)
	defer slow.Stop()
	select {
	case s := <-c:
		return s.note, s.err
	case <-l.sealed:
		return nil, ErrClosed
	case <-slow.C:
		return nil, ErrSlow
	}
}

// seal is the sealer. It sleeps when there is nothing to sync or sign.
func (l *Log) seal() {
	defer close(l.sealed)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-l.wakeSealer:
		case <-timer.C:
		case <-l.stopSealer:
			return
		}
		if next := l.sealOnce(time.Now()); next > 0 {
			timer.Reset(next)
		}
	}
}

// sealOnce does what is due and says when it wants to be called again; 0 is never.
func (l *Log) sealOnce(now time.Time) time.Duration {
	l.mu.Lock()
	t := &l.backlog
	if t.f == nil {
		force := t.force
		t.force = nil
		l.mu.Unlock()
		for _, c := range force {
			c <- sealing{}
		}
		return 0
	}
	if l.s.day != t.day {
		l.s.signed = 0
	}
	forced := t.sign || len(t.force) > 0
	unsigned := t.tree.n > l.s.signed
	syncAt := t.since.Add(syncWithin)
	signAt := l.s.last.Add(signEvery)
	if t.dirty && signAt.Before(syncAt) {
		signAt = syncAt
	}
	doSign := unsigned && (forced || !now.Before(signAt)) || len(t.force) > 0
	doSync := t.dirty && (doSign || len(t.waiters) > 0 || !now.Before(syncAt))
	if !doSign && !doSync {
		dirty := t.dirty
		l.mu.Unlock()
		switch {
		case dirty:
			return max(syncAt.Sub(now), time.Millisecond)
		case unsigned:
			return max(signAt.Sub(now), time.Millisecond)
		}
		return 0
	}
	f, day, waiters, force, signFor := t.f, t.day, t.waiters, t.force, t.sign
	var tree edge
	tree.copy(&t.tree)
	t.waiters, t.force, t.sign = nil, nil, false
	if doSync {
		t.dirty = false
	}
	last := l.note
	l.mu.Unlock()

	l.syncing.Store(now.UnixNano())
	defer l.syncing.Store(0)
	var err error
	if p := l.fatal.Load(); p != nil {
		err = *p
	} else if doSync {
		if err = f.Sync(); err != nil {
			// The kernel may have dropped the pages and call the next fsync a
			// success, so nothing that this file says about itself counts any more.
			err = l.die(fmt.Errorf("syncing %s: %w", day+logExt, err))
		}
	}
	answer := func(sign bool, err error) {
		for _, r := range waiters {
			if r.sign == sign {
				l.answer(r, err)
			}
		}
	}
	answer(false, err)
	if doSign && err == nil && tree.n > 0 && (tree.n > l.s.signed || last == nil) {
		last, err = l.sign(day, &tree, len(force) > 0 || signFor)
		if err != nil {
			l.logf("audit: no checkpoint: %v", err)
			l.unsign.Store(&err)
		} else {
			l.unsign.Store(nil)
			l.mu.Lock()
			l.note = last
			l.mu.Unlock()
		}
		l.s.last = time.Now()
	}
	if err != nil && l.fatal.Load() == nil {
		answer(true, fmt.Errorf("audit: the line is written, but not signed: %w", err))
	} else {
		answer(true, err)
	}
	for _, c := range force {
		c <- sealing{last, err}
	}
	return syncWithin // see what came meanwhile
}

// sign makes a checkpoint and appends it to the day's file.
func (l *Log) sign(day string, tree *edge, sync bool) ([]byte, error) {
	text := bodyOf(l.origin, day, tree.n, tree.root())
	signed, err := note.Sign(&note.Note{Text: text}, l.key)
	if err != nil {
		return nil, fmt.Errorf("audit: signing: %w", err)
	}
	// A signer that signs wrongly would make the next Open void every lease.
	if _, err := note.Open(signed, note.VerifierList(l.key)); err != nil {
		return nil, fmt.Errorf("audit: the signer's signature does not verify: %w", err)
	}
	s := &l.s
	if s.day != day {
		if err := s.close(); err != nil {
			return nil, l.die(fmt.Errorf("closing %s: %w", s.path, err))
		}
		s.f, s.day, s.signed = nil, day, 0
	}
	if s.f == nil {
		if err := l.openCheckpoints(day); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	if err := l.unchanged(s.f, s.path, s.size); err != nil {
		return nil, err
	}
	n, err := s.f.Write(append(bytes.Clone(signed), '\n'))
	if err == nil && n != len(signed)+1 {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(signed)+1)
	}
	if err != nil {
		if cut := s.f.Truncate(s.size); cut != nil {
			return nil, l.die(fmt.Errorf("a write to %s failed (%w), and what it left cannot be cut off: %w", s.path, err, cut))
		}
		return nil, fmt.Errorf("audit: %w", err)
	}
	s.size += int64(n)
	if sync {
		if err := s.f.Sync(); err != nil {
			return nil, l.die(fmt.Errorf("syncing %s: %w", s.path, err))
		}
	}
	s.signed = tree.n
	return signed, nil
}

// openCheckpoints opens the day's file to append to it. Half a checkpoint at its
// end, which a crash leaves, is cut off; a whole one that lacks only the empty
// line behind it gets that.
func (l *Log) openCheckpoints(day string) error {
	s := &l.s
	path := filepath.Join(l.dir, day+signExt)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	df := l.wrapped(f)
	if err := func() error {
		if err := syncDir(l.dir); err != nil {
			return err
		}
		good, rest, err := readCheckpoints(f, func([]byte) error { return nil })
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		s.size = info.Size()
		if _, _, err := openCheckpoint(rest, note.VerifierList(l.key)); err == nil && good+int64(len(rest)) == s.size {
			s.size++
			_, err = df.Write([]byte{'\n'})
			return err
		}
		if s.size > good {
			s.size = good
			return df.Truncate(good)
		}
		return nil
	}(); err != nil {
		f.Close()
		return err
	}
	s.f, s.path = df, path
	return nil
}
