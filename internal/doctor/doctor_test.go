package doctor_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/doctor"
	"github.com/larder-build/larder/internal/explain"
	"github.com/larder-build/larder/internal/touch"
)

// A scene is a checkout in which nothing costs hits, and its environment.
type scene struct {
	*doctor.Checkout
	env map[string]string
}

// checkedOut is a directory with a git checkout in it.
func checkedOut(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func quiet(t *testing.T) scene {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n", "main.go": "package main\n", "lib/lib_test.go": "package lib\n",
		"lib/testdata/data": "one\n", "lib/testdata/large": strings.Repeat("large\n", 1<<18), "lib/testdata/untracked": "no\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	tracked := []string{"go.mod", "lib/lib_test.go", "lib/testdata/data", "lib/testdata/large", "main.go"}
	if _, err := touch.Checkout(t.Context(), root, tracked, false); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"HOME": "/home/me"}
	return scene{env: env, Checkout: &doctor.Checkout{
		Go: map[string]string{
			"GOVERSION": "go1.26.8", "GOOS": "linux", "GOARCH": "amd64", "GOHOSTOS": "linux", "GOHOSTARCH": "amd64", "GOAMD64": "v1",
			"CGO_ENABLED": "1", "CC": "gcc", "CGO_CFLAGS": "-O2 -g", "GOMOD": filepath.Join(root, "go.mod"), "GOMODCACHE": "/home/me/go/pkg/mod",
			"GOENV": "/home/me/.config/go/env", "GOFLAGS": "-trimpath -buildvcs=false", "GOTOOLCHAIN": "local",
		},
		Getenv:  func(name string) string { return env[name] },
		Written: map[string]bool{},
		Command: []string{"test", "./..."},
		Sharing: "the cache at https://larder.example.com",
		Remote:  true,
		Mod:     doctor.Mod{Go: "1.24", Toolchain: "go1.26.8"},
		CC:      "gcc version 12.2.0",
		Packages: []doctor.Package{
			{ImportPath: "net", Standard: true, DepOnly: true, CgoFiles: []string{"cgo.go"}, Dir: "/usr/local/go/src/net"},
			{ImportPath: "example.org/dep", DepOnly: true, Imports: []string{"net"}, Dir: "/home/me/go/pkg/mod/example.org/dep@v1.0.0"},
			{ImportPath: "example.com/m/lib", Name: "lib", Dir: filepath.Join(root, "lib"), TestGoFiles: []string{"lib_test.go"}},
			{ImportPath: "example.com/m", Name: "main", Dir: root, Imports: []string{"example.org/dep", "example.com/m/lib"}},
		},
		Root: root, Tracked: tracked, Trees: 1,
		Tests: []doctor.Test{{Package: "example.com/m/lib", Env: []string{"MY_SETTING"}, Files: []string{filepath.Join(root, "lib/testdata/data")}}},
		Seen:  "those of 1 package",
	}}
}

// fresh gives files the times of a checkout.
func (s scene) fresh(t *testing.T, names ...string) {
	for _, name := range names {
		now := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(s.Root, name), now, now); err != nil {
			t.Fatal(err)
		}
	}
}

func (s scene) reads(names ...string) { s.Tests[0].Env = append(s.Tests[0].Env, names...) }

