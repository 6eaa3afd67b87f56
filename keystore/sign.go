package keystore

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Signer returns the Ed25519 signing key of that name. It is made on first
// use and kept in the store; two processes that make it at once get the same.
// The key itself stays here: the Signer signs and shows its public half
// (an [ed25519.PublicKey]), and prints as [redacted].
func (s *Store) Signer(name string) (crypto.Signer, error) {
	if err := s.check(name); err != nil {
		return nil, err
	}
	item := signers + name
	seed, err := s.keep.get(item)
	if errors.Is(err, ErrNotFound) {
		seed, err = s.keep.make(item, freshSeed)
	}
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: %s is %d bytes long, not %d: %s", ErrDamaged, shown(item), len(seed), ed25519.SeedSize, again(item))
	}
	key := ed25519.NewKeyFromSeed([]byte(seed))
	return signer{func() ed25519.PrivateKey { return key }}, nil
}

func freshSeed() string {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails: it ends the program instead
	return string(seed)
}

// signer hides the private key as Secret hides its value: it is not an
// ed25519.PrivateKey, so that nobody takes the key out of the interface.
type signer struct{ key func() ed25519.PrivateKey }

func (s signer) Public() crypto.PublicKey { return s.key().Public() }

func (s signer) Sign(r io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.key().Sign(r, message, opts)
}

func (signer) String() string               { return redacted }
func (signer) GoString() string             { return redacted }
func (signer) Format(f fmt.State, _ rune)   { fmt.Fprint(f, redacted) }
func (signer) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (signer) MarshalText() ([]byte, error) { return []byte(redacted), nil }
