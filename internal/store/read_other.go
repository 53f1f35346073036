//go:build !linux

package store

import (
	"errors"
	"io"
	"os"
	"time"
)

// readFile reads the file, as far as buf goes, and its time of last use.
func readFile(name, buf []byte) (n int, used time.Time, err error) {
	f, err := os.Open(string(name))
	if err != nil {
		return 0, used, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, used, err
	}
	n, err = io.ReadFull(f, buf)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, used, err
	}
	return n, info.ModTime(), nil
}

// readOnce is readFile for who reads a whole store.
func readOnce(name, buf []byte) (n int, used time.Time, err error) { return readFile(name, buf) }

func statFile(name string) (fileInfo, error) {
	info, err := os.Stat(name)
	if err != nil {
		return fileInfo{}, err
	}
	return fileInfo{size: info.Size(), mtime: info.ModTime(), dir: info.IsDir()}, nil
}
