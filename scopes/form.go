package scopes

import (
	"fmt"
	"strings"
)

// A form knows how a provider spells one kind of id. Several spellings that a
// provider takes for one thing become one here; what has no place in the form
// is refused.
type form string

const (
	// plainForm is any text: an id with one spelling.
	plainForm form = ""
	// zoneForm is the name of a DNS zone as PowerDNS takes it. In a path it may
	// lack the last dot, be in any case and hold =XX for a byte. It is sent in
	// lower case, with the dot, and with =XX for what is not a letter, digit,
	// dot, hyphen or underscore.
	// https://doc.powerdns.com/authoritative/http-api/zone.html
	zoneForm form = "dns-zone"
)

func (f form) valid() bool { return f == plainForm || f == zoneForm }

// decode returns the canonical value that is meant by s, a decoded path
// segment.
func (f form) decode(s string) (string, error) {
	if f != zoneForm {
		return s, nil
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			out.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
			return "", fmt.Errorf("zone %q: %w: = is followed by two hexadecimal digits", s, ErrMalformed)
		}
		out.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
		i += 2
	}
	return f.canonical(out.String())
}

// encode is the inverse of decode: the one spelling that is sent in a path.
func (f form) encode(s string) string {
	if f != zoneForm {
		return s
	}
	if s == "." {
		return "=2E"
	}
	var out strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "=%02X", c)
		}
	}
	return out.String()
}

// canonical returns the one spelling of s outside a path: in a body, in a query
// and in the owner's configuration.
func (f form) canonical(s string) (string, error) {
	if f != zoneForm {
		return s, nil
	}
	if s == "." {
		return s, nil
	}
	s = strings.ToLower(strings.TrimSuffix(s, ".")) + "."
	if len(s) > 254 {
		return "", fmt.Errorf("zone %q: %w: longer than a domain name", s[:32]+"…", ErrMalformed)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("zone %q: %w: a label has 1 to 63 characters", s, ErrMalformed)
		}
		for _, c := range []byte(label) {
			// A slash occurs in classless reverse zones (RFC 2317).
			if c <= ' ' || c >= 0x7f || strings.IndexByte(`\"();@$%*=`, c) >= 0 {
				return "", fmt.Errorf("zone %q: %w: character %q", s, ErrMalformed, c)
			}
		}
	}
	return s, nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
