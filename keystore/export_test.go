package keystore

import (
	"maps"
	"time"
)

// Quick makes the passphrase cheap to try.
func (o Options) Quick() Options {
	o.workFactor = 4
	return o
}

// Stepping calls f between the steps of every write.
func (o Options) Stepping(f func(done string)) Options {
	o.step = f
	return o
}

// Within sets the times that a keyring is given.
func (o Options) Within(probe, call, remember time.Duration) Options {
	o.limits = limits{probe, call, remember}
	return o
}

// Accounts lists the names in the keyring under which the home's index expects
// something.
func Accounts(dir string) (headers, chunks []string, err error) {
	x, _, err := readIndex(dir)
	if err != nil || x == nil {
		return nil, nil, err
	}
	for item, e := range x.Items {
		headers = append(headers, account(item))
		for g, n := range maps.All(e.Generations) {
			for i := range n {
				chunks = append(chunks, chunkAccount(item, g, i))
			}
		}
	}
	return headers, chunks, nil
}

// PieceLen is how much of a value one item of a keyring holds.
const PieceLen = pieceLen

// Sum is the checksum of a sealed file.
func Sum(identity, items string) string {
	return (&container{Identity: identity, Items: items}).sum()
}

// Make is how a signer is made, by someone who has just seen that there is none.
func (s *Store) Make(name, value string) (string, error) {
	return s.keep.make(signers+name, func() string { return value })
}
