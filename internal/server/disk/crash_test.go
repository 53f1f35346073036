package disk_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/larder-build/larder/internal/server/disk"
)

const crashEnv = "LARDER_DISK_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		crashChild(dir)
	}
	if dir := os.Getenv(openEnv); dir != "" {
		openChild(dir)
	}
	os.Exit(m.Run())
}

// crashChild puts entries until it is killed. Each line says what is
// acknowledged: the action and the generation of its body.
func crashChild(dir string) {
	generation, _ := strconv.Atoi(os.Getenv(crashEnv + "_GENERATION"))
	s, err := disk.Open(disk.Options{Dir: dir, Reserve: 1})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for g := range 4 {
		go func() {
			r := rand.New(rand.NewPCG(uint64(generation), uint64(g)))
			for n := 0; ; n++ {
				b := s.NewBatch("ns")
				var ids []int
				for range 1 + r.IntN(8) {
					id := 4*r.IntN(100) + g // each has one writer, so that the order is known
					p := crashBody(id, generation*1000000+n)
					if err := b.Add(header(action(id), p), bytes.NewReader(p)); err != nil {
						fmt.Println("error", err)
					}
					ids = append(ids, id)
				}
				err := b.Commit()
				b.Close()
				if r.IntN(10) == 0 {
					err = errors.Join(err, s.PutBlob("ns", strconv.Itoa(g), crashBody(g, generation*1000000+n)))
				}
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
				}
				for _, id := range ids {
					fmt.Println("ok", id, generation*1000000+n)
				}
				mu.Unlock()
			}
		}()
	}
	select {}
}

func crashBody(id, n int) []byte {
	size := []int{0, 50, 3000, 66 << 10}[(id/4)%4]
	if size == 0 {
		return nil
	}
	return append(fmt.Appendf(nil, "%d %d ", id, n), make([]byte, size)...)
}

// What was acknowledged before a process is killed is there after it, and the
// totals are what they should be.
func TestKilledWhilePutting(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	acked := map[int]int{}
	for generation := 1; generation <= rounds; generation++ {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), crashEnv+"="+dir, crashEnv+"_GENERATION="+strconv.Itoa(generation))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		limit, lines := 50+rand.IntN(1500), 0
		for in := bufio.NewScanner(out); in.Scan(); lines++ {
			var id, n int
			if _, err := fmt.Sscanf(in.Text(), "ok %d %d", &id, &n); err != nil {
				t.Errorf("the child says %q", in.Text())
			} else {
				acked[id] = max(acked[id], n)
			}
			if lines == limit {
				cmd.Process.Kill() // and read on what it had still acknowledged
			}
		}
		cmd.Wait()

		s, err := disk.Open(disk.Options{Dir: dir, Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Sweep(); err != nil {
			t.Error(err)
		}
		check(t, s)
		for id, n := range acked {
			_, got, err := get(s, "ns", action(id))
			if err != nil {
				t.Errorf("action %d was acknowledged in %d: %v", id, n, err)
				continue
			}
			if len(crashBody(id, n)) == 0 {
				continue
			}
			// A later one, that it could not acknowledge any more, may be there.
			var gotID, gotN int
			if fmt.Sscan(string(got[:min(40, len(got))]), &gotID, &gotN); gotID != id || gotN < n {
				t.Errorf("action %d: %d of %d, acknowledged was %d", id, gotN, gotID, n)
			}
		}
		if n := s.Stats().Damaged; n != 0 {
			t.Errorf("%d damaged", n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("killed after %d acknowledgements; %d actions", lines, len(acked))
	}
}

// Only files that nothing refers to are removed, and only those of before.
func TestOrphans(t *testing.T) {
	o := disk.Options{Dir: t.TempDir(), Reserve: 1}
	s, err := disk.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		put(t, s, "", action(i), body(uint64(i), 100<<10))
	}
	name := s.BodyPath("", action(1))
	left := strings.TrimSuffix(name, filepath.Base(name)) + "ff" // number 255 is in the same directory
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("left by a crash"), 0o666); err != nil {
		t.Fatal(err)
	}
	if s, err = disk.Open(o); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := s.NewBatch("") // not committed, and not to be swept
	defer b.Close()
	if err := b.Add(header(action(9), body(9, 100<<10)), bytes.NewReader(body(9, 100<<10))); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		want(t, s, "", action(i), body(uint64(i), 100<<10))
	}
	want(t, s, "", action(9), body(9, 100<<10))
	check(t, s)
}
