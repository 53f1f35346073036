package bench

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// TimeFirstLine starts cmd and returns the time until it has written a line to
// its standard output. Then its input is closed and its end awaited.
func TimeFirstLine(cmd *exec.Cmd) (time.Duration, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_, err = bufio.NewReader(out).ReadSlice('\n')
	took := time.Since(begin)
	in.Close()
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	return took, err
}

// PeakMemory returns the most memory in bytes that the running process pid has
// had resident so far. It reads /proc, so elsewhere than on Linux its error
// wraps errors.ErrUnsupported (rusage will not do: before exec a child counts
// its parent's memory).
func PeakMemory(pid int) (int64, error) {
	if runtime.GOOS != "linux" {
		return 0, fmt.Errorf("peak memory of a process: %w", errors.ErrUnsupported)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in the status of process %d", pid)
}
