//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package filelock

import (
	"errors"
	"os"
)

// Try: without locks nobody can tell whether a session is alive. Then
// temporary files are not collected, and the store is not trimmed.
func Try(*os.File) (locked bool, err error) { return false, errors.ErrUnsupported }
