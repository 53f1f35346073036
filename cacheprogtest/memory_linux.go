package cacheprogtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// peakMemory returns the sum of the peaks of resident memory, in bytes, of a process and of those that descend from it: the
// program may have been started by a script.
func peakMemory(pid int) (int64, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	children := make(map[int][]int)
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The second field is a name in parentheses, which may have any characters; the fourth is the parent.
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	sum, err := peakOf(pid)
	if err != nil {
		return 0, err
	}
	for left := children[pid]; len(left) > 0; left = left[1:] {
		peak, _ := peakOf(left[0]) // nothing if it has ended
		sum += peak
		left = append(left, children[left[0]]...)
	}
	return sum, nil
}

// peakOf returns the peak of one process.
func peakOf(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(data, []byte("VmHWM:"))
	fields := bytes.Fields(rest)
	if !ok || len(fields) == 0 {
		return 0, fmt.Errorf("no VmHWM in the status of process %d", pid)
	}
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	return kib << 10, err
}
