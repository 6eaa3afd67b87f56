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
	var cred *unix.Ucred
	err := onSocket(c, func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return nil, err
	}
	// The program may have ended, or have become another one; best effort.
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", cred.Pid))
	return &audit.Peer{UID: int(cred.Uid), PID: int(cred.Pid), Exe: exe}, nil
}
