package explain_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/explain"
)

// build is an action of a package with inputs, under an ID that follows from them.
func build(pkg string, inputs ...string) explain.Action {
	return explain.Action{Kind: explain.Build, Package: pkg, ID: pkg + strings.Join(inputs, "|"), Inputs: inputs}
}

func recording(actions ...explain.Action) *explain.Recording {
	return &explain.Recording{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), GoVersion: "go1.26.8", Actions: actions}
}

// missed is a question about a command of which all these actions missed.
func missed(before *explain.Recording, actions ...explain.Action) explain.Question {
	q := explain.Question{Now: recording(actions...), Accesses: make(map[string]explain.Access)}
	for _, a := range actions {
		q.Accesses[a.ID] = explain.Access{Missed: true, Put: true}
	}
	if before != nil {
		q.Before = []*explain.Recording{before}
	}
	return q
}

// Each line that the go command hashes is put in words.
func TestChangesInWords(t *testing.T) {
	for _, tt := range []struct{ kind, was, is, want string }{
		{explain.Build, "file a.go 1", "file a.go 2", "file a.go changed"},
		{explain.Build, "file a b.go 1", "file a b.go 2", "file a b.go changed"},
		{explain.Build, "", "file a.go 2", "file a.go is new"},
		{explain.Build, "file a.go 2", "", "file a.go is gone"},
		{explain.Build, "GOAMD64=v1", "GOAMD64=v3", "GOAMD64: v1 became v3"},
		{explain.Build, "", `GOEXPERIMENT="synctest"`, `GOEXPERIMENT: nothing became "synctest"`},
		{explain.Build, "magic GOSSAFUNC=x", "", "GOSSAFUNC: x became nothing"},
		{explain.Build, "goos linux goarch amd64", "goos linux goarch arm64", "platform or build mode: linux goarch amd64 became linux goarch arm64"},
		{explain.Build, "go 1.24", "go 1.25", "the go line of go.mod: 1.24 became 1.25"},
		{explain.Build, `CC=["gcc"] [] ["-O2"] []`, `CC=["clang"] [] ["-O2"] []`, `CC: ["gcc"] [] ["-O2"] [] became ["clang"] [] ["-O2"] []`},
		{explain.Build, `CC ID="gcc 12"`, `CC ID="gcc 13"`, `CC ID: "gcc 12" became "gcc 13"`},
		{explain.Build, "compile compile version go1.26.8 [] []", `compile compile version go1.26.8 [] ["-N" "-l"]`, "flags of the compiler (-gcflags, -race and the like): nothing became -N -l"},
		{explain.Build, "compile compile version a [] []", "compile compile version b [] []", "compile tool: compile version a became compile version b"},
		{explain.Build, "trimpath", "", "-trimpath is not given, and was"},
		{explain.Build, "dir /home/a/src/m/sub", "dir /ci/m/sub", "the directory: /home/a/src became /ci"},
		{explain.Build, "dir /root/go/pkg/mod/example.com/d@v1.0.0/x", "dir /root/go/pkg/mod/example.com/d@v1.1.0/x", "module example.com/d: v1.0.0 became v1.1.0"},
		{explain.Build, `modinfo "path\tp\ndep\texample.com/d\tv1.0.0\th1:a\nbuild\tvcs.revision=a\n"`, `modinfo "path\tp\ndep\texample.com/d\tv1.1.0\th1:b\nbuild\tvcs.revision=a\n"`, "module example.com/d: v1.0.0\th1:a became v1.1.0\th1:b"},
		{explain.Build, `modinfo "build\tvcs.revision=a\n"`, `modinfo "build\tvcs.revision=b\n"`, "build setting vcs.revision: a became b"},
		{explain.Build, "import fmt 1", "import fmt 2", "the output of fmt is another, though it was not made here"},
		{explain.Build, "something new 1", "something new 2", "something: new 1 became new 2"},
		{explain.Link, "link link version go1.26.8 [] exe", `link link version go1.26.8 ["-s"] exe`, "flags of the linker (-ldflags, -buildmode): exe became -s exe"},
		{explain.Link, "GOROOT=/a", "GOROOT=/b", "GOROOT: /a became /b"},
		{explain.Vet, "vetflags []", `vetflags ["-printf=false"]`, "flags of vet: nothing became -printf=false"},
	} {
		a := explain.Action{Kind: tt.kind, Package: "p", ID: "2", Inputs: []string{tt.is}}
		before := recording(explain.Action{Kind: tt.kind, Package: "p", ID: "1", Inputs: []string{tt.was}})
		answer := explain.Explain(missed(before, a))
		if len(answer.Causes) != 1 || answer.Causes[0].What != tt.want || answer.Causes[0].Why != explain.Changed {
			t.Errorf("%q, was %q: %+v, want %q", tt.is, tt.was, answer.Causes, tt.want)
		}
	}
}

