package broker

import (
	"fmt"
	"net"

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
	var cred *unix.Xucred
	var credErr error
	var pid int
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		pid, _ = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	}); err != nil {
		return nil, err
	}
	if credErr != nil {
		return nil, credErr
	}
	return &audit.Peer{UID: int(cred.Uid), PID: pid}, nil
}
