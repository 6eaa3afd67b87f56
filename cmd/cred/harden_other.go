//go:build !linux

package main

// harden has nothing to do here: macOS keeps debuggers away from programs that
// are signed for it, and Windows from processes of other users.
func harden() error { return nil }
