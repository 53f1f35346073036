package filelock

import (
	"os"
	"syscall"
	"unsafe"
)

// Try takes the lock of an open file, as cmd/go/internal/lockedfile does, or
// reports that another one has it. Closing the file, or dying, lets go of it.
func Try(f *os.File) (locked bool, err error) {
	const (
		failImmediately = 1
		exclusive       = 2
		lockViolation   = syscall.Errno(33)
	)
	lockFileEx := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	var overlapped syscall.Overlapped
	r, _, err := lockFileEx.Call(f.Fd(), exclusive|failImmediately, 0, 0xffffffff, 0xffffffff, uintptr(unsafe.Pointer(&overlapped)))
	if r != 0 {
		return true, nil
	}
	if err == lockViolation || err == syscall.ERROR_IO_PENDING {
		return false, nil
	}
	return false, err
}