// Each row is a change to a checkout in which nothing costs hits, and all that costs
// hits then: the check, and words of the finding.
func TestFindings(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, s scene)
		want   []string
	}{
		{"nothing", func(t *testing.T, s scene) {}, nil},

		{"no -trimpath", func(t *testing.T, s scene) { s.Go["GOFLAGS"] = "-buildvcs=false" },
			[]string{"paths: its 2 packages are compiled anew … GOMODCACHE, 1 package of other modules … -trimpath"}},
		{"no -trimpath, nobody shares", func(t *testing.T, s scene) { s.Go["GOFLAGS"], s.Sharing = "-buildvcs=false", "" }, nil},
		{"no -trimpath, worktrees", func(t *testing.T, s scene) { s.Go["GOFLAGS"], s.Sharing, s.Trees = "-buildvcs=false", "", 3 },
			[]string{"paths: 3 worktrees"}},
		{"-trimpath in the command", func(t *testing.T, s scene) {
			s.Go["GOFLAGS"], s.Command = "-buildvcs=false", []string{"test", "--trimpath", "./..."}
		}, nil},
		{"-trimpath=false in the command", func(t *testing.T, s scene) { s.Command = []string{"test", "-trimpath=false", "./..."} }, []string{"paths:"}},
		{"outside of a module", func(t *testing.T, s scene) {
			s.Go["GOFLAGS"], s.Go["GOMOD"], s.Packages, s.Root, s.Tests = "", os.DevNull, nil, "", nil
		}, nil},
		{"go list fails", func(t *testing.T, s scene) {
			s.Go["GOFLAGS"], s.Packages, s.Tests, s.Problem = "", nil, nil, "go list: no"
		}, []string{"paths: from a checkout in another directory all of its packages"}},

		{"a development version of Go", func(t *testing.T, s scene) { s.Go["GOVERSION"] = "go1.27-devel_0123abcd" }, []string{"toolchain: is no release"}},
		{"a debugging variable", func(t *testing.T, s scene) { s.env["GOSSAFUNC"] = "main" }, []string{"environment: GOSSAFUNC=main"}},
		{"GODEBUG", func(t *testing.T, s scene) { s.env["GODEBUG"] = "netdns=go" }, []string{"environment: GODEBUG=netdns=go"}},

		{"a toolchain that was built from a checkout", func(t *testing.T, s scene) { s.Go["GOROOT"] = checkedOut(t) },
			[]string{"toolchain: says that it is go1.26.8 … go1.26.8-NAME"}},
		{"a toolchain from a checkout with a version of its own", func(t *testing.T, s scene) {
			s.Go["GOROOT"], s.Go["GOVERSION"] = checkedOut(t), "go1.26.8-acme"
		}, nil},
		{"a toolchain from a checkout, and a label", func(t *testing.T, s scene) { s.Go["GOROOT"], s.Alike = checkedOut(t), "all:acme" }, nil},
		{"a toolchain from a checkout, no remote", func(t *testing.T, s scene) { s.Go["GOROOT"], s.Remote = checkedOut(t), false }, nil},

		{"cgo beyond the standard library", func(t *testing.T, s scene) { s.Packages[1].CgoFiles = []string{"c.go"} },
			[]string{"cgo: no part of the IDs of example.org/dep … whatever they have … LARDER_ALIKE"}},
		{"cgo beyond the standard library, and a label", func(t *testing.T, s scene) {
			s.Packages[1].CgoFiles, s.Alike = []string{"c.go"}, "debian-12"
		}, nil},
		{"cgo beyond the standard library, no remote", func(t *testing.T, s scene) {
			s.Packages[1].CgoFiles, s.Remote = []string{"c.go"}, false
		}, nil},

		{"no C compiler", func(t *testing.T, s scene) { s.Go["CGO_ENABLED"], s.CC = "0", "" },
			[]string{"cgo: gcc is not found … 3 packages of 4"}},
		{"no C compiler, nobody shares", func(t *testing.T, s scene) { s.Go["CGO_ENABLED"], s.CC, s.Sharing = "0", "", "" }, nil},
		{"no C compiler, cgo is off", func(t *testing.T, s scene) { s.Go["CGO_ENABLED"], s.CC, s.env["CGO_ENABLED"] = "0", "", "0" }, nil},
		{"no C compiler, cgo is off by go env -w", func(t *testing.T, s scene) { s.Go["CGO_ENABLED"], s.CC, s.Written["CGO_ENABLED"] = "0", "", true }, nil},
		{"no C compiler, another platform", func(t *testing.T, s scene) { s.Go["CGO_ENABLED"], s.CC, s.Go["GOOS"] = "0", "", "windows" }, nil},
		{"no C compiler, no cgo", func(t *testing.T, s scene) { s.Go["CGO_ENABLED"], s.CC, s.Packages[0].CgoFiles = "0", "", nil }, nil},
		{"C flags with a directory of the user", func(t *testing.T, s scene) { s.Go["CGO_CFLAGS"] = "-O2 -I/home/me/c/include" },
			[]string{"cgo: names /home/me/c/include … 3 packages of 4"}},
		{"linker's flags with a directory of the checkout", func(t *testing.T, s scene) { s.Go["CGO_LDFLAGS"] = "-Wl,-rpath=" + filepath.Join(s.Root, "c") },
			[]string{"cgo: CGO_LDFLAGS=-Wl,-rpath="}},
		{"C flags with a relative directory", func(t *testing.T, s scene) { s.Go["CGO_CFLAGS"] = "-Ithird/home/me/c" }, nil},
		{"C flags with a common directory", func(t *testing.T, s scene) { s.Go["CGO_CFLAGS"] = "-I/opt/c/include -I/home/media" }, nil},
		{"C flags, no cgo", func(t *testing.T, s scene) {
			s.Go["CGO_CFLAGS"], s.Packages[0].CgoFiles = "-I/home/me/c/include", nil
		}, nil},

		{"-buildvcs as it is", func(t *testing.T, s scene) { s.Go["GOFLAGS"] = "-trimpath" }, []string{"stamps: 1 program compiled and linked anew"}},
		{"-buildvcs as it is, no program", func(t *testing.T, s scene) { s.Go["GOFLAGS"], s.Packages[3].Name = "-trimpath", "m" }, nil},
		{"-buildvcs as it is, no checkout", func(t *testing.T, s scene) { s.Go["GOFLAGS"], s.Root = "-trimpath", "" }, nil},
		{"-buildvcs", func(t *testing.T, s scene) { s.Go["GOFLAGS"] = "-trimpath -buildvcs" }, []string{"stamps: 1 test program too"}},

		{"-a", func(t *testing.T, s scene) { s.Command = []string{"build", "-a", "./..."} }, []string{"flags: -a"}},
		{"-count", func(t *testing.T, s scene) { s.Command = []string{"test", "-count", "1", "./..."} }, []string{"flags: -count"}},
		{"-count in GOFLAGS", func(t *testing.T, s scene) { s.Go["GOFLAGS"] += " -count=1" }, []string{"flags: -count=1"}},
		{"arguments of the tests", func(t *testing.T, s scene) { s.Command = []string{"test", "./...", "-args", "-a"} }, []string{"flags: -args"}},
		{"cacheable flags", func(t *testing.T, s scene) {
			s.Command = []string{"test", "-v", "-run=X", "-short", "-race", "-cover", "-timeout", "5m", "-ldflags", "-s -w", "./..."}
		}, nil},
		{"a value by the linker", func(t *testing.T, s scene) {
			s.Command = []string{"build", "-ldflags", "-s -X main.commit=abc", "./..."}
		}, []string{"flags: those of tests"}},
		{"a value by the linker, in GOFLAGS, without -trimpath", func(t *testing.T, s scene) {
			s.Go["GOFLAGS"] = `-buildvcs=false "-ldflags=-s -X main.commit=abc"`
			s.Sharing = ""
		}, []string{"flags: tests run again"}},
		{"-coverpkg", func(t *testing.T, s scene) { s.Command = []string{"test", "-coverpkg=./...", "./..."} }, []string{"flags: -coverpkg=./..."}},
		{"-toolexec", func(t *testing.T, s scene) { s.Command = []string{"build", "-toolexec", "wrap", "./..."} }, []string{"flags: -toolexec=wrap"}},

		{"tests read HOME and PATH", func(t *testing.T, s scene) { s.reads("HOME", "PATH") },
			[]string{"test environment: from machine to machine … HOME (example.com/m/lib); PATH (example.com/m/lib) … of 1 package"}},
		{"tests read HOME, nobody shares", func(t *testing.T, s scene) { s.reads("HOME"); s.Sharing = "" }, nil},
		{"tests read TMPDIR, nobody shares", func(t *testing.T, s scene) { s.reads("TMPDIR"); s.Sharing = "" }, []string{"test environment: TMPDIR"}},
		{"tests read a run's number and PWD", func(t *testing.T, s scene) { s.reads("PWD", "GITHUB_RUN_ID") },
			[]string{"test environment: from run to run … GITHUB_RUN_ID", "test environment: from directory to directory … PWD"}},
		{"tests read XDG_RUNTIME_DIR", func(t *testing.T, s scene) { s.reads("XDG_RUNTIME_DIR") }, []string{"test environment: from user to user"}},

		{"a file that tests read is fresh", func(t *testing.T, s scene) { s.fresh(t, "lib/testdata/data") },
			[]string{"file times: read tracked files … of 1 looked at, 1 … lib/testdata/data … example.com/m/lib"}},
		{"the same, nobody shares", func(t *testing.T, s scene) { s.fresh(t, "lib/testdata/data"); s.Sharing = "" }, nil},
		{"a directory that tests list is fresh", func(t *testing.T, s scene) {
			s.Tests[0].Files = []string{filepath.Join(s.Root, "lib")}
			s.fresh(t, "lib")
		}, []string{"file times: lib"}},
		{"fresh files that tests do not read", func(t *testing.T, s scene) {
			s.fresh(t, "go.mod", "main.go", "lib/lib_test.go", "lib/testdata", "lib/testdata/large", "lib", ".")
		}, nil},
		{"a fresh file that is not tracked", func(t *testing.T, s scene) {
			s.Tests[0].Files = []string{filepath.Join(s.Root, "lib/testdata/untracked"), "/etc/passwd"}
			s.fresh(t, "lib/testdata/untracked")
		}, nil},
		{"fresh testdata, nothing known of tests", func(t *testing.T, s scene) { s.Tests = nil; s.fresh(t, "lib/testdata/data", "lib/testdata/large") },
			[]string{"file times: 1 package with tests have testdata … of 1 looked at, 1"}},
		{"testdata, nothing known of tests", func(t *testing.T, s scene) { s.Tests = nil }, nil},
		{"fresh testdata without tests", func(t *testing.T, s scene) {
			s.Tests, s.Packages[2].TestGoFiles = nil, nil
			s.fresh(t, "lib/testdata/data")
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := quiet(t)
			test.change(t, s)
			var costs []cli.Finding
			for _, f := range doctor.Examine(t.Context(), s.Checkout) {
				if !f.OK {
					t.Errorf("something is to be mended: %+v", f)
				}
				if (f.Cost == "") != (f.Remedy == "") {
					t.Errorf("a cost without a remedy, or the other way: %+v", f)
				}
				if f.Cost != "" {
					costs = append(costs, f)
				}
			}
			if len(costs) != len(test.want) {
				t.Fatalf("%d findings, want %d: %+v", len(costs), len(test.want), costs)
			}
			for i, want := range test.want {
				check, words, _ := strings.Cut(want, ":")
				text := costs[i].What + " " + costs[i].Cost + " " + costs[i].Remedy
				for _, word := range strings.Split(words, "…") {
					if costs[i].Check != check || !strings.Contains(text, strings.TrimSpace(word)) {
						t.Errorf("no %q in: %+v", want, costs[i])
					}
				}
			}
		})
	}
}

