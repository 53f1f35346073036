package cacheprog_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// A Folder keeps outputs in a directory, and what it knows of them for as long as it runs.
type Folder struct {
	dir     string
	entries sync.Map // ActionID to Entry
}

func (f *Folder) Get(ctx context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
	if e, ok := f.entries.Load(id); ok {
		return e.(cacheprog.Entry), nil
	}
	return cacheprog.Entry{}, cacheprog.ErrMiss
}

func (f *Folder) Put(ctx context.Context, p cacheprog.Put) (diskPath string, err error) {
	path := filepath.Join(f.dir, p.ActionID.String())
	data, err := io.ReadAll(p.Body)
	if err == nil {
		err = os.WriteFile(path, data, 0o666)
	}
	f.entries.Store(p.ActionID, cacheprog.Entry{OutputID: p.OutputID, Size: p.Size, Time: time.Now(), DiskPath: path})
	return path, err
}

// This is a whole cache program, of which more than one build can make little use: it forgets.
func Example() {
	in, out, err := cacheprog.Stdio()
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "folder-")
	if err != nil {
		log.Fatal(err)
	}
	if err := cacheprog.Serve(context.Background(), in, out, &Folder{dir: dir}, nil); err != nil {
		log.Fatal(err)
	}
}

// A client drives any cache program; here it is one in the same process.
func ExampleClient() {
	requests, toProgram := io.Pipe()
	fromProgram, answers := io.Pipe()
	go func() {
		answers.CloseWithError(cacheprog.Serve(context.Background(), requests, answers, &Folder{dir: os.TempDir()}, nil))
	}()
	ctx := context.Background()
	c, err := cacheprog.NewClient(ctx, fromProgram, toProgram, nil) // or Start(ctx, os.Getenv("GOCACHEPROG"), nil)
	if err != nil {
		log.Fatal(err)
	}
	action := cacheprog.ActionID(sha256.Sum256([]byte("compile hello.go")))
	_, err = c.Get(ctx, action)
	fmt.Println(errors.Is(err, cacheprog.ErrMiss))
	if _, _, err := c.Put(ctx, action, strings.NewReader("an archive")); err != nil {
		log.Fatal(err)
	}
	e, err := c.Get(ctx, action)
	if err != nil {
		log.Fatal(err)
	}
	data, err := os.ReadFile(e.DiskPath)
	fmt.Printf("%s %v\n", data, err)
	fmt.Println(c.Close())
	// Output:
	// true
	// an archive <nil>
	// <nil>
}
