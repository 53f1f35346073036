package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// buildBase fills the GOCACHE that scripts begin with.
func buildBase(dir string) error {
	machine, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return fmt.Errorf("find the machine's GOCACHE: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	prog, err := cacheprog.JoinCommand([]string{exe})
	if err != nil {
		return err
	}
	module, base := filepath.Join(dir, "module"), filepath.Join(dir, "base")
	for name, text := range map[string]string{
		"go.mod":    "module example.com/base\n\ngo 1.24\n",
		"m.go":      "package main\n\nimport (\n\t_ \"encoding/json\"\n\t_ \"errors\"\n\t_ \"fmt\"\n\t_ \"os\"\n\t_ \"strings\"\n)\n\nfunc main() {}\n",
		"m_test.go": "package main\n\nimport \"testing\"\n\nfunc Test(t *testing.T) {}\n",
	} {
		if err := errors.Join(os.MkdirAll(module, 0o777), os.MkdirAll(base, 0o777), os.WriteFile(filepath.Join(module, name), []byte(text), 0o666)); err != nil {
			return err
		}
	}
	cmd := exec.Command("go", "test", ".")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOCACHE="+base, "GOCACHEPROG="+prog, fillFrom+"="+strings.TrimSpace(string(machine)), "GOFLAGS=-buildvcs=false", "GOENV=off", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the commonest packages: %w\n%s", err, out)
	}
	return nil
}

// fillFrom is a variable that makes the test program a cache program, which fills
// $GOCACHE with what is in the directory that it names, or else is put. Most of the
// standard library the machine's go command has compiled already, for the tests.
const fillFrom = "LARDER_E2E_FILL_FROM"

type filler struct{ from, to *store.Store }

func fill(from string) error {
	f := &filler{from: store.Open(store.Options{Dir: from}), to: store.Open(store.Options{Dir: os.Getenv("GOCACHE")})}
	defer f.from.Close()
	defer f.to.Close()
	return cacheprog.Serve(context.Background(), os.Stdin, os.Stdout, f, nil)
}

func (f *filler) Get(_ context.Context, action cacheprog.ActionID) (cacheprog.Entry, error) {
	id := entry.ActionID(action)
	if o, err := f.from.Peek(id); err == nil {
		if err := f.copy(id, o); err != nil {
			return cacheprog.Entry{}, err
		}
	}
	o, err := f.to.Get(id)
	if err != nil {
		return cacheprog.Entry{}, cacheprog.ErrMiss
	}
	return cacheprog.Entry{OutputID: cacheprog.OutputID(o.OutputID), Size: o.Size, Time: o.Time, DiskPath: o.DiskPath}, nil
}

func (f *filler) copy(id entry.ActionID, o entry.Object) error {
	body, err := os.Open(o.DiskPath)
	if err != nil {
		return err
	}
	defer body.Close()
	return f.to.Import(id, o.OutputID, o.Size, o.Time, body)
}

func (f *filler) Put(_ context.Context, p cacheprog.Put) (string, error) {
	return f.to.Put(entry.ActionID(p.ActionID), entry.OutputID(p.OutputID), p.Size, p.Body)
}

// linkBase has a GOCACHE begin with what buildBase has made. The files are shared:
// the go command and Larder replace files, and never write to them.
func linkBase(cache string) error {
	base := filepath.Join(os.Getenv("LARDER_E2E_BIN"), "base")
	return filepath.WalkDir(base, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(cache, strings.TrimPrefix(path, base))
		switch {
		case d.IsDir() && d.Name() == "larder":
			return fs.SkipDir // Larder has never been where a script begins
		case d.IsDir():
			return os.MkdirAll(to, 0o777)
		case strings.HasSuffix(path, "-a"), strings.HasSuffix(path, "-d"):
			return os.Link(path, to)
		}
		return nil
	})
}