// Which module's version is another is said wherever the module cache is.
func TestModuleInWords(t *testing.T) {
	for _, pkg := range []string{"github.com/Big/mod/sub", "github.com/Big/mod", "github.com/Big/mod [other.test]"} {
		const was, is, want = "dir /tmp/cache/github.com/!big/mod@v1.0.0/sub", "dir /tmp/cache/github.com/!big/mod@v1.1.0/sub", "module github.com/Big/mod: v1.0.0 became v1.1.0"
		answer := explain.Explain(missed(recording(build(pkg, was)), build(pkg, is)))
		if len(answer.Causes) != 1 || answer.Causes[0].What != want {
			t.Errorf("%s: %+v, want %q", pkg, answer.Causes, want)
		}
	}
}

func TestTestsInWords(t *testing.T) {
	const file, later, longer = "4 1a4 2026-01-02 03:04:05 +0000 UTC false", "4 1a4 2026-01-03 03:04:05 +0000 UTC false", "5 1a4 2026-01-03 03:04:05 +0000 UTC false"
	const dir, listed = "4096 800001ed 2026-01-02 03:04:05 +0000 UTC true and sha256:aa", "4096 800001ed 2026-01-02 03:04:05 +0000 UTC true and sha256:bb"
	for _, tt := range []struct{ was, is, want string }{
		{`env "FOO" unset`, `env "FOO" sha256:12`, "environment variable FOO, which the test reads, was set"},
		{`env "FOO" sha256:12`, `env "FOO" unset`, "environment variable FOO, which the test reads, was unset"},
		{`env "FOO" sha256:12`, `env "FOO" sha256:13`, "environment variable FOO, which the test reads, changed"},
		{`open "/m/f" ` + file, `open "/m/f" ` + later, "/m/f, which the test reads, has another time: 2026-01-03 03:04:05 +0000 UTC, and had 2026-01-02 03:04:05 +0000 UTC"},
		{`open "/m/f" ` + file, `open "/m/f" ` + longer, "/m/f, which the test reads, has another size: 5, and had 4"},
		{`stat "/m/f" ` + file, `stat "/m/f" ` + strings.Replace(file, "1a4", "1b4", 1), "/m/f, which the test reads, has another mode: 1b4, and had 1a4"},
		{`stat "/m/f" ` + file, `stat "/m/f" err stat /m/f: no such file`, "/m/f, which the test reads, is err stat /m/f: no such file, and was " + file},
		{`open "/m" ` + dir, `open "/m" ` + listed, "/m, which the test reads, lists other files, or others of their times or sizes changed"},
		{"", `open "/m/f" ` + file, "/m/f, which the test reads, was not read before"},
		{`open "/m/f" ` + file, "", "/m/f, which the test reads, is not read any more"},
		{`args ["-test.timeout=10m0s"]`, `args ["-test.timeout=10m0s" "-test.short=true"]`, "flags of the test: -timeout=10m0s became -timeout=10m0s -short=true"},
	} {
		link := explain.Action{Kind: explain.Link, Package: "p.test", ID: "l"}
		now := recording(link, explain.Action{Kind: explain.Test, Package: "p", ID: "t", Inputs: []string{"binary l", tt.is}})
		before := recording(link, explain.Action{Kind: explain.Test, Package: "p", ID: "t", Inputs: []string{"binary l", tt.was}})
		answer := explain.Explain(explain.Question{Now: now, Before: []*explain.Recording{before}, Accesses: map[string]explain.Access{
			"l": {Missed: true}, "t": {Hit: true, Put: true}, // the program was asked for: the test was run
		}})
		if len(answer.Causes) != 1 || answer.Causes[0].What != tt.want || answer.Missed.Tests != 1 {
			t.Errorf("%q, was %q: %+v, want %q", tt.is, tt.was, answer.Causes, tt.want)
		}
	}
}

