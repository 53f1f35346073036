package cacheprog_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// record has TestRecord write docs/protocol/vectors/sessions anew, with the go commands that are named.
var record = flag.String("record", "", "record sessions of these releases of the go command, such as go1.26.8,go1.24.13")

// recordDir is where the recorded programs keep outputs: the sessions' DiskPaths are below it, so it is a fixed one.
const recordDir = "/tmp/vectors"

func init() { programs["recorded"] = recordedProgram }

// A scenario is a go command and how the program that it talks to behaves.
type scenario struct {
	name  string
	about string
	args  []string // of the go command
	known string   // the commands that the program declares; empty for get, put, and close
	fault string   // what the program does wrong, see (*recorded).answer
	env   []string // of the go command, besides what all have
	warm  []string // arguments of a go command that is run before and not recorded, with a program without faults
	all   bool     // record it with all releases, not with the first named only
}

// noIndex keeps the indexes of modules out of a session.
var noIndex = []string{"GODEBUG=goindex=0"}

var scenarios = []scenario{
	{name: "build-cold", about: "a package is built for the first time", args: []string{"build", "-p=1", "./lib"}, all: true},
	{name: "build-warm", about: "the package is built again", args: []string{"build", "-p=1", "./lib"}, warm: []string{"build", "-p=1", "./lib"}, all: true},
	{name: "build-fails", about: "a package that does not compile: the session is closed all the same", args: []string{"build", "-p=1", "./broken"}},
	{name: "build-parallel", about: "four packages at once, answered in another order than they were asked for", args: []string{"build", "-p=4", "./lib", "./a", "./b", "./c"}, fault: "reorder", warm: []string{"build", "-p=4", "./lib", "./a", "./b", "./c"}},
	{name: "build-executable", about: "an executable is asked for and not put", args: []string{"build", "-p=1", "-o=/dev/null", "./cmd"}, warm: []string{"build", "-p=1", "-o=/dev/null", "./cmd"}},
	{name: "vet-cold", about: "go vet for the first time: bodies of no bytes", args: []string{"vet", "-p=1", "./lib"}, env: noIndex, warm: []string{"vet", "-p=1", "./a"}, all: true},
	{name: "vet-warm", about: "go vet again", args: []string{"vet", "-p=1", "./lib"}, env: noIndex, warm: []string{"vet", "-p=1", "./lib"}},
	{name: "list-export", about: "go list -export ends without close: its input ends", args: []string{"list", "-p=1", "-export", "-f={{.ImportPath}}", "./lib"}, warm: []string{"list", "-p=1", "-export", "-f={{.ImportPath}}", "./lib"}, all: true},
	{name: "test-cached", about: "go test with a cached result", args: []string{"test", "-p=1", "-vet=off", "./tested"}, env: noIndex, warm: []string{"test", "-p=1", "-vet=off", "./tested"}},

	{name: "known-get-close", about: "a program without put is sent none", args: []string{"build", "-p=1", "./lib"}, known: "get close"},
	{name: "known-put-close", about: "a program without get is sent none", args: []string{"build", "-p=1", "./lib"}, known: "put close"},
	{name: "known-get-put", about: "a program without close sees its input end", args: []string{"build", "-p=1", "./lib"}, known: "get put", warm: []string{"build", "-p=1", "./lib"}, all: true},
	{name: "known-more", about: "commands that the go command does not know change nothing", args: []string{"build", "-p=1", "./lib"}, known: "get put close get2 prefetch", warm: []string{"build", "-p=1", "./lib"}, all: true},

	{name: "fault-none-known", about: "the first message declares no commands", args: []string{"build", "-p=1", "./lib"}, known: "-", all: true},
	{name: "fault-first-id", about: "the first message has another ID than 0", args: []string{"build", "-p=1", "./lib"}, fault: "first-id", all: true},
	{name: "fault-first-text", about: "a line of text comes before the first message", args: []string{"build", "-p=1", "./lib"}, fault: "first-text", all: true},
	{name: "fault-first-end", about: "the program ends before it has sent anything", args: []string{"build", "-p=1", "./lib"}, fault: "first-end", all: true},
	{name: "fault-end", about: "the program ends instead of answering", args: []string{"build", "-p=1", "./lib"}, fault: "end", all: true},
	{name: "fault-text", about: "a line of text comes instead of an answer", args: []string{"build", "-p=1", "./lib"}, fault: "text", all: true},
	{name: "fault-unknown-id", about: "an answer has an ID that was not asked", args: []string{"build", "-p=1", "./lib"}, fault: "unknown-id", all: true},
	{name: "fault-twice", about: "a request is answered twice", args: []string{"build", "-p=1", "./lib"}, fault: "twice", all: true},
	{name: "fault-get-error", about: "gets are answered with an error", args: []string{"build", "-p=1", "./lib"}, fault: "get-error", all: true},
	{name: "fault-put-error", about: "puts are answered with an error", args: []string{"build", "-p=1", "./lib"}, fault: "put-error", all: true},
	{name: "fault-put-error-goindex-0", about: "puts are answered with an error, and there is no module index to be put", args: []string{"build", "-p=1", "./lib"}, env: noIndex, fault: "put-error"},
	{name: "fault-close-error", about: "close is answered with an error", args: []string{"build", "-p=1", "./lib"}, fault: "close-error", warm: []string{"build", "-p=1", "./lib"}, all: true},
	{name: "fault-close-end", about: "the program ends without an answer to close", args: []string{"build", "-p=1", "./lib"}, fault: "close-end", warm: []string{"build", "-p=1", "./lib"}, all: true},
	{name: "fault-get-no-path", about: "hits have no DiskPath", args: []string{"build", "-p=1", "./lib"}, fault: "get-no-path", warm: []string{"build", "-p=1", "./lib"}},
	{name: "fault-put-no-path", about: "puts are answered without a DiskPath", args: []string{"build", "-p=1", "./lib"}, fault: "put-no-path"},
	{name: "fault-size", about: "hits have a Size that is not the file's", args: []string{"build", "-p=1", "./lib"}, fault: "size", warm: []string{"build", "-p=1", "./lib"}},
	{name: "fault-no-file", about: "hits name a file that is not there", args: []string{"build", "-p=1", "./lib"}, fault: "no-file", warm: []string{"build", "-p=1", "./lib"}},
	{name: "fault-long-id", about: "hits have an OutputID of 33 bytes", args: []string{"build", "-p=1", "./lib"}, fault: "long-id", warm: []string{"build", "-p=1", "./lib"}},
}

