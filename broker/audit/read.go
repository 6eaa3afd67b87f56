package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	hashMember = `,"hash":"`
	hashTail   = len(hashMember) + 2*sha256.Size + len(`"}`)
)

// A parsed line: its entry, what its hash covers besides the hash before it, and
// the hash that it states.
type parsed struct {
	Entry
	body [][]byte // the line without its hash member, in two pieces
	hash [sha256.Size]byte
}

// follows reports whether the stated hash is right after prev.
func (p *parsed) follows(prev [sha256.Size]byte) bool {
	h := sha256.New()
	h.Write(prev[:])
	for _, b := range p.body {
		h.Write(b)
	}
	return bytes.Equal(h.Sum(nil), p.hash[:])
}

// statedHash finds the hash at the end of a line.
func statedHash(line []byte) (sum [sha256.Size]byte, ok bool) {
	at := len(line) - hashTail
	if at < 1 || !bytes.HasPrefix(line[at:], []byte(hashMember)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return sum, false
	}
	text := line[at+len(hashMember) : len(line)-2]
	if bytes.ContainsFunc(text, func(r rune) bool { return 'A' <= r && r <= 'F' }) {
		return sum, false // one spelling
	}
	_, err := hex.Decode(sum[:], text)
	return sum, err == nil
}

// parseLine reads one line without its newline, strictly: an unknown or repeated
// member, a name in another case or text that is not UTF-8 is an error. It does
// not judge the hash.
func parseLine(line []byte) (*parsed, error) {
	sum, ok := statedHash(line)
	if !ok {
		return nil, errors.New("it does not end in a hash")
	}
	var wire struct {
		Entry
		Hash string `json:"hash"`
	}
	if err := json.Unmarshal(line, &wire, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if wire.Seq == 0 || wire.Kind == "" || wire.Time.IsZero() {
		return nil, errors.New("it has no seq, time or kind")
	}
	return &parsed{wire.Entry, [][]byte{line[:len(line)-hashTail], {'}'}}, sum}, nil
}

// linkOf is what the next line's hash covers: the stated hash, right or not, so
// that one damaged line does not make the rest look damaged; or, in a line that
// states none, the hash of the line.
func linkOf(line []byte) [sha256.Size]byte {
	if sum, ok := statedHash(line); ok {
		return sum
	}
	return sha256.Sum256(line)
}

// scanner reads lines of any length in bounded memory.
type scanner struct {
	r   *bufio.Reader
	off int64 // behind the last line
}

// rawLine is a line without its newline. A line longer than MaxLine has no text,
// only its hashes.
type rawLine struct {
	text []byte // valid until the next call
	long bool
	leaf tlog.Hash // of a long line
	sum  [sha256.Size]byte
}

func newScanner(r io.Reader) *scanner { return &scanner{r: bufio.NewReaderSize(r, MaxLine)} }

// next returns io.EOF at the end; then text is what follows the last newline, at
// most maxTorn bytes of it, and torn its length.
func (s *scanner) next() (line rawLine, torn int64, err error) {
	text, err := s.r.ReadSlice('\n')
	switch err {
	case nil:
		s.off += int64(len(text))
		return rawLine{text: text[:len(text)-1]}, 0, nil
	case io.EOF:
		return rawLine{text: text[:min(len(text), maxTorn)]}, int64(len(text)), err
	case bufio.ErrBufferFull:
	default:
		return line, 0, err
	}
	head := bytes.Clone(text[:maxTorn])
	plain, leaf := sha256.New(), sha256.New()
	leaf.Write([]byte{0}) // RFC 6962, section 2.1
	n := int64(0)
	for {
		n += int64(len(text))
		for _, h := range []hash.Hash{plain, leaf} {
			h.Write(bytes.TrimSuffix(text, []byte{'\n'}))
		}
		if err != bufio.ErrBufferFull {
			break
		}
		text, err = s.r.ReadSlice('\n')
	}
	if err == io.EOF {
		return rawLine{text: head}, n, err
	}
	if err != nil {
		return line, 0, err
	}
	s.off += n
	line.long = true
	plain.Sum(line.sum[:0])
	leaf.Sum(line.leaf[:0])
	return line, 0, nil
}

// dayFiles says which files of a day there are.
type dayFiles struct {
	day       string
	log, sign bool
}

// listDays returns the days of which dir holds anything, in order.
func listDays(dir string) ([]dayFiles, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var days []dayFiles
	for _, f := range list { // in order of names, so both files of a day come together
		ext := filepath.Ext(f.Name())
		day := strings.TrimSuffix(f.Name(), ext)
		if ext != logExt && ext != signExt || !isDay(day) {
			continue
		}
		if !f.Type().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", f.Name())
		}
		if len(days) == 0 || days[len(days)-1].day != day {
			days = append(days, dayFiles{day: day})
		}
		d := &days[len(days)-1]
		d.log, d.sign = d.log || ext == logExt, d.sign || ext == signExt
	}
	return days, nil
}

