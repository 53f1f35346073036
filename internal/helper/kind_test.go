package helper_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/helper"
)

// Sessions that need the same actions are of one kind, others are not.
func TestKindKey(t *testing.T) {
	kind := func(args ...string) helper.Kind {
		return helper.Kind{Module: "example.com/m", Dir: ".", Args: append([]string{"go"}, args...), Environ: func(string) string { return "" }}
	}
	base := kind("build", "./...").Key()
	for _, same := range [][]string{
		{"build", "-o", "/tmp/x", "./..."}, {"build", "-o=/tmp/x", "./..."}, {"build", "-v", "-x", "./..."}, {"build", "-p", "4", "./..."},
	} {
		if kind(same...).Key() != base {
			t.Errorf("%q is of another kind", same)
		}
	}
	for _, other := range [][]string{
		{"build", "."}, {"test", "./..."}, {"build", "-race", "./..."}, {"build", "-tags", "x", "./..."}, {"build", "-tags=y", "./..."}, {"build", "-ldflags=-s", "./..."},
	} {
		if kind(other...).Key() == base {
			t.Errorf("%q is of the same kind", other)
		}
	}
	if kind("test", "-run", "A", "-count=1", "./...", "-args", "1").Key() != kind("test", "-run=B", "-v", "-timeout", "1m", "./...", "-args", "2").Key() {
		t.Error("which tests are run makes a kind")
	}
	if kind("run", ".", "-port", "1").Key() != kind("run", ".", "-port", "2").Key() {
		t.Error("a program's arguments make a kind")
	}
	k := kind("build", "./...")
	k.Environ = func(name string) string { return map[string]string{"GOOS": "windows"}[name] }
	if k.Key() == base {
		t.Error("another system is of the same kind")
	}
	k = kind("build", "./...")
	k.Dir = "cmd"
	if k.Key() == base {
		t.Error("another directory is of the same kind")
	}
}

// A go command's kind can be told beforehand: it is that of its session.
func TestKindOf(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("module example.com/m\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	env := func(name string) string { return "the " + name }
	session := helper.Kind{Module: "example.com/m", Dir: "cmd", Environ: env}
	if runtime.GOOS == "linux" || runtime.GOOS == "darwin" { // elsewhere a session does not know its command
		session.Args = []string{"go", "build", "-o", "x", "./..."}
	}
	for _, name := range []string{"go", "/usr/local/go/bin/go", "go1.25.0"} {
		k := helper.KindOf([]string{name, "build", "./..."}, filepath.Join(root, "cmd"), env)
		if k.Key() != session.Key() {
			t.Errorf("%s is %+v, its session %+v", name, k, session)
		}
	}
	if names := helper.KindVariables(); !slices.Contains(names, "GOVERSION") {
		t.Errorf("variables %q", names)
	}
}

// What is shown of a command has no secrets and no directories.
func TestKindCommand(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"go build ./...", "go build ./..."},
		{"go build -race -tags netgo,x -o /home/me/bin/x -v ./cmd/x", "go build -race -tags netgo,x -o … -v ./cmd/x"},
		{"go build -ldflags=-X=main.key=SECRET -tags=a .", "go build -ldflags=… -tags=a ."},
		{"go build -ldflags -X=main.key=SECRET .", "go build -ldflags … ."},
		{"go build /home/me/secret-project/cmd/x", "go build …/x"},
		{"go test -run TestSECRET -count=1 ./... -args -token=SECRET", "go test -run … -count=1 ./... -args …"},
		{"go test . -token SECRET -key=SECRET", "go test . -token … -key=…"},
		{"go run -race . -password SECRET", "go run -race . …"},
		{"go run example.com/x@latest SECRET", "go run example.com/x@latest …"},
		{"go run .", "go run ."},
		{"go tool x -password SECRET", "go tool x …"},
		{"go vet -vettool=/home/me/SECRET ./...", "go vet -vettool=… ./..."},
		{"go list -f {{SECRET}} -deps ./...", "go list -f … -deps ./..."},
		{"go test -exec SECRET -unknown SECRET", "go test -exec … -unknown …"},
		{"go", "go"},
		{"", ""},
	} {
		k := helper.Kind{Args: strings.Fields(tt.args)}
		if got := k.Command(); got != tt.want || strings.Contains(got, "SECRET") || strings.Contains(got, "/home") {
			t.Errorf("%q is shown as %q, want %q", tt.args, got, tt.want)
		}
	}
}

// The kind is found from where the process is and who started it.
func TestFindKind(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("// a comment\nmodule \"example.com/quoted\" // why not\n\ngo 1.24\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(root, "cmd", "x")
	if err := os.MkdirAll(below, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Chdir(below)
	k := helper.FindKind()
	if k.Module != "example.com/quoted" || k.Dir != "cmd/x" {
		t.Errorf("module %q, directory %q", k.Module, k.Dir)
	}
	if args := k.Args; args != nil && (len(args) == 0 || filepath.Base(args[0]) != args[0]) {
		t.Errorf("arguments %q", args)
	}
}

// BenchmarkFindKind is what finding out what a session is for costs it.
func BenchmarkFindKind(b *testing.B) {
	for b.Loop() {
		k := helper.FindKind()
		k.Command()
	}
}
