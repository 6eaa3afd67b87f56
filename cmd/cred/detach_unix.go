//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// detach lets cmd outlive this process and its terminal.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// statusOf is the exit status of a command in the form that shells use: 128
// and the signal when one ended it.
func statusOf(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}
