package content_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/larder-build/larder/internal/content"
)

// archives builds packages with the go command and returns their archives by import path.
func archives(t *testing.T, dir string, packages ...string) map[string][]byte {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps", "-export", "-f", "{{if .Export}}{{.ImportPath}} {{len .CgoFiles}} {{.Export}}{{end}}"}, packages...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	bodies := make(map[string][]byte)
	for line := range strings.Lines(string(out)) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if bodies[f[0]], err = os.ReadFile(f[2]); err != nil {
			t.Fatal(err)
		}
	}
	return bodies
}

// A package with cgo is not portable, one without does, be it with assembly or
// with much in it; however it is read.
func TestPortable(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":               "module example.com/m\n\ngo 1.24\n",
		"only/only.go":         "package only\n\n// enum { answer = 42 };\nimport \"C\"\n\nconst Answer = C.answer\n",
		"code/code.go":         "package code\n\nimport \"C\"\n\nfunc F() {}\n",
		"code/code.c":          "int f(void) { return 1; }\n",
		"exports/exports.go":   "package exports\n\nimport \"C\"\n\n//export F\nfunc F() {}\n",
		"importer/importer.go": "package importer\n\nimport \"example.com/m/only\"\n\nconst Answer = only.Answer\n",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	made := archives(t, dir, "./...", "net/http", "os/user")
	cgo := map[string]bool{
		"example.com/m/only": true, "example.com/m/code": true, "example.com/m/exports": true,
		"net": true, "os/user": true, "runtime/cgo": true, "internal/runtime/cgobench": true,
	}
	if len(made) < 100 || made["example.com/m/only"] == nil || made["runtime/cgo"] == nil || made["example.com/m/importer"] == nil {
		t.Fatalf("only %d archives", len(made))
	}
	for path, body := range made {
		want := !cgo[path]
		if got := content.Portable(body); got != want {
			t.Errorf("%s is portable: %v, want %v", path, got, want)
		}
		for _, piece := range []int{7, 61, 4096, len(body)} {
			seen := content.Reader{R: bytes.NewReader(body)}
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{&seen}, make([]byte, piece)); err != nil {
				t.Fatal(err)
			}
			if got := seen.Portable(); got != want {
				t.Errorf("%s in pieces of %d is portable: %v, want %v", path, piece, got, want)
			}
		}
		for _, cut := range []int{1, 70, len(body) / 2} {
			if content.Portable(body[:len(body)-cut]) {
				t.Errorf("%s without its last %d bytes is portable", path, cut)
			}
		}
	}
}

// Of what is no package only an index is portable.
func TestPortableOthers(t *testing.T) {
	for _, tt := range bodies {
		want := strings.HasPrefix(tt.body, "go index v")
		if got := content.Portable([]byte(tt.body)); got != want {
			t.Errorf("%.40q is portable: %v, want %v", tt.body, got, want)
		}
	}
}

// member is a file in an archive.
func member(name, text string) string {
	header := name + strings.Repeat(" ", 48-len(name))
	size := len(text)
	digits := ""
	for n := size; n > 0 || digits == ""; n /= 10 {
		digits = string(rune('0'+n%10)) + digits
	}
	return header + digits + strings.Repeat(" ", 10-len(digits)) + "`\n" + text + strings.Repeat("\x00", size%2)
}

// However a body is read, it is portable or not.
func FuzzPortable(f *testing.F) {
	own, odd := member("_go_.o", "go object linux amd64 go1.26.8\n!\n"), member("__.PKGDEF", "go object linux amd64\n")
	for _, body := range []string{
		"!<arch>\n" + odd + own, "!<arch>\n" + own + odd, "!<arch>\n" + own + member("_x001.o", "\x7fELF\x02\x01\x01"),
		"!<arch>\n" + own + member("preferlinkext", ""), "!<arch>\n" + own + member("x.o", "go object "), "!<arch>\n", "!<arch>\n" + own + own[:65],
		"!<arch>\n" + strings.Replace(own, "33 ", "99 ", 1), "!<arch>\n" + strings.Replace(own, "33 ", "-1 ", 1), "go index v2\n",
	} {
		f.Add([]byte(body), int64(1))
		f.Add([]byte(body), int64(69))
	}
	f.Fuzz(func(t *testing.T, body []byte, step int64) {
		want := content.Portable(body)
		for _, r := range []io.Reader{bytes.NewReader(body), iotest.OneByteReader(bytes.NewReader(body)), iotest.DataErrReader(bytes.NewReader(body))} {
			seen := content.Reader{R: r}
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{&seen}, make([]byte, 1+uint64(step)%200)); err != nil {
				t.Fatal(err)
			}
			if got := seen.Portable(); got != want {
				t.Errorf("read in pieces it is portable: %v, whole: %v", got, want)
			}
		}
		if got, ok := content.PortableFile(bytes.NewReader(body), int64(len(body))); got != want || !ok {
			t.Errorf("in a file it is portable: %v, %v, whole: %v", got, ok, want)
		}
	})
}
