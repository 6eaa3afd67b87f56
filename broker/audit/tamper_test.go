package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/credbroker/cred/broker/audit"
)

const day1, day2, day3 = "2026-11-21", "2026-11-22", "2026-11-23"

// threeDays makes a log of 400 lines over three days. The second day has
// checkpoints at 40, 90 and 150 lines. kept is the checkpoint at its 90th line.
func threeDays(t testing.TB) (dir, vkey string, kept []byte) {
	t.Helper()
	dir = t.TempDir()
	c := at(day1 + "T10:00:00Z")
	l, _ := open(t, options(dir, c))
	fill := func(n int) {
		for i := range n {
			if _, err := l.Begin(audit.Entry{Verdict: "deny", Path: fmt.Sprintf("/%s/%d", c.now().Format("02"), i)}, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	sign := func() []byte {
		text, err := l.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	fill(130)
	c.set(day2 + "T10:00:00Z")
	fill(40)
	sign()
	fill(50)
	kept = sign()
	fill(60)
	c.set(day3 + "T10:00:00Z")
	fill(120)
	vkey = l.VerifierKey()
	closeLog(t, l)
	return dir, vkey, kept
}

// scene is a copy of that log that a test may damage.
type scene struct {
	t   *testing.T
	dir string
}

func (s scene) path(name string) string { return filepath.Join(s.dir, name) }

func (s scene) text(name string) []byte {
	text, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

func (s scene) write(name string, text []byte) {
	if err := os.WriteFile(s.path(name), text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s scene) remove(name string) {
	if err := os.Remove(s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

// lines gives f the day's lines, the first at index 0, and writes what it returns.
func (s scene) lines(day string, f func([][]byte) [][]byte) {
	s.write(day+".jsonl", append(bytes.Join(f(lines(s.t, s.dir, day)), []byte("\n")), '\n'))
}

// checkpoints does the same with the day's checkpoints.
func (s scene) checkpoints(day string, f func([][]byte) [][]byte) {
	parts := bytes.SplitAfter(s.text(day+".checkpoints"), []byte("=\n\n"))
	var all [][]byte
	for pair := range slices.Chunk(parts[:len(parts)-1], 2) { // a root and a signature
		all = append(all, bytes.Join(pair, nil))
	}
	s.write(day+".checkpoints", bytes.Join(f(all), nil))
}

const hashAt = len(`,"hash":""}`) + 64

// rehash makes the hashes of lines anew, after prev.
func rehash(lines [][]byte, prev []byte) [][]byte {
	out := make([][]byte, len(lines))
	for i, line := range lines {
		body := line[:len(line)-hashAt]
		h := sha256.New()
		h.Write(prev)
		h.Write(body)
		h.Write([]byte("}"))
		prev = h.Sum(nil)
		out[i] = fmt.Appendf(nil, `%s,"hash":"%x"}`, body, prev)
	}
	return out
}

func hashOf(line []byte) []byte {
	h, err := hex.DecodeString(string(line[len(line)-66 : len(line)-2]))
	if err != nil {
		panic(err)
	}
	return h
}

// signed is a note with this text, signed with the log's key.
func signed(t *testing.T, text string) []byte {
	t.Helper()
	vkey, err := note.NewEd25519VerifierKey("cred.audit/test", key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Split(vkey, "+")[1]
	s, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+cred.audit/test+%s+%s", hash,
		base64.StdEncoding.EncodeToString(append([]byte{1}, key.Seed()...))))
	if err != nil {
		t.Fatal(err)
	}
	out, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

func TestTampering(t *testing.T) {
	base, vkey, kept := threeDays(t)
	if r, err := audit.Verify(base, vkey, kept); err != nil || r.Err() != nil || r.Files != 3 || r.Lines != 400 || r.Checkpoints < 6 || !r.Pinned {
		t.Fatalf("the untouched log: %v %+v", err, r)
	}
	edit := func(line []byte) []byte { return bytes.Replace(line, []byte(`"deny"`), []byte(`"nope"`), 1) }
	for _, test := range []struct {
		name   string
		tamper func(scene)
		want   []string // each a prefix of one problem, all of them in this order
	}{
		{"nothing", func(scene) {}, nil},
		{"an edited line", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { l[49] = edit(l[49]); return l })
		}, []string{
			"2026-11-22.jsonl line 50: edited: ",
			"2026-11-22.jsonl line 90: rewritten: lines 41 to 90 are not those that checkpoint 2 signed",
		}},
		{"an edited line, its hash made anew", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte {
				l[49] = rehash([][]byte{edit(l[49])}, hashOf(l[48]))[0]
				return l
			})
		}, []string{
			"2026-11-22.jsonl line 51: edited: its hash is not that of its text after line 50: it was edited, or that one was",
			"2026-11-22.jsonl line 90: rewritten: lines 41 to 90 ",
		}},
		{"an edited hash", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte {
				l[49] = append(l[49][:len(l[49])-66], append(bytes.Repeat([]byte("ab"), 32), `"}`...)...)
				return l
			})
		}, []string{
			"2026-11-22.jsonl line 50: edited: ",
			"2026-11-22.jsonl line 51: edited: ",
			"2026-11-22.jsonl line 90: rewritten: ",
		}},
		{"an edited first line", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { l[0] = edit(l[0]); return l })
		}, []string{
			"2026-11-22.jsonl line 1: edited: ",
			"2026-11-22.jsonl line 40: rewritten: lines 1 to 40 are not those that checkpoint 1 signed",
		}},
		{"an unknown member", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte {
				l[49] = bytes.Replace(l[49], []byte(`"kind"`), []byte(`"x":1,"kind"`), 1)
				return l
			})
		}, []string{"2026-11-22.jsonl line 50: malformed: ", "2026-11-22.jsonl line 90: rewritten: "}},
		{"a repeated member", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte {
				l[49] = bytes.Replace(l[49], []byte(`"verdict":"deny"`), []byte(`"verdict":"deny","verdict":"allow"`), 1)
				return l
			})
		}, []string{"2026-11-22.jsonl line 50: malformed: ", "2026-11-22.jsonl line 90: rewritten: "}},
		{"a line of rubbish in place of one", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { l[49] = []byte("rubbish"); return l })
		}, []string{
			"2026-11-22.jsonl line 50: malformed: ",
			"2026-11-22.jsonl line 51: edited: ",
			"2026-11-22.jsonl line 90: rewritten: ",
		}},
		{"a dropped line", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { return slices.Delete(l, 49, 50) })
		}, []string{
			"2026-11-22.jsonl line 50: dropped: lines 50 to 50 are missing before it",
			"2026-11-22.jsonl line 90: rewritten: lines 41 to 90 ",
			"2026-11-22.jsonl line 149: truncated: the file ends here, but checkpoint 3 signed 150 lines: 1 were cut off",
		}},
		{"a dropped first line", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { return l[1:] })
		}, []string{
			"2026-11-22.jsonl line 1: restarted: it begins a new chain, though 2026-11-21.jsonl is older",
			"2026-11-22.jsonl line 1: dropped: lines 1 to 1 ",
			"2026-11-22.jsonl line 40: rewritten: ",
			"2026-11-22.jsonl line 149: truncated: ",
		}},
		{"a repeated line", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { return slices.Insert(l, 50, slices.Clone(l[49])) })
		}, []string{
			"2026-11-22.jsonl line 51: moved: it says that it is line 50, where 51 is due",
			"2026-11-22.jsonl line 90: rewritten: ",
			"2026-11-22.jsonl line 151: unsigned: ",
		}},
		{"an inserted line with a good hash", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte {
				in := bytes.Replace(edit(l[49]), []byte(`"seq":50,`), []byte(`"seq":51,`), 1)
				return slices.Insert(l, 50, rehash([][]byte{in}, hashOf(l[49]))[0])
			})
		}, []string{
			"2026-11-22.jsonl line 52: moved: it says that it is line 51, where 52 is due",
			"2026-11-22.jsonl line 90: rewritten: ",
			"2026-11-22.jsonl line 151: unsigned: ",
		}},
		{"two lines changed about", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { l[49], l[50] = l[50], l[49]; return l })
		}, []string{
			"2026-11-22.jsonl line 50: dropped: lines 50 to 50 ",
			"2026-11-22.jsonl line 51: moved: it says that it is line 50, where 52 is due",
			"2026-11-22.jsonl line 52: dropped: ",
			"2026-11-22.jsonl line 90: rewritten: ",
		}},
		{"a chain rewritten from a line on", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte {
				l[99] = edit(l[99])
				return append(l[:99:99], rehash(l[99:], hashOf(l[98]))...)
			})
		}, []string{
			"2026-11-22.jsonl line 150: rewritten: lines 91 to 150 are not those that checkpoint 3 signed",
			"2026-11-23.jsonl line 1: restarted: it does not follow the last line of 2026-11-22.jsonl",
		}},
		{"a chain rewritten to the end of the log", func(s scene) {
			var last []byte
			s.lines(day2, func(l [][]byte) [][]byte {
				l[99] = edit(l[99])
				l = append(l[:99:99], rehash(l[99:], hashOf(l[98]))...)
				last = hashOf(l[len(l)-1])
				return l
			})
			s.lines(day3, func(l [][]byte) [][]byte {
				at := bytes.Index(l[0], []byte(`"prev_hash":"`)) + len(`"prev_hash":"`)
				hex.Encode(l[0][at:], last)
				return rehash(l, last)
			})
		}, []string{
			"2026-11-22.jsonl line 150: rewritten: lines 91 to 150 ",
			"2026-11-23.jsonl line 120: rewritten: lines 1 to 120 ",
		}},
		{"the last file cut", func(s scene) {
			s.lines(day3, func(l [][]byte) [][]byte { return l[:100] })
		}, []string{"2026-11-23.jsonl line 100: truncated: the file ends here, but checkpoint 1 signed 120 lines: 20 were cut off"}},
		{"the last file emptied", func(s scene) {
			s.write(day3+".jsonl", nil)
		}, []string{"2026-11-23.jsonl: truncated: "}},
		{"an earlier file cut", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { return l[:149] })
		}, []string{
			"2026-11-22.jsonl line 149: truncated: ",
			"2026-11-23.jsonl line 1: restarted: it does not follow the last line of 2026-11-22.jsonl",
		}},
		{"an earlier file cut, and its last checkpoint with it", func(s scene) {
			s.lines(day2, func(l [][]byte) [][]byte { return l[:90] })
			s.checkpoints(day2, func(c [][]byte) [][]byte { return c[:2] })
		}, []string{"2026-11-23.jsonl line 1: restarted: it does not follow the last line of 2026-11-22.jsonl"}},
		{"an earlier file torn", func(s scene) {
			s.write(day2+".jsonl", append(s.text(day2+".jsonl"), "{"...))
		}, []string{"2026-11-22.jsonl line 151: torn: "}},
		{"a missing log", func(s scene) {
			s.remove(day2 + ".jsonl")
		}, []string{
			"2026-11-22.jsonl: missing-file: it is not here, but a signed checkpoint says that it has 150 lines",
			"2026-11-23.jsonl line 1: missing-file: it follows 2026-11-22.jsonl, which is not here",
		}},
		{"a missing day", func(s scene) {
			s.remove(day2 + ".jsonl")
			s.remove(day2 + ".checkpoints")
		}, []string{"2026-11-23.jsonl line 1: missing-file: it follows 2026-11-22.jsonl, which is not here"}},
		{"a missing day, and its successor made to follow the day before", func(s scene) {
			s.remove(day2 + ".jsonl")
			s.remove(day2 + ".checkpoints")
			l1 := lines(s.t, s.dir, day1)
			last := hashOf(l1[len(l1)-1])
			s.lines(day3, func(l [][]byte) [][]byte {
				l[0] = bytes.Replace(l[0], []byte(day2), []byte(day1), 1)
				at := bytes.Index(l[0], []byte(`"prev_hash":"`)) + len(`"prev_hash":"`)
				hex.Encode(l[0][at:], last)
				return rehash(l, last)
			})
		}, []string{"2026-11-23.jsonl line 120: rewritten: lines 1 to 120 "}},
		{"the last log missing", func(s scene) {
			s.remove(day3 + ".jsonl")
		}, []string{"2026-11-23.jsonl: missing-file: "}},
		{"a day put in", func(s scene) {
			s.write("2026-11-20.jsonl", s.text(day1+".jsonl"))
		}, []string{
			"2026-11-20.jsonl line 130: unsigned: ",
			"2026-11-21.jsonl line 1: restarted: it begins a new chain, though 2026-11-20.jsonl is older",
		}},
		{"a checkpoint edited", func(s scene) {
			s.checkpoints(day2, func(c [][]byte) [][]byte {
				c[1] = bytes.Replace(c[1], []byte("\n90\n"), []byte("\n91\n"), 1)
				return c
			})
		}, []string{"2026-11-22.checkpoints line 7: forged: checkpoint 2: "}},
		{"a checkpoint of another key", func(s scene) {
			other := scene{s.t, s.t.TempDir()}
			o := options(other.dir, at(day3+"T10:00:00Z"))
			o.Signer = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
			l, _ := open(s.t, o)
			call(s.t, l, false)
			closeLog(s.t, l)
			s.write(day3+".checkpoints", other.text(day3+".checkpoints"))
		}, []string{"2026-11-23.checkpoints line 1: forged: checkpoint 1: note has no verifiable signatures"}},
		{"a checkpoint that is signed and badly formed", func(s scene) {
			s.write(day3+".checkpoints", append(s.text(day3+".checkpoints"),
				signed(s.t, "cred.audit/test/2026-11-23\n0120\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")...))
		}, []string{"2026-11-23.checkpoints line 7: forged: checkpoint 2: checkpoint of another origin, or badly formed"}},
		{"a checkpoint of another day", func(s scene) {
			s.write(day3+".checkpoints", s.text(day2+".checkpoints"))
		}, []string{
			"2026-11-23.checkpoints line 1: forged: checkpoint 1: it is of 2026-11-22",
			"2026-11-23.checkpoints line 7: forged: ",
			"2026-11-23.checkpoints line 13: forged: ",
		}},
		{"rubbish among the checkpoints", func(s scene) {
			s.checkpoints(day2, func(c [][]byte) [][]byte {
				return slices.Insert(c, 1, []byte("rubbish\n\n— rubbish AAAA\n\n"), bytes.Repeat([]byte("x"), 10_000), []byte("\n— x\n\n"))
			})
		}, []string{
			"2026-11-22.checkpoints line 7: forged: checkpoint 2: ",
			"2026-11-22.checkpoints line 11: forged: checkpoint 3: too long",
		}},
		{"the checkpoints of an earlier day missing", func(s scene) {
			s.remove(day2 + ".checkpoints")
		}, []string{"2026-11-22.jsonl line 150: unsigned: "}},
		{"half a checkpoint in an earlier day", func(s scene) {
			s.write(day2+".checkpoints", append(s.text(day2+".checkpoints"), "cred.audit"...))
		}, []string{"2026-11-22.checkpoints line 19: forged: half a checkpoint"}},
		{"checkpoints in another order", func(s scene) {
			s.checkpoints(day2, func(c [][]byte) [][]byte { c[0], c[1] = c[1], c[0]; return c })
		}, []string{"2026-11-22.checkpoints line 7: rolled-back: checkpoint 2 signs 40 lines, after checkpoint 1 signed 90"}},

		// Not damage.
		{"the oldest day taken away", func(s scene) {
			s.remove(day1 + ".jsonl")
			s.remove(day1 + ".checkpoints")
		}, nil},
		{"a torn end", func(s scene) {
			s.write(day3+".jsonl", append(s.text(day3+".jsonl"), `{"seq":121,"ti`...))
			s.write(day3+".checkpoints", append(s.text(day3+".checkpoints"), "cred.audit"...))
		}, nil},
		{"a checkpoint without the empty line behind it", func(s scene) {
			text := s.text(day3 + ".checkpoints")
			s.write(day3+".checkpoints", text[:len(text)-1])
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := scene{t, t.TempDir()}
			if err := os.CopyFS(s.dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			test.tamper(s)
			r, err := audit.Verify(s.dir, vkey)
			if err != nil {
				t.Fatal(err)
			}
			ok := len(r.Problems) == len(test.want)
			for i := 0; ok && i < len(test.want); i++ {
				ok = strings.HasPrefix(r.Problems[i].String(), test.want[i])
			}
			if !ok {
				t.Errorf("%d problems, want %d:", len(r.Problems), len(test.want))
				for _, p := range r.Problems {
					t.Errorf("  got  %s", p)
				}
				for _, p := range test.want {
					t.Errorf("  want %s", p)
				}
			}
			if (r.Err() == nil) != (len(test.want) == 0) {
				t.Errorf("Err is %v", r.Err())
			}
			switch test.name {
			case "the oldest day taken away":
				if r.Before != day1+".jsonl" {
					t.Errorf("Before is %q", r.Before)
				}
			case "a torn end":
				if r.TornBytes != 14 {
					t.Errorf("TornBytes is %d", r.TornBytes)
				}
			}

			// An Open finds what Verify finds in the recent part, refuses nobody, and
			// the log goes on. It must not wash the damage away.
			if test.want != nil {
				o := options(s.dir, at(day3+"T11:00:00Z"))
				o.Recent = 100 * 24 * 3600e9
				folded := 0
				o.Fold = func(audit.Entry) { folded++ }
				l, rec := open(t, o)
				if rec.Broken != nil && folded > 0 {
					t.Errorf("%d lines were folded", folded)
				}
				if rec.Broken == nil {
					t.Error("Open finds nothing")
				}
				closeLog(t, l)
				after, err := audit.Verify(s.dir, vkey)
				if err != nil || after.Err() == nil {
					t.Errorf("after an Open: %v, %v", err, after.Err())
				}
				o.Fold = nil
				l, rec = open(t, o)
				if rec.Broken != nil {
					t.Errorf("a second Open: %v", rec.Broken)
				}
				closeLog(t, l)
			}
		})
	}
}

