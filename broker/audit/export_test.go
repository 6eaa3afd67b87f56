package audit

import (
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// What the tests in package audit_test need of the inside.

type File = file

// OpenFaulty opens a log whose files go through wrap, and whose callers wait for
// the disk only so long.
func OpenFaulty(o Options, wait time.Duration, wrap func(File) File) (*Log, Recovery, error) {
	l, rec, err := open(o, wrap)
	if l != nil {
		l.wait = wait
	}
	return l, rec, err
}

func ParseLine(line []byte) (*Entry, error) {
	p, err := parseLine(line)
	if err != nil {
		return nil, err
	}
	return &p.Entry, nil
}

func Encode(e *Entry) ([]byte, error) { return encode(e) }

type Edge struct{ e edge }

func (e *Edge) Add(leaf tlog.Hash) { e.e.add(leaf) }
func (e *Edge) Root() tlog.Hash    { return e.e.root() }
func (e *Edge) Len() int           { return len(e.e.roots) }
