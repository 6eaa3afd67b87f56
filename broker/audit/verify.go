package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What a Problem is, in one word each.
const (
	Edited      = "edited"       // a line, or the one before it, is not what was written
	Dropped     = "dropped"      // lines are missing before this one
	Moved       = "moved"        // a line was put in, repeated or moved
	Malformed   = "malformed"    // a line is not one of ours
	Torn        = "torn"         // an unfinished line where none can be: not at the very end
	MissingFile = "missing-file" // a day is not here
	Restarted   = "restarted"    // a file does not follow the one before it
	Truncated   = "truncated"    // fewer lines than a checkpoint signed
	Rewritten   = "rewritten"    // other lines than a checkpoint signed
	Forged      = "forged"       // a checkpoint that the key did not sign, or an unreadable one
	RolledBack  = "rolled-back"  // a checkpoint signs fewer lines than an earlier one
	Unsigned    = "unsigned"     // no checkpoint covers lines that are old enough to have one
)

// A Problem is something that the broker did not write.
type Problem struct {
	File string
	Line int64 // of the log, or of the checkpoints file where File is one; 0 for the whole file
	Kind string
	What string

	checkpoint bool // it concerns checkpoints; see walk.bad
}

func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", p.File, p.Kind, p.What)
	}
	return fmt.Sprintf("%s line %d: %s: %s", p.File, p.Line, p.Kind, p.What)
}

// maxProblems and maxUnfinished bound a report on a log that is all problem.
const (
	maxProblems   = 1000
	maxUnfinished = 1 << 16
)

// A Report is what Verify found.
type Report struct {
	Key    string // the verifier key, or keys, one a line
	Pinned bool   // the key was given; otherwise it is the one beside the log, which an attacker can replace too

	Files       int
	Lines       int64
	Checkpoints int // that are signed by the key and hold

	// Before names a file that the oldest one follows and that is not here: older
	// days were taken away, by their owner or somebody else.
	Before string
	// Unsigned counts the last file's lines after its newest checkpoint. Their
	// chain holds, but whoever can write the file can also have written them.
	Unsigned int64
	// TornBytes is the length of an unfinished line at the very end: a broker that
	// was killed, or one that writes at this moment. It is no problem.
	TornBytes int64

	Unfinished []Line    // calls with no outcome, which may have happened; at most 65,536
	Problems   []Problem // in order of files; at most 1,000
	More       int       // problems beyond those
}

// Err is nil when the log holds, and otherwise says how it does not.
func (r Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	if n := len(r.Problems) + r.More; n > 1 {
		return fmt.Errorf("audit: %s (and %d more)", r.Problems[0], n-1)
	}
	return fmt.Errorf("audit: %s", r.Problems[0])
}

