package audit_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/credbroker/cred/broker/audit"
)

// What parses encodes, parses again and says the same.
func FuzzParseLine(f *testing.F) {
	dir, _, _ := threeDays(f)
	for _, line := range lines(f, dir, day2)[:3] {
		f.Add(line)
	}
	f.Add([]byte(`{"seq":1,"time":"2026-11-22T10:00:00Z","kind":"x","hash":"` + audit.Digest("") + `"}`))
	f.Add([]byte(`,"hash":"` + audit.Digest("") + `"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := audit.ParseLine(line)
		if err != nil {
			return
		}
		one, err := audit.Encode(e)
		if err != nil {
			return // a time that Go reads and does not write
		}
		if bytes.ContainsAny(one, "\n") || len(one) > audit.MaxLine {
			t.Fatalf("not a line: %q", one)
		}
		again := append([]byte(`{"seq":1,"time":"2026-11-22T10:00:00.000000Z",`), one...)
		again = append(again, `,"hash":"`+audit.Digest("")+`"}`...)
		e2, err := audit.ParseLine(again)
		if err != nil {
			t.Fatalf("%q does not parse again: %v", again, err)
		}
		two, err := audit.Encode(e2)
		if err != nil || !bytes.Equal(one, two) {
			t.Fatalf("%q became %q (%v)", one, two, err)
		}
	})
}

// Verify and Open take any bytes: they never panic, and a log that Open has
// taken over holds from there on.
func FuzzVerify(f *testing.F) {
	dir := f.TempDir()
	l, _ := open(f, options(dir, at(day1+"T10:00:00Z")))
	for range 2 {
		if _, err := l.Begin(audit.Entry{Verdict: "deny"}, false); err != nil {
			f.Fatal(err)
		}
		if _, err := l.Checkpoint(); err != nil {
			f.Fatal(err)
		}
	}
	vkey := l.VerifierKey()
	closeLog(f, l)
	log, err := os.ReadFile(filepath.Join(dir, day1+".jsonl"))
	if err != nil {
		f.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join(dir, day1+".checkpoints"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(log, signed)
	f.Add(log[:300], signed[:300])
	f.Add(bytes.Replace(log, []byte(`"call"`), []byte(`"lease"`), 1), signed)
	f.Add(append(bytes.Clone(log), "\x00\n{\n"...), append(bytes.Clone(signed), signed...))
	f.Add([]byte("\n\n"), []byte("\n\n— \n\n"))
	f.Fuzz(func(t *testing.T, log, signed []byte) {
		dir := memory(t)
		if err := os.WriteFile(filepath.Join(dir, day1+".jsonl"), log, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, day1+".checkpoints"), signed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Verify(dir, vkey); err != nil {
			t.Fatal(err)
		}
		for range audit.Read(dir, audit.Filter{}) {
		}
		o := options(dir, at(day1+"T12:00:00Z"))
		l, _, err := audit.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Begin(audit.Entry{Verdict: "deny"}, false); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, rec, err := audit.Open(o)
		if err != nil || rec.Broken != nil {
			t.Fatal(err, rec.Broken)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
