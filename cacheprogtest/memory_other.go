//go:build !linux

package cacheprogtest

import "errors"

// peakMemory is for Linux only.
func peakMemory(int) (int64, error) { return 0, errors.ErrUnsupported }
