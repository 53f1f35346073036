package store_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/store"
)

// TestMain lets the test program be another process on the same store.
func TestMain(m *testing.M) {
	dir := os.Getenv("STORE_TEST_DIR")
	switch os.Getenv("STORE_TEST_CHILD") {
	case "half":
		s := store.Open(store.Options{Dir: dir})
		data := body(9, 400_000)
		s.Put(actionID(9), sha256.Sum256(data), int64(len(data)), io.MultiReader(bytes.NewReader(data[:300_000]), announcing{}))
	case "trim":
		if err := trimChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "busy":
		if err := busy(dir, 400); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// announcing says on standard output that it has been reached, then waits for
// standard input to end.
type announcing struct{}

func (announcing) Read([]byte) (int, error) {
	fmt.Println("half")
	io.Copy(io.Discard, os.Stdin)
	return 0, io.EOF
}

type child struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
	err bytes.Buffer
}

func startChild(t testing.TB, dir, what string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), "STORE_TEST_CHILD="+what, "STORE_TEST_DIR="+dir)
	c.cmd.Stderr = &c.err
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *child) awaitLine(t *testing.T) {
	t.Helper()
	if _, err := c.out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.cmd.Wait()
}

// busy puts, gets and trims as others do at the same time, and checks every hit.
func busy(dir string, rounds int) error {
	now := time.Now().Add(3 * time.Hour) // for its trimming everything is old
	s := store.Open(store.Options{Dir: dir})
	defer s.Close()
	for i := range rounds {
		n := i % 50
		data := body(byte(n), 1+n*3000)
		if i%3 == 0 {
			if _, err := s.Put(actionID(n), sha256.Sum256(data), int64(len(data)), bytes.NewReader(data)); err != nil {
				return fmt.Errorf("put: %w", err)
			}
		}
		o, err := s.Get(actionID(n))
		if errors.Is(err, store.ErrMiss) {
			if reason := store.MissReason(err); reason != store.Absent && reason != store.OutputMissing {
				return fmt.Errorf("get: %w", err)
			}
			continue
		}
		got, err := os.ReadFile(o.DiskPath)
		if err != nil {
			return fmt.Errorf("a hit's file: %w", err)
		}
		if !bytes.Equal(got, data) {
			return fmt.Errorf("action %d: wrong bytes", n)
		}
		if i%100 == 99 {
			o := store.Options{Dir: dir, Now: func() time.Time { return now }}
			if _, err := store.Trim(context.Background(), o, store.Limits{MaxSize: 1000}, nil); err != nil {
				return fmt.Errorf("trim: %w", err)
			}
		}
	}
	return nil
}

// Goroutines and processes put, get and trim the same actions at once. The
// sessions are alive, so that trimming, even with a clock that runs ahead, takes
// nothing from under them.
func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	children := []*child{startChild(t, dir, "busy"), startChild(t, dir, "busy"), startChild(t, dir, "busy")}
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := busy(dir, 400); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for _, c := range children {
		c.in.Close()
		io.Copy(io.Discard, c.out)
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("child: %v: %s", err, strings.TrimSpace(c.err.String()))
		}
	}
	wantSound(t, dir)
}
