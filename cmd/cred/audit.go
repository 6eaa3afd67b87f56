package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/mod/sumdb/note"

	"github.com/credbroker/cred/broker"
	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/scopes"
)

// auditInput is what a person says to cred audit.
type auditInput struct {
	audit.Filter
	json bool
}

func auditCommand(e env) *cli.Command {
	var in auditInput
	var kind, since, until, key string
	var verifyJSON bool
	var kept cli.StringSlice
	return &cli.Command{
		Name:  "audit",
		Usage: "show what was done, by whom and under which lease; no broker is needed",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "lease", Usage: "only what was done with the lease `ID`, or what its id begins with", Destination: &in.Lease},
			&cli.StringFlag{Name: "provider", Usage: "only calls to `PROVIDER`", Destination: &in.Provider},
			&cli.StringFlag{Name: "env", Usage: "only what touches `ENVIRONMENT`", Destination: &in.Environment},
			&cli.StringFlag{Name: "verdict", Usage: "only calls with the `VERDICT` allow, hold or deny", Destination: &in.Verdict},
			&cli.StringFlag{Name: "kind", Usage: "only entries of the `KIND` call, lookup, lease, revoke, key, config and so on", Destination: &kind},
			&cli.StringFlag{Name: "since", Usage: "only from `TIME` on: 1h ago, or a moment such as 2026-11-22 or 2026-11-22T10:00:00Z", Destination: &since},
			&cli.StringFlag{Name: "until", Usage: "only before `TIME`", Destination: &until},
			&cli.BoolFlag{Name: "json", Usage: "answer the entries as they are, one JSON document a line", Destination: &in.json},
		},
		Subcommands: []*cli.Command{{
			Name: "verify", Usage: "check that nothing in the log was changed, taken away or put in",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "checkpoint", Usage: "`FILE` with a checkpoint that you kept elsewhere; may be given again", Destination: &kept},
				&cli.StringFlag{Name: "key", Usage: "verifier `KEY` that you keep elsewhere; cred status shows it", Destination: &key},
				&cli.BoolFlag{Name: "json", Usage: "answer one JSON document", Destination: &verifyJSON},
			},
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				return verifyLog(c.Context, e, key, kept.Value(), verifyJSON)
			},
		}},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("unexpected argument %q; cred audit takes flags, or verify", c.Args().First())
			}
			if err := in.read(time.Now(), kind, since, until); err != nil {
				return err
			}
			return showLog(c.Context, e, in)
		},
	}
}

// read checks the words that a person may misspell: a filter that picks nothing
// looks like a log in which nothing happened.
func (in *auditInput) read(now time.Time, kind, since, until string) (err error) {
	kinds := []audit.Kind{audit.KindStart, audit.KindStop, audit.KindCall, audit.KindLookup, audit.KindOutcome, audit.KindLease,
		audit.KindRevoke, audit.KindKey, audit.KindConfig, audit.KindRecovered}
	if in.Kind = audit.Kind(kind); kind != "" && !slices.Contains(kinds, in.Kind) {
		return oneOf("--kind", kind, kinds)
	}
	verdicts := []string{scopes.Allow.String(), scopes.Hold.String(), scopes.Deny.String()}
	if in.Verdict != "" && !slices.Contains(verdicts, in.Verdict) {
		return oneOf("--verdict", in.Verdict, verdicts)
	}
	if in.Provider != "" {
		catalog, err := scopes.Builtin()
		if err != nil {
			return err
		}
		if _, err := catalog.Describe(scopes.Provider(in.Provider)); err != nil {
			return usagef("--provider: %w", err)
		}
	}
	if in.Environment != "" && !scopes.IsName(in.Environment) {
		return usagef("--env %q is not the name of an environment", in.Environment)
	}
	if in.Since, err = moment(now, since); err != nil {
		return usagef("--since %w", err)
	}
	if in.Until, err = moment(now, until); err != nil {
		return usagef("--until %w", err)
	}
	return nil
}

// oneOf refuses a word that is not one of those known.
func oneOf[S ~string](flag, word string, known []S) error {
	if near := scopes.Nearest(word, asStrings(known)); near != "" {
		return usagef("%s %q; did you mean %q?", flag, word, near)
	}
	return usagef("%s %q: want %s", flag, word, strings.Join(asStrings(known), ", "))
}

func asStrings[S ~string](words []S) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return out
}