// tinyModule is what the scenarios build.
var tinyModule = map[string]string{
	"go.mod":                "module example.com/tiny\n\ngo 1.21\n",
	"lib/lib.go":            "package lib\n\nconst Answer = 42\n",
	"a/a.go":                "package a\n\nconst A = 1\n",
	"b/b.go":                "package b\n\nconst B = 2\n",
	"c/c.go":                "package c\n\nconst C = 3\n",
	"broken/broken.go":      "package broken\n\nconst Broken int = \"\"\n",
	"cmd/main.go":           "package main\n\nfunc main() {}\n",
	"tested/tested_test.go": "package tested\n\nimport \"testing\"\n\nfunc Test(t *testing.T) {}\n",
}

// TestRecord records the sessions that the other tests replay:
//
//	go test ./cacheprog -run TestRecord -record go1.26.8,go1.25.7,go1.24.13,go1.23.12,go1.22.12,go1.21.13
func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("records only when told to")
	}
	for i, release := range strings.Split(*record, ",") {
		goCommand, env := experimentalGo(t, release)
		for _, s := range scenarios {
			if i == 0 || s.all {
				recordScenario(t, release, goCommand, env, s)
			}
		}
	}
}

// experimentalGo returns the path of a release's go command that has GOCACHEPROG, and what it needs in its environment. Before
// Go 1.24 that is an experiment which the released commands were built without, so that cmd/go has to be built anew.
func experimentalGo(t *testing.T, release string) (path string, env []string) {
	t.Helper()
	cmd := exec.Command("go", "env", "GOROOT")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+release)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s cannot be had: %v", release, err)
	}
	root := strings.TrimSpace(string(out))
	env = []string{"GOROOT=" + root, "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOEXPERIMENT=", "GODEBUG="}
	path = filepath.Join(root, "bin", "go")
	if minor(release) >= 24 {
		return path, env
	}
	// Not GOEXPERIMENT=cacheprog, which would change the version that the go command compares with its compiler's.
	off := filepath.Join(root, "src", "internal", "goexperiment", "exp_cacheprog_off.go")
	text, err := os.ReadFile(off)
	if err != nil || !bytes.Contains(text, []byte("CacheProg = false")) {
		t.Fatalf("%s: %v", off, err)
	}
	own := filepath.Join(t.TempDir(), "go")
	buildOverlaid(t, root, own, "cmd/go", map[string]string{off: string(bytes.Replace(text, []byte("CacheProg = false"), []byte("CacheProg = true"), 1))})
	return own, env
}

