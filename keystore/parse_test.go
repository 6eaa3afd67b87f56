package keystore

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

func FuzzSplitJoin(f *testing.F) {
	f.Add("x", 0, "")
	f.Add(strings.Repeat("a", pieceLen), 0, "YQ")
	f.Add(strings.Repeat("\xff", pieceLen+1), 1, "\n")
	f.Fuzz(func(t *testing.T, value string, at int, other string) {
		if value == "" || len(value) > MaxValue {
			return
		}
		h, chunks := split(value)
		again, err := parseHeader(h.encode())
		if err != nil || again != h {
			t.Fatalf("the header does not come back: %v", err)
		}
		for _, c := range chunks {
			if len(c) > chunkLen || c == "" {
				t.Fatalf("a chunk of %d bytes", len(c))
			}
		}
		if got, err := join(h, chunks); err != nil || got != value {
			t.Fatalf("the value does not come back: %v", err)
		}
		// Any other chunk, count or order of different chunks is refused.
		i := int(uint(at) % uint(len(chunks)))
		if other != chunks[i] {
			changed := slices.Clone(chunks)
			changed[i] = other
			if _, err := join(h, changed); err == nil {
				t.Fatal("a changed chunk passes")
			}
		}
		if _, err := join(h, chunks[:i]); err == nil {
			t.Fatal("missing chunks pass")
		}
		if _, err := join(h, append(slices.Clone(chunks), other)); err == nil {
			t.Fatal("a chunk too many passes")
		}
	})
}

func FuzzHeader(f *testing.F) {
	h, _ := split("x")
	f.Add(h.encode())
	f.Add(`{"version":1,"generation":"0123456789abcdef","chunks":1,"length":1,"sha256":"","sha256":""}`)
	f.Add(`{"Version":1}`)
	f.Add(`{"version":1,"generation":"../#","chunks":1,"length":1,"sha256":""}`)
	f.Add(`{"version":1,"generation":"0123456789abcdef","chunks":99999999,"length":1,"sha256":""}`)
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHeader(text)
		if err != nil {
			return
		}
		if again, err := parseHeader(h.encode()); err != nil || again != h {
			t.Fatalf("what was accepted does not come back: %v", err)
		}
		if h.Chunks < 1 || h.Chunks > maxPiece || strings.ContainsAny(h.Generation, "#./ ") {
			t.Fatalf("accepted %+v", h)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"version":1,"kind":"file"}`))
	f.Add([]byte(`{"version":1,"kind":"keyring","service":"cred","items":{"secret/a":{"pending":true,"generations":{"0123456789abcdef":3}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseIndex(b)
		if err != nil {
			return
		}
		again, err := parseIndex(x.encode())
		if err != nil || !bytes.Equal(again.encode(), x.encode()) {
			t.Fatalf("what was accepted does not come back: %v", err)
		}
	})
}

func FuzzSealed(f *testing.F) {
	c := container{Version: 1, Note: note, Identity: "i", Items: "j"}
	c.Sum = c.sum()
	f.Add(c.encode())
	f.Add([]byte(`{"version":1,"items":{"secret/a":"aGk=","signer/b":"AAE="}}`))
	f.Add([]byte(`{"version":1,"items":{"a":""}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseContainer(b); err == nil {
			if again, err := parseContainer(c.encode()); err != nil || again != c {
				t.Fatalf("what was accepted does not come back: %v", err)
			}
		}
		if items, err := parseContents(b); err == nil {
			text, err := json.Marshal(contents{1, items})
			if err != nil {
				t.Fatal(err)
			}
			if again, err := parseContents(text); err != nil || !maps.EqualFunc(items, again, bytes.Equal) {
				t.Fatalf("what was accepted does not come back: %v", err)
			}
		}
	})
}

// Two items never share a name in the keyring, not even on Windows, which does
// not tell A from a.
func TestAccountsDiffer(t *testing.T) {
	seen := map[string]string{}
	items := []string{}
	for _, name := range []string{"a", "A", "%41", "a#0", "a#0123456789abcdef.0", "ä", "a b", "a.0", "signer/a", "secret/a"} {
		items = append(items, secrets+name, signers+name)
	}
	for _, item := range items {
		for _, a := range []string{account(item), chunkAccount(item, "0123456789abcdef", 0), chunkAccount(item, "0123456789abcdef", 1)} {
			a = strings.ToLower(a)
			if other, ok := seen[a]; ok {
				t.Errorf("%q and %q are both %q", item, other, a)
			}
			seen[a] = item
		}
	}
}

func TestLimits(t *testing.T) {
	_, chunks := split(strings.Repeat("x", MaxValue))
	if len(chunks) != maxPiece {
		t.Errorf("the longest value has %d chunks, and %d is the limit", len(chunks), maxPiece)
	}
	if reflect.TypeFor[Secret]().Comparable() {
		t.Error("secrets can be compared, in time that depends on them")
	}
}
