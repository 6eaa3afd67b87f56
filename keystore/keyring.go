package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zalando/go-keyring"
)

// keyringStore keeps items in the operating system's keyring.
//
// A value is several items of the keyring (chunks.go), which has no
// transactions and cannot list. A put therefore goes
//
//	index     names the item, the old generation and the new; pending
//	chunks    of the new generation, each read back
//	header    points at the new generation: the value is replaced here
//	chunks    of the old generation are removed
//	index     names the new generation only
//
// and a removal
//
//	index     pending
//	header    is removed: the item is gone here
//	chunks    are removed
//	index     forgets the item
//
// A crash leaves, before the header step, the old value and chunks nobody
// points at; after it, the new value and the same. The index still names those
// chunks, so the next write of the item, or the next Open, removes them. The
// other order, the keyring before the index, could leave a root key in the
// keyring that no list of cred's shows and no command removes.
//
// An index that was lost or replaced costs names, never a value: a header is
// found by the name of its item alone.
type keyringStore struct {
	dir, service string
	limits       limits
	step         steps

	// turn is held during each call of the keyring, by the goroutine that
	// makes the call and until it returns. A call that was given up thus
	// cannot take effect after a later one.
	turn chan struct{}

	mu   sync.Mutex // never held over I/O
	read map[string]remembered
}

// limits are the times that the keyring is given.
type limits struct {
	probe    time.Duration // to prove that it works, when it may be another kind instead
	call     time.Duration // for one whole get, put or remove; a person may have to type a password
	remember time.Duration // how long a value is served from memory
}

// remembered is a value that was read lately. The keyring takes milliseconds
// to answer and the relay asks on every request. It counts until some cred
// writes the index, which each of them does on every change, and in any case
// not for long: who locks the keyring means it.
type remembered struct {
	value string
	as    stamp
	until time.Time
}

func openKeyring(o *Options) *keyringStore {
	return &keyringStore{
		dir: o.Dir, service: o.Service, limits: o.limits, step: o.step,
		turn: make(chan struct{}, 1),
		read: map[string]remembered{},
	}
}

// probe proves by a throwaway item that the keyring keeps what it is given.
func (k *keyringStore) probe(ctx context.Context) error {
	h, chunks := split("cred was here")
	name := "probe-" + h.Generation
	if err := k.set(ctx, name, chunks[0]); err != nil {
		return err
	}
	// What was set is deleted whatever the answer to get.
	got, err := k.fetch(ctx, name)
	if errors.Is(err, keyring.ErrNotFound) {
		err = nil
	}
	if err2 := k.delete(ctx, name); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	if got != chunks[0] {
		return errForgets()
	}
	return nil
}

// answers proves that a keyring which has kept keys before is there and open,
// at the price of one call.
func (k *keyringStore) answers(ctx context.Context) error {
	if _, err := k.fetch(ctx, "probe"); err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return err
	}
	return nil
}

func (k *keyringStore) get(item string) (string, error) {
	now, err := stat(indexPath(k.dir))
	if err != nil {
		return "", err
	}
	k.mu.Lock()
	r, ok := k.read[item]
	k.mu.Unlock()
	if ok && r.as.same(now) && time.Now().Before(r.until) {
		return r.value, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.limits.call)
	defer cancel()
	value, err := k.load(ctx, item)
	if err != nil {
		return "", err
	}
	// While a write is under way the index does not tell the value before from
	// the value after, so neither is remembered.
	x, as, err := readIndex(k.dir)
	if err == nil && x != nil && !x.Items[item].Pending && now.same(stampOf(as)) {
		k.mu.Lock()
		k.read[item] = remembered{value, now, time.Now().Add(k.limits.remember)}
		k.mu.Unlock()
	}
	return value, nil
}

// load reads a value. A writer may replace it meanwhile; then the chunks are
// gone, the header is another, and load begins again.
func (k *keyringStore) load(ctx context.Context, item string) (string, error) {
	var before header
	for {
		h, err := k.header(ctx, item)
		if err != nil {
			return "", err
		}
		value, err := k.chunks(ctx, item, h)
		switch {
		case err == nil:
			return value, nil
		case errors.Is(err, ErrDamaged) && h != before:
			before = h // look once more before calling it damaged
		default:
			return "", err
		}
	}
}

