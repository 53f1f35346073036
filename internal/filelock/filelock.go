// Package filelock locks files against other processes, as
// cmd/go/internal/lockedfile does. The lock goes with the process: closing the
// file, or dying in whatever way, lets go of it.
package filelock
