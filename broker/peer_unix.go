//go:build linux || darwin

package broker

import (
	"errors"
	"fmt"
	"net"
)

// onSocket calls ask with the descriptor of a Unix socket.
func onSocket(c net.Conn, ask func(fd int) error) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("no Unix socket but %T", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var askErr error
	err = raw.Control(func(fd uintptr) { askErr = ask(int(fd)) })
	return errors.Join(err, askErr)
}