func (k *keyringStore) chunks(ctx context.Context, item string, h header) (string, error) {
	chunks := make([]string, h.Chunks)
	for i := range chunks {
		var err error
		chunks[i], err = k.fetch(ctx, chunkAccount(item, h.Generation, i))
		if errors.Is(err, keyring.ErrNotFound) {
			return "", &damage{item, fmt.Errorf("chunk %d of %d is missing", i+1, h.Chunks)}
		}
		if err != nil {
			return "", err
		}
	}
	value, err := join(h, chunks)
	if err != nil {
		return "", &damage{item, err}
	}
	return value, nil
}

// header returns ErrNotFound when there is no item, a *damage when its header
// cannot be read.
func (k *keyringStore) header(ctx context.Context, item string) (header, error) {
	text, err := k.fetch(ctx, account(item))
	if errors.Is(err, keyring.ErrNotFound) {
		return header{}, notFound(item)
	}
	if err != nil {
		return header{}, err
	}
	h, err := parseHeader(text)
	if err != nil {
		return header{}, &damage{item, err}
	}
	return h, nil
}

// damage is ErrDamaged with the name of what is damaged.
type damage struct {
	item  string
	cause error
}

func (d *damage) Error() string {
	return fmt.Sprintf("%s is damaged in the keyring (%s): %s", shown(d.item), d.cause, again(d.item))
}
func (d *damage) Unwrap() error { return ErrDamaged }

func (k *keyringStore) put(item, value string) error {
	return k.write(func(ctx context.Context, x *index) error {
		return k.replace(ctx, x, item, value)
	})
}

