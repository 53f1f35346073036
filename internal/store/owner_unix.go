//go:build unix

package store

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// touch sets a file's times to now, which those may who can write it, as among users
// of a group. All other times are for its owner to set.
func touch(name string) error { return unix.Utimes(name, nil) }

// ownedByUser reports whether a file belongs to the user of this process.
func ownedByUser(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
