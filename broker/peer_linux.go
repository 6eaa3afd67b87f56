package broker

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/credbroker/cred/broker/audit"
)

// peerOf asks the kernel who is at the other end of a Unix socket.
func peerOf(c net.Conn) (*audit.Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("no Unix socket but %T", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if credErr != nil {
		return nil, credErr
	}
	// The program may have ended, or have become another one; best effort.
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", cred.Pid))
	return &audit.Peer{UID: int(cred.Uid), PID: int(cred.Pid), Exe: exe}, nil
}
