package cacheprog_test

import (
	"fmt"
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

func testGoCommand(t *testing.T, toolchain string) {
	module, cache, log := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "log")
	writeFiles(t, module, map[string]string{
		"go.mod":        "module example.com/tiny\n\ngo 1.24\n",
		"main.go":       "package main\n\nimport \"example.com/tiny/sum\"\n\nfunc main() { println(sum.Sum(1, 2)) }\n",
		"sum/sum.go":    "package sum\n\nfunc Sum(a, b int) int { return a + b }\n",
		"sum/s_test.go": "package sum\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif Sum(1, 2) != 3 {\n\t\tt.Fatal()\n\t}\n}\n",
	})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command, err := cacheprog.JoinCommand([]string{exe})
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (figures string) {
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
	// The go command asks for some actions that it never puts: list for the executable that it would link, and vet for facts
	// that are there only when something was found. What it does put, it must find.
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
		var hits, misses int
		if _, err := fmt.Sscanf(second, "%d hits, %d misses", &hits, &misses); err != nil {
			t.Fatal(err)
		}
		if misses > row.missesMax || hits == 0 {
			t.Errorf("%s the second time: %s, want hits and at most %d misses", name, second, row.missesMax)
		}
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
		// The go command caches no index of what is younger than two seconds (cmd/go/internal/modindex, modTimeCutoff).
		old := time.Now().Add(-time.Hour)
		for _, path := range []string{path, filepath.Dir(path), dir} {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
}