// Verify checks the log in dir without a broker and writes nothing. vkey is the
// verifier key ([Log.VerifierKey]) from where the owner keeps it; if it is empty,
// Verify takes the one in audit.pub and the report says that it was not pinned.
// kept are checkpoints ([Log.Checkpoint], or a day's file of them) that were kept
// elsewhere: they show even that newer lines and their checkpoints were taken away together.
//
// The error is about reading: a directory or key that cannot be read. What is
// wrong with the log itself is in the report. Memory does not grow with the log,
// but for one day's checkpoints and the calls that have no outcome.
func Verify(dir, vkey string, kept ...[]byte) (Report, error) {
	var r Report
	r.Pinned = vkey != ""
	if vkey == "" {
		text, err := os.ReadFile(filepath.Join(dir, keyFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, fmt.Errorf("audit: %w", err)
		}
		vkey = string(text)
	}
	r.Key = strings.TrimSpace(vkey)
	var keys []note.Verifier
	for line := range strings.Lines(r.Key) {
		v, err := note.NewVerifier(strings.TrimSpace(line))
		if err != nil {
			return r, fmt.Errorf("audit: verifier key %q: %w", strings.TrimSpace(line), err)
		}
		keys = append(keys, v)
	}
	days, err := listDays(dir)
	if err != nil {
		return r, fmt.Errorf("audit: %w", err)
	}
	report := func(p Problem) {
		if len(r.Problems) < maxProblems {
			r.Problems = append(r.Problems, p)
		} else {
			r.More++
		}
	}
	if len(keys) == 0 && len(days) > 0 {
		report(Problem{File: keyFile, Kind: MissingFile, What: "no key was given and none is here, so no checkpoint can be checked"})
	}
	w := &walk{dir: dir, keys: note.VerifierList(keys...), report: report, kept: map[string][]checkpoint{}}
	for _, text := range kept {
		if err := w.keep(text); err != nil {
			return r, fmt.Errorf("audit: a checkpoint that was given: %w", err)
		}
	}
	for day := range w.kept {
		if !slices.ContainsFunc(days, func(d dayFiles) bool { return d.day == day }) {
			days = append(days, dayFiles{day: day})
		}
	}
	slices.SortFunc(days, func(a, b dayFiles) int { return strings.Compare(a.day, b.day) })

	open := map[string]Line{}
	for i, d := range days {
		w.line = func(n int64, p *parsed) {
			r.Lines++
			switch {
			case p == nil:
			case p.Kind == KindOutcome:
				delete(open, p.ID)
			case p.awaits() && len(open) < maxUnfinished:
				open[p.ID] = Line{Entry: p.Entry, File: d.day + logExt, Number: n, Unfinished: true}
			}
		}
		if d.log {
			r.Files++
		}
		if err := w.walkDay(d, i == len(days)-1); err != nil {
			return r, fmt.Errorf("audit: %w", err)
		}
		r.Checkpoints += w.checked
		if r.Before == "" {
			r.Before = w.before
		}
		r.Unsigned = int64(w.lines - min(w.signed, w.lines))
		r.TornBytes = w.torn
	}
	for _, line := range open {
		r.Unfinished = append(r.Unfinished, line)
	}
	slices.SortFunc(r.Unfinished, func(a, b Line) int {
		if a.File != b.File {
			return strings.Compare(a.File, b.File)
		}
		return int(a.Number - b.Number)
	})
	return r, nil
}

// keep takes checkpoints that were kept elsewhere: one, or a file of them.
func (w *walk) keep(text []byte) error {
	n := 0
	whole := append(bytes.TrimSpace(text), "\n\n"...)
	_, _, err := readCheckpoints(bytes.NewReader(whole), func(one []byte) error {
		day, c, err := openCheckpoint(one, w.keys)
		if err != nil {
			return err
		}
		n++
		w.kept[day] = append(w.kept[day], c)
		return nil
	})
	if err == nil && n == 0 {
		err = errors.New("there is none in it")
	}
	return err
}

// walk reads days in order and reports what does not hold. Verify and Open share
// it, so they cannot disagree about what damage is.
type walk struct {
	dir    string
	keys   note.Verifiers
	kept   map[string][]checkpoint
	report func(Problem)
	line   func(n int64, p *parsed) // p is nil for a line that is not one of ours

	// Carried from day to day: the last file with lines, and its last hash.
	known    bool
	prev     [sha256.Size]byte
	prevFile string

	// Of the last day walked.
	before   string // what its first line follows, if that file is not here and no other is older
	lines    uint64
	seq      uint64 // of the last line, by its own account
	size     int64  // of the whole lines
	tree     edge
	torn     int64
	tornHead []byte
	checked  int       // checkpoints that hold
	signed   uint64    // lines under the largest of those
	claimed  uint64    // lines under the largest checkpoint with a good signature
	bad      []int     // index of every checkpoint that does not hold
	loose    int64     // the first line that no checkpoint covers
	since    time.Time // its time
	latest   time.Time // of the last line
	voids    []void    // recovered entries that hold
	tail     *tail     // a run of lines at the end that are not ours
}

// void is a recovered entry that voids what is before it, and the first
// checkpoint that covers it and holds; 0 while there is none.
type void struct {
	line  int64
	index int
}

// tail is the state before a run of lines, at the end of a file, that are not
// ours. A power cut leaves such lines.
type tail struct {
	lines, seq uint64
	size       int64
	tree       edge
	prev       [sha256.Size]byte
}

// unsignedFor is how long lines may go without a checkpoint: one is made within a
// second or so, where the disk lets it.
const unsignedFor = 15 * time.Second

// walkDay checks one day. last says that no later day is here: only then may its
// end be torn or unsigned. It reads the checkpoints first, so that a broker that
// writes meanwhile does not look like one whose log was cut.
func (w *walk) walkDay(d dayFiles, last bool) error {
	*w = walk{
		dir: w.dir, keys: w.keys, kept: w.kept, report: w.report, line: w.line,
		known: w.known, prev: w.prev, prevFile: w.prevFile,
	}
	logName := d.day + logExt
	checkpoints, err := w.checkpoints(d, last)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(w.dir, logName))
	if errors.Is(err, fs.ErrNotExist) {
		w.known = true
		for _, c := range checkpoints {
			w.bad = append(w.bad, c.index)
		}
		w.report(Problem{File: logName, Kind: MissingFile, What: fmt.Sprintf("it is not here, but a signed checkpoint says that it has %d lines", w.claimed)})
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()

	s := newScanner(f)
	rewritten, held := 0, uint64(0)
	compare := func() {
		for len(checkpoints) > 0 && checkpoints[0].size == w.lines {
			c := checkpoints[0]
			checkpoints = checkpoints[1:]
			if w.tree.root() == c.root {
				w.checked++
				w.signed, held, rewritten = w.lines, w.lines, 0
				for i, v := range w.voids {
					if v.index == 0 || c.index < v.index {
						w.voids[i].index = c.index
					}
				}
				continue
			}
			w.bad = append(w.bad, c.index)
			if rewritten++; rewritten == 1 { // the later ones fail because this one does
				w.report(Problem{
					File: logName, Line: int64(w.lines), Kind: Rewritten, checkpoint: true,
					What: fmt.Sprintf("lines %d to %d are not those that %s signed", held+1, w.lines, c.name()),
				})
			}
		}
	}
	compare()
	for {
		text, torn, err := s.next()
		if err == io.EOF {
			w.torn, w.tornHead = torn, slices.Clone(text.text)
			break
		} else if err != nil {
			return err
		}
		w.one(logName, text)
		w.size = s.off
		compare()
	}
	if w.lines > 0 {
		w.prevFile = logName
	}
	w.known = true

	w.endOfDay(logName, checkpoints, last)
	return nil
}

// endOfDay reports what is wrong with how a file ends. Checkpoints are those of
// lines that it does not have.
func (w *walk) endOfDay(logName string, checkpoints []checkpoint, last bool) {
	if n := len(checkpoints); n > 0 {
		for _, c := range checkpoints {
			w.bad = append(w.bad, c.index)
		}
		c := checkpoints[n-1]
		w.report(Problem{
			File: logName, Line: int64(w.lines), Kind: Truncated, checkpoint: true,
			What: fmt.Sprintf("the file ends here, but %s signed %d lines: %d were cut off", c.name(), c.size, c.size-w.lines),
		})
	}
	if !last && w.torn > 0 {
		w.report(Problem{File: logName, Line: int64(w.lines) + 1, Kind: Torn, What: fmt.Sprintf("%d bytes of an unfinished line, though later files exist", w.torn)})
	}
	if last && w.loose > 0 && w.latest.Sub(w.since) > unsignedFor {
		w.report(Problem{
			File: logName, Line: w.loose, Kind: Unsigned,
			What: fmt.Sprintf("no checkpoint covers lines %d to %d, which were written over %s: checkpoints were taken away, or the lines were made",
				w.loose, w.lines, w.latest.Sub(w.since).Round(time.Second)),
		})
	}
	if !last && w.claimed < w.lines {
		w.report(Problem{
			File: logName, Line: int64(w.lines), Kind: Unsigned,
			What: fmt.Sprintf("the day has ended, but no checkpoint covers its last %d lines: checkpoints were taken away, or the lines were added", w.lines-w.claimed),
		})
	}
}

func (c checkpoint) name() string {
	if c.index == 0 {
		return "the checkpoint that was given"
	}
	return fmt.Sprintf("checkpoint %d", c.index)
}

// checkpoints reads and verifies those of a day, and returns the good ones in
// order of size.
func (w *walk) checkpoints(d dayFiles, last bool) ([]checkpoint, error) {
	list := slices.Clone(w.kept[d.day])
	name := d.day + signExt
	index, line := 0, int64(1)
	var before checkpoint
	each := func(text []byte) error {
		index++
		if index > maxCheckpoints {
			return fmt.Errorf("%s holds more than %d checkpoints", name, maxCheckpoints)
		}
		at := line
		line += int64(strings.Count(string(text), "\n")) + 1
		err := errors.New("too long")
		day, c := "", checkpoint{}
		if text != nil {
			day, c, err = openCheckpoint(text, w.keys)
		}
		if err == nil && day != d.day {
			err = fmt.Errorf("it is of %s", day)
		}
		if err != nil {
			w.bad = append(w.bad, index)
			w.report(Problem{File: name, Line: at, Kind: Forged, checkpoint: true, What: fmt.Sprintf("checkpoint %d: %v", index, err)})
			return nil
		}
		c.index = index
		if c.size < before.size {
			w.report(Problem{
				File: name, Line: at, Kind: RolledBack, checkpoint: true,
				What: fmt.Sprintf("%s signs %d lines, after %s signed %d: lines were cut off and the log went on", c.name(), c.size, before.name(), before.size),
			})
		}
		before = c
		list = append(list, c)
		return nil
	}
	if d.sign {
		f, err := os.Open(filepath.Join(w.dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			defer f.Close()
			_, rest, err := readCheckpoints(f, each)
			if err != nil {
				return nil, err
			}
			if day, c, err := openCheckpoint(rest, w.keys); err == nil && day == d.day {
				c.index = index + 1
				list = append(list, c) // whole, but for the empty line behind it
			} else if len(rest) > 0 && !last {
				w.report(Problem{File: name, Line: line, Kind: Forged, checkpoint: true, What: "half a checkpoint, though later files exist"})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b checkpoint) int {
		switch {
		case a.size < b.size:
			return -1
		case a.size > b.size:
			return 1
		}
		return 0
	})
	if n := len(list); n > 0 {
		w.claimed = list[n-1].size
	}
	return list, nil
}

// one checks one line against the one before it.
func (w *walk) one(file string, raw rawLine) {
	n := int64(w.lines) + 1
	problem := func(kind, format string, args ...any) {
		w.report(Problem{File: file, Line: n, Kind: kind, What: fmt.Sprintf(format, args...)})
	}
	var p *parsed
	err := errLong
	if !raw.long {
		p, err = parseLine(raw.text)
	}
	if err != nil {
		if w.tail == nil {
			w.tail = &tail{lines: w.lines, seq: w.seq, size: w.size, prev: w.prev}
			w.tail.tree.copy(&w.tree)
		}
		problem(Malformed, "%v", err)
		w.lines++
		w.seq++
		if raw.long {
			w.prev = raw.sum
			w.tree.add(raw.leaf)
		} else {
			w.prev = linkOf(raw.text)
			w.tree.add(tlog.RecordHash(raw.text))
		}
		w.line(n, nil)
		return
	}
	w.tail = nil

	prev, ok := w.prev, true
	if n == 1 {
		prev, ok = w.first(file, p)
	}
	due := w.seq + 1
	switch {
	case p.Seq > due:
		problem(Dropped, "lines %d to %d are missing before it", due, p.Seq-1)
		ok = false
	case p.Seq < due:
		problem(Moved, "it says that it is line %d, where %d is due: it was put in, repeated or moved", p.Seq, due)
		ok = false
	case !p.follows(prev):
		problem(Edited, "its hash is not that of its text after line %d: it was edited, or that one was and its hash made anew", n-1)
		ok = false
	}
	if ok && p.Kind == KindRecovered && p.Detail[damage] != "" {
		w.voids = append(w.voids, void{line: n})
	}
	w.lines++
	if w.latest = p.Time; w.lines > w.claimed && w.loose == 0 {
		w.loose, w.since = n, p.Time
	}
	w.seq = p.Seq
	w.prev = p.hash
	w.tree.add(tlog.RecordHash(raw.text))
	w.line(n, p)
}

// first checks that the first line of a file follows the last line of the file
// before it, and returns the hash that it claims to follow.
func (w *walk) first(file string, p *parsed) (prev [sha256.Size]byte, ok bool) {
	problem := func(kind, format string, args ...any) {
		w.report(Problem{File: file, Line: 1, Kind: kind, What: fmt.Sprintf(format, args...)})
	}
	if p.PrevFile != "" {
		if sum, err := hex.DecodeString(p.PrevHash); err != nil || len(sum) != len(prev) {
			problem(Malformed, "prev_hash is no hash")
			return w.prev, false
		} else {
			copy(prev[:], sum)
		}
	}
	switch {
	case p.PrevFile == w.prevFile && prev == w.prev:
		return prev, true
	case p.PrevFile == w.prevFile:
		problem(Restarted, "it does not follow the last line of %s: the end of that file was changed or cut off", w.prevFile)
	case !w.known:
		w.before = p.PrevFile
		return prev, true
	case p.PrevFile == "":
		problem(Restarted, "it begins a new chain, though %s is older", w.prevFile)
	case w.prevFile == "" || w.prevFile < p.PrevFile:
		problem(MissingFile, "it follows %s, which is not here or has lost its lines", p.PrevFile)
	default:
		problem(Restarted, "it follows %s, not %s, which was put in between", p.PrevFile, w.prevFile)
	}
	return prev, false
}

// healed is where the part of the log begins that counts.
type healed struct {
	days []string
	line int64 // of the first day
	// since leaves out lines that are too old.
	since time.Time
	// signed is how many lines of the last day a checkpoint covers.
	signed uint64
}

// recover reads the recent part, cuts off a torn end, and makes the log ready to
// go on behind what is there.
func (l *Log) recover(o Options) (rec Recovery, heal healed, err error) {
	days, err := listDays(l.dir)
	if err != nil {
		return rec, heal, err
	}
	heal.since = l.now().Add(-max(o.Recent, 0)).UTC()
	start, newest := recentDays(days, heal.since)
	calls := openCalls{byID: map[string]Entry{}}
	w := &walk{dir: l.dir, keys: note.VerifierList(l.key), line: calls.line}
	if err := w.begin(days[:start]); err != nil {
		return rec, heal, err
	}

	var end *walk
	var broken []Problem
	for i, d := range days[start:] {
		var found []Problem
		w.report = func(p Problem) { found = append(found, p) }
		if err := w.walkDay(d, start+i >= newest); err != nil {
			return rec, heal, err
		}
		if start+i == newest {
			if found, err = w.cutTail(d.day, &rec, found); err != nil {
				return rec, heal, err
			}
			rec.Unsigned = int64(w.lines - min(w.signed, w.lines))
			heal.signed = w.signed
			c := *w
			end = &c
		}
		heal.days = append(heal.days, d.day)
		// What an earlier Open has named, and the broker has signed since, is void
		// and done with. Checkpoints count by their place in their file, because
		// those that were signed before the damage go on failing.
		for _, v := range slices.Backward(w.voids) {
			if v.index == 0 {
				continue
			}
			broken = nil
			found = slices.DeleteFunc(found, func(p Problem) bool { return p.checkpoint || p.Line <= v.line })
			if slices.ContainsFunc(w.bad, func(index int) bool { return index > v.index }) {
				found = append(found, Problem{File: d.day + signExt, Kind: Rewritten, What: "a checkpoint since the last recovery does not hold"})
			}
			heal.days, heal.line = []string{d.day}, v.line
			break
		}
		broken = append(broken, found...)
	}
	if len(broken) > 0 {
		rec.Broken = Report{Problems: broken[:1], More: len(broken) - 1}.Err()
	}
	rec.Unfinished = calls.inOrder()
	if end == nil {
		return rec, heal, nil
	}
	return rec, heal, l.resume(days[newest].day, end)
}

// recentDays says from where on the log is walked: from the day of since, or from
// the newest file of lines when that is older, because the log goes on behind it.
// newest is the index of that file's day, or -1. Any day after it has nothing but
// checkpoints.
func recentDays(days []dayFiles, since time.Time) (start, newest int) {
	newest = -1
	for i, d := range days {
		if d.log {
			newest = i
		}
	}
	start = max(0, newest)
	for start > 0 && days[start-1].day >= since.Format(time.DateOnly) {
		start--
	}
	return start, newest
}

// openCalls are the calls since the last start that have no outcome. A start
// clears those before it, because the Open that came before that start named them.
type openCalls struct {
	byID  map[string]Entry
	order []string // ids in order of lines, of calls that have ended too
}

// line takes one line of the log; it is the line of a walk.
func (c *openCalls) line(_ int64, p *parsed) {
	switch {
	case p == nil:
	case p.Kind == KindStart:
		clear(c.byID)
		c.order = nil
	case p.Kind == KindOutcome:
		delete(c.byID, p.ID)
	case p.awaits() && len(c.byID) < maxUnfinished:
		c.byID[p.ID] = p.Entry
		c.order = append(c.order, p.ID)
	}
}

// inOrder hands the calls over. It takes each one away, because an id that was
// used twice is in the order twice.
func (c *openCalls) inOrder() (calls []Entry) {
	for _, id := range c.order {
		if e, ok := c.byID[id]; ok {
			calls = append(calls, e)
			delete(c.byID, id)
		}
	}
	return calls
}

// resume opens the newest file and puts the writer and the sealer at its end, as
// the walk has found it. Neither of them runs yet, so it takes no lock.
func (l *Log) resume(day string, end *walk) error {
	path := filepath.Join(l.dir, day+logExt)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	l.w = tip{f: l.wrapped(f), day: day, path: path, size: end.size, seq: end.seq, prev: end.prev, before: end.prevFile}
	l.w.tree.copy(&end.tree)
	l.s.day, l.s.signed = day, end.signed
	l.backlog.f, l.backlog.day = l.w.f, day
	l.backlog.tree.copy(&end.tree)
	// What a dead process wrote may not be on the disk yet.
	l.backlog.dirty, l.backlog.since = true, time.Now()
	return nil
}

// begin finds the end of what comes before the days to be walked.
func (w *walk) begin(older []dayFiles) error {
	for _, d := range slices.Backward(older) {
		if !d.log {
			continue
		}
		w.known = true
		link, ok, err := lastLink(filepath.Join(w.dir, d.day+logExt))
		if err != nil {
			return err
		}
		if ok {
			w.prev, w.prevFile = link, d.day+logExt
			return nil
		}
	}
	return nil
}

// lastLink is the link of a file's last whole line.
func lastLink(path string) (link [sha256.Size]byte, ok bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return link, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return link, false, err
	}
	if _, err := f.Seek(max(0, info.Size()-2*MaxLine), io.SeekStart); err != nil {
		return link, false, err
	}
	for s := newScanner(f); ; {
		line, _, err := s.next()
		switch {
		case err == io.EOF:
			return link, ok, nil
		case err != nil:
			return link, false, err
		case line.long:
			link, ok = line.sum, true
		default:
			link, ok = linkOf(line.text), true
		}
	}
}

// cutTail cuts off what a crash left at the end of the newest file: half a line,
// and before it lines that are not ours (a power cut leaves blocks of zeros).
// Lines that a checkpoint covers are never cut. It returns the problems that
// remain.
func (w *walk) cutTail(day string, rec *Recovery, found []Problem) ([]Problem, error) {
	from := w.size
	if t := w.tail; t != nil && t.lines >= w.claimed {
		from = t.size
		found = slices.DeleteFunc(found, func(p Problem) bool { return p.Kind == Malformed && p.Line > int64(t.lines) })
		w.lines, w.seq, w.size, w.tree, w.prev = t.lines, t.seq, t.size, t.tree, t.prev
	}
	path := filepath.Join(w.dir, day+logExt)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return found, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == from {
		return found, err
	}
	rec.TornBytes = info.Size() - from
	rec.Torn = make([]byte, min(rec.TornBytes, maxTorn))
	if _, err := f.ReadAt(rec.Torn, from); err != nil {
		return found, err
	}
	if err := f.Truncate(from); err != nil {
		return found, err
	}
	return found, f.Sync()
}

// fold hands the lines that count to the broker.
func fold(dir string, heal healed, do func(Entry)) error {
	for i, day := range heal.days {
		err := eachLine(dir, day, func(n int64, p *parsed, bad error) bool {
			if bad != nil || i == 0 && n < heal.line || p.Time.Before(heal.since) {
				return true
			}
			// Anybody can write a line that fits, and take the checkpoints away.
			// A line that no checkpoint covers may take a lease, but give none.
			if i == len(heal.days)-1 && n > int64(heal.signed) && p.Kind == KindLease {
				return true
			}
			do(p.Entry)
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}
