//go:build unix

package broker_test

import (
	"os/exec"
	"syscall"
)

// asNobody has cmd run as another user.
func asNobody(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
