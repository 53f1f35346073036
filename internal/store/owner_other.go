//go:build !unix

package store

import "os"

// ownedByUser is true: a user's temporary directory is that user's alone here.
func ownedByUser(os.FileInfo) bool { return true }
