package keystore

import (
	"fmt"
	"log/slog"
)

// A Secret is a credential. However it is printed, logged or encoded it shows
// as [redacted]; only Reveal gives the value. The zero Secret is empty.
//
// The value sits in a closure because methods are not enough. Package fmt does
// not call them on a value in an unexported field, nor for the verb %p, and
// programs that dump values follow pointers; nothing looks into a closure.
// For the same reason two Secrets cannot be compared.
type Secret struct{ reveal func() string }

const redacted = "[redacted]"

// NewSecret makes a Secret of a value. The caller forgets the string.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{func() string { return value }}
}

// Reveal returns the value. Its one caller is the hand in package broker, which
// attaches it to a request whose log entry is on disk already. Whoever calls it
// elsewhere breaks the promise that no secret is in any output.
func (s Secret) Reveal() string { return s.value() }

// value is Reveal for the stores of this package.
func (s Secret) value() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// Empty says whether there is no value.
func (s Secret) Empty() bool { return s.reveal == nil }

// String returns [redacted], as do all methods below.
func (Secret) String() string { return redacted }

// GoString is for %#v.
func (Secret) GoString() string { return redacted }

// Format is for every verb of package fmt but %T and %p.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue is for log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is for TOML, XML and keys of maps.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON is for JSON.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalBinary is for binary encodings.
func (Secret) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }

// GobEncode is for encoding/gob.
func (Secret) GobEncode() ([]byte, error) { return []byte(redacted), nil }