// What is cut off together with its checkpoints shows only against a checkpoint
// that was kept elsewhere. The package comment says so; this holds it to that.
func TestKeptCheckpoint(t *testing.T) {
	base, vkey, kept := threeDays(t)
	s := scene{t, base}
	s.remove(day3 + ".jsonl")
	s.remove(day3 + ".checkpoints")
	s.lines(day2, func(l [][]byte) [][]byte { return l[:40] })
	s.checkpoints(day2, func(c [][]byte) [][]byte { return c[:1] })
	if r, err := audit.Verify(s.dir, vkey); err != nil || r.Err() != nil {
		t.Errorf("alone: %v, %v", err, r.Err())
	}
	r, err := audit.Verify(s.dir, vkey, kept)
	if err != nil || len(r.Problems) != 1 || r.Problems[0].Kind != audit.Truncated || !strings.Contains(r.Problems[0].What, "the checkpoint that was given signed 90 lines") {
		t.Errorf("against a kept checkpoint: %v, %v", err, r.Problems)
	}
	s.remove(day2 + ".jsonl")
	s.remove(day2 + ".checkpoints")
	r, err = audit.Verify(s.dir, vkey, kept)
	if err != nil || len(r.Problems) != 1 || r.Problems[0].Kind != audit.MissingFile {
		t.Errorf("with the day gone: %v, %v", err, r.Problems)
	}
	if _, err := audit.Verify(s.dir, vkey, []byte("rubbish")); err == nil {
		t.Error("rubbish passes for a checkpoint")
	}
}

