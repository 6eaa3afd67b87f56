package keystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Options say which keystore to open.
type Options struct {
	// Kind is which kind to use. When it is empty, Open uses the kind that the
	// home has; for a new home it tries the keyring and takes the sealed file
	// when the keyring does not work.
	Kind Kind

	// Service is the name of the collection in the keyring, such as "cred".
	// Two homes with the same name would overwrite each other's keys, so it is
	// unique to the home. It must stay the same for the home's life: the index
	// remembers it, and another one is refused. Always required, because the
	// kind may turn out to be the keyring.
	Service string

	// Dir is the state directory, where the index and the sealed file are. It
	// is made when it is missing.
	Dir string

	// Passphrase asks for the passphrase of the sealed file; isNew says that
	// the file is about to be made, so that a person should be asked twice. It
	// is called at most once by an Open, and only if the sealed file is used.
	// The passphrase is used as it is: to cut a newline off the end of a file
	// is the function's matter. Nil means that nobody can be asked.
	Passphrase func(ctx context.Context, isNew bool) (string, error)

	limits     limits // zero fields: the defaults
	workFactor int    // of scrypt; zero: age's default
	step       steps
}

func (o *Options) defaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&o.limits.probe, 10*time.Second)
	set(&o.limits.call, 30*time.Second)
	set(&o.limits.remember, time.Minute)
}

// Open opens the keystore of a home, or makes it.
//
// The first Open of a home writes into the index which kind it took. From then
// on only that kind opens: when it does not, the answer is an error that wraps
// [ErrUnavailable], [ErrLocked], [ErrDamaged] or [ErrPassphrase], never another
// store that seems empty. Asking for the other kind in Options is refused in
// the same way; keys are moved by hand.
//
// A sealed file without an index counts as a home of kind File: the file is
// made before the index. An index of kind Keyring counts whatever else there
// is: nothing of cred's makes a sealed file beside it.
//
// ctx is for Open alone. Later calls have their own time limit, half a minute.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.defaults()
	switch {
	case o.Service == "" || strings.ContainsFunc(o.Service, func(r rune) bool { return r <= ' ' || r > '~' }) || len(o.Service) > maxName:
		return nil, fmt.Errorf("%w: the name of the collection must be 1 to %d printable ASCII characters without a space", ErrUnavailable, maxName)
	case o.Kind != "" && o.Kind != Keyring && o.Kind != File:
		return nil, fmt.Errorf("%w: there is no keystore of kind %q: choose %q or %q", ErrUnavailable, o.Kind, Keyring, File)
	}
	if err := ownDir(o.Dir); err != nil {
		return nil, err
	}
	x, _, err := readIndex(o.Dir)
	if err != nil {
		return nil, err
	}
	if x == nil {
		if _, err := os.Lstat(sealedPath(o.Dir)); err == nil {
			x = &index{Version: 1, Kind: File}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	if x != nil {
		return reopen(ctx, &o, x)
	}
	return first(ctx, &o)
}

// reopen opens what the home has.
func reopen(ctx context.Context, o *Options, x *index) (*Store, error) {
	if o.Kind != "" && o.Kind != x.Kind {
		return nil, fmt.Errorf("%w: this home keeps its keys in the %s, and the %s was asked for: leave out --keystore and CRED_KEYSTORE; to change, remove every key with %q, delete %s, and run %q",
			ErrUnavailable, long(x.Kind), long(o.Kind), "cred key remove", whatToDelete(o.Dir, x.Kind), "cred init --keystore "+string(o.Kind))
	}
	if x.Kind == File {
		return theFile(ctx, o, "the sealed file %s: this home keeps its keys there")
	}
	if x.Service != o.Service {
		return nil, fmt.Errorf("%w: this home's keys are in the keyring under %q, and %q was asked for: the home was moved or copied; move it back, or delete %s and add the keys again",
			ErrUnavailable, x.Service, o.Service, indexPath(o.Dir))
	}
	k := openKeyring(o)
	within, cancel := context.WithTimeout(ctx, o.limits.call)
	defer cancel()
	if err := k.answers(within); err != nil {
		return nil, fmt.Errorf("this home's keys (%d) are in the keyring, and nowhere else is looked: %w", x.count(), err)
	}
	if x.pending() || len(temps(o.Dir)) > 0 {
		k.settleAll()
	}
	return &Store{kind: Keyring, keep: k, why: "the keyring: this home keeps its keys there"}, nil
}

// first opens the keystore of a new home.
func first(ctx context.Context, o *Options) (*Store, error) {
	if o.Kind == File {
		return theFile(ctx, o, "the sealed file %s: it was asked for")
	}
	limit, why := o.limits.probe, "the keyring: it answered"
	if o.Kind == Keyring {
		limit, why = o.limits.call, "the keyring: it was asked for, and it answered"
	}
	k := openKeyring(o)
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := k.probe(within)
	switch {
	case err == nil:
		return k.begin(ctx, o, why)
	case o.Kind == Keyring:
		return nil, err
	case ctx.Err() != nil: // the caller gave up, not the keyring
		return nil, err
	}
	s, err2 := theFile(ctx, o, "the sealed file %s: the keyring does not work here ("+strings.ReplaceAll(brief(err), "%", "%%")+")")
	if err2 != nil {
		return nil, fmt.Errorf("no keystore opens: the keyring (%s); the sealed file: %w", brief(err), err2)
	}
	return s, nil
}

// begin writes the index of a home whose keys go into the keyring.
func (k *keyringStore) begin(ctx context.Context, o *Options, why string) (*Store, error) {
	x := &index{Version: 1, Kind: Keyring, Service: o.Service}
	if err := decide(ctx, o, x); err != nil {
		return nil, err
	}
	return &Store{kind: Keyring, keep: k, why: why}, nil
}

func theFile(ctx context.Context, o *Options, why string) (*Store, error) {
	// An index without its file is not a new home: the file was lost.
	x, _, err := readIndex(o.Dir)
	if err != nil {
		return nil, err
	}
	f := &fileStore{dir: o.Dir}
	if _, err := os.Lstat(sealedPath(o.Dir)); x != nil && errors.Is(err, fs.ErrNotExist) {
		return nil, f.damaged(errors.New("it is gone"))
	}
	if f, err = openFile(ctx, o); err != nil {
		return nil, err
	}
	if x == nil {
		if err := decide(ctx, o, &index{Version: 1, Kind: File}); err != nil {
			return nil, err
		}
	}
	return &Store{kind: File, keep: f, why: fmt.Sprintf(why, sealedPath(o.Dir))}, nil
}

// decide writes the first index of a home, unless another process did so
// meanwhile; then that one counts, and a different choice is an error.
func decide(ctx context.Context, o *Options, x *index) error {
	within, cancel := context.WithTimeout(ctx, o.limits.call)
	defer cancel()
	unlock, err := lock(within, o.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	was, _, err := readIndex(o.Dir)
	switch {
	case err != nil:
		return err
	case was == nil:
		return writeIndex(o.Dir, x, o.step)
	case was.Kind != x.Kind || was.Service != x.Service:
		return fmt.Errorf("%w: another cred set this home up meanwhile, in another way: try again", ErrUnavailable)
	}
	return nil
}

// brief says what is wrong with the keyring, without what to do about it.
func brief(err error) string {
	var t *trouble
	if errors.As(err, &t) {
		return t.what
	}
	return err.Error()
}

func long(k Kind) string {
	if k == File {
		return "sealed file"
	}
	return "keyring"
}

func whatToDelete(dir string, k Kind) string {
	if k == File {
		return indexPath(dir) + " and " + sealedPath(dir)
	}
	return indexPath(dir)
}
