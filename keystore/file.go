package keystore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const sealedName = "keystore.sealed.json"

// fileStore keeps items in one sealed file.
//
// Sealing to a passphrase takes about a second, on purpose. So the passphrase
// seals a random age identity, once, and that identity seals the items on every
// write. Both parts are in the one file, which is replaced whole (writeOwn): a
// crash leaves the file before or the file after. The owner needs no cred to
// read it:
//
//	jq -r .identity keystore.sealed.json | age -d >id
//	jq -r .items keystore.sealed.json | age -d -i id
//
// The identity's public half is kept nowhere in the clear, so who can write the
// file but does not know the passphrase cannot seal items of his own; he can
// put back an older copy of the file, which no file alone can prevent.
type fileStore struct {
	dir      string
	step     steps
	wait     time.Duration // for a turn to write
	identity *age.HybridIdentity
	sealed   string // the identity as the file has it: the same for the file's life
	now      atomic.Pointer[snapshot]
}

// snapshot is the content of the file as of one version of it.
type snapshot struct {
	as    stamp
	items map[string][]byte
}

// container is the outside of the file.
type container struct {
	Version  int    `json:"version"`
	Note     string `json:"note"`
	Identity string `json:"identity"` // armored, sealed to the passphrase
	Items    string `json:"items"`    // armored, sealed to the identity
	// Sum is a checksum of the two. It tells a file that was cut or edited from
	// a wrong passphrase; against people who edit on purpose there is the seal.
	Sum string `json:"sum"`
}

// contents is the inside.
type contents struct {
	Version int               `json:"version"`
	Items   map[string][]byte `json:"items"`
}

const note = "root keys kept by cred, sealed with age"

func sealedPath(dir string) string { return filepath.Join(dir, sealedName) }

// maxWork refuses a file whose passphrase takes over four times the usual work
// and a gigabyte to try: cred never makes one.
const maxWork = 20

// openFile opens the sealed file or makes it. It asks for the passphrase before
// it takes its turn to write, because people take their time.
func openFile(ctx context.Context, o *Options) (*fileStore, error) {
	f := &fileStore{dir: o.Dir, step: o.step, wait: o.limits.call}
	b, info, err := readOwn(sealedPath(o.Dir))
	isNew := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isNew {
		return nil, err
	}
	var c container
	if !isNew {
		if c, err = parseContainer(b); err != nil {
			return nil, f.damaged(err)
		}
	}
	passphrase, err := o.ask(ctx, isNew)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, o.limits.call)
	defer cancel()
	unlock, err := lock(waiting, o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if isNew {
		b, info, err = readOwn(sealedPath(o.Dir))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return f, f.create(passphrase, o.workFactor)
		case err != nil:
			return nil, err
		}
		// Another process made it meanwhile: open that one.
		if c, err = parseContainer(b); err != nil {
			return nil, f.damaged(err)
		}
	}
	if err := f.unseal(c, passphrase); err != nil {
		return nil, err
	}
	items, err := f.decrypt(c)
	if err != nil {
		return nil, err
	}
	f.now.Store(&snapshot{stampOf(info), items})
	return f, nil
}

// unasked is an [ErrPassphrase] whose text is that of what went wrong when the
// passphrase was asked for: there is none yet that could not open anything.
type unasked struct{ why error }

func (e *unasked) Error() string   { return e.why.Error() }
func (e *unasked) Unwrap() []error { return []error{ErrPassphrase, e.why} }

// ask asks for the passphrase, once.
func (o *Options) ask(ctx context.Context, isNew bool) (string, error) {
	if o.Passphrase == nil {
		return "", fmt.Errorf("%w: the sealed file %s needs a passphrase and nobody can be asked: run cred in a terminal, or set CRED_PASSPHRASE_FILE", ErrPassphrase, sealedPath(o.Dir))
	}
	p, err := o.Passphrase(ctx, isNew)
	if err != nil {
		return "", &unasked{err}
	}
	if p == "" {
		return "", fmt.Errorf("%w: it is empty: give one of several words", ErrPassphrase)
	}
	return p, nil
}

func (f *fileStore) create(passphrase string, workFactor int) error {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return fmt.Errorf("%w: making a key: %w", ErrUnavailable, err)
	}
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPassphrase, err)
	}
	if workFactor > 0 {
		r.SetWorkFactor(workFactor)
	}
	f.identity = id
	if f.sealed, err = seal([]byte(id.String()+"\n"), r); err != nil {
		return err
	}
	return f.save(map[string][]byte{})
}

func (f *fileStore) unseal(c container, passphrase string) error {
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPassphrase, err)
	}
	id.SetMaxWorkFactor(maxWork)
	text, err := unseal(c.Identity, id)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return fmt.Errorf("%w: %s: try again; without the passphrase nobody can open it", ErrPassphrase, sealedPath(f.dir))
	}
	if err != nil {
		return f.damaged(errors.New("its identity cannot be opened"))
	}
	if f.identity, err = age.ParseHybridIdentity(strings.TrimSpace(string(text))); err != nil {
		return f.damaged(errors.New("its identity is garbled"))
	}
	f.sealed = c.Identity
	return nil
}