func TestVerifierKey(t *testing.T) {
	dir, _, _ := threeDays(t)
	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	o := options(t.TempDir(), nil)
	o.Signer = other
	l, _ := open(t, o)
	wrong := l.VerifierKey()
	closeLog(t, l)
	if r, err := audit.Verify(dir, wrong); err != nil || r.Err() == nil {
		t.Errorf("another key verifies: %v, %v", err, r.Err())
	}
	if _, err := audit.Verify(dir, "rubbish"); err == nil {
		t.Error("rubbish passes for a key")
	}
	if _, err := audit.Verify(filepath.Join(dir, "nowhere"), ""); err == nil {
		t.Error("a missing directory verifies")
	}
	if err := os.Remove(filepath.Join(dir, "audit.pub")); err != nil {
		t.Fatal(err)
	}
	if r, err := audit.Verify(dir, ""); err != nil || r.Err() == nil {
		t.Errorf("no key verifies: %v, %v", err, r.Err())
	}

	// A new key voids what the old one signed, once; both are kept for Verify.
	o = options(dir, at(day3+"T12:00:00Z"))
	l, _ = open(t, o)
	closeLog(t, l)
	o.Signer = other
	l, rec := open(t, o)
	if rec.Broken == nil {
		t.Error("a new key goes unnoticed")
	}
	call(t, l, true)
	closeLog(t, l)
	l, rec = open(t, o)
	closeLog(t, l)
	if rec.Broken != nil {
		t.Errorf("second Open: %v", rec.Broken)
	}
	if r := verify(t, dir); r.Err() != nil && r.Problems[0].Kind != audit.RolledBack {
		t.Errorf("with both keys: %v", r.Err())
	}
}
