package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	tempPrefix = ".keystore-" // of files that a crash may leave behind
	lockName   = "keystore.lock"
	maxFile    = 32 << 20 // far above what any owner's keys need
)

// steps is called between the steps of a write, with the name of the step that
// is done. Tests end the write there, as a crash would; the program leaves it
// nil.
type steps func(done string)

func (s steps) done(step string) {
	if s != nil {
		s(step)
	}
}

// readOwn reads a file of ours. It refuses a link, which may lead anywhere, and
// a file that others may read or write. The FileInfo is that of what was read.
func readOwn(path string) ([]byte, fs.FileInfo, error) {
	named, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: %s is not a plain file (%s): cred keeps its keys in no link and no device; put the file itself there", ErrUnavailable, path, named.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if !os.SameFile(named, info) {
		// A writer of ours replaced it in between, which is well, or somebody
		// put a link there, which is not. The second look tells.
		if named, err = os.Lstat(path); err != nil || !named.Mode().IsRegular() {
			return nil, nil, fmt.Errorf("%w: %s changed while it was read: try again", ErrUnavailable, path)
		}
	}
	if err := checkMode(path, info); err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(b) > maxFile {
		return nil, nil, fmt.Errorf("%w: %s is over %d bytes long: this is not a file of cred's; restore it from a backup", ErrDamaged, path, maxFile)
	}
	return b, info, nil
}

func checkMode(path string, info fs.FileInfo) error {
	if runtime.GOOS == "windows" { // the profile's access list decides there
		return nil
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%w: %s is open to other users (mode %04o): run %q", ErrUnavailable, path, info.Mode().Perm(), "chmod 600 "+path)
	}
	return nil
}

// writeOwn replaces a file in one step: whoever reads sees the old content or
// the new, and so does whoever comes after a crash. A crash may leave a
// temporary file; the next writer removes it.
func writeOwn(path string, content []byte, s steps) error {
	fail := func(err error) error {
		return fmt.Errorf("%w: writing %s: %w; free some space or correct its directory, and try again", ErrUnavailable, path, err)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+"*") // mode 0600
	if err != nil {
		return fail(err)
	}
	s.done("temporary file made")
	_, err = f.Write(content)
	s.done("temporary file written")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		s.done("temporary file synced")
		err = rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fail(err)
	}
	s.done("file renamed")
	if err := syncDir(dir); err != nil {
		return fail(err)
	}
	s.done("directory synced")
	return nil
}

// rename tries for a while on Windows, where a file that another process is
// reading cannot be replaced.
func rename(from, to string) error {
	err := os.Rename(from, to)
	for i := 0; err != nil && runtime.GOOS == "windows" && i < 50; i++ {
		time.Sleep(10 * time.Millisecond)
		err = os.Rename(from, to)
	}
	return err
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // a directory cannot be synced there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ownDir makes the directory. One that is there already is left alone, unless
// others may write in it: they could put their own keystore there. Then it is
// closed to them, or refused if it is a shared one such as /tmp, which is not
// ours to close.
func ownDir(dir string) error {
	if dir == "" {
		return errors.New("no state directory was given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: making the state directory: %w", ErrUnavailable, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if runtime.GOOS == "windows" || info.Mode().Perm()&0o022 == 0 {
		return nil
	}
	if info.Mode()&fs.ModeSticky == 0 {
		err = os.Chmod(dir, 0o700)
	} else {
		err = errors.New("it is shared by all users")
	}
	if err != nil {
		return fmt.Errorf("%w: others may write in the state directory %s (mode %04o): %w; choose another, or run %q", ErrUnavailable, dir, info.Mode().Perm(), err, "chmod 700 "+dir)
	}
	return nil
}

// lock waits for its turn to write in the directory and returns the function
// that ends it. It excludes other processes and other stores of this one. The
// system ends the turn of a process that dies; the temporary file that it may
// have left is then nobody's and is removed.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	l := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	ok, err := l.TryLockContext(ctx, 5*time.Millisecond)
	switch {
	case ok:
		for _, path := range temps(dir) {
			os.Remove(path)
		}
		return func() { l.Close() }, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: another write is under way and does not end (perhaps it waits for the keyring's password): answer its prompt or end it, and try again", ErrLocked)
	case errors.Is(err, context.Canceled):
		return nil, err
	default:
		return nil, fmt.Errorf("%w: locking %s: %w; correct its directory and try again", ErrUnavailable, l.Path(), err)
	}
}

// temps lists what writes are making at the moment, or left behind in a crash.
func temps(dir string) (paths []string) {
	entries, _ := os.ReadDir(dir) // best effort: they do no harm
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), tempPrefix) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

// A stamp tells whether a file is still what it was, without reading it. Every
// write makes a new file, so a stamp changes with the content. The zero stamp
// is that of no file and equals nothing.
type stamp struct{ info fs.FileInfo }

func stampOf(info fs.FileInfo) stamp { return stamp{info} }

func stat(path string) (stamp, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return stamp{info}, nil
}

func (a stamp) same(b stamp) bool {
	return a.info != nil && b.info != nil && os.SameFile(a.info, b.info) &&
		a.info.ModTime().Equal(b.info.ModTime()) && a.info.Size() == b.info.Size()
}
