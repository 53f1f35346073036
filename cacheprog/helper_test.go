package cacheprog_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// programEnv makes the test binary be the program that it names.
const programEnv = "CACHEPROG_TEST_PROGRAM"

// programs are what the test binary can be, besides a test binary.
var programs = map[string]func() error{"dir": dirProgram}

func TestMain(m *testing.M) {
	name := os.Getenv(programEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := programs[name](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// dirProgram is a cache program on the directory CACHEPROG_TEST_DIR, which leaves a line of figures in CACHEPROG_TEST_LOG.
func dirProgram() error {
	in, out, err := cacheprog.Stdio()
	if err != nil {
		return err
	}
	fmt.Println("a stray line, which must not reach the go command")
	return cacheprog.Serve(context.Background(), in, out, &dirCache{dir: os.Getenv("CACHEPROG_TEST_DIR"), log: os.Getenv("CACHEPROG_TEST_LOG")}, nil)
}

// indexStart is what the index of a package begins with (cmd/go/internal/modindex/write.go and read.go, indexVersion).
const indexStart = "go index v"

// A dirCache is a handler on a directory: an action's file holds its Entry.
type dirCache struct {
	dir, log     string
	hits, misses counter
	puts         counter
	indexes      counter // puts of what was not there, and is the index of a module's package
}

func (c *dirCache) Get(ctx context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
	var e cacheprog.Entry
	data, err := os.ReadFile(filepath.Join(c.dir, "a-"+id.String()))
	if errors.Is(err, fs.ErrNotExist) {
		c.misses.inc()
		return e, cacheprog.ErrMiss
	}
	if err != nil {
		return e, err
	}
	c.hits.inc()
	return e, gob.NewDecoder(bytes.NewReader(data)).Decode(&e)
}

func (c *dirCache) Put(ctx context.Context, p cacheprog.Put) (string, error) {
	c.puts.inc()
	path := filepath.Join(c.dir, "a-"+p.ActionID.String())
	body := bufio.NewReader(p.Body)
	if start, _ := body.Peek(len(indexStart)); string(start) == indexStart {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			c.indexes.inc()
		}
	}
	e := cacheprog.Entry{OutputID: p.OutputID, Size: p.Size, Time: time.Now(), DiskPath: filepath.Join(c.dir, "o-"+p.OutputID.String())}
	if err := c.write(e.DiskPath, body); err != nil {
		return "", err
	}
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(e); err != nil {
		return "", err
	}
	return e.DiskPath, c.write(path, &data)
}

func (c *dirCache) write(path string, r io.Reader) error {
	f, err := os.CreateTemp(c.dir, "tmp-")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (c *dirCache) Close(ctx context.Context) error {
	if c.log == "" {
		return nil
	}
	return os.WriteFile(c.log, fmt.Appendf(nil, "%d hits, %d misses, %d puts, %d of them new indexes", c.hits.n.Load(), c.misses.n.Load(), c.puts.n.Load(), c.indexes.n.Load()), 0o666)
}

// A counter counts.
type counter struct{ n atomic.Int64 }

func (c *counter) inc() { c.n.Add(1) }