// What is to be compared between machines names its sources.
func TestInputs(t *testing.T) {
	s := quiet(t)
	s.Written["GOFLAGS"] = true
	s.Go["GOEXPERIMENT"] = "jsonv2"
	got := doctor.Examine(t.Context(), s.Checkout)[0].What
	want := "go1.26.8, linux/amd64, GOAMD64=v1, GOEXPERIMENT=jsonv2, CGO_ENABLED=1, CC=gcc (gcc version 12.2.0), " +
		"GOFLAGS=-trimpath -buildvcs=false (this user's: /home/me/.config/go/env)"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got  %s\nwant …%s", got, want)
	}
}

func TestToolchain(t *testing.T) {
	for _, test := range []struct{ mod, toolchain, gotoolchain, want string }{
		{"1.24", "", "local", "GOTOOLCHAIN=go1.26.8 on all makes it the same"},
		{"1.24", "go1.26.8", "auto", "the least that go.mod asks for"},
		{"1.26.8", "", "auto", "the least that go.mod asks for"},
		{"1.24", "", "go1.26.8", "as GOTOOLCHAIN=go1.26.8 says"},
		{"1.24", "", "go1.26.8+auto", "as GOTOOLCHAIN=go1.26.8+auto says"},
	} {
		s := quiet(t)
		s.Mod, s.Go["GOTOOLCHAIN"] = doctor.Mod{Go: test.mod, Toolchain: test.toolchain}, test.gotoolchain
		findings := doctor.Examine(t.Context(), s.Checkout)
		if !slices.ContainsFunc(findings, func(f cli.Finding) bool { return f.Check == "toolchain" && strings.Contains(f.What, test.want) }) {
			t.Errorf("%+v: %+v", test, findings)
		}
	}
}

