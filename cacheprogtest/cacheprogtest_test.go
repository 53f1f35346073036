package cacheprogtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/cacheprogtest"
)

// defectEnv makes the test binary the reference program, with the defect that it names.
const defectEnv = "CACHEPROGTEST_DEFECT"

func TestMain(m *testing.M) {
	switch defect, ok := os.LookupEnv(defectEnv); {
	case !ok:
		os.Exit(m.Run())
	case defect == "sleep": // a child that holds its standard output
		time.Sleep(20 * time.Second)
	default:
		never := make(chan struct{})
		time.AfterFunc(time.Hour, func() { close(never) }) // or the runtime would find a deadlock
		if err := runReference(defect, os.Getenv("CACHEPROGTEST_DIR"), os.Stdin, os.Stdout, never); err != nil {
			fmt.Fprintln(os.Stderr, "reference:", err)
			os.Exit(1)
		}
	}
}

// program is how to start the reference program with a defect.
func program(defect string) cacheprogtest.Options {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	command, err := cacheprog.JoinCommand([]string{exe})
	if err != nil {
		panic(err)
	}
	return cacheprogtest.Small(cacheprogtest.Options{
		Command: command,
		Env:     []string{defectEnv + "=" + defect, "CACHEPROGTEST_DIR={dir}", "GORACE=atexit_sleep_ms=0"},
	})
}

// connection is how to run the reference program with a defect in this process, which is quicker.
func connection(defect string, running *sync.WaitGroup) cacheprogtest.Options {
	return cacheprogtest.Small(cacheprogtest.Options{
		Connect: func(_ context.Context, dir string) (io.ReadCloser, io.WriteCloser, error) {
			requests, w, err := os.Pipe() // io.Pipe has no buffer, so nothing could be under way
			if err != nil {
				return nil, nil, err
			}
			r, answers, err := os.Pipe()
			if err != nil {
				return nil, nil, err
			}
			gone := make(chan struct{})
			running.Add(1)
			go func() {
				defer running.Done()
				_ = runReference(defect, dir, requests, answers, gone)
				requests.Close()
				answers.Close()
			}()
			return &notifying{File: r, closed: sync.OnceFunc(func() { close(gone) })}, w, nil
		},
	})
}

// A notifying file tells of its closing.
type notifying struct {
	*os.File
	closed func()
}

func (n *notifying) Close() error {
	n.closed()
	return n.File.Close()
}

// TestReference has a correct program pass all checks, which is also how the package is used in tests of other programs.
func TestReference(t *testing.T) {
	o := program("")
	o.Limit = time.Minute
	o.Done = func(r cacheprogtest.Result) {
		memory := r.Name == "memory-bounded" && strings.Contains(r.Detail, "cannot be watched")
		if r.Verdict != cacheprogtest.Pass && !memory {
			t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Detail)
		}
	}
	cacheprogtest.Run(t, o)
}

// A defect is one of the reference program's.
type defect struct {
	name    string // by default the check's
	check   string // which is the only one that is not passed or skipped
	verdict cacheprogtest.Verdict
	detail  string // part of what the check says
	process bool   // can only be shown with a process
}

const (
	fails = cacheprogtest.Fail
	warns = cacheprogtest.Warning
)

