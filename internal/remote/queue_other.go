//go:build !linux && !darwin

package remote

import "syscall"

// queued says that this system does not tell what waits in a connection's buffer.
func queued(syscall.RawConn) (n int64, ok bool) { return 0, false }
