package linked_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/larder-build/larder/internal/linked"
)

// build has the go command link a program.
func build(t *testing.T, args ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only ELF files are recognised")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module example.com/m\n\ngo 1.24\n",
		"main.go": "package main\n\nfunc main() { println(\"hello\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", "exe"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=") // whatever the tests were built with
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "exe")
}

func inspect(t *testing.T, path string) (*linked.Executable, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return linked.Inspect(f)
}

func TestInspect(t *testing.T) {
	for name, args := range map[string][]string{
		"plain": nil, "stripped by the linker": {"-ldflags=-s -w"}, "position independent": {"-buildmode=pie"}, "no GNU build ID": {"-ldflags=-B=none"},
	} {
		t.Run(name, func(t *testing.T) {
			path := build(t, args...)
			e, err := inspect(t, path)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if e.Size != int64(len(data)) || e.OutputID != sha256.Sum256(data) {
				t.Errorf("%+v", e)
			}
			if e.Of(sha256.Sum256([]byte("another action"))) {
				t.Error("it is any action's")
			}
			// Whatever is changed, it does not pass.
			for _, at := range []int{len(data) / 2, len(data) - 1} {
				changed := bytes.Clone(data)
				changed[at] ^= 1
				if err := os.WriteFile(path, changed, 0o777); err != nil {
					t.Fatal(err)
				}
				if _, err := inspect(t, path); !errors.Is(err, linked.ErrOther) {
					t.Errorf("changed at %d: %v", at, err)
				}
			}
			if err := os.WriteFile(path, data[:len(data)-100], 0o777); err != nil {
				t.Fatal(err)
			}
			if _, err := inspect(t, path); !errors.Is(err, linked.ErrOther) {
				t.Errorf("cut off: %v", err)
			}
		})
	}
}

// What a C linker has made depends on the machine.
func TestExternallyLinked(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler")
	}
	if _, err := inspect(t, build(t, "-ldflags=-linkmode=external")); !errors.Is(err, linked.ErrOther) {
		t.Errorf("error %v", err)
	}
}

func TestOthers(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{"empty": {}, "text": []byte("#!/bin/sh\n"), "half a header": []byte("\x7fELF\x02\x01\x01")} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := inspect(t, path); !errors.Is(err, linked.ErrOther) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
