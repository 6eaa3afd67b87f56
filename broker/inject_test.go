package broker

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

type oneKey string

func (k oneKey) Secret(string) (keystore.Secret, error) {
	if k == "" {
		return keystore.Secret{}, keystore.ErrNotFound
	}
	return keystore.NewSecret(string(k)), nil
}

// TestAttach holds that a key goes where its provider wants it, and nowhere
// else.
func TestAttach(t *testing.T) {
	const key = "root/key+with=signs&more"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("api:"+key))
	for _, tt := range []struct {
		auth          scopes.Auth
		header, value string
		query         string
	}{
		{scopes.Auth{Type: scopes.Bearer}, "Authorization", "Bearer " + key, "a=1"},
		{scopes.Auth{Type: scopes.Header, In: "x-api-key"}, "X-Api-Key", key, "a=1"},
		{scopes.Auth{Type: scopes.Basic, User: "api"}, "Authorization", basic, "a=1"},
		{scopes.Auth{Type: scopes.Query, In: "key"}, "", "", "a=1&key=root%2Fkey%2Bwith%3Dsigns%26more"},
	} {
		out, _ := http.NewRequest("GET", "https://provider.test/x?a=1", nil)
		mask, err := hand{keys: oneKey(key)}.attach(out, "x", tt.auth)
		if err != nil {
			t.Fatal(err)
		}
		want := http.Header{}
		if tt.header != "" {
			want.Set(tt.header, tt.value)
		}
		if len(out.Header) != len(want) || out.Header.Get(tt.header) != tt.value && tt.header != "" || out.URL.RawQuery != tt.query {
			t.Errorf("%s: got %v %s", tt.auth.Type, out.Header, out.URL)
		}
		for _, v := range []string{key, tt.value, tt.query} {
			if strings.Contains(mask.text(v), "key+with") || strings.Contains(mask.text(v), "%2Bwith") {
				t.Errorf("%s: %q is masked as %q", tt.auth.Type, v, mask.text(v))
			}
		}
	}
	out, _ := http.NewRequest("GET", "https://provider.test/", nil)
	for _, k := range []oneKey{"", "short", oneKey(strings.Repeat("x", maxKey+1))} {
		if _, err := (hand{keys: k}).attach(out, "x", scopes.Auth{Type: scopes.Bearer}); err == nil || len(out.Header) > 0 {
			t.Errorf("a key of %d bytes was attached: %v", len(k), out.Header)
		}
	}
	if _, err := (hand{keys: oneKey(key)}).attach(out, "x", scopes.Auth{}); err == nil || len(out.Header) > 0 {
		t.Error("the zero way to attach a key attached it")
	}
}

// TestSendNeedsTheLog holds that nothing goes out without an entry in the log.
func TestSendNeedsTheLog(t *testing.T) {
	h := hand{keys: oneKey("root-key-1234"), upstream: failing{t}}
	if _, err := h.send(t.Context(), scopes.Call{Method: "GET", Path: "/"}, upstream{}, nil); err == nil {
		t.Error("a call without an entry was sent")
	}
}

type failing struct{ t *testing.T }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) {
	f.t.Error("something was sent")
	return nil, errors.New("no")
}

// TestMaskStreams holds that a key is masked wherever the reads cut it, that
// everything else passes, and that lengths stay true.
func TestMaskStreams(t *testing.T) {
	const key = "canary-5d2f8a91c0"
	m := newMask(key)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var in, want bytes.Buffer
		for range rnd.IntN(40) {
			filler := strings.Repeat("canary-5", rnd.IntN(3)) + strings.Repeat("x", rnd.IntN(50000))
			in.WriteString(filler)
			want.WriteString(filler)
			in.WriteString(key)
			want.WriteString(strings.Repeat("*", len(key)))
		}
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(in.Bytes()), "halves": iotest.HalfReader(bytes.NewReader(in.Bytes())), "data with EOF": iotest.DataErrReader(bytes.NewReader(in.Bytes())),
		} {
			mr := m.reader(io.NopCloser(r))
			got, err := io.ReadAll(mr)
			if err != nil || !bytes.Equal(got, want.Bytes()) {
				t.Fatalf("%s: %d bytes in, %d out, %v", name, in.Len(), len(got), err)
			}
			if err := mr.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := mr.Read(make([]byte, 1)); err == nil {
				t.Fatal("read after close")
			}
		}
	}
	if got, err := io.ReadAll(m.reader(io.NopCloser(iotest.OneByteReader(strings.NewReader("<" + key + ">"))))); err != nil || string(got) != "<"+strings.Repeat("*", len(key))+">" {
		t.Errorf("byte by byte: %q %v", got, err)
	}
	if _, err := io.ReadAll(m.reader(io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)))); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v", err)
	}
}

// TestMaskDoesNotHoldBack holds that an event arrives when it happens.
func TestMaskDoesNotHoldBack(t *testing.T) {
	r, w := io.Pipe()
	go func() { io.WriteString(w, "data: event\n\n") }()
	got := make([]byte, 64)
	if n, err := newMask("canary-5d2f8a91c0").reader(r).Read(got); err != nil || string(got[:n]) != "data: event\n\n" {
		t.Errorf("got %q %v", got[:n], err)
	}
}

// FuzzMask holds that what comes out never holds the key, is as long as what
// went in, and is the same whether it comes whole or in pieces.
func FuzzMask(f *testing.F) {
	const key = "aabaabaac-key"
	f.Add([]byte("xx"+key+key[:5]+key), 3)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		m := newMask(key)
		whole, err := io.ReadAll(m.reader(io.NopCloser(bytes.NewReader(data))))
		if err != nil || len(whole) != len(data) || bytes.Contains(whole, []byte(key)) {
			t.Fatalf("%q -> %q %v", data, whole, err)
		}
		pieces, err := io.ReadAll(m.reader(io.NopCloser(iotest.OneByteReader(bytes.NewReader(data)))))
		if err != nil || len(pieces) != len(data) || bytes.Contains(pieces, []byte(key)) {
			t.Fatalf("in pieces: %q -> %q %v", data, pieces, err)
		}
	})
}