// moment reads a time: how long ago, a day, or an instant. Days count as 24
// hours, and a day begins where the person is.
func moment(now time.Time, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%q: want how long ago, such as 30m, 1h or 7d, or a moment such as 2026-11-22 or 2026-11-22T10:00:00Z", s)
	}
	return now.Add(-d), nil
}

// showLog prints what the filter picks.
func showLog(ctx context.Context, e env, in auditInput) error {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	dir := home.AuditDir()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		e.say("nothing has been logged yet")
		return nil
	}
	if in.Lease, err = wholeLease(ctx, dir, in.Lease); err != nil {
		return err
	}
	out := bufio.NewWriter(e.stdout)
	var n, unread int
	if in.json {
		n, unread, err = dumpLog(ctx, e, out, dir, in.Filter)
	} else {
		s := &storyteller{env: e, out: out, filter: in.Filter}
		err = s.tell(ctx, dir)
		n, unread = s.told, s.unread
	}
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	switch {
	case unread > 0:
		return fmt.Errorf("%d lines cannot be read; run: cred audit verify", unread)
	case n == 0 && in.Filter == audit.Filter{}:
		e.say("nothing has been logged yet")
	case n == 0:
		e.say("nothing in the log is like that")
	}
	return nil
}

// wholeLease completes the id of a lease of which a person has copied the
// beginning: the listing shows no more.
func wholeLease(ctx context.Context, dir, prefix string) (string, error) {
	if prefix == "" {
		return "", nil
	}
	found := map[string]bool{}
	for line, err := range audit.Read(dir, audit.Filter{}) {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err == nil && line.Lease == prefix {
			return prefix, nil
		}
		if err == nil && strings.HasPrefix(line.Lease, prefix) {
			found[line.Lease] = true
		}
	}
	if len(found) > 1 {
		return "", usagef("%d leases begin with %q; say more of the id", len(found), prefix)
	}
	for id := range found {
		return id, nil
	}
	return "", fmt.Errorf("no lease %q is in the log", prefix)
}

// dumpLog writes the entries as they are, for programs.
func dumpLog(ctx context.Context, e env, out *bufio.Writer, dir string, f audit.Filter) (n, unread int, err error) {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for line, err := range audit.Read(dir, f) {
		switch {
		case ctx.Err() != nil:
			return n, unread, ctx.Err()
		case err != nil && line.Number == 0:
			return n, unread, err
		case err != nil:
			unread++
			e.say("cred: %s", plain(err.Error()))
			continue
		}
		n++
		if err := enc.Encode(line.Entry); err != nil {
			return n, unread, err
		}
	}
	return n, unread, nil
}

// A story is what belongs to one call: its line, the broker's own look-ups on
// its behalf, and what came of it. Every other entry is a story of one line.
type story struct {
	audit.Line
	lookups []*story
	outcome *audit.Entry
}

// done reports whether nothing more is to come.
func (s *story) done() bool {
	asked := s.Kind == audit.KindCall || s.Kind == audit.KindLookup
	return !asked || s.outcome != nil || s.Unfinished || s.Verdict != "" && s.Verdict != scopes.Allow.String()
}

// A storyteller puts the lines of the log together. A look-up stands in the log
// before its call and an outcome some lines after, so a story is told when it is
// done; what waits meanwhile is what was under way at that moment.
type storyteller struct {
	env
	out          *bufio.Writer
	filter       audit.Filter
	told, unread int

	waiting []*story            // in order, each held up by the first
	byID    map[string]*story   // those that await an outcome
	lookups map[string][]*story // of calls that have not come yet, by call
}

func (s *storyteller) tell(ctx context.Context, dir string) error {
	s.byID, s.lookups = map[string]*story{}, map[string][]*story{}
	// The filter is asked of whole stories, so that a look-up or an outcome goes
	// with its call.
	for line, err := range audit.Read(dir, audit.Filter{Since: s.filter.Since}) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && line.Number == 0:
			return err
		case err != nil:
			s.unread++
			s.say("cred: %s", plain(err.Error()))
			continue
		}
		s.take(line)
		for len(s.waiting) > 0 && s.waiting[0].done() {
			s.print(s.waiting[0])
			s.waiting = s.waiting[1:]
		}
	}
	for _, st := range s.waiting {
		s.print(st)
	}
	for _, id := range slices.Sorted(maps.Keys(s.lookups)) { // the broker died before the call itself
		for _, st := range s.lookups[id] {
			s.print(st)
		}
	}
	return nil
}

