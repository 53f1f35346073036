package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/store"
)

// fillPairs makes a store of n actions and their outputs by writing the go command's
// format itself, which is ten times as fast as putting. A third is old enough to go.
func fillPairs(dir string, n int) error {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o777); err != nil {
			return err
		}
	}
	now := time.Now()
	const writers = 4
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < n && errs[w] == nil; i += writers {
				id := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("action"), uint64(i)))
				out := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("output"), uint64(i)))
				used := now.Add(-time.Duration(i%3) * 3 * 24 * time.Hour)
				errs[w] = writeAged(store.FileName(dir, out, 'd'), []byte("output"), used)
				line := fmt.Sprintf("v1 %x %x %20d %20d\n", id, out, 6, used.UnixNano())
				if err := writeAged(store.FileName(dir, id, 'a'), []byte(line), used); err != nil {
					errs[w] = err
				}
			}
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func writeAged(name string, data []byte, used time.Time) error {
	if err := os.WriteFile(name, data, 0o666); err != nil {
		return err
	}
	return os.Chtimes(name, used, used)
}

// trimChild is a process that trims a store and says what that took.
func trimChild(dir string) error {
	begin := time.Now()
	report, err := store.Trim(context.Background(), store.Options{Dir: dir}, store.Limits{}, nil)
	if err != nil {
		return err
	}
	peak, err := peakRSS()
	fmt.Println(report.RemovedActions, report.RemovedOutputs, peak, time.Since(begin).Milliseconds())
	return err
}

// peakRSS is the most memory that this process has had, in bytes.
func peakRSS() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kb << 10, err
}

// trimPairs has another process trim a store of n pairs.
func trimPairs(t testing.TB, n int) (actions, outputs int, peak, ms int64) {
	t.Helper()
	if _, err := peakRSS(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := fillPairs(dir, n); err != nil {
		t.Fatal(err)
	}
	c := startChild(t, dir, "trim")
	c.in.Close()
	line, err := c.out.ReadString('\n')
	if waitErr := c.cmd.Wait(); err != nil || waitErr != nil {
		t.Fatalf("%v, %v: %s", err, waitErr, c.err.String())
	}
	if _, err := fmt.Sscan(line, &actions, &outputs, &peak, &ms); err != nil {
		t.Fatal(err)
	}
	return actions, outputs, peak, ms
}

// BenchmarkTrim trims a store of 1,000,000 pairs, of which a third goes. It takes
// some minutes and 8 GB, in TMPDIR:
//
//	go test ./internal/store -run - -bench 'Trim$' -benchtime 1x
func BenchmarkTrim(b *testing.B) {
	for range b.N {
		_, _, peak, ms := trimPairs(b, 1_000_000)
		b.ReportMetric(float64(peak)/1e6, "MB-peak")
		b.ReportMetric(float64(ms)/1000, "s-trim")
	}
}
