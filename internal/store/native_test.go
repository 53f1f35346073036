package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// A program is a module of packages that import nothing, so that compiling it
// takes no time.
func newProgram(t *testing.T) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	dir = t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module program\n\ngo 1.24\n",
		"a/a.go": "package a\n\nfunc A() int { return 1 }\n",
		"b/b.go": "package b\n\nimport \"program/a\"\n\nfunc B() int { return a.A() + 1 }\n",
		"c/c.go": "package c\n\nimport \"program/b\"\n\nfunc C() int { return b.B() + 1 }\n",
	} {
		name = filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(name), 0o777)
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// buildNatively builds the program without a cache program and returns how many
// packages that compiled.
func buildNatively(t *testing.T, program, cache string) (compiled int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-x", "./...")
	cmd.Dir = program
	cmd.Env = append(os.Environ(), "GOCACHE="+cache, "GOCACHEPROG=", "GOFLAGS=", "GOENV=off", "GOWORK=off", "GOPROXY=off", "GOTOOLCHAIN=local", "GODEBUG=")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("go build: %v\n%s", err, log.Bytes())
	}
	for line := range strings.Lines(log.String()) {
		if tool, _, _ := strings.Cut(line, " "); strings.TrimSuffix(filepath.Base(tool), ".exe") == "compile" {
			compiled++
		}
	}
	return compiled
}

// actions lists the actions of a store by its file names.
func actions(t *testing.T, dir string) (ids []entry.ActionID) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "[0-9a-f][0-9a-f]", "*-a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var id entry.ActionID
		if n, err := hex.Decode(id[:], []byte(strings.TrimSuffix(filepath.Base(name), "-a"))); n != len(id) || err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids = append(ids, id)
	}
	return ids
}

// What the go command has put is found here, and what is put here is found by
// the go command.
func TestGoCommandSharesTheStore(t *testing.T) {
	program, native, copied := newProgram(t), t.TempDir(), t.TempDir()
	if n := buildNatively(t, program, native); n != 3 {
		t.Fatalf("the first build compiled %d packages, want 3", n)
	}
	ids := actions(t, native)
	if len(ids) < 3 {
		t.Fatalf("%d actions after a build of 3 packages", len(ids))
	}
	from, to := store.Open(store.Options{Dir: native}), store.Open(store.Options{Dir: copied})
	defer from.Close()
	defer to.Close()
	for _, id := range ids {
		o, err := from.Get(id)
		if err != nil {
			t.Fatalf("get what the go command put: %v", err)
		}
		data, err := os.ReadFile(o.DiskPath)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(data)) != o.Size || sha256.Sum256(data) != o.OutputID {
			t.Fatalf("%s is not what the object says: %+v", o.DiskPath, o)
		}
		if _, err := to.Put(id, o.OutputID, o.Size, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	wantSound(t, native)
	wantSound(t, copied)
	if n := buildNatively(t, program, copied); n != 0 {
		t.Errorf("a build on what was put here compiled %d packages, want none", n)
	}
	if n := buildNatively(t, program, t.TempDir()); n != 3 {
		t.Errorf("a build on nothing compiled %d packages, want 3", n)
	}
}
