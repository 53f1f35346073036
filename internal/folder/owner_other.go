//go:build !unix

package folder

import "os"

// An Owner is who is to own what is made in a directory: here whoever makes it.
type Owner struct{}

// OwnerOf is the owner of what is made in dir.
func OwnerOf(string) Owner { return Owner{} }

// Give leaves a file as it is.
func (Owner) Give(*os.File) {}

func (Owner) giveName(string) {}

// HandOver does nothing: there is no root here.
func HandOver(string) {}

// writable reports whether files can be made in a directory. Where permissions are
// not those of Unix, one that cannot is not passed by.
func writable(string) bool { return true }