func (s *storyteller) take(line audit.Line) {
	st := &story{Line: line}
	switch {
	case s.filter.Kind == audit.KindOutcome && line.Kind != audit.KindOutcome:
		return // outcomes alone were asked for
	case line.Kind == audit.KindOutcome && s.filter.Kind != audit.KindOutcome:
		if of := s.byID[line.ID]; of != nil { // otherwise its call is older than what was asked for
			of.outcome = &line.Entry
			delete(s.byID, line.ID)
		}
		return
	case line.Kind == audit.KindLookup && s.filter.Kind != audit.KindLookup:
		s.lookups[line.Parent] = append(s.lookups[line.Parent], st)
	default:
		st.lookups = s.lookups[line.ID]
		delete(s.lookups, line.ID)
		s.waiting = append(s.waiting, st)
	}
	if !st.done() {
		s.byID[line.ID] = st
	}
}

func (s *storyteller) picks(st *story) bool {
	f := s.filter
	return f.Picks(&st.Entry) && (f.Kind == "" || f.Kind == st.Kind) && (f.Until.IsZero() || st.Time.Before(f.Until))
}

// The columns of a line: when, what it is, who. The rest is free text.
const (
	wordWidth = 8
	whoWidth  = 22
	leftWidth = len(time.DateTime) + 2 + wordWidth + 1 + whoWidth + 1
)

func (s *storyteller) print(st *story) {
	if !s.picks(st) {
		return
	}
	s.told++
	word, rest := string(st.Kind), tellOther(st.Entry)
	var more []string
	if st.Kind == audit.KindCall || st.Kind == audit.KindLookup {
		if st.Kind == audit.KindCall {
			word = st.Verdict
		}
		rest, more = s.tellCall(st)
	}
	colour := map[string]string{"allow": good, "hold": wait, "deny": bad}[word]
	padded := fmt.Sprintf("%-*s", wordWidth, plain(word))
	if colour != "" {
		padded = s.paint(s.stdout, colour, padded)
	}
	fmt.Fprintf(s.out, "%s  %s %-*s %s\n", st.Time.Local().Format(time.DateTime), padded, whoWidth, plain(who(st.Entry)), plain(rest))
	for _, m := range more {
		fmt.Fprintf(s.out, "%*s%s\n", leftWidth, "", plain(m))
	}
}

// shortID is as much of an id as tells it from others of a day. Commands take
// the beginning of an id.
func shortID(id string) string { return id[:min(len(id), 10)] }

func who(e audit.Entry) string {
	switch {
	case e.Lease == "*":
		return "every lease"
	case e.Lease != "" && e.Subject != "":
		return shortID(e.Lease) + " " + e.Subject
	case e.Lease != "":
		return shortID(e.Lease)
	case e.Kind == audit.KindCall:
		return "no lease"
	}
	return "-"
}

// tellCall says what a call did and what came of it, and on further lines its
// other acts and its look-ups.
func (s *storyteller) tellCall(st *story) (line string, more []string) {
	acts := make([]string, len(st.Acts))
	for i, a := range st.Acts {
		acts[i] = strings.Join(strings.Fields(a.Operation+" "+a.Resource+" "+a.Scope), " ")
	}
	if len(acts) == 0 {
		acts = []string{strings.TrimSpace(st.Provider + " " + st.Method + " " + short(st.Path, 80))}
	}
	line = acts[0] + "  " + cameOf(st)
	for _, a := range acts[1:] {
		more = append(more, "and "+a)
	}
	for _, l := range st.lookups {
		more = append(more, fmt.Sprintf("look-up at %s: %s %s  %s", l.Provider, l.Method, short(l.Path, 80), cameOf(l)))
	}
	return line, more
}

// short cuts what has more than n characters, such as what an agent made up to
// fill the screen.
func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// cameOf says how a call ended.
func cameOf(st *story) string {
	switch o := st.outcome; {
	case st.Verdict != "" && st.Verdict != scopes.Allow.String():
		why := st.Why
		if len(st.Acts) == 1 { // the line has said what it is about
			a := st.Acts[0]
			why = strings.TrimPrefix(why, strings.Join(strings.Fields(a.Operation+" "+a.Resource+" "+a.Scope), " ")+": ")
		}
		return strings.TrimSuffix(st.Code+": "+why, ": ")
	case o == nil:
		return "no outcome: it may have happened"
	case o.Error != "" && o.Status != 0:
		return fmt.Sprintf("%d, broken off: %s", o.Status, o.Error)
	case o.Error != "":
		return "failed: " + o.Error
	}
	return fmt.Sprintf("%d in %s", st.outcome.Status, time.Duration(st.outcome.Micros*1000).Round(100*time.Microsecond))
}

