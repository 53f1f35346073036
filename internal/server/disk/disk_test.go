package disk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/disk"
)

// A clock is set by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// open opens a store that is checked and closed at the end of the test.
func open(t testing.TB, o disk.Options) *disk.Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Reserve == 0 {
		o.Reserve = 64 << 10
	}
	s, err := disk.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(true); err != nil {
			t.Errorf("at the end: %v", err)
		}
		if err := s.Close(); err != nil && !errors.Is(err, disk.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

// reopen closes a store and opens its directory anew.
func reopen(t testing.TB, s *disk.Store, o disk.Options) *disk.Store {
	t.Helper()
	check(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := disk.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	check(t, s)
	return s
}

func check(t testing.TB, s *disk.Store) {
	t.Helper()
	if err := s.Check(false); err != nil {
		t.Fatal(err)
	}
}

// until waits for what the store does by itself.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited until %s", what)
		}
	}
}

func action(n int) entry.ActionID {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	return sha256.Sum256(b[:])
}

// body is n bytes that depend on a seed.
func body(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

func header(id entry.ActionID, body []byte) *entry.Header {
	return &entry.Header{
		ActionID: id, OutputID: sha256.Sum256(body), Size: int64(len(body)), Stored: int64(len(body)),
		Time: time.Unix(1700000000, 5), Cost: time.Second, Writer: "ci", Sum: entry.Checksum(body),
	}
}

func put(t testing.TB, s *disk.Store, ns string, id entry.ActionID, body []byte) {
	t.Helper()
	if err := tryPut(s, ns, id, body); err != nil {
		t.Fatal(err)
	}
}

func tryPut(s *disk.Store, ns string, id entry.ActionID, body []byte) error {
	b := s.NewBatch(ns)
	defer b.Close()
	if err := b.Add(header(id, body), bytes.NewReader(body)); err != nil {
		return err
	}
	return b.Commit()
}

func get(s *disk.Store, ns string, id entry.ActionID) (entry.Header, []byte, error) {
	i, err := s.Get(ns, id)
	if err != nil {
		return entry.Header{}, nil, err
	}
	defer i.Close()
	if err := i.Verify(); err != nil {
		return entry.Header{}, nil, err
	}
	b, err := io.ReadAll(i.Checked())
	return i.Header, b, err
}

func want(t testing.TB, s *disk.Store, ns string, id entry.ActionID, body []byte) {
	t.Helper()
	h, got, err := get(s, ns, id)
	if err != nil {
		t.Fatalf("get %v: %v", id, err)
	}
	if w := header(id, body); fmt.Sprint(h) != fmt.Sprint(*w) {
		t.Fatalf("header %v, want %v", h, *w)
	}
	if !bytes.Equal(got, body) {
		t.Fatalf("body of %d bytes, want another of %d", len(got), len(body))
	}
}

func wantNone(t testing.TB, s *disk.Store, ns string, id entry.ActionID) {
	t.Helper()
	if _, _, err := get(s, ns, id); !errors.Is(err, disk.ErrNotFound) {
		t.Fatalf("get %v: %v, want ErrNotFound", id, err)
	}
}

var sizes = []int{0, 1, 1000, 64 << 10, 64<<10 + 1, 300 << 10, 3 << 20}

func TestRoundTrip(t *testing.T) {
	o := disk.Options{Dir: t.TempDir(), Reserve: 1}
	s := open(t, o)
	b := s.NewBatch("team")
	for i, n := range sizes {
		body := body(uint64(i), n)
		if err := b.Add(header(action(i), body), bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		wantNone(t, s, "team", action(i))
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	b.Close()
	for _, again := range []bool{false, true} {
		if again {
			s = reopen(t, s, o)
		}
		for i, n := range sizes {
			want(t, s, "team", action(i), body(uint64(i), n))
			wantNone(t, s, "other", action(i))
			if h, err := s.Stat("team", action(i)); err != nil || h.Size != int64(n) {
				t.Fatalf("stat: %+v, %v", h, err)
			}
		}
		var ids []entry.ActionID
		if err := s.Actions("team", func(id entry.ActionID) bool { ids = append(ids, id); return true }); err != nil {
			t.Fatal(err)
		}
		if len(ids) != len(sizes) || !slices.IsSortedFunc(ids, func(a, b entry.ActionID) int { return bytes.Compare(a[:], b[:]) }) {
			t.Fatalf("actions %v", ids)
		}
		if ns := s.Namespaces(); !slices.Equal(ns, []string{"team"}) {
			t.Fatalf("namespaces %q", ns)
		}
		if st := s.Stats(); st.Entries != int64(len(sizes)) || st.Namespaces["team"] != st.Usage || st.Bytes < 3<<20 {
			t.Fatalf("stats %+v", st)
		}
	}
	for i := range sizes {
		if err := s.Delete("team", action(i)); err != nil {
			t.Fatal(err)
		}
		wantNone(t, s, "team", action(i))
	}
	check(t, s)
	if st := s.Stats(); st.Usage != (disk.Usage{}) || len(st.Namespaces) != 0 {
		t.Fatalf("stats %+v of an empty store", st)
	}
}

func TestLastPutCounts(t *testing.T) {
	s := open(t, disk.Options{})
	for i, n := range []int{10, 100 << 10, 200 << 10, 20, 0, 70 << 10} {
		put(t, s, "", action(1), body(uint64(i), n))
		want(t, s, "", action(1), body(uint64(i), n))
		check(t, s) // no old file either
		if st := s.Stats(); st.Entries != 1 || st.Bytes < int64(n) || st.Bytes > int64(n)+8192 {
			t.Fatalf("stats %+v after a body of %d bytes", st, n)
		}
	}
}

func TestLastInBatchCounts(t *testing.T) {
	s := open(t, disk.Options{})
	b := s.NewBatch("")
	defer b.Close()
	for i, n := range []int{100 << 10, 10, 90 << 10, 80 << 10} {
		if err := b.Add(header(action(1), body(uint64(i), n)), bytes.NewReader(body(uint64(i), n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, s, "", action(1), body(3, 80<<10))
	check(t, s)
}

func TestLargeBatch(t *testing.T) {
	s := open(t, disk.Options{})
	for range 2 { // the second replaces all of the first
		b := s.NewBatch("")
		for i := range 300 {
			n := 30 << 10
			if i%5 == 0 {
				n = 66 << 10
			}
			if err := b.Add(header(action(i), body(uint64(i), n)), bytes.NewReader(body(uint64(i), n))); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		b.Close()
	}
	if st := s.Stats(); st.Entries != 300 {
		t.Fatalf("%d entries, want 300", st.Entries)
	}
	check(t, s)
}

func TestBlobs(t *testing.T) {
	o := disk.Options{Dir: t.TempDir(), Reserve: 1}
	s := open(t, o)
	for i, n := range []int{5, 100 << 10, 0} {
		if err := s.PutBlob("ns", "manifest/main", body(uint64(i), n)); err != nil {
			t.Fatal(err)
		}
		s = reopen(t, s, o)
		if got, err := s.GetBlob("ns", "manifest/main"); err != nil || !bytes.Equal(got, body(uint64(i), n)) {
			t.Fatalf("blob of %d bytes: %d, %v", n, len(got), err)
		}
	}
	for _, name := range [][2]string{{"ns", "manifest"}, {"", "manifest/main"}, {"ns", ""}} {
		if _, err := s.GetBlob(name[0], name[1]); !errors.Is(err, disk.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if st := s.Stats(); st.Blobs != 1 || st.Entries != 0 {
		t.Errorf("stats %+v", st)
	}
	if err := s.PutBlob("a\x00b", "c", nil); err == nil {
		t.Error("a namespace with a zero byte is taken")
	}
}

// An item may be read after its entry was replaced.
func TestItemOutlivesEntry(t *testing.T) {
	s := open(t, disk.Options{})
	for _, n := range []int{100, 100 << 10} {
		put(t, s, "", action(1), body(1, n))
		i, err := s.Get("", action(1))
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "", action(1), body(2, n))
		got, err := io.ReadAll(i.Body())
		if err != nil || !bytes.Equal(got, body(1, n)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		i.Close()
	}
}

func TestClosed(t *testing.T) {
	s := open(t, disk.Options{})
	put(t, s, "", action(1), body(1, 100<<10))
	item, err := s.Get("", action(1))
	if err != nil {
		t.Fatal(err)
	}
	b := s.NewBatch("")
	if err := b.Add(header(action(2), nil), bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	check(t, s)
	dir := s.BodyPath("", action(1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	if err := item.Verify(); err != nil {
		t.Error(err)
	}
	item.Close()
	for name, err := range map[string]error{
		"commit": b.Commit(), "close": s.Close(), "delete": s.Delete("", action(1)), "blob": s.PutBlob("", "", nil),
		"actions": s.Actions("", func(entry.ActionID) bool { return true }),
	} {
		if !errors.Is(err, disk.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	b.Close()
}
