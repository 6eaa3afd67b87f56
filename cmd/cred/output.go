package main

// The rules of the terminal, for every command:
//
//   - Messages are short and in lower case, say what happened and what to do
//     next, and end without a full stop.
//   - Facts go to standard output, everything else to standard error.
//   - --json answers one document on standard output and nothing else there.
//   - Colour and progress appear on a terminal only, and NO_COLOR switches
//     colour off. Colour repeats what the words say and never stands alone.
//   - A secret is never printed, and never an argument.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// Colours, by what they repeat.
const (
	bad   = "31"
	good  = "32"
	wait  = "33"
	quiet = "2"
)

// isTerminal reports whether w shows to a person.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// paint returns s in a colour when w is a terminal that wants colour.
func (e env) paint(w io.Writer, colour, s string) string {
	if !isTerminal(w) || e.getenv("NO_COLOR") != "" || e.getenv("TERM") == "dumb" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// say prints a line to standard error.
func (e env) say(format string, args ...any) { fmt.Fprintf(e.stderr, format+"\n", args...) }

// printf prints to standard output.
func (e env) printf(format string, args ...any) { fmt.Fprintf(e.stdout, format, args...) }

func (e env) printJSON(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows in columns. A row of one empty cell is an empty line.
func (e env) table(rows [][]string) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = plain(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// plain returns s with everything replaced that does not show as itself, so that
// a name in the log cannot move the cursor, change colours or turn the line
// around.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// progress shows on a terminal that something takes longer than a second. The
// caller calls stop when it is done; a second call does nothing.
func (e env) progress(what string) (stop func()) {
	if !isTerminal(e.stderr) {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for began := time.Now(); ; {
			select {
			case <-done:
				fmt.Fprint(e.stderr, "\r\x1b[K")
				return
			case now := <-t.C:
				fmt.Fprintf(e.stderr, "\r%s … %ds", what, int(now.Sub(began).Seconds()))
			}
		}
	}()
	return sync.OnceFunc(func() { close(done); <-gone })
}

// ago is how long ago t was, for people.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
