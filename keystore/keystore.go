// Package keystore keeps the owner's root keys.
//
// It keeps them in the keyring of the operating system, or, where there is
// none, in one file that is sealed to a passphrase of the owner's. Its laws:
//
//  1. A secret has one way out, [Secret.Reveal]. Printed, logged or encoded in
//     any other way it is the word [redacted]; no error of this package holds
//     a secret.
//  2. A store never seems empty because its keys are elsewhere. The first Open
//     writes down which kind of keystore the home has; from then on the other
//     kind is refused, and a keystore that does not answer is an error.
//  3. A write is whole or has not happened. Whatever the moment of a crash, the
//     next reader finds the value before or the value after.
//  4. What was altered is refused, not repaired by guesswork.
//  5. No call waits for ever, not even for a person who does not answer the
//     keyring's prompt.
//  6. Every error says what to do next.
//
// keyring.go and chunks.go keep the third law for the keyring, file.go for the
// sealed file, open.go keeps the second.
package keystore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// Kind says where secrets are kept.
type Kind string

const (
	// Keyring is the operating system's: Keychain, Credential Manager, or the
	// Secret Service (GNOME Keyring, KWallet, KeePassXC).
	Keyring Kind = "keyring"
	// File is one file, sealed with age to a passphrase of the owner's.
	File Kind = "file"
)

var (
	// ErrNotFound reports that the store works and has nothing of that name.
	// A caller tells the owner how to add it; asking again does not help.
	ErrNotFound = errors.New("not found")

	// ErrLocked reports that the keystore is there and does not open now: its
	// keyring waits for the owner's password, or somebody else is writing. A
	// caller shows the message, which says how to unlock, and may try again.
	ErrLocked = errors.New("the keystore is locked")

	// ErrUnavailable reports that the keystore that holds the keys cannot be
	// reached at all, or is not the one that was asked for. A caller shows the
	// message and stops; it must not carry on with another, empty keystore.
	ErrUnavailable = errors.New("the keystore is not available")

	// ErrDamaged reports that what is kept has been altered, cut short or lost
	// in part. A caller shows the message, which names what is damaged and how
	// to replace it; asking again does not help.
	ErrDamaged = errors.New("the keystore is damaged")

	// ErrPassphrase reports that the passphrase of the sealed file is wrong,
	// empty, or could not be asked for. A caller may ask the owner and call
	// Open again.
	ErrPassphrase = errors.New("the passphrase does not open the keystore")
)

// MaxValue is the greatest length of a secret, in bytes. No credential that we
// know comes near it; a file given by mistake for a key does.
const MaxValue = 64 << 10

// maxName keeps the names of items within what every keyring accepts once they
// are escaped.
const maxName = 128

// A Store is an open keystore. It may be used by several goroutines, and
// several processes may have the same one open: writers take turns, and a
// reader sees what another process wrote. The zero Store refuses everything.
type Store struct {
	kind   Kind
	why    string
	keep   backend
	closed atomic.Bool
}

// backend is what the two kinds of keystore have in common: items, each put,
// read and removed whole. An item is a name with its namespace in front.
type backend interface {
	// get returns ErrNotFound when there is no such item.
	get(item string) (string, error)
	// put replaces the item or makes it.
	put(item, value string) error
	// make puts what fresh returns unless the item is there, and returns what
	// is there in the end, so that two processes that make it agree.
	make(item string, fresh func() string) (string, error)
	// remove returns ErrNotFound when there is no such item.
	remove(item string) error
	// items returns the names of all items, in no order.
	items() ([]string, error)
	// close forgets what is held in memory.
	close() error
}

// The namespaces. A signer and a secret may have the same name.
const (
	secrets = "secret/"
	signers = "signer/"
)

// Kind says which kind of keystore this is.
func (s *Store) Kind() Kind { return s.kind }

// Why says in one lower-case sentence which keystore this is and why.
func (s *Store) Why() string { return s.why }

// Secret returns the secret of that name, or an error that wraps
// [ErrNotFound], [ErrLocked], [ErrUnavailable] or [ErrDamaged].
func (s *Store) Secret(name string) (Secret, error) {
	if err := s.check(name); err != nil {
		return Secret{}, err
	}
	v, err := s.keep.get(secrets + name)
	if err != nil {
		return Secret{}, err
	}
	return NewSecret(v), nil
}

// Put keeps a secret under a name, in place of the one that was there. When it
// returns an error the former value is still in place; after [ErrLocked] the
// new one may yet replace it, when the prompt that was waited for is answered.
// A value is 1 to [MaxValue] bytes, of any kind but NUL, which no
// credential has and which would end a string elsewhere.
func (s *Store) Put(name string, v Secret) error {
	if err := s.check(name); err != nil {
		return err
	}
	switch value := v.value(); {
	case value == "":
		return fmt.Errorf("the value for %q is empty: give the credential as the provider printed it", name)
	case len(value) > MaxValue:
		return fmt.Errorf("the value for %q is %d bytes long and the limit is %d: give the credential alone, not the file around it", name, len(value), MaxValue)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value for %q contains a NUL byte: give the credential as text", name)
	default:
		return s.keep.put(secrets+name, value)
	}
}

// Remove forgets a secret. It returns an error that wraps [ErrNotFound] when
// there is none of that name.
func (s *Store) Remove(name string) error {
	if err := s.check(name); err != nil {
		return err
	}
	return s.keep.remove(secrets + name)
}

// Names returns the names of all secrets, sorted. Signers are not among them.
func (s *Store) Names() ([]string, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	items, err := s.keep.items()
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, item := range items {
		if name, ok := strings.CutPrefix(item, secrets); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Close forgets what the store holds in memory. A closed store refuses
// everything; closing it again does nothing.
func (s *Store) Close() error {
	if s == nil || s.keep == nil || s.closed.Swap(true) {
		return nil
	}
	return s.keep.close()
}

func (s *Store) open() error {
	switch {
	case s == nil || s.keep == nil:
		return fmt.Errorf("%w: it was never opened", ErrUnavailable)
	case s.closed.Load():
		return fmt.Errorf("%w: it was closed", ErrUnavailable)
	}
	return nil
}

func (s *Store) check(name string) error {
	if err := s.open(); err != nil {
		return err
	}
	return checkName(name)
}

// checkName refuses names that a terminal would show as something else. Which
// names make sense is the caller's matter.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty: give the name of a provider")
	case len(name) > maxName:
		return fmt.Errorf("the name is %d bytes long and the limit is %d: choose a shorter one", len(name), maxName)
	case !utf8.ValidString(name):
		return errors.New("the name is not UTF-8: choose another")
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("the name %q begins or ends with a space: leave it out", name)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("the name %q contains a character that does not print: leave it out", name)
	}
	return nil
}

// again is the advice for a damaged or missing item.
func again(item string) string {
	if name, ok := strings.CutPrefix(item, secrets); ok {
		return fmt.Sprintf("run %q again", "cred key add "+name)
	}
	return "a new signing key is made once the old one is deleted, and what it signed counts no longer"
}

// shown is the name of an item in a message.
func shown(item string) string {
	if name, ok := strings.CutPrefix(item, secrets); ok {
		return fmt.Sprintf("secret %q", name)
	}
	return fmt.Sprintf("signing key %q", strings.TrimPrefix(item, signers))
}

func notFound(item string) error {
	if name, ok := strings.CutPrefix(item, secrets); ok {
		return fmt.Errorf("secret %q %w: add it with %q", name, ErrNotFound, "cred key add "+name)
	}
	return fmt.Errorf("%s %w", shown(item), ErrNotFound)
}
