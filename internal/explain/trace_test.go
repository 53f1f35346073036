package explain_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/explain"
)

// read reads a trace of testdata. Those there are of real go commands; README there
// says which.
func read(t testing.TB, name string) *explain.Trace {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	trace, err := explain.ReadTrace(f)
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

func find(t *testing.T, trace *explain.Trace, kind, pkg string) explain.Action {
	t.Helper()
	for _, a := range trace.Actions {
		if a.Kind == kind && a.Package == pkg {
			return a
		}
	}
	t.Fatalf("no %s %s in the trace", kind, pkg)
	return explain.Action{}
}

func TestReadTrace(t *testing.T) {
	for _, version := range []string{"go1.24.0", "go1.25.0", "go1.26.8"} {
		t.Run(version, func(t *testing.T) {
			trace := read(t, version+".trace")
			if trace.GoVersion != version {
				t.Errorf("version %q", trace.GoVersion)
			}
			build := find(t, trace, explain.Build, "example.com/m/a")
			if len(build.ID) != 64 || !has(build.Inputs, "goos linux goarch amd64") || !has(build.Inputs, "file a.go ") || !has(build.Inputs, "import fmt ") {
				t.Errorf("build: %+v", build)
			}
			vet := find(t, trace, explain.Vet, "example.com/m/a")
			if !has(vet.Inputs, "pkg ") {
				t.Errorf("vet: %+v", vet)
			}
			link := find(t, trace, explain.Link, "example.com/m/a.test")
			if !has(link.Inputs, "packagefile example.com/m/a=") {
				t.Errorf("link: %+v", link)
			}
			test := find(t, trace, explain.Test, "example.com/m/a")
			for _, want := range []string{"binary ", `args ["-test.timeout=10m0s"]`, `env "FOO" unset`, `env "BAR" sha256:`, `open "/src/m/a/a.go" `, `open "/src/m/a" `, `stat "/src/m/go.mod" `} {
				if !has(test.Inputs, want) {
					t.Errorf("test has no %s: %q", want, test.Inputs)
				}
			}
			if text := strings.Join(test.Inputs, "\n"); strings.Contains(text, "secret") || strings.Contains(text, "GODEBUG") {
				t.Errorf("a value, or GODEBUG, is in %q", test.Inputs)
			}
		})
	}
}

func has(lines []string, prefix string) bool {
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

const sum = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// Hashes of one name that are computed at the same time cannot be told apart.
func TestMixedHashesAreLeftOut(t *testing.T) {
	other, third := strings.Replace(sum, "0", "1", 1), strings.Replace(sum, "0", "2", 1)
	trace, err := explain.ReadTrace(strings.NewReader(`HASH[build p]
HASH[build p]: "go1.26.8"
HASH[build p]
HASH[build p]: "go1.26.8"
HASH[build p]: "file a.go 1\n"
HASH[build p]: ` + sum + `
HASH[build p]: ` + other + `
HASH[build p]
HASH[build p]: "go1.26.8"
HASH[build p]: "file b.go 1\n"
HASH[build p]: ` + third + "\n"))
	if err != nil || len(trace.Actions) != 1 || trace.Actions[0].Inputs[0] != "file b.go 1" || trace.Kinds[other] != "build" {
		t.Errorf("%+v, %v", trace, err)
	}
}

func TestSameHashTwiceIsOneAction(t *testing.T) {
	once := "HASH[link p]\nHASH[link p]: \"go1.26.8\"\nHASH[link p]: \"link\\n\"\nHASH[link p]: " + sum + "\n"
	trace, err := explain.ReadTrace(strings.NewReader(once + once))
	if err != nil || len(trace.Actions) != 1 {
		t.Errorf("%+v, %v", trace, err)
	}
}

// Lines without an end take no memory.
func TestLongLinesAreSkipped(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 3<<20)
	in := append(append([]byte("HASH[build p]: \""), long...), "\"\nHASH[build p]\nHASH[build p]: \"go1.26.8\"\nHASH[build p]: "+sum+"\n"...)
	trace, err := explain.ReadTrace(bytes.NewReader(in))
	if err != nil || len(trace.Actions) != 1 {
		t.Errorf("%+v, %v", trace, err)
	}
}

func FuzzReadTrace(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.trace")
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("HASH[testInputs]: \"x\"\nHASH[\nHASH]\nHASH subkey a = b\ntestcache: p: test ID  => \ntestcache: caching disabled"))
	f.Fuzz(func(t *testing.T, data []byte) {
		trace, err := explain.ReadTrace(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		// Whatever it is, it can be explained, against itself and nothing.
		r := &explain.Recording{Actions: trace.Actions}
		accesses := make(map[string]explain.Access)
		for _, a := range trace.Actions {
			accesses[a.ID] = explain.Access{Missed: true}
		}
		half := &explain.Recording{Actions: trace.Actions[:len(trace.Actions)/2]}
		for _, against := range []bool{true, false} {
			for _, before := range [][]*explain.Recording{nil, {r}, {half}} {
				answer := explain.Explain(explain.Question{Now: r, Accesses: accesses, Kinds: trace.Kinds, Before: before, Against: against, Disabled: trace.Disabled})
				var out bytes.Buffer
				answer.Write(&out, explain.Style{All: true})
			}
		}
	})
}

func FuzzReadRecording(f *testing.F) {
	f.Add([]byte(`{"version":1,"go":"go1.26.8","actions":[{"k":"build","p":"p","i":"x","l":["file a.go 1","modinfo \"dep\\tx\\ty\"","dir /a@v1/b","import p x"]}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"actions":[{"k":"test","p":"p","l":["binary ","open \"x\" 1 2 3 true","env \"x"]}]}`))
	now := read(f, "go1.26.8.trace")
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "r")
		var file bytes.Buffer
		z := gzip.NewWriter(&file)
		z.Write(data)
		z.Close()
		if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := explain.ReadRecording(name)
		if err != nil {
			return
		}
		for _, q := range []explain.Question{
			{Now: r, Before: []*explain.Recording{{Actions: now.Actions}}, Against: true},
			{Now: &explain.Recording{Actions: now.Actions}, Before: []*explain.Recording{r}, Against: true},
			{Now: r, Before: []*explain.Recording{r}},
		} {
			explain.Explain(q).Write(io.Discard, explain.Style{})
		}
	})
}
