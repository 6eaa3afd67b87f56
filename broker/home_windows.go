package broker

import "io/fs"

// private is left to the access list that a user's profile gives to what is in
// it: others have no entry there.
func private(string, fs.FileInfo) error { return nil }

// ownFile is left to the access list too.
func ownFile(string, fs.FileInfo) error { return nil }
