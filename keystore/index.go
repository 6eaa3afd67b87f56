package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const indexName = "keystore.json"

// index is the file that remembers what a home's keystore is. For a keyring,
// which cannot list what it holds, it names the items too, never their values.
type index struct {
	Version int    `json:"version"`
	Kind    Kind   `json:"kind"`
	Service string `json:"service,omitzero"`
	// Items is for a keyring only. Every item that the keyring may hold is
	// named here, and every chunk of it: the index is written before the first
	// chunk of a value and after the last one is removed.
	Items map[string]entry `json:"items,omitzero"`
}

type entry struct {
	// Pending says that a write began and was not seen to end: whether the
	// item exists, and which generation counts, is for its header to say.
	Pending bool `json:"pending,omitzero"`
	// Generations says of how many chunks each generation consists.
	Generations map[string]int `json:"generations"`
}

func indexPath(dir string) string { return filepath.Join(dir, indexName) }

// readIndex returns nil, without an error, when there is no index yet.
func readIndex(dir string) (*index, fs.FileInfo, error) {
	b, info, err := readOwn(indexPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	x, err := parseIndex(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s %w: restore it from a backup; or delete it, choose the same keystore as before, and add the keys again", ErrDamaged, indexPath(dir), err)
	}
	return x, info, nil
}

func parseIndex(b []byte) (*index, error) {
	var x index
	if err := json.Unmarshal(b, &x, json.RejectUnknownMembers(true)); err != nil {
		return nil, errors.New("cannot be read")
	}
	if x.Version != 1 {
		return nil, fmt.Errorf("is of version %d, made by another cred", x.Version)
	}
	if x.Kind != Keyring && x.Kind != File {
		return nil, errors.New("names no known kind of keystore")
	}
	if x.Kind == File && (len(x.Items) > 0 || x.Service != "") {
		return nil, errors.New("contradicts itself")
	}
	for item, e := range x.Items {
		if !isItem(item) {
			return nil, errors.New("holds a name that cannot be")
		}
		for g, n := range e.Generations {
			if !isGeneration(g) || n < 1 || n > maxPiece {
				return nil, errors.New("holds a count that cannot be")
			}
		}
	}
	return &x, nil
}

// isItem says whether a name is one that a Store makes.
func isItem(item string) bool {
	name, isSecret := strings.CutPrefix(item, secrets)
	if !isSecret {
		var isSigner bool
		if name, isSigner = strings.CutPrefix(item, signers); !isSigner {
			return false
		}
	}
	return checkName(name) == nil
}

func (x *index) encode() []byte {
	b, err := json.Marshal(x, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		panic("keystore: an index does not encode") // names are UTF-8 by checkName: cannot happen
	}
	return append(b, '\n')
}

func writeIndex(dir string, x *index, s steps) error {
	return writeOwn(indexPath(dir), x.encode(), s)
}

// count says how many secrets an index names, for messages.
func (x *index) count() int {
	n := 0
	for item := range x.Items {
		if strings.HasPrefix(item, secrets) {
			n++
		}
	}
	return n
}

// pending says whether a write was not seen to end.
func (x *index) pending() bool {
	for _, e := range x.Items {
		if e.Pending {
			return true
		}
	}
	return false
}