// recordScenario runs one go command and writes one session.
func recordScenario(t *testing.T, release, goCommand string, env []string, s scenario) {
	t.Helper()
	module := t.TempDir()
	writeFiles(t, module, tinyModule)
	if err := os.RemoveAll(recordDir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(recordDir, 0o777); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	events := filepath.Join(t.TempDir(), "events")
	run := func(args []string, known, fault string) (stderr string, exit int) {
		// What never ends is killed: the go command of fault-close-end before Go 1.24.
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, goCommand, args...)
		cmd.Dir = module
		cmd.Env = append(append(os.Environ(), env...), "GOCACHE="+t.TempDir(), "GOCACHEPROG="+exe, programEnv+"=recorded",
			"RECORD_KNOWN="+known, "RECORD_FAULT="+fault, "RECORD_EVENTS="+events)
		cmd.Env = append(cmd.Env, s.env...)
		var text bytes.Buffer
		cmd.Stderr = &text
		cmd.Run()
		return text.String(), cmd.ProcessState.ExitCode()
	}
	if s.warm != nil {
		if text, exit := run(s.warm, "", ""); exit != 0 {
			t.Fatalf("%s %s: %s", release, s.name, text)
		}
	}
	if err := os.WriteFile(events, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	stderr, exit := run(s.args, s.known, s.fault)
	head, err := json.Marshal(sessionHead{
		Vector: "session", Name: s.name, About: s.about, Go: release, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Env: s.env, Args: append([]string{"go"}, s.args...), Exit: exit,
		Stderr: strings.NewReplacer(module, "/module", exe, "/bin/program").Replace(stderr),
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(events)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(vectorsDir, "sessions", release, s.name+".jsonl")
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(append(head, '\n'), data...), 0o666); err != nil {
		t.Fatal(err)
	}
}

// A recorded program is a cache program on recordDir that writes down what it is sent and what it sends. It is written without the
// package under test, so that the sessions say nothing of how that understands the protocol.
type recorded struct {
	fault  string
	events io.Writer

	mu    sync.Mutex
	held  []map[string]any // answers that wait for the next, if the fault is reorder
	timer *time.Timer
}

func recordedProgram() error {
	events, err := os.OpenFile(os.Getenv("RECORD_EVENTS"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	known := strings.Fields(os.Getenv("RECORD_KNOWN"))
	switch {
	case len(known) == 0:
		known = []string{"get", "put", "close"}
	case known[0] == "-":
		known = []string{}
	}
	r := &recorded{fault: os.Getenv("RECORD_FAULT"), events: events}
	switch r.fault {
	case "first-end":
		r.event(event{From: "program", End: true})
		return nil
	case "first-text":
		r.send("cache program, version 1\n")
	case "first-id":
		r.send(`{"ID":1,"KnownCommands":["get","put","close"]}` + "\n")
	}
	r.answer(map[string]any{"ID": 0, "KnownCommands": known})

	in := bufio.NewReader(os.Stdin)
	for {
		raw, err := readFrame(in)
		if err == io.EOF {
			r.event(event{From: "go", End: true})
			break
		}
		if err != nil {
			return err
		}
		r.event(event{From: "go", Raw: string(raw)})
		more, err := r.request(raw)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	r.event(event{From: "program", End: true})
	return nil
}

// readFrame reads a request with the empty line behind it and its body.
func readFrame(in *bufio.Reader) ([]byte, error) {
	raw, err := in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var r struct{ BodySize int64 }
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	lines := 1
	if r.BodySize > 0 {
		lines = 2
	}
	for range lines {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		raw = append(raw, line...)
	}
	return raw, nil
}

// request answers a request, and reports whether more is to be read.
func (r *recorded) request(raw []byte) (more bool, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	var q struct {
		ID                           int64
		Command                      string
		ActionID, OutputID, ObjectID []byte
		BodySize                     int64
	}
	if err := d.Decode(&q); err != nil {
		return false, err
	}
	action := filepath.Join(recordDir, fmt.Sprintf("%x-a", q.ActionID))
	a := map[string]any{"ID": q.ID}
	switch r.fault {
	case "end":
		return false, nil
	case "text":
		r.send("store is full\n")
		return true, nil
	case "unknown-id":
		a["ID"] = q.ID + 1000
	}
	switch q.Command {
	case "get":
		data, err := os.ReadFile(action)
		switch {
		case r.fault == "get-error":
			a["Err"] = "store cannot be read"
		case errors.Is(err, os.ErrNotExist):
			a["Miss"] = true
		case err != nil:
			return false, err
		default:
			if err := json.Unmarshal(data, &a); err != nil {
				return false, err
			}
			a["ID"] = q.ID
			switch r.fault {
			case "get-no-path":
				delete(a, "DiskPath")
			case "size":
				a["Size"] = 123456789
			case "no-file":
				a["DiskPath"] = recordDir + "/no-such-file"
			case "long-id":
				a["OutputID"] = bytes.Repeat([]byte{7}, 33)
			}
		}
	case "put":
		var body []byte
		if q.BodySize > 0 {
			if err := d.Decode(&body); err != nil {
				return false, err
			}
		}
		if r.fault == "put-error" {
			a["Err"] = "store is full"
			break
		}
		output := q.OutputID
		if len(output) == 0 {
			output = q.ObjectID
		}
		path := filepath.Join(recordDir, fmt.Sprintf("%x-d", output))
		data, err := json.Marshal(map[string]any{"OutputID": output, "Size": len(body), "Time": time.Now().UTC(), "DiskPath": path})
		if err := errors.Join(err, os.WriteFile(path, body, 0o666), os.WriteFile(action, data, 0o666)); err != nil {
			return false, err
		}
		if r.fault != "put-no-path" {
			a["DiskPath"] = path
		}
	case "close":
		if r.fault == "close-error" {
			a["Err"] = "store cannot be written"
		}
		if r.fault != "close-end" {
			r.answer(a)
		}
		return false, nil
	}
	r.answer(a)
	if r.fault == "twice" {
		r.answer(a)
	}
	return true, nil
}

// answer sends an answer, or has it wait for the next one or a little while if the fault is reorder.
func (r *recorded) answer(a map[string]any) {
	if r.fault != "reorder" {
		r.sendAnswer(a)
		return
	}
	r.mu.Lock()
	r.held = append(r.held, a)
	if r.timer == nil {
		r.timer = time.AfterFunc(20*time.Millisecond, r.release)
	} else {
		r.timer.Reset(20 * time.Millisecond)
	}
	r.mu.Unlock()
	if a["Miss"] == nil && a["Size"] == nil { // the first, and close's
		r.release()
	}
}

// release sends the answers that wait, the last one first.
func (r *recorded) release() {
	r.mu.Lock()
	held := r.held
	r.held = nil
	r.mu.Unlock()
	slices.Reverse(held)
	for _, a := range held {
		r.sendAnswer(a)
	}
}

// sendAnswer sends an answer with its fields in the order of the protocol's own package.
func (r *recorded) sendAnswer(a map[string]any) {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, name := range []string{"ID", "Err", "KnownCommands", "Miss", "OutputID", "Size", "Time", "DiskPath"} {
		v, ok := a[name]
		if !ok {
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", name, text)
	}
	b.WriteString("}\n")
	r.send(b.String())
}

func (r *recorded) send(raw string) {
	r.event(event{From: "program", Raw: raw})
	os.Stdout.WriteString(raw)
}

func (r *recorded) event(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	r.events.Write(append(line, '\n'))
}
