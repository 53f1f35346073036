//go:build unix && !linux && !solaris

package cacheprog

import "syscall"

// redirect makes descriptor to a copy of from.
func redirect(from, to int) error { return syscall.Dup2(from, to) }
