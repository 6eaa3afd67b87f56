package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Home is where the files of one owner are.
type Home struct {
	Config string // config.toml
	State  string // directory of the log, the index of keys and the sealed keystore
	Run    string // directory of the sockets and the lock
	Ring   string // name of the collection of keys in the OS keyring
}

// FindHome returns the home that the environment names: everything under
// CRED_HOME when that is set; otherwise the XDG base directories, and the
// customs of macOS and Windows.
func FindHome(getenv func(string) string) (Home, error) {
	if dir := getenv("CRED_HOME"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return Home{}, fmt.Errorf("CRED_HOME: %w", err)
		}
		sum := sha256.Sum256([]byte(abs))
		h := Home{filepath.Join(abs, "config.toml"), filepath.Join(abs, "state"), filepath.Join(abs, "run"),
			"cred-" + hex.EncodeToString(sum[:6])}
		return h.withShortRun(), nil
	}
	or := func(name string, parts ...string) string {
		if dir := getenv(name); filepath.IsAbs(dir) {
			return dir
		}
		return filepath.Join(parts...)
	}
	user := getenv("HOME")
	if runtime.GOOS == "windows" {
		user = getenv("USERPROFILE")
	}
	if user == "" {
		return Home{}, errors.New("no home directory: set HOME, or CRED_HOME to a directory of its own")
	}
	var h Home
	switch runtime.GOOS {
	case "windows":
		h.Config = filepath.Join(or("APPDATA", user, "AppData", "Roaming"), "cred", "config.toml")
		h.State = filepath.Join(or("LOCALAPPDATA", user, "AppData", "Local"), "cred")
		h.Run = filepath.Join(h.State, "run")
	case "darwin":
		h.State = filepath.Join(user, "Library", "Application Support", "cred")
		h.Config = filepath.Join(h.State, "config.toml")
		h.Run = filepath.Join(h.State, "run")
	default:
		h.Config = filepath.Join(or("XDG_CONFIG_HOME", user, ".config"), "cred", "config.toml")
		h.State = filepath.Join(or("XDG_STATE_HOME", user, ".local", "state"), "cred")
		h.Run = filepath.Join(or("XDG_RUNTIME_DIR", h.State), "cred")
	}
	h.Ring = "cred"
	return h.withShortRun(), nil
}

// maxSocketPath is what every system takes for the path of a Unix socket: 104
// bytes on macOS, 108 on Linux, both with a final zero.
const maxSocketPath = 103

// withShortRun moves the sockets of a home with a long path into the system's
// directory for temporary files, under a name that only this home and user has.
func (h Home) withShortRun() Home {
	if len(filepath.Join(h.Run, "agent.sock")) > maxSocketPath {
		sum := sha256.Sum256([]byte(h.Run))
		h.Run = filepath.Join(os.TempDir(), fmt.Sprintf("cred-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6])))
	}
	return h
}

// AuditDir is where the log is.
func (h Home) AuditDir() string { return filepath.Join(h.State, "audit") }

// LogFile is where a broker in the background writes what it has to say.
func (h Home) LogFile() string { return filepath.Join(h.State, "broker.log") }

func (h Home) agentSocket() string { return filepath.Join(h.Run, "agent.sock") }
func (h Home) ownerSocket() string { return filepath.Join(h.Run, "owner.sock") }
func (h Home) lockFile() string    { return filepath.Join(h.Run, "broker.lock") }

// Make creates the directories for the owner alone. It refuses one that others
// can enter or that somebody else made: the sockets and keys in it would be
// theirs. The directory of the configuration may be shared, such as ~/.config;
// the file itself is looked at when it is read.
func (h Home) Make() error {
	for _, dir := range []string{filepath.Dir(h.Config), h.State, h.Run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		info, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		if err := private(dir, info); err != nil && dir != filepath.Dir(h.Config) {
			return err
		}
	}
	return nil
}
