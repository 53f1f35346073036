//go:build linux || darwin || freebsd

package main

import "syscall"

// freeSpace is how many bytes a user may still write on the disk of dir.
func freeSpace(dir string) (bytes int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
