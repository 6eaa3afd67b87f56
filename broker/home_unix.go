//go:build unix

package broker

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ownFile refuses a file that others can change: it says where the keys go.
func ownFile(path string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Getuid() && st.Uid != 0 {
		return fmt.Errorf("%s belongs to user %d, not to you", path, st.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be changed by others; run: chmod go-w %s", path, path)
	}
	return nil
}

// private refuses a directory that others can enter or that is not ours.
func private(dir string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to user %d, not to you; remove it or choose another CRED_HOME", dir, st.Uid)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s can be entered by others; run: chmod 700 %s", dir, dir)
	}
	return nil
}