func TestAddTests(t *testing.T) {
	action := explain.Action{Kind: explain.Test, Package: "example.com/m/lib", Inputs: []string{
		"binary abc", `env "HOME" sha256:0123`, `env "GOTMPDIR" unset`, `open "/m/lib/testdata/x y" 5 -rw-r--r-- 2026-01-01 00:00:00 +0000 UTC false`, `stat "/m/lib/" err no`,
	}}
	for _, test := range []struct {
		actions []explain.Action
		whole   bool
		seen    string
	}{
		{[]explain.Action{action}, true, "those of 1 package"},
		{[]explain.Action{{Kind: explain.Build, Package: "p"}, action}, false, "those of 1 of 1 packages"},
		{nil, true, "is not known"},
	} {
		c := doctor.Checkout{Packages: []doctor.Package{{ImportPath: action.Package, TestGoFiles: []string{"lib_test.go"}}}}
		c.AddTests(test.actions, test.whole)
		if !strings.Contains(c.Seen, test.seen) {
			t.Errorf("seen %q, want %q", c.Seen, test.seen)
		}
		if len(test.actions) == 0 {
			continue
		}
		if len(c.Tests) != 1 || !slices.Equal(c.Tests[0].Env, []string{"HOME"}) || !slices.Equal(c.Tests[0].Files, []string{"/m/lib/testdata/x y", "/m/lib"}) {
			t.Errorf("%+v", c.Tests)
		}
	}
}

func TestParse(t *testing.T) {
	if got, want := doctor.ParseMod("module m\n\ngo 1.24 // at least\ntoolchain go1.26.8\nrequire x v1\n"), (doctor.Mod{Go: "1.24", Toolchain: "go1.26.8"}); got != want {
		t.Errorf("go.mod: %+v", got)
	}
	file := filepath.Join(t.TempDir(), "env")
	os.WriteFile(file, []byte("# a=b\nGOFLAGS=-trimpath\nCC=gcc -O\n"), 0o666)
	if got := slices.Sorted(maps.Keys(doctor.Written(file))); !slices.Equal(got, []string{"CC", "GOFLAGS"}) {
		t.Errorf("go/env: %q", got)
	}
	for text, want := range map[string]string{
		"Using built-in specs.\nConfigured with: --with version 9\ngcc version 12.2.0 (Debian)\n": "gcc version 12.2.0 (Debian)",
		"Debian clang version 14.0.6\nTarget: x\n":                                                "Debian clang version 14.0.6",
		"a version without a number\n":                                                            "",
	} {
		if got := doctor.VersionLine(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
