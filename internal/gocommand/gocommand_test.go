package gocommand_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/gocommand"
)

func TestTracedCommand(t *testing.T) {
	for _, tt := range []struct{ args, traced, pretending string }{
		{"go build ./...", "go build -n -p=1 ./...", ""},
		{"go build -C dir -p 8 -o x -coverprofile=y .", "go build -C dir -n -p=1 -o x -coverprofile=scratch .", ""},
		{"go test -race -p=3 -coverprofile c.out ./...", "go test -n -p=1 -race -coverprofile=scratch ./...", "go test -p=1 -race -coverprofile=scratch ./..."},
		{"go test ./... -args -p 3", "go test -n -p=1 ./... -args -p 3", "go test -p=1 ./... -args -p 3"},
		{"go test -c .", "go test -n -p=1 -c .", ""},
		{"go test -a .", "go test -n -p=1 -a .", ""},
		{"go1.25.0 run -p=2 . -p=3", "go1.25.0 run -n -p=1 . -p=3", ""},
		{"go list -export ./...", "go list -p=1 -export ./...", ""},
	} {
		c, err := gocommand.Parse(strings.Fields(tt.args))
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		if got := strings.Join(c.Traced(false, "scratch"), " "); got != tt.traced {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.traced)
		}
		if c.Pretends() != (tt.pretending != "") {
			t.Errorf("%s: pretends: %v", tt.args, c.Pretends())
		} else if got := strings.Join(c.Traced(true, "scratch"), " "); c.Pretends() && got != tt.pretending {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.pretending)
		}
	}
	for _, args := range []string{"", "make", "go", "go env", "go mod tidy"} {
		if _, err := gocommand.Parse(strings.Fields(args)); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// A dry run has no effects, and asks for what another machine needs.
func TestDryCommand(t *testing.T) {
	dir := t.TempDir()
	null := os.DevNull
	sep := string(filepath.Separator)
	for _, tt := range []struct{ args, want string }{
		{"go build ./...", "go build -n -o=" + null + " ./..."},
		{"go build -C sub -o x .", "go build -C sub -n -o=scratch/program ."},
		{"go build -o=" + null + " .", "go build -n -o=" + null + " ."},
		{"go build -o bin/ ./cmd/...", "go build -n -o=scratch" + sep + " ./cmd/..."},
		{"go build -o " + dir + " .", "go build -n -o=scratch" + sep + " ."},
		{"go install -race ./...", "go build -n -o=" + null + " -race ./..."},
		{"go install example.com/m@v1.0.0", "go install -n example.com/m@v1.0.0"},
		{"go run . -o x", "go run -n . -o x"},
		{"go vet ./...", "go vet -n ./..."},
		{"go test -o x -coverprofile c.out ./... -args -o y", "go test -toolexec=refuse -o=" + null + " -coverprofile=scratch/cover ./... -args -o y"},
		{"go test -toolexec wrap .", "go test -toolexec=refuse wrap ."},
		{"go list -export -deps .", "go list -toolexec=refuse -export -deps ."},
	} {
		c, err := gocommand.Parse(strings.Fields(tt.args))
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
		} else if got := filepath.ToSlash(strings.Join(c.Dry("refuse", "scratch"), " ")); got != filepath.ToSlash(tt.want) {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestDir(t *testing.T) {
	abs := t.TempDir()
	for args, want := range map[string]string{
		"go build ./...": abs, "go test -C": abs, "go build -C sub .": filepath.Join(abs, "sub"), "go vet --C=../a/b": filepath.Join(abs, "../a/b"),
		"go build -C " + abs + "/other .": filepath.Join(abs, "other"), "go build . -C sub": abs,
	} {
		c, err := gocommand.Parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Dir(abs); got != want {
			t.Errorf("%s in %s: %s, want %s", args, abs, got, want)
		}
	}
}
