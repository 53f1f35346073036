package disk_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/disk"
)

// counts are numbers of entries to compare. A million takes half a minute to
// put, and is left out unless LARDER_BENCH_MILLION is set.
func counts() []int {
	if os.Getenv("LARDER_BENCH_MILLION") != "" {
		return []int{10_000, 100_000, 1_000_000}
	}
	return []int{10_000, 100_000}
}

// fill puts n entries of 200 bytes each.
func fill(b *testing.B, s *disk.Store, from, n int) {
	b.Helper()
	p := make([]byte, 200)
	for i := 0; i < n; {
		batch := s.NewBatch("ns")
		for range min(1000, n-i) {
			binary.BigEndian.PutUint64(p, uint64(from+i))
			h := entry.Header{ActionID: action(from + i), OutputID: entry.OutputID(action(i)), Size: 200, Stored: 200, Sum: entry.Checksum(p), Time: time.Unix(1, 0)}
			if err := batch.Add(&h, bytes.NewReader(p)); err != nil {
				b.Fatal(err)
			}
			i++
		}
		if err := batch.Commit(); err != nil {
			b.Fatal(err)
		}
		batch.Close()
	}
}

// BenchmarkEvict is what an entry costs that is evicted while others come: its
// time must not depend on how many there are.
func BenchmarkEvict(b *testing.B) {
	for _, n := range counts() {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			c := newClock()
			s := open(b, disk.Options{Now: c.now})
			fill(b, s, 0, n)
			c.add(time.Minute)
			const each = 5000
			next := n
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				fill(b, s, next, each)
				next += each
				st := s.Stats()
				leave := st.Bytes / st.Entries * int64(n)
				b.StartTimer()
				if err := s.EvictTo(leave); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(s.Stats().EvictedEntries), "ns/entry")
		})
	}
}

// BenchmarkOpen is the time to open a store, and the memory that it takes then.
func BenchmarkOpen(b *testing.B) {
	for _, n := range counts() {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			o := disk.Options{Dir: b.TempDir(), Reserve: 1}
			s, err := disk.Open(o)
			if err != nil {
				b.Fatal(err)
			}
			fill(b, s, 0, n)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			var heap uint64
			for b.Loop() {
				if s, err = disk.Open(o); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if st := s.Stats(); st.Entries != int64(n) {
					b.Fatalf("%d entries, want %d", st.Entries, n)
				}
				heap, _ = memory()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(heap)/1e6, "heap-MB")
			// The other memory is that of a process that does nothing else.
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), openEnv+"="+o.Dir)
			out, err := cmd.Output()
			var rss, afterGets float64
			if _, err2 := fmt.Sscan(string(out), &rss, &afterGets); err != nil || err2 != nil {
				b.Fatal(err, err2)
			}
			b.ReportMetric(rss/1e6, "rss-MB")
			b.ReportMetric(afterGets/1e6, "rss-after-gets-MB")
		})
	}
}

const openEnv = "LARDER_DISK_OPEN_DIR"

// openChild opens a store and says what memory it takes, before and after 50,000 gets.
func openChild(dir string) {
	s, err := disk.Open(disk.Options{Dir: dir, Reserve: 1})
	if err != nil {
		panic(err)
	}
	_, rss := memory()
	var ids []entry.ActionID
	s.Actions("ns", func(id entry.ActionID) bool { ids = append(ids, id); return len(ids) < 1_000_000 })
	for i := range 50_000 {
		item, err := s.Get("ns", ids[i*7919%len(ids)])
		if err != nil {
			panic(err)
		}
		item.Close()
	}
	ids = nil
	debug.FreeOSMemory()
	_, after := memory()
	fmt.Println(rss, after)
	os.Exit(0)
}

// BenchmarkGet is a get of one entry among many, anywhere.
func BenchmarkGet(b *testing.B) {
	for _, n := range counts() {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := open(b, disk.Options{})
			fill(b, s, 0, n)
			i := 0
			for b.Loop() {
				i = (i + 7919) % n
				item, err := s.Get("ns", action(i))
				if err != nil {
					b.Fatal(err)
				}
				item.Close()
			}
			heap, rss := memory()
			b.ReportMetric(float64(heap)/1e6, "heap-MB")
			b.ReportMetric(float64(rss)/1e6, "rss-MB")
		})
	}
}

// BenchmarkPut is a durable put of one entry, by as many goroutines.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1000, 100 << 10} {
		for _, n := range []int{1, 16} {
			b.Run(fmt.Sprintf("%d bytes by %d", size, n), func(b *testing.B) {
				s := open(b, disk.Options{})
				p := body(1, size)
				var next atomic.Int64
				b.SetParallelism(max(1, n/runtime.GOMAXPROCS(0)))
				b.SetBytes(int64(size))
				one := func() error { return tryPut(s, "", action(int(next.Add(1))), p) }
				if n == 1 {
					for b.Loop() {
						if err := one(); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := one(); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// memory is the heap in use, and what the process has of the machine's memory,
// where that is known.
func memory() (heap, rss uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	statm, err := os.ReadFile("/proc/self/statm")
	if fields := strings.Fields(string(statm)); err == nil && len(fields) > 1 {
		pages, _ := strconv.ParseUint(fields[1], 10, 64)
		rss = pages * uint64(os.Getpagesize())
	}
	return m.HeapAlloc, rss
}