// A Line is an entry and where it is.
type Line struct {
	Entry
	File   string // such as 2026-11-22.jsonl
	Number int64  // from 1

	// Unfinished marks a call that was allowed and has no outcome: it is under way
	// or the broker died over it. It may have happened.
	Unfinished bool
}

// A Filter picks lines. Empty fields pick everything, set ones must all agree.
type Filter struct {
	Lease       string
	Provider    string
	Environment string // of one of the acts, or of a lease's scopes
	Verdict     string // of a call; its outcome goes with it
	Kind        Kind
	Since       time.Time // inclusive
	Until       time.Time // exclusive
}

// Read yields, in order, the lines that f picks. The outcome of a picked call is
// picked too, even when f asks for what only the call says. A line that cannot be
// read yields an error, with File and Number set, and reading goes on; an error
// with no Number ends it. Read checks no hashes: that is [Verify]'s part. It may be
// used while a broker writes.
func Read(dir string, f Filter) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		days, err := listDays(dir)
		if err != nil {
			yield(Line{}, fmt.Errorf("audit: %w", err))
			return
		}
		days = slices.DeleteFunc(days, func(d dayFiles) bool {
			// A clock that went back leaves later times in no earlier file, but
			// earlier times in a later one. So only the beginning can be left out.
			return !d.log || !f.Since.IsZero() && d.day < f.Since.UTC().Format(time.DateOnly)
		})
		open, err := unfinished(dir, days)
		if err != nil {
			yield(Line{}, err)
			return
		}
		picked := map[string]bool{} // calls that were picked and whose outcome was not yet seen
		for _, d := range days {
			err := eachLine(dir, d.day, func(n int64, p *parsed, bad error) bool {
				line := Line{File: d.day + logExt, Number: n}
				if bad != nil {
					return yield(line, fmt.Errorf("audit: %s line %d: %w", line.File, n, bad))
				}
				line.Entry = p.Entry
				goes := p.Kind == KindOutcome && picked[p.ID]
				if p.Kind == KindOutcome {
					delete(picked, p.ID)
				}
				if !f.Since.IsZero() && p.Time.Before(f.Since) || !f.Until.IsZero() && !p.Time.Before(f.Until) {
					return true
				}
				if !goes && !f.Picks(&p.Entry) {
					return true
				}
				if p.awaits() {
					at, ok := open[p.ID]
					line.Unfinished = ok && at == position{d.day, n}
					if !line.Unfinished {
						picked[p.ID] = true
					}
				}
				if f.Kind != "" && p.Kind != f.Kind {
					return true
				}
				return yield(line, nil)
			})
			if err == errStop {
				return
			}
			if err != nil {
				yield(Line{File: d.day + logExt}, fmt.Errorf("audit: %w", err))
				return
			}
		}
	}
}

// Picks says whether the filter picks an entry by itself, its kind and time left
// aside. An outcome goes with its call, whatever its own fields say.
func (f *Filter) Picks(e *Entry) bool {
	if f.Environment != "" {
		at := "@" + f.Environment
		if !slices.ContainsFunc(e.Acts, func(a Act) bool { return strings.HasSuffix(a.Scope, at) }) &&
			!slices.ContainsFunc(e.Scopes, func(s string) bool { return strings.HasSuffix(s, at) }) {
			return false
		}
	}
	return (f.Lease == "" || e.Lease == f.Lease) &&
		(f.Provider == "" || e.Provider == f.Provider) &&
		(f.Verdict == "" || e.Verdict == f.Verdict)
}

type position struct {
	day  string
	line int64
}

// unfinished finds the calls of these days that have no outcome in them.
func unfinished(dir string, days []dayFiles) (map[string]position, error) {
	open := map[string]position{}
	for _, d := range days {
		err := eachLine(dir, d.day, func(n int64, p *parsed, bad error) bool {
			switch {
			case bad != nil:
			case p.awaits():
				open[p.ID] = position{d.day, n}
			case p.Kind == KindOutcome:
				delete(open, p.ID)
			}
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return open, nil
}

var errStop = errors.New("stop")

// eachLine calls do for every whole line of a day until do answers false, and
// then returns errStop. A file that is gone has no lines.
func eachLine(dir, day string, do func(n int64, p *parsed, bad error) bool) error {
	f, err := os.Open(filepath.Join(dir, day+logExt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	s := newScanner(f)
	for n := int64(1); ; n++ {
		line, _, err := s.next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var p *parsed
		if line.long {
			err = errLong
		} else {
			p, err = parseLine(line.text)
		}
		if !do(n, p, err) {
			return errStop
		}
	}
}

var errLong = fmt.Errorf("it is longer than %d bytes", MaxLine)
