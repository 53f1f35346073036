//go:build !unix

package store

import (
	"io/fs"
	"os"
)

// touch: there is no other way to set a file's times here.
func touch(string) error { return fs.ErrPermission }

// ownedByUser is true: a user's temporary directory is that user's alone here.
func ownedByUser(os.FileInfo) bool { return true }