// decrypt opens the items of a file whose identity is ours.
func (f *fileStore) decrypt(c container) (map[string][]byte, error) {
	if c.Identity != f.sealed {
		return nil, fmt.Errorf("%w: %s was replaced by another keystore since it was opened: start cred again", ErrUnavailable, sealedPath(f.dir))
	}
	text, err := unseal(c.Items, f.identity)
	if err != nil {
		return nil, f.damaged(errors.New("its items cannot be opened"))
	}
	items, err := parseContents(text)
	if err != nil {
		return nil, f.damaged(err)
	}
	return items, nil
}

func (f *fileStore) damaged(cause error) error {
	return fmt.Errorf("%w: %s: %w: restore it from a backup; or move it and %s away, run %q, and add the keys again", ErrDamaged, sealedPath(f.dir), cause, indexName, "cred init --keystore file")
}

// load returns the items as they are on disk now. It reads the file only when
// it has changed.
func (f *fileStore) load() (map[string][]byte, error) {
	as, err := stat(sealedPath(f.dir))
	if err != nil {
		return nil, err
	}
	if s := f.now.Load(); s != nil && s.as.same(as) {
		return s.items, nil
	}
	return f.reload()
}

func (f *fileStore) reload() (map[string][]byte, error) {
	b, info, err := readOwn(sealedPath(f.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, f.damaged(errors.New("it is gone"))
	}
	if err != nil {
		return nil, err
	}
	c, err := parseContainer(b)
	if err != nil {
		return nil, f.damaged(err)
	}
	items, err := f.decrypt(c)
	if err != nil {
		return nil, err
	}
	f.now.Store(&snapshot{stampOf(info), items})
	return items, nil
}

// save writes the file. The snapshot is dropped, not set: the next load reads
// what is really there.
func (f *fileStore) save(items map[string][]byte) error {
	inside, err := json.Marshal(contents{Version: 1, Items: items}, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("%w: a name does not encode: choose another", ErrUnavailable)
	}
	sealed, err := seal(inside, f.identity.Recipient())
	if err != nil {
		return err
	}
	c := container{Version: 1, Note: note, Identity: f.sealed, Items: sealed}
	c.Sum = c.sum()
	defer f.now.Store(nil)
	return writeOwn(sealedPath(f.dir), c.encode(), f.step)
}

// change runs one change alone among all writers of this directory, on the
// items as they are on disk, so that no update is lost.
func (f *fileStore) change(do func(items map[string][]byte) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), f.wait)
	defer cancel()
	unlock, err := lock(ctx, f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	items, err := f.reload()
	if err != nil {
		return err
	}
	items = maps.Clone(items) // readers have the other
	if err := do(items); err != nil {
		return err
	}
	return f.save(items)
}

func (f *fileStore) get(item string) (string, error) {
	items, err := f.load()
	if err != nil {
		return "", err
	}
	v, ok := items[item]
	if !ok {
		return "", notFound(item)
	}
	return string(v), nil
}

func (f *fileStore) put(item, value string) error {
	return f.change(func(items map[string][]byte) error {
		items[item] = []byte(value)
		return nil
	})
}

func (f *fileStore) make(item string, fresh func() string) (value string, err error) {
	errThere := errors.New("it is there")
	err = f.change(func(items map[string][]byte) error {
		if v, ok := items[item]; ok {
			value = string(v)
			return errThere
		}
		value = fresh()
		items[item] = []byte(value)
		return nil
	})
	if err != nil && err != errThere {
		return "", err
	}
	return value, nil
}

func (f *fileStore) remove(item string) error {
	return f.change(func(items map[string][]byte) error {
		if _, ok := items[item]; !ok {
			return notFound(item)
		}
		delete(items, item)
		return nil
	})
}

func (f *fileStore) items() ([]string, error) {
	items, err := f.load()
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(items)), nil
}

func (f *fileStore) close() error {
	f.now.Store(nil)
	return nil
}

func (c *container) sum() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q%q", c.Identity, c.Items)
	return hex.EncodeToString(h.Sum(nil))
}

func (c *container) encode() []byte {
	b, err := json.Marshal(c, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		panic("keystore: a container does not encode") // ASCII throughout: cannot happen
	}
	return append(b, '\n')
}

func parseContainer(b []byte) (container, error) {
	var c container
	if err := json.Unmarshal(b, &c, json.RejectUnknownMembers(true)); err != nil {
		return container{}, errors.New("it is cut short or was edited")
	}
	if c.Version != 1 {
		return container{}, fmt.Errorf("it is of version %d, made by another cred", c.Version)
	}
	if c.Sum != c.sum() {
		return container{}, errors.New("it was edited: its checksum does not match")
	}
	return c, nil
}

func parseContents(b []byte) (map[string][]byte, error) {
	var in contents
	if err := json.Unmarshal(b, &in, json.RejectUnknownMembers(true)); err != nil {
		return nil, errors.New("its items are garbled") // the decoder's error may quote them
	}
	if in.Version != 1 {
		return nil, fmt.Errorf("its items are of version %d, made by another cred", in.Version)
	}
	for item, v := range in.Items {
		if !isItem(item) || len(v) == 0 || len(v) > MaxValue {
			return nil, errors.New("it holds an item that cannot be")
		}
	}
	if in.Items == nil {
		in.Items = map[string][]byte{}
	}
	return in.Items, nil
}

func seal(plain []byte, to age.Recipient) (string, error) {
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, to)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = errors.Join(w.Close(), a.Close())
	}
	if err != nil {
		return "", fmt.Errorf("%w: sealing: %w", ErrUnavailable, err)
	}
	return out.String(), nil
}

func unseal(armored string, with age.Identity) ([]byte, error) {
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(armored)), with)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
