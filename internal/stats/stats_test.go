package stats_test

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/stats"
)

func session(gets, hits int64) stats.Session {
	return stats.Session{
		Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Dir:   "/src/" + strings.Repeat("x", 300),
		Counts: stats.Counts{
			Gets: gets, Hits: hits, Misses: stats.Misses{Absent: gets - hits},
			SavedSeconds: 0.5,
		},
	}
}

func TestLogAddsUp(t *testing.T) {
	log := stats.OpenLog(t.TempDir())
	if total, last, err := log.Read(); err != nil || total.Sessions != 0 || len(last) != 0 {
		t.Fatalf("empty log: %+v, %v, %v", total, last, err)
	}
	for range 3 {
		if err := log.Add(session(10, 7)); err != nil {
			t.Fatal(err)
		}
	}
	total, last, err := log.Read()
	if err != nil {
		t.Fatal(err)
	}
	if total.Sessions != 3 || total.Gets != 30 || total.Hits != 21 || total.Misses.Total() != 9 || total.SavedSeconds != 1.5 {
		t.Errorf("total = %+v", total)
	}
	if len(last) != 3 || last[2].Gets != 10 {
		t.Errorf("last = %+v", last)
	}
	if err := log.Reset(); err != nil {
		t.Fatal(err)
	}
	if total, _, _ := log.Read(); total.Sessions != 0 {
		t.Errorf("after Reset: %+v", total)
	}
}

