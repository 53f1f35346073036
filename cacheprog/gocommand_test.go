package cacheprog_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// TestGoCommand has go commands of several releases build and vet a module on a cache program that is this package's.
func TestGoCommand(t *testing.T) {
	for _, toolchain := range []string{"local", "go1.24.0", "go1.25.0"} {
		t.Run(toolchain, func(t *testing.T) {
			if toolchain != "local" {
				if testing.Short() || raceEnabled {
					t.Skip("other toolchains may have to be fetched, and build the same with the race detector")
				}
				cmd := exec.Command("go", "version")
				cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+toolchain)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Skipf("%s cannot be had: %v\n%s", toolchain, err, out)
				}
			}
			testGoCommand(t, toolchain)
		})
	}
}

// TestGoCommandYoung builds a module whose files are young the first time and old the second time, as a toolchain's are that has
// just been unpacked into the module cache.
func TestGoCommandYoung(t *testing.T) {
	module, run := goCommands(t, "local")
	setTimes(t, module, time.Now().Add(time.Hour)) // young however long it takes
	run("build", "./sum")
	setTimes(t, module, time.Now().Add(-time.Hour))
	second := run("build", "./sum")
	if f := figures(t, second); f.hits == 0 || f.misses == 0 || f.misses != f.indexes {
		t.Errorf("the second time: %s, want hits, and misses of new indexes only", second)
	}
}

func testGoCommand(t *testing.T, toolchain string) {
	_, run := goCommands(t, toolchain)
	// The go command asks for some actions that it never puts: list for the executable that it would link, and vet for facts
	// that are there only when something was found. What it does put, it must find. Indexes of packages that were too young
	// the first time it puts the second time: a toolchain may have been unpacked a second ago.
	for _, row := range []struct {
		args      []string
		missesMax int
	}{
		{[]string{"build", "./sum"}, 0},
		{[]string{"build", "-o", t.TempDir(), "."}, 0},
		{[]string{"vet", "./..."}, 2},
		{[]string{"list", "-export", "./..."}, 1},
	} {
		name := "go " + strings.Join(row.args, " ")
		first := run(row.args...)
		second := run(row.args...)
		t.Logf("%s: %s, then %s", name, first, second)
		if f := figures(t, second); f.misses-f.indexes > row.missesMax || f.hits == 0 {
			t.Errorf("%s the second time: %s, want hits and at most %d misses of other things than new indexes", name, second, row.missesMax)
		}
	}
}

// A figure is what dirProgram says of a session.
type figure struct{ hits, misses, puts, indexes int }

func figures(t *testing.T, text string) (f figure) {
	t.Helper()
	if _, err := fmt.Sscanf(text, "%d hits, %d misses, %d puts, %d", &f.hits, &f.misses, &f.puts, &f.indexes); err != nil {
		t.Fatal(err)
	}
	return f
}

// goCommands writes a module, and returns its directory and what runs go commands there on dirProgram, which says what each did.
func goCommands(t *testing.T, toolchain string) (module string, run func(args ...string) (figures string)) {
	t.Helper()
	module = t.TempDir()
	cache, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	writeFiles(t, module, map[string]string{
		"go.mod":        "module example.com/tiny\n\ngo 1.24\n",
		"main.go":       "package main\n\nimport \"example.com/tiny/sum\"\n\nfunc main() { println(sum.Sum(1, 2)) }\n",
		"sum/sum.go":    "package sum\n\nfunc Sum(a, b int) int { return a + b }\n",
		"sum/s_test.go": "package sum\n\nvar three = Sum(1, 2) // without package testing, which takes longer to compile than all else\n",
	})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command, err := cacheprog.JoinCommand([]string{exe})
	if err != nil {
		t.Fatal(err)
	}
	return module, func(args ...string) (figures string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = module
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+toolchain, "GOFLAGS=", "GOWORK=off", "GOCACHEPROG="+command,
			programEnv+"=dir", "CACHEPROG_TEST_DIR="+cache, "CACHEPROG_TEST_LOG="+log)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
}

// writeFiles writes files below dir.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// The go command caches no index of what is younger than two seconds (cmd/go/internal/modindex, modTimeCutoff).
	setTimes(t, dir, time.Now().Add(-time.Hour))
}

// setTimes gives all files below dir, and dir, a modification time.
func setTimes(t *testing.T, dir string, to time.Time) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, to, to))
	})
	if err != nil {
		t.Fatal(err)
	}
}