func (k *keyringStore) make(item string, fresh func() string) (value string, err error) {
	err = k.write(func(ctx context.Context, x *index) error {
		value, err = k.load(ctx, item)
		if errors.Is(err, ErrNotFound) {
			value = fresh()
			err = k.replace(ctx, x, item, value)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return value, nil
}

func (k *keyringStore) replace(ctx context.Context, x *index, item, value string) error {
	e, err := k.entry(ctx, x, item)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	h, chunks := split(value)
	e.Pending = true
	e.Generations[h.Generation] = h.Chunks
	x.Items[item] = e
	if err := writeIndex(k.dir, x, k.step); err != nil {
		return err
	}
	k.step.done("intent written")
	for i, c := range chunks {
		name := chunkAccount(item, h.Generation, i)
		if err := k.set(ctx, name, c); err != nil {
			return err
		}
		// "security" of macOS reports success for some writes that it refused.
		got, err := k.fetch(ctx, name)
		if errors.Is(err, keyring.ErrNotFound) {
			err = nil
		}
		if err != nil || got != c {
			return cmp.Or(err, errForgets())
		}
		k.step.done("chunk written")
	}
	if err := k.set(ctx, account(item), h.encode()); err != nil {
		return err
	}
	k.step.done("header written")
	k.forget(item)
	// The value is in place. What fails from here on is left to the next write
	// or Open, and is no reason to tell the owner that the key was not kept.
	_ = k.settle(ctx, x, item)
	return nil
}

func (k *keyringStore) remove(item string) error {
	return k.write(func(ctx context.Context, x *index) error {
		e, err := k.entry(ctx, x, item)
		if err != nil {
			return err
		}
		e.Pending = true
		x.Items[item] = e
		if err := writeIndex(k.dir, x, k.step); err != nil {
			return err
		}
		k.step.done("intent written")
		if err := k.delete(ctx, account(item)); err != nil {
			return err
		}
		k.step.done("header removed")
		k.forget(item)
		if err := k.settle(ctx, x, item); err != nil {
			return fmt.Errorf("%s is removed, but pieces of it are still in the keyring: repeat the command to clear them: %w", shown(item), err)
		}
		return nil
	})
}

// entry says which generations of an item there may be, by the index and by
// the header, which the index may have lost. It returns ErrNotFound when
// neither knows the item, and a usable entry with it. A header that cannot be
// read is no error: replacing or removing the item is what mends it.
func (k *keyringStore) entry(ctx context.Context, x *index, item string) (entry, error) {
	e := entry{Generations: map[string]int{}}
	known, inIndex := x.Items[item]
	maps.Copy(e.Generations, known.Generations)
	h, err := k.header(ctx, item)
	switch {
	case err == nil:
		e.Generations[h.Generation] = h.Chunks
	case errors.Is(err, ErrDamaged):
	case errors.Is(err, ErrNotFound) && inIndex: // chunks may be left
	default:
		return e, err
	}
	return e, nil
}

// settle ends a write, or what is left of one: it removes the chunks to which
// no header points and then writes the index without them.
func (k *keyringStore) settle(ctx context.Context, x *index, item string) error {
	h, err := k.header(ctx, item)
	gone := errors.Is(err, ErrNotFound)
	if err != nil && !gone {
		return err // a damaged header may yet be restored: its chunks stay
	}
	e := x.Items[item]
	for g, n := range e.Generations {
		if g == h.Generation {
			continue
		}
		for i := range n {
			if err := k.delete(ctx, chunkAccount(item, g, i)); err != nil {
				return err
			}
			k.step.done("old chunk removed")
		}
	}
	if gone {
		delete(x.Items, item)
	} else {
		x.Items[item] = entry{Generations: map[string]int{h.Generation: h.Chunks}}
	}
	return writeIndex(k.dir, x, k.step)
}

// settleAll ends what a crash left unfinished. It does what it can: whatever
// remains is pending still.
func (k *keyringStore) settleAll() {
	_ = k.write(func(ctx context.Context, x *index) error {
		for item, e := range x.Items {
			if e.Pending {
				if err := k.settle(ctx, x, item); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// items lists what the index names. Where a write was not seen to end, the
// keyring is asked.
func (k *keyringStore) items() ([]string, error) {
	x, _, err := readIndex(k.dir)
	if err != nil {
		return nil, err
	}
	if x == nil {
		return nil, k.lost()
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.limits.call)
	defer cancel()
	var items []string
	for item, e := range x.Items {
		if e.Pending {
			_, err := k.header(ctx, item)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil && !errors.Is(err, ErrDamaged) {
				return nil, err
			}
		}
		items = append(items, item)
	}
	return items, nil
}

func (k *keyringStore) lost() error {
	return fmt.Errorf("%w: %s is gone, which names the keys in the keyring: restore it from a backup, or run %q and add the keys again", ErrDamaged, indexPath(k.dir), "cred init --keystore keyring")
}

func (k *keyringStore) forget(item string) {
	k.mu.Lock()
	delete(k.read, item)
	k.mu.Unlock()
}

func (k *keyringStore) close() error {
	k.mu.Lock()
	clear(k.read)
	k.mu.Unlock()
	return nil
}

// write runs f alone among all writers of this directory, with the index as it
// is on disk.
func (k *keyringStore) write(f func(context.Context, *index) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), k.limits.call)
	defer cancel()
	unlock, err := lock(ctx, k.dir)
	if err != nil {
		return err
	}
	// A call that was given up may still write when its prompt is answered. The
	// next writer, in whichever process, waits for that; otherwise an old
	// header could come back after its chunks were removed.
	defer func() {
		select {
		case k.turn <- struct{}{}:
			<-k.turn
			unlock()
		default:
			go func() {
				k.turn <- struct{}{}
				<-k.turn
				unlock()
			}()
		}
	}()
	x, _, err := readIndex(k.dir)
	if err != nil {
		return err
	}
	if x == nil {
		return k.lost()
	}
	if x.Items == nil {
		x.Items = map[string]entry{}
	}
	return f(ctx, x)
}

// fetch, set and delete are the only users of the library. An account that is
// not there is keyring.ErrNotFound from fetch and no error from delete.

func (k *keyringStore) fetch(ctx context.Context, account string) (string, error) {
	return k.call(ctx, func() (string, error) { return keyring.Get(k.service, account) })
}

func (k *keyringStore) set(ctx context.Context, account, text string) error {
	_, err := k.call(ctx, func() (string, error) { return "", keyring.Set(k.service, account, text) })
	if err != nil && strings.Contains(err.Error(), text) { // none does today
		return &trouble{ErrUnavailable, "the keyring refused the value", "see that it is running, " + orFile}
	}
	return err
}

func (k *keyringStore) delete(ctx context.Context, account string) error {
	_, err := k.call(ctx, func() (string, error) { return "", keyring.Delete(k.service, account) })
	if errors.Is(err, keyring.ErrNotFound) {
		return nil
	}
	return err
}

// call makes one call of the library, which knows no time limit, and gives it
// up when ctx ends. The goroutine of a call that was given up stays until the
// keyring answers; there is never more than one, because it holds the turn.
func (k *keyringStore) call(ctx context.Context, f func() (string, error)) (string, error) {
	if err := noBus(); err != nil {
		return "", err
	}
	if ctx.Err() != nil { // select would choose at random
		return "", late(ctx)
	}
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return "", late(ctx)
	}
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			// The library dereferences nil when the bus goes away under a
			// prompt. What it panics with is not repeated: it is not ours.
			if recover() != nil {
				a = answer{"", errors.New("the connection to it broke")}
			}
			<-k.turn
			answered <- a
		}()
		a.text, a.err = f()
	}()
	select {
	case a := <-answered:
		return a.text, explain(a.err)
	case <-ctx.Done():
		return "", late(ctx)
	}
}

func late(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("waiting for the keyring: %w", ctx.Err())
	}
	return &trouble{ErrLocked, "the keyring does not answer; it probably waits for its password", "unlock it (" + howToUnlock() + ") and try again"}
}

// trouble is an error of the keyring in its parts: Why shows what is wrong,
// and leaves out what to do about it.
type trouble struct {
	kind       error
	what, next string
}

func (t *trouble) Error() string { return fmt.Sprintf("%s: %s: %s", t.kind, t.what, t.next) }
func (t *trouble) Unwrap() error { return t.kind }

const orFile = "or use the sealed file with \"cred init --keystore file\""

// explain says what an error of the library means. The library passes on texts
// and no types, so texts are what it goes by; one that is not known is passed
// on and means that the keyring cannot be used.
func explain(err error) error {
	if err == nil || errors.Is(err, keyring.ErrNotFound) {
		return err
	}
	text := err.Error()
	switch has := func(s string) bool { return strings.Contains(text, s) }; {
	case has("failed to unlock correct collection") && has("/aliases/default"):
		return &trouble{ErrUnavailable, "the keyring has no default collection, or did not unlock it",
			"log in to the desktop once, or make a collection in its password program, " + orFile}
	case has("Object does not exist at path"):
		// The library looks for an item and then reads it; another process
		// has removed it in between.
		return keyring.ErrNotFound
	case has("failed to unlock correct collection"), has("locked"), has("IsLocked"),
		// What "security" of macOS exits with: no interaction allowed,
		// authorization failed, cancelled by the user.
		runtime.GOOS == "darwin" && (text == "exit status 36" || text == "exit status 51" || text == "exit status 128"):
		return &trouble{ErrLocked, "the keyring is locked, and its prompt was refused or could not be shown",
			"unlock it (" + howToUnlock() + ") and try again"}
	case has("org.freedesktop.secrets"):
		return &trouble{ErrUnavailable, "no keyring program runs in this session",
			"start one (gnome-keyring, KWallet or KeePassXC), " + orFile}
	case has("dbus-launch"), has("session bus"):
		return errNoBus("dbus-launch not found")
	case errors.Is(err, keyring.ErrUnsupportedPlatform):
		return &trouble{ErrUnavailable, "cred knows no keyring on " + runtime.GOOS, "use the sealed file with \"cred init --keystore file\""}
	default:
		return &trouble{ErrUnavailable, "the keyring failed (" + text + ")", "see that it is running, " + orFile}
	}
}

func errForgets() error {
	return &trouble{ErrUnavailable, "the keyring does not give back what it is given", "see that one keyring program runs, not two, " + orFile}
}

func howToUnlock() string {
	switch runtime.GOOS {
	case "darwin":
		return "security unlock-keychain"
	case "windows":
		return "sign in to Windows"
	default:
		return "log in to the desktop; without one, gnome-keyring-daemon --unlock"
	}
}

func errNoBus(why string) error {
	return &trouble{ErrUnavailable, "no keyring in a session without D-Bus (" + why + ")",
		"log in to a desktop, run cred under dbus-run-session with a keyring, " + orFile}
}

// noBus keeps the library from starting a message bus of its own with
// dbus-launch where the session has none. That bus would have no keyring
// behind it, and it would stay behind when cred ends. Without dbus-launch the
// library fails by itself.
func noBus() error {
	if slices.Contains([]string{"darwin", "windows"}, runtime.GOOS) {
		return nil
	}
	if a := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); a != "" && a != "autolaunch:" {
		return nil
	}
	for _, name := range []string{"bus", "dbus-session"} { // where the library looks
		if _, err := os.Stat(fmt.Sprintf("/run/user/%d/%s", os.Getuid(), name)); err == nil {
			return nil
		}
	}
	if _, err := exec.LookPath("dbus-launch"); err == nil {
		return errNoBus("DBUS_SESSION_BUS_ADDRESS is not set")
	}
	return nil
}