func TestRootsAndWhatTheyLedTo(t *testing.T) {
	before := recording(
		build("leaf", "file leaf.go 1"), build("middle", "file m.go 1", "import leaf A"), build("top", "import middle A"), build("else", "file e.go 1"))
	leaf, middle, top := build("leaf", "file leaf.go 2"), build("middle", "file m.go 1", "import leaf B"), build("top", "import middle B")
	other := build("else", "file e.go 2")

	t.Run("two roots", func(t *testing.T) {
		answer := explain.Explain(missed(before, leaf, middle, top, other))
		if len(answer.Causes) != 2 || answer.Missed.Packages != 4 {
			t.Fatalf("%+v", answer)
		}
		c := answer.Causes[0]
		if c.What != "file leaf.go changed" || !slices.Equal(c.Packages, []string{"leaf"}) || c.Led.Packages != 2 || !slices.Equal(c.LedTo, []string{"build middle", "build top"}) {
			t.Errorf("first: %+v", c)
		}
		if c = answer.Causes[1]; !slices.Equal(c.Packages, []string{"else"}) || c.Led.Total() != 0 {
			t.Errorf("second: %+v", c)
		}
	})
	t.Run("a root that was a hit", func(t *testing.T) {
		q := missed(before, leaf, middle, top)
		q.Accesses[leaf.ID] = explain.Access{Hit: true}
		answer := explain.Explain(q)
		if len(answer.Causes) != 1 || answer.Missed.Packages != 2 || answer.Hit.Packages != 1 || answer.Causes[0].Led.Packages != 2 || answer.Causes[0].What != "file leaf.go changed, and it was made elsewhere or before" {
			t.Errorf("%+v", answer)
		}
	})
	t.Run("nothing known", func(t *testing.T) {
		answer := explain.Explain(missed(nil, leaf, middle, top))
		if len(answer.Causes) != 1 || answer.Causes[0].Why != explain.New || !slices.Equal(answer.Causes[0].Packages, []string{"leaf"}) || answer.Causes[0].Led.Packages != 2 {
			t.Errorf("%+v", answer)
		}
	})
	t.Run("nothing changed", func(t *testing.T) {
		answer := explain.Explain(missed(recording(leaf), leaf))
		if len(answer.Causes) != 1 || answer.Causes[0].Why != explain.Gone {
			t.Errorf("%+v", answer)
		}
	})
	t.Run("not asked for", func(t *testing.T) {
		q := missed(before, leaf)
		q.Accesses[leaf.ID] = explain.Access{Put: true}
		if answer := explain.Explain(q); len(answer.Causes) != 1 || answer.Causes[0].Why != explain.Forced {
			t.Errorf("%+v", answer)
		}
	})
	t.Run("many files, and another version", func(t *testing.T) {
		old := build("p", "dir /go/pkg/mod/x@v1.0.0/p", "file a.go 1", "file b.go 1", "file c.go 1", "file d.go 1", "file e.go 1", "file f.go 1")
		for _, tt := range []struct{ dir, want string }{
			{"dir /go/pkg/mod/x@v1.0.0/p", "file a.go changed, file b.go changed, file c.go changed, file d.go is gone and 2 more files"},
			{"dir /go/pkg/mod/x@v1.1.0/p", "module x: v1.0.0 became v1.1.0"},
		} {
			answer := explain.Explain(missed(recording(old), build("p", tt.dir, "file a.go 2", "file b.go 2", "file c.go 2")))
			if len(answer.Causes) != 1 || answer.Causes[0].What != tt.want {
				t.Errorf("%+v, want %q", answer, tt.want)
			}
		}
	})
	t.Run("nothing missed", func(t *testing.T) {
		q := missed(before, leaf, other)
		q.Accesses = map[string]explain.Access{leaf.ID: {Hit: true}, other.ID: {Hit: true}}
		if answer := explain.Explain(q); len(answer.Causes) != 0 || answer.Missed.Total() != 0 || answer.Hit.Packages != 2 {
			t.Errorf("%+v", answer)
		}
	})
	t.Run("the nearest that was seen counts", func(t *testing.T) {
		q := missed(recording(build("p", "file a.go 1", "GOAMD64=v3", "trimpath")), build("p", "file a.go 2", "GOAMD64=v1"))
		q.Before = append(q.Before, recording(build("p", "file a.go 1", "GOAMD64=v1")))
		if answer := explain.Explain(q); len(answer.Causes) != 1 || answer.Causes[0].What != "file a.go changed" {
			t.Errorf("%+v", answer)
		}
	})
	t.Run("against", func(t *testing.T) {
		q := missed(before, leaf, middle, top, build("else", "file e.go 1"))
		q.Against, q.Accesses = true, nil
		answer := explain.Explain(q)
		if len(answer.Causes) != 1 || answer.Missed.Packages != 3 || answer.Hit.Packages != 1 {
			t.Errorf("%+v", answer)
		}
		var out bytes.Buffer
		answer.Write(&out, explain.Style{Against: "x"})
		if want := "different from x: 3 packages; the same: 1 package\n- leaf: file leaf.go changed; 2 packages that depend on it were rebuilt\n"; out.String() != want {
			t.Errorf("%s\nwant\n%s", &out, want)
		}
	})
	t.Run("another Go", func(t *testing.T) {
		q := missed(before, leaf, middle)
		q.Now.GoVersion = "go1.27.0"
		answer := explain.Explain(q)
		if len(answer.Causes) != 1 || answer.Causes[0].What != "Go: go1.26.8 became go1.27.0" || len(answer.Causes[0].Packages) != 2 {
			t.Errorf("%+v", answer)
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	h := explain.OpenHistory(dir)
	if list := h.Load(); len(list) != 0 {
		t.Fatalf("%d recordings in nothing", len(list))
	}
	for i := range 20 {
		r := recording(build("p", "file a.go 1"))
		r.Time = r.Time.Add(time.Duration(i) * time.Hour)
		r.Dir, r.Command = "/m", []string{"go", "build", strings.Repeat("x", i/2)} // each twice
		if err := h.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	list := h.Load()
	files, _ := filepath.Glob(filepath.Join(dir, "larder", "explain", "*"))
	if len(list) != 8 || len(files) != 8 || list[0].Time.Sub(list[7].Time) <= 0 {
		t.Errorf("%d recordings in %d files", len(list), len(files))
	}
	for _, name := range files {
		r, err := explain.ReadRecording(name)
		if err != nil || len(r.Actions) != 1 || r.Actions[0].Inputs[0] != "file a.go 1" {
			t.Errorf("%+v, %v", r, err)
		}
	}
}