var defects = []defect{
	{check: "hello-first", verdict: fails, detail: "has ID 1"},
	{name: "hello-first-junk", check: "hello-first", verdict: fails, detail: `"starting up"`},
	{check: "hello-prompt", verdict: warns, detail: "come after 1."},
	{check: "hello-once", verdict: fails, detail: "2 further messages"},
	{check: "hello-commands", verdict: warns, detail: `"close" is not offered`},
	{check: "stdout-json", verdict: fails, detail: `"stored one more", and 1 more`},
	{name: "stdout-json-type", check: "stdout-json", verdict: fails, detail: `cannot unmarshal`},
	{check: "one-answer", verdict: fails, detail: "second answers"},
	{check: "known-ids", verdict: fails, detail: "which never were"},
	{check: "miss", verdict: fails, detail: `the error "not found"`},
	{name: "miss-empty", check: "miss", verdict: fails, detail: "neither"},
	{check: "miss-after-restart", verdict: fails, detail: "is a hit"},
	{check: "whole-key", verdict: fails, detail: "only in byte 8"},
	{check: "put-get", verdict: fails, detail: "is a miss"},
	{check: "next-process", verdict: warns, detail: "is a miss"},
	{check: "get-output-id", verdict: fails, detail: "OutputID"},
	{check: "get-size", verdict: fails, detail: "the Size 4000, the body 3000 bytes"},
	{check: "time-kept", verdict: fails, detail: "but the put was at"},
	{name: "time-kept-none", check: "time-kept", verdict: warns, detail: "no Time"},
	{check: "put-path", verdict: fails, detail: "without a DiskPath"},
	{check: "put-body", verdict: fails, detail: "is shorter than the body"},
	{check: "empty-body", verdict: fails, detail: "answered put"},
	{check: "body-sizes", verdict: fails, detail: "of a body of 1 bytes"},
	{check: "body-large", verdict: fails, detail: "too large"},
	{check: "memory-bounded", verdict: warns, process: true, detail: "peak memory grew"},
	{check: "last-write-wins", verdict: fails, detail: "after a second put"},
	{check: "shared-output", verdict: fails, detail: "is no hit"},
	{check: "path-absolute", verdict: fails, detail: "not absolute"},
	{check: "path-extension", verdict: warns, detail: `".bin"`},
	{check: "path-kept", verdict: warns, detail: "no such file"},
	{check: "path-keeps-bytes", verdict: fails, detail: "put again with another body"},
	{check: "path-whole", verdict: fails, detail: "is not whole"},
	{check: "lost-file", verdict: warns, detail: "not there any more"},
	{check: "concurrent-gets", verdict: fails, detail: "500 gets under way"},
	{check: "pipelined-puts", verdict: fails, detail: "did not wait for each other"},
	{check: "behind-body", verdict: fails, detail: "no answer to get"},
	{check: "slow-body", verdict: warns, detail: "while its body is on its way"},
	{check: "dribbled-body", verdict: fails, detail: "in small pieces"},
	{check: "unknown-command", verdict: warns, detail: "has no answer"},
	{name: "unknown-command-silent", check: "unknown-command", verdict: warns, detail: "has no answer"},
	{check: "unknown-fields", verdict: warns, detail: "unknown field ObjectID"},
	{check: "json-forms", verdict: warns, detail: `{"BodySize":3000`},
	{check: "large-id", verdict: warns, detail: "9007199254740993"},
	{check: "close-answered", verdict: fails, detail: "cannot be trimmed"},
	{name: "close-answered-not", check: "close-answered", verdict: warns, detail: "without an answer"},
	{check: "close-exits", verdict: fails, detail: "still open"},
	{name: "close-exits-child", check: "close-exits", verdict: fails, process: true, detail: "still open"},
	{check: "close-last", verdict: warns, detail: "before close have no answer"},
	{check: "eof-exits", verdict: fails, detail: "still there"},
	{check: "cut-body", verdict: fails, detail: "is shorter"},
	{check: "killed-midway", verdict: fails, process: true, detail: "is shorter"},
	{check: "second-process", verdict: fails, detail: "no capabilities"},
	{check: "same-action", verdict: fails, detail: "that the first has named"},
}