// tellOther puts an entry that is no call into words.
func tellOther(e audit.Entry) string {
	by := ""
	if e.Peer != nil {
		by = fmt.Sprintf(" (process %d", e.Peer.PID)
		if e.Peer.Exe != "" {
			by += ", " + e.Peer.Exe
		}
		by += ")"
	}
	switch e.Kind {
	case audit.KindStart:
		return "the broker began to serve, with the " + e.Detail["keystore"] + " keystore"
	case audit.KindStop:
		return "the broker ended"
	case audit.KindLease:
		s := strings.Join(e.Scopes, " ") + " until " + e.Expires.Local().Format(time.DateTime)
		if e.Reason != "" {
			s += ", to " + strconv.Quote(e.Reason)
		}
		return s + by
	case audit.KindRevoke:
		return "ended early" + by
	case audit.KindKey:
		return e.Provider + ": " + e.Why + by
	case audit.KindConfig:
		if e.Error != "" {
			return "the configuration cannot be used: " + e.Error
		}
		return "the configuration changed; its SHA-256 begins with " + e.Detail["config_sha256"][:min(12, len(e.Detail["config_sha256"]))]
	case audit.KindOutcome:
		return fmt.Sprintf("of %s: %s", e.ID, cameOf(&story{outcome: &e}))
	}
	return strings.TrimSuffix(e.Why+": "+e.Error, ": ") + by
}

// A verification is the report of cred audit verify --json.
type verification struct {
	OK          bool         `json:"ok"`
	Dir         string       `json:"dir"`
	Key         string       `json:"key"`
	KeyFrom     string       `json:"key_from"` // flag, broker, or log: kept beside it and not pinned
	Files       int          `json:"files"`
	Lines       int64        `json:"lines"`
	Checkpoints int          `json:"checkpoints"`
	Before      string       `json:"before,omitempty"` // a file that is not here any more
	Unsigned    int64        `json:"unsigned_lines"`   // after the newest checkpoint
	Torn        int64        `json:"torn_bytes"`       // of a line that was being written
	Unfinished  []unfinished `json:"unfinished"`       // calls that may have happened
	Problems    []problem    `json:"problems"`         // what the broker did not write
	More        int          `json:"problems_not_listed,omitempty"`
}

type unfinished struct {
	File string    `json:"file"`
	Line int64     `json:"line"`
	Time time.Time `json:"time"`
	ID   string    `json:"id"`
	What string    `json:"what"`
}

type problem struct {
	File string `json:"file"`
	Line int64  `json:"line,omitempty"` // none: the whole file
	Kind string `json:"kind"`
	What string `json:"what"`
}