// However many sessions there are, the log's files stay bounded, and the total
// counts every session once, also when a crash left a folded file behind.
func TestLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	log := stats.OpenLog(dir)
	const sessions = 5000 // about 5 files
	files := filepath.Join(dir, "larder", "sessions")
	for i := range sessions {
		if err := log.Add(session(10, 7)); err != nil {
			t.Fatal(err)
		}
		if i%700 == 0 {
			if err := log.Fold(); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := filepath.Join(files, "000001.jsonl")
	if _, err := os.Stat(first); err == nil {
		t.Fatal("the first file has not been folded")
	}
	// A crash between writing the total and deleting the file.
	if err := stats.Append(first, session(10, 7)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		total, last, err := log.Read()
		if err != nil {
			t.Fatal(err)
		}
		if total.Sessions != sessions || total.Gets != 10*sessions {
			t.Errorf("total = %+v, want %d sessions", total, sessions)
		}
		if len(last) < 500 {
			t.Errorf("only %d last sessions kept", len(last))
		}
		if err := log.Fold(); err != nil {
			t.Fatal(err)
		}
	}
	var bytes int64
	entries, _ := os.ReadDir(files)
	for _, e := range entries {
		info, _ := e.Info()
		bytes += info.Size()
	}
	if bytes > 2<<20 {
		t.Errorf("log takes %d bytes in %d files", bytes, len(entries))
	}
}

func TestLogSurvivesDamage(t *testing.T) {
	dir := t.TempDir()
	log := stats.OpenLog(dir)
	log.Add(session(10, 7))
	file := filepath.Join(dir, "larder", "sessions", "000001.jsonl")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("{\"start\":\n\x00\x00\nnull\n[]\n")
	f.Close()
	os.WriteFile(filepath.Join(dir, "larder", "sessions", "totals.json"), []byte("{"), 0o666)
	log.Add(session(10, 7))
	total, _, err := log.Read()
	if err != nil || total.Sessions != 2 {
		t.Errorf("total = %+v, %v; want the 2 whole sessions", total, err)
	}
}

func TestLogConcurrentAppends(t *testing.T) {
	log := stats.OpenLog(t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 100 {
				if err := log.Add(session(1, 1)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if total, _, err := log.Read(); err != nil || total.Sessions != 800 {
		t.Errorf("%d sessions, %v; want 800", total.Sessions, err)
	}
}

func key(i int) stats.Key {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(i))
	return stats.KeyOf(entry.ActionID(sha256.Sum256(b[:])))
}

func TestCosts(t *testing.T) {
	dir := t.TempDir()
	costs := stats.OpenCosts(dir)
	if sum := costs.Sum([]stats.Key{key(1), key(2)}); sum.Cost != 0 || sum.Unknown != 2 || sum.Kinds[content.Unknown] != 2 || len(sum.NoKind) != 2 {
		t.Errorf("empty table: %+v", sum)
	}
	add := func(m map[stats.Key]stats.Fact) {
		t.Helper()
		if err := costs.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	const hour = time.Hour
	add(map[stats.Key]stats.Fact{
		key(1): {Cost: time.Second, Kind: content.Package},
		key(2): {Cost: 250 * time.Millisecond, Kind: content.Vet},
		key(3): {Kind: content.Message},
		key(4): {Cost: 1000 * hour},
		key(6): {Cost: stats.NoCost, Kind: content.Package},
		key(7): {Cost: time.Second},
	})
	add(map[stats.Key]stats.Fact{
		key(1): {Cost: 2 * time.Second, Kind: content.Package}, // the last one counts
		key(2): {Cost: stats.NoCost},                           // but not where it knows nothing
		key(7): {Cost: stats.NoCost, Kind: content.Index},
	})
	for _, tt := range []struct {
		keys    []stats.Key
		sum     time.Duration
		unknown int64
		kind    content.Kind // of the first
		noKind  int
	}{
		{nil, 0, 0, content.Unknown, 0},
		{[]stats.Key{key(1), key(2)}, 2250 * time.Millisecond, 0, content.Package, 0},
		{[]stats.Key{key(2)}, 250 * time.Millisecond, 0, content.Vet, 0},
		{[]stats.Key{key(3)}, 0, 0, content.Message, 0}, // known to cost nothing
		{[]stats.Key{key(4)}, (1<<24 - 2) * time.Millisecond, 0, content.Unknown, 1},
		{[]stats.Key{key(1), key(5)}, 2 * time.Second, 1, content.Package, 1},
		{[]stats.Key{key(6)}, 0, 1, content.Package, 0},
		{[]stats.Key{key(7)}, time.Second, 0, content.Index, 0},
	} {
		sum := costs.Sum(tt.keys)
		if sum.Cost != tt.sum || sum.Unknown != tt.unknown || len(sum.NoKind) != tt.noKind || len(tt.keys) > 0 && sum.Kinds[tt.kind] == 0 {
			t.Errorf("Sum(%v) = %+v; want %+v", tt.keys, sum, tt)
		}
	}
}

// The table's size does not depend on how much is put in, what it holds is
// right, and at its nominal load it still knows most.
func TestCostsAreBounded(t *testing.T) {
	dir := t.TempDir()
	costs := stats.OpenCosts(dir)
	const n = 100_000
	all := make(map[stats.Key]stats.Fact, n)
	for i := range n {
		all[key(i)] = stats.Fact{Cost: time.Duration(i%1000) * time.Millisecond, Kind: content.Kind(i % int(content.Kinds))}
	}
	if err := costs.Add(all); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "larder", "actions"))
	if err != nil || info.Size() > 1<<20 {
		t.Fatalf("table: %v, %v", info, err)
	}
	known := 0
	for k, want := range all {
		sum := costs.Sum([]stats.Key{k})
		if sum.Unknown == 1 {
			continue
		}
		if known++; sum.Cost != want.Cost || sum.Kinds[want.Kind] != 1 {
			t.Fatalf("of %x: %+v, want %+v", k, sum, want)
		}
		if known == 200 {
			break
		}
	}
	keys := make([]stats.Key, 0, n)
	for k := range all {
		keys = append(keys, k)
	}
	if sum := costs.Sum(keys); sum.Unknown > n/5 {
		t.Errorf("%d of %d unknown", sum.Unknown, n)
	}
}

func FuzzCostTable(f *testing.F) {
	f.Add([]byte("short"), uint64(1))
	f.Fuzz(func(t *testing.T, table []byte, k uint64) {
		dir := t.TempDir()
		os.Mkdir(filepath.Join(dir, "larder"), 0o777)
		os.WriteFile(filepath.Join(dir, "larder", "actions"), table, 0o666)
		costs := stats.OpenCosts(dir)
		costs.Sum([]stats.Key{stats.Key(k)})
		if err := costs.Add(map[stats.Key]stats.Fact{stats.Key(k): {Cost: time.Second, Kind: content.Vet}}); err != nil {
			t.Fatal(err)
		}
		if sum := costs.Sum([]stats.Key{stats.Key(k)}); sum.Cost != time.Second || sum.Unknown != 0 || sum.Kinds[content.Vet] != 1 {
			t.Errorf("Sum = %+v", sum)
		}
	})
}

func BenchmarkCostsSum(b *testing.B) {
	costs := stats.OpenCosts(b.TempDir())
	all := make(map[stats.Key]stats.Fact)
	var keys []stats.Key
	for i := range 2500 {
		all[key(i)] = stats.Fact{Cost: time.Second, Kind: content.Package}
		keys = append(keys, key(i))
	}
	if err := costs.Add(all); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for range b.N {
		costs.Sum(keys)
	}
}
