package store

import (
	"os"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/filelock"
)

// SetFault makes operations answer what fault says, if that is an error.
func (s *Store) SetFault(fault func(op, path string) error) { s.fault = fault }

const (
	CopyBytes = copyBytes
	RetryPuts = retryPuts
)

// ParseAction is parseAction and back.
func ParseAction(data []byte) (again []byte, id entry.ActionID, out entry.OutputID, size int64, err error) {
	a, err := parseAction(data)
	return a.appendTo(nil), a.id, a.output, a.size, err
}

// FileName is the name of an action's ('a') or an output's ('d') file.
func FileName(dir string, id [entry.HashSize]byte, kind byte) string { return fileName(dir, id, kind) }

// TryLock takes the lock of an open file.
func TryLock(f *os.File) (bool, error) { return filelock.Try(f) }