// verifyLog checks the log without a broker. A key that the log itself brings
// along proves little, and the report says so: whoever can rewrite the log can
// replace it.
func verifyLog(ctx context.Context, e env, key string, kept []string, asJSON bool) error {
	home, err := broker.FindHome(e.getenv)
	if err != nil {
		return err
	}
	key, from, err := verifierKey(ctx, e, home, key)
	if err != nil {
		return err
	}
	if _, err := os.Stat(home.AuditDir()); errors.Is(err, fs.ErrNotExist) {
		if key != "" { // whoever has a key has had a log
			return fmt.Errorf("there is no log in %s, and there was one: somebody has the key for it", home.AuditDir())
		}
		e.say("nothing has been logged yet")
		return nil
	}
	var checkpoints [][]byte
	for _, path := range kept {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("--checkpoint: %w", err)
		}
		checkpoints = append(checkpoints, text)
	}
	stop := e.progress("checking the log")
	r, err := verify(ctx, home.AuditDir(), key, checkpoints)
	stop()
	if err != nil {
		return err
	}
	v := newVerification(home.AuditDir(), from, r)
	if asJSON {
		err = e.printJSON(v)
	} else {
		err = e.printVerification(v)
	}
	if n := len(r.Problems) + r.More; err == nil && n > 0 {
		return fmt.Errorf("the log does not hold: %d %s", n, plural(n, "problem"))
	}
	return err
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// verifierKey returns the key to check with, and where it is from.
func verifierKey(ctx context.Context, e env, home broker.Home, flag string) (key, from string, err error) {
	if flag != "" {
		for _, line := range strings.Fields(flag) {
			if _, err := note.NewVerifier(line); err != nil {
				return "", "", usagef("--key %q is no verifier key; cred status shows yours", flag)
			}
		}
		return strings.Join(strings.Fields(flag), "\n"), "flag", nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client := broker.NewClient(home)
	defer client.Close()
	if s, err := client.Status(ctx); err == nil {
		return s.AuditKey, "broker", nil
	}
	return "", "log", nil
}

// verify is audit.Verify, which a person can interrupt.
func verify(ctx context.Context, dir, key string, kept [][]byte) (audit.Report, error) {
	type result struct {
		audit.Report
		err error
	}
	done := make(chan result, 1)
	go func() {
		r, err := audit.Verify(dir, key, kept...)
		done <- result{r, err}
	}()
	select {
	case <-ctx.Done():
		return audit.Report{}, ctx.Err()
	case r := <-done:
		return r.Report, r.err
	}
}

func newVerification(dir, from string, r audit.Report) verification {
	v := verification{
		OK: len(r.Problems) == 0, Dir: dir, Key: r.Key, KeyFrom: from, Files: r.Files, Lines: r.Lines, Checkpoints: r.Checkpoints,
		Before: r.Before, Unsigned: r.Unsigned, Torn: r.TornBytes, More: r.More, Unfinished: []unfinished{}, Problems: []problem{},
	}
	for _, l := range r.Unfinished {
		what := strings.TrimSpace(l.Provider + " " + l.Method + " " + short(l.Path, 80))
		if len(l.Acts) > 0 {
			what = strings.Join(strings.Fields(l.Acts[0].Operation+" "+l.Acts[0].Resource+" "+l.Acts[0].Scope), " ")
		}
		v.Unfinished = append(v.Unfinished, unfinished{l.File, l.Number, l.Time, l.ID, what})
	}
	for _, p := range r.Problems {
		v.Problems = append(v.Problems, problem{p.File, p.Line, p.Kind, p.What})
	}
	return v
}

func (e env) printVerification(v verification) error {
	key := map[string]string{
		"flag":   "the one that you gave",
		"broker": "the running broker's",
		"log":    "the one beside the log: whoever can change the log can replace it too; keep the one of cred status elsewhere and give it with --key",
	}[v.KeyFrom]
	rows := [][]string{
		{"log", v.Dir}, {"key", strings.Join(strings.Fields(v.Key), " ")}, {"", key}, {"files", strconv.Itoa(v.Files)},
		{"lines", strconv.FormatInt(v.Lines, 10)}, {"checkpoints", fmt.Sprintf("%d, signed with that key", v.Checkpoints)},
	}
	if v.Unsigned > 0 {
		rows = append(rows, []string{"unsigned", fmt.Sprintf("%d lines after the newest checkpoint: they hold together, but nobody has signed them yet", v.Unsigned)})
	}
	if v.Torn > 0 {
		rows = append(rows, []string{"torn", fmt.Sprintf("%d bytes of a line at the end: it is being written, or the broker died over it", v.Torn)})
	}
	if v.Before != "" {
		rows = append(rows, []string{"older days", v.Before + " and what was before it is not here any more"})
	}
	for i, u := range v.Unfinished {
		word := ""
		if i == 0 {
			word = "unfinished"
		}
		rows = append(rows, []string{word, fmt.Sprintf("%s line %d: %s may have happened (%s, %s)", u.File, u.Line, u.What, u.ID, u.Time.Local().Format(time.DateTime))})
	}
	if err := e.table(rows); err != nil {
		return err
	}
	for _, p := range v.Problems {
		where := p.File
		if p.Line > 0 {
			where += fmt.Sprintf(" line %d", p.Line)
		}
		e.printf("%s %s\n", e.paint(e.stdout, bad, plain(p.Kind)), plain(where+": "+p.What))
	}
	if v.More > 0 {
		e.printf("and %d more\n", v.More)
	}
	if v.OK {
		e.printf("%s\n", e.paint(e.stdout, good, "the log holds"))
	}
	return nil
}
