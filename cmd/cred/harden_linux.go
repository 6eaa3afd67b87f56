package main

import "golang.org/x/sys/unix"

// harden keeps other processes of the same user from reading the broker's
// memory, where keys pass by: without a debugger's rights on it, and without
// core dumps (prctl(2), PR_SET_DUMPABLE). Root is not kept out.
func harden() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