// TestDefects has each check fail, or warn of, a program that breaks its rule, and no other check do so.
func TestDefects(t *testing.T) {
	t.Parallel()
	var names, checked []string
	for _, d := range defects {
		names = append(names, d.program())
		checked = append(checked, d.check)
	}
	for _, r := range cacheprogtest.Rules() {
		if !slices.Contains(checked, r.Name) {
			t.Errorf("no defect makes %s fail", r.Name)
		}
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(defects) {
		t.Error("a defect is there twice")
	}
	if raceEnabled {
		t.Skip("hundreds of small programs with limits: CI runs them without the race detector")
	}

	// The programs mostly wait, so more of them run at once than t.Parallel would have it.
	const atOnce = 16
	slots := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	defer running.Wait()
	for _, d := range defects {
		running.Add(1)
		go func() {
			defer running.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			testDefect(t, d)
		}()
	}
}

// program is the defect's name.
func (d defect) program() string {
	if d.name == "" {
		return d.check
	}
	return d.name
}

func testDefect(t *testing.T, d defect) {
	var running sync.WaitGroup
	defer running.Wait()
	o := connection(d.program(), &running)
	if d.process {
		o = program(d.program())
	}
	// Only defects of large bodies need them.
	o.Short = d.check != "body-large" && d.check != "memory-bounded"
	o.Limit = 4 * time.Second
	wrong := d.misjudged(t, o)
	if len(wrong) > 0 {
		// A machine that is busy may need more time, which would be wasted on the defects that are about hanging.
		o.Limit = time.Minute
		o.Match = func(name string) bool {
			return slices.ContainsFunc(wrong, func(r cacheprogtest.Result) bool { return r.Name == name })
		}
		wrong = d.misjudged(t, o)
	}
	for _, r := range wrong {
		t.Errorf("defect %s: %s: %s: %s", d.program(), r.Name, r.Verdict, r.Detail)
	}
}

// misjudged checks the program and returns what is not as it should be.
func (d defect) misjudged(t *testing.T, o cacheprogtest.Options) (wrong []cacheprogtest.Result) {
	report, err := cacheprogtest.Check(t.Context(), o)
	if err != nil {
		t.Errorf("defect %s: %v", d.program(), err)
	}
	for _, r := range report.Results {
		switch {
		case r.Name == d.check && (r.Verdict != d.verdict || !strings.Contains(r.Detail, d.detail)):
			if !strings.Contains(r.Detail, "cannot be watched") {
				wrong = append(wrong, r)
			}
		case r.Name != d.check && (r.Verdict == fails || r.Verdict == warns):
			wrong = append(wrong, r)
		}
	}
	return wrong
}

// TestHopeless has the suite end, with failures, whatever a program does.
func TestHopeless(t *testing.T) {
	for _, row := range []struct {
		defect, detail string        // of the first check that fails
		skipped        bool          // the rest
		limit          time.Duration // short where it must be waited for
	}{
		{"panic", "before it has sent its capabilities; its standard error: panic: boom", true, time.Minute},
		{"hang", "no capabilities within 500ms", true, 500 * time.Millisecond},
		{"junk", "no capabilities within 500ms", true, 500 * time.Millisecond},
		{"object", "before it has sent its capabilities; it wrote", true, time.Minute},
		{"deaf", "no answer to get", false, 4 * time.Second},
		{"quit", "the disk is gone", false, time.Minute},
		{"nonsense", "it wrote", false, 4 * time.Second},
	} {
		t.Run(row.defect, func(t *testing.T) {
			t.Parallel()
			o := program(row.defect)
			o.Short, o.Limit = true, row.limit
			o.Match = func(name string) bool { // one of each kind
				return slices.Contains([]string{"hello-first", "miss", "body-sizes", "concurrent-gets", "unknown-command", "close-last", "same-action"}, name)
			}
			report, err := cacheprogtest.Check(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			first := true
			for _, r := range report.Results {
				switch {
				case r.Verdict == cacheprogtest.Fail && first:
					first = false
					if !strings.Contains(r.Detail, row.detail) {
						t.Errorf("%s fails: %s", r.Name, r.Detail)
					}
				case r.Verdict == cacheprogtest.Fail && row.skipped:
					t.Errorf("%s fails as well: %s", r.Name, r.Detail)
				case strings.Contains(r.Detail, "panicked"):
					t.Errorf("%s: %s", r.Name, r.Detail)
				}
			}
			if first {
				t.Error("nothing fails")
			}
		})
	}
}

// TestNoProgram is about options that cannot be.
func TestNoProgram(t *testing.T) {
	for _, command := range []string{"", "'open"} {
		if _, err := cacheprogtest.Check(t.Context(), cacheprogtest.Options{Command: command}); err == nil {
			t.Errorf("command %q is checked", command)
		}
	}
	report, err := cacheprogtest.Check(t.Context(), cacheprogtest.Options{Command: "/does/not/exist"})
	if err != nil || report.Count(cacheprogtest.Fail) != 1 || report.Results[0].Verdict != cacheprogtest.Fail {
		t.Errorf("a program that does not exist: %v, %v", report, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o := program("")
	o.Done = func(cacheprogtest.Result) { cancel() }
	if report, err := cacheprogtest.Check(ctx, o); !errors.Is(err, context.Canceled) || len(report.Results) != 1 {
		t.Errorf("after the first result: %d results, %v", len(report.Results), err)
	}
}

// TestConnect checks a program that is a function.
func TestConnect(t *testing.T) {
	var running sync.WaitGroup
	defer running.Wait()
	o := connection("", &running)
	o.Limit = time.Minute
	report, err := cacheprogtest.Check(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		process := r.Name == "memory-bounded" || r.Name == "killed-midway"
		if r.Verdict != cacheprogtest.Pass && !(process && r.Verdict == cacheprogtest.Skipped) {
			t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Detail)
		}
	}
}

// A fakeT is a test that keeps what is said about it.
type fakeT struct {
	ctx  context.Context
	name string
	said *[]string
}

func (f fakeT) Helper()                  {}
func (f fakeT) Context() context.Context { return f.ctx }
func (f fakeT) Run(name string, fn func(fakeT)) bool {
	f.name = name
	fn(f)
	return true
}
func (f fakeT) say(how string, args ...any) {
	*f.said = append(*f.said, strings.Join([]string{f.name, how, fmt.Sprint(args...)}, " "))
}
func (f fakeT) Errorf(format string, args ...any) { f.say("error", fmt.Sprintf(format, args...)) }
func (f fakeT) Logf(format string, args ...any)   { f.say("log", fmt.Sprintf(format, args...)) }
func (f fakeT) Skip(args ...any)                  { f.say("skip", args...) }
func (f fakeT) Fatal(args ...any)                 { f.say("fatal", args...) }

// TestRun has each verdict reach the test.
func TestRun(t *testing.T) {
	var said []string
	run := func(defect string, checks ...string) {
		o := program(defect)
		o.Short = true
		o.Match = func(name string) bool { return slices.Contains(checks, name) }
		cacheprogtest.Run(fakeT{ctx: t.Context(), said: &said}, o)
	}
	run("get-size", "hello-first", "get-size", "body-large")
	run("path-extension", "path-extension")
	cacheprogtest.Run(fakeT{ctx: t.Context(), said: &said}, cacheprogtest.Options{})
	want := []string{"get-size error the hit has the Size 4000", "body-large skip left out", "path-extension log warning: the path", " fatal no command"}
	for i, w := range want {
		if len(said) != len(want) || !strings.HasPrefix(said[i], w) {
			t.Fatalf("said %q", said)
		}
	}
	if !strings.Contains(said[0], "rule: A hit's Size is") || !strings.Contains(said[0], "source: cmd/go/internal/cache/cache.go: GetFile") {
		t.Errorf("an error without rule and source: %s", said[0])
	}
}

// TestSources looks for what the rules cite in the Go tree.
func TestSources(t *testing.T) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "src")
	names := make(map[string]bool)
	for _, r := range cacheprogtest.Rules() {
		if names[r.Name] || r.Name != strings.ToLower(r.Name) || !strings.HasSuffix(r.Rule, ".") && !strings.HasSuffix(r.Rule, ".)") && !strings.HasSuffix(r.Rule, ").") {
			t.Errorf("rule %q", r)
		}
		names[r.Name] = true
		for _, source := range strings.Split(r.Source, "; ") {
			file, things, ok := strings.Cut(source, ": ")
			if !ok {
				t.Errorf("%s: source %q", r.Name, source)
			}
			if !strings.HasPrefix(file, "cmd/go/") || strings.Contains(file, " of ") {
				continue // another tree
			}
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
				continue
			}
			for _, thing := range strings.Split(things, ", ") {
				_, field, isField := strings.Cut(thing, ".")
				if !isField {
					field = thing
				}
				declared := regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type |\t)` + field + `\b`)
				if !declared.Match(text) {
					t.Errorf("%s: %s has no %s", r.Name, file, thing)
				}
			}
		}
	}
}
