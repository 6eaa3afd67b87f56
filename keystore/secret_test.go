package keystore_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/credbroker/cred/keystore"
	json2 "github.com/go-json-experiment/json"
)

type noHash struct{}

func (noHash) HashFunc() crypto.Hash { return 0 }

const sensitive = "hunter2-hunter2"

// leaks says in which form a text holds the value of the secret.
func leaks(text string) string {
	for form, v := range map[string]string{
		"plain":   sensitive,
		"hex":     fmt.Sprintf("%x", sensitive),
		"HEX":     fmt.Sprintf("%X", sensitive),
		"base64":  "aHVudGVyMi1odW50ZXIy",
		"bytes":   strings.Trim(fmt.Sprint([]byte(sensitive)), "[]"),
		"chars":   strings.Trim(fmt.Sprintf("%q", []rune(sensitive)), "[]"),
		"goBytes": strings.Trim(fmt.Sprintf("%#v", []byte(sensitive)), "[]byte{}"),
	} {
		if strings.Contains(text, v) {
			return form
		}
	}
	return ""
}

type exported struct {
	Name string
	Key  keystore.Secret
}
type unexported struct {
	name string
	key  keystore.Secret
	ptr  *keystore.Secret
	any  any
	list []keystore.Secret
}

func TestSecretPrintsNowhere(t *testing.T) {
	s := keystore.NewSecret(sensitive)
	values := map[string]any{
		"value":      s,
		"pointer":    &s,
		"exported":   exported{"n", s},
		"unexported": unexported{"n", s, &s, s, []keystore.Secret{s}},
		"&":          &unexported{"n", s, &s, s, []keystore.Secret{s}},
		"slice":      []keystore.Secret{s},
		"array":      [1]keystore.Secret{s},
		"map":        map[string]keystore.Secret{"k": s},
		"map any":    map[string]any{"k": &s},
		"error":      fmt.Errorf("bad key %v", s),
		"joined":     errors.Join(fmt.Errorf("bad key %s", s), fmt.Errorf("%+v", &s)),
		"nested":     []any{map[string]any{"x": []*exported{{"n", s}}}},
		"reflect":    reflect.ValueOf(s),
	}
	for name, v := range values {
		for _, flags := range []string{"", "+", "#", "-40", " ", "0", "# ", "+.3", "40.10"} {
			for verb := byte('A'); verb <= 'z'; verb++ {
				format := "%" + flags + string(verb)
				if out := fmt.Sprintf(format, v); leaks(out) != "" {
					t.Errorf("%s of %s leaks (%s): %s", format, name, leaks(out), out)
				}
			}
		}
		if out := fmt.Sprint(v) + fmt.Sprintln(v); leaks(out) != "" {
			t.Errorf("Sprint of %s leaks: %s", name, out)
		}

		if b, err := json.Marshal(v); err == nil && leaks(string(b)) != "" {
			t.Errorf("json of %s leaks: %s", name, b)
		}
		if b, err := json2.Marshal(v); err == nil && leaks(string(b)) != "" {
			t.Errorf("json v2 of %s leaks: %s", name, b)
		}
		if b, err := xml.Marshal(v); err == nil && leaks(string(b)) != "" {
			t.Errorf("xml of %s leaks: %s", name, b)
		}
		var g bytes.Buffer
		if err := gob.NewEncoder(&g).Encode(v); err == nil && leaks(g.String()) != "" {
			t.Errorf("gob of %s leaks", name)
		}
		var out bytes.Buffer
		opts := &slog.HandlerOptions{Level: slog.LevelDebug}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, opts), slog.NewJSONHandler(&out, opts)} {
			l := slog.New(h).With("with", v).WithGroup("group")
			l.InfoContext(context.Background(), "message", "key", v, slog.Any("any", v), slog.Group("g", "k", v))
		}
		template.Must(template.New("").Parse(`<a href="{{.}}" onclick="f({{.}})">{{.}} {{printf "%q" .}}</a><script>{{.}}</script>`)).Execute(&out, v)
		texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{printf "%x" .}}`)).Execute(&out, v)
		if leaks(out.String()) != "" {
			t.Errorf("slog or templates of %s leak: %s", name, out.String())
		}
	}
}

// The direct forms say so, rather than nothing.
func TestSecretSaysRedacted(t *testing.T) {
	s := keystore.NewSecret(sensitive)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%e", "%08.3f", "%c", "%U"} {
		if out := fmt.Sprintf(verb, s); out != "[redacted]" {
			t.Errorf("%s: %q", verb, out)
		}
	}
	if out := fmt.Sprintf("%T", s); out != "keystore.Secret" {
		t.Errorf("%%T: %q", out)
	}
	b, err := json.Marshal(map[keystore.Kind]any{"k": exported{"n", s}})
	if err != nil || string(b) != `{"k":{"Name":"n","Key":"[redacted]"}}` {
		t.Errorf("json: %s, %v", b, err)
	}
	//lint:ignore SA9005 that there is no way to read one is the point
	if err := json.Unmarshal([]byte(`"x"`), &s); err == nil {
		t.Error("a Secret can be read from JSON: whoever saved it redacted would load it as a key")
	}
	for what, f := range map[string]func() ([]byte, error){"text": s.MarshalText, "binary": s.MarshalBinary, "gob": s.GobEncode} {
		if b, err := f(); err != nil || string(b) != "[redacted]" {
			t.Errorf("%s: %q, %v", what, b, err)
		}
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "key", s)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "key", s, "in", exported{"n", s})
	if n := strings.Count(out.String(), "[redacted]"); n != 3 {
		t.Errorf("slog says [redacted] %d times, want 3: %s", n, out.String())
	}
}

func TestSecretReveals(t *testing.T) {
	if s := keystore.NewSecret(sensitive); s.Reveal() != sensitive || s.Empty() {
		t.Error("a secret does not give back its value")
	}
	for _, s := range []keystore.Secret{{}, keystore.NewSecret("")} {
		if s.Reveal() != "" || !s.Empty() || s.String() != "[redacted]" {
			t.Error("the zero Secret is not empty")
		}
	}
}

func TestSignerPrintsNowhere(t *testing.T) {
	s := open(t, keyringOptions(t.TempDir()))
	key, err := s.Signer("lease")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if out := fmt.Sprintf(verb, key); out != "[redacted]" {
			t.Errorf("%s: %q", verb, out)
		}
	}
	if b, err := json.Marshal(key); err != nil || string(b) != `"[redacted]"` {
		t.Errorf("json: %s, %v", b, err)
	}
}
