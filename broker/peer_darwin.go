package broker

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/credbroker/cred/broker/audit"
)

// peerOf asks the kernel who is at the other end of a Unix socket.
func peerOf(c net.Conn) (*audit.Peer, error) {
	var cred *unix.Xucred
	var pid int
	err := onSocket(c, func(fd int) (err error) {
		if cred, err = unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED); err != nil {
			return err
		}
		pid, err = unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &audit.Peer{UID: int(cred.Uid), PID: pid}, nil
}
