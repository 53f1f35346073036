//go:build !linux && !darwin && !freebsd

package main

import "errors"

// freeSpace is not known here.
func freeSpace(dir string) (bytes int64, err error) { return 0, errors.ErrUnsupported }
