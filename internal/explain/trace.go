package explain

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds on what a trace may make this process hold. A build of 1,018 packages
// has a trace of 21 MB, with lines of at most 30 KB, and 8 MB of it are kept.
const (
	lineBytesMax = 1 << 20   // longer lines are skipped
	keptBytesMax = 256 << 20 // after that, the rest of a trace is
)

// A Trace is what a go command has said about its hashes.
type Trace struct {
	GoVersion string
	Actions   []Action
	Kinds     map[string]string // what other action IDs are of: a hash's name, or what a subkey describes
	Disabled  []string          // why the go command would not use test results at all
	Cut       bool              // it was too large to be kept
}

// ReadTrace reads what a go command prints on standard error with
// GODEBUG=gocachehash=1,gocachetest=1 (cmd/go/internal/cache/hash.go and
// cmd/go/internal/test/test.go). Other lines are skipped. The error is the reader's.
func ReadTrace(r io.Reader) (*Trace, error) {
	p := parser{
		trace: &Trace{Kinds: make(map[string]string)},
		open:  make(map[string]*hashing), tests: make(map[string]*Action), details: make(map[string]string),
		inputs: make(map[string][]string), args: make(map[string]string),
	}
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(in)
		if len(line) > 0 {
			p.line(line)
		}
		if err != nil {
			p.finish()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return p.trace, err
		}
	}
}

// readLine reads one line without its end; one that is too long is skipped.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) <= lineBytesMax {
			line = append(line, part...)
		} else {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			return nil, err
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimRight(line, "\r\n"), err
		}
	}
}

type parser struct {
	trace *Trace
	kept  int

	open    map[string]*hashing // by the hash's name
	tests   map[string]*Action  // by package
	order   []string            // of tests
	details map[string]string   // hash of an environment variable or a file's state: what it is of
	inputs  map[string][]string // a hash of test inputs: the inputs
	args    map[string]string   // a test ID: the arguments that are part of it
}

// A hashing is a hash that is being computed.
type hashing struct {
	writes []string
	mixed  bool // another one of the same name is being computed too: whose is what cannot be told
	twins  int
}

const (
	hashPrefix   = "HASH["
	subkeyPrefix = "HASH subkey "
	testPrefix   = "testcache: "
)

func (p *parser) line(line []byte) {
	switch {
	case bytes.HasPrefix(line, []byte(hashPrefix)):
		name, rest, ok := strings.Cut(string(line[len(hashPrefix):]), "]")
		if ok && p.kept < keptBytesMax {
			p.hash(name, rest)
		} else if ok {
			p.trace.Cut = true
		}
	case bytes.HasPrefix(line, []byte(subkeyPrefix)):
		p.subkey(string(line[len(subkeyPrefix):]))
	case bytes.HasPrefix(line, []byte(testPrefix)):
		p.test(string(line[len(testPrefix):]))
	}
}

// hash takes a line about a named hash: its start, something that is written to
// it, or its sum.
func (p *parser) hash(name, rest string) {
	if rest == "" {
		if h := p.open[name]; h != nil {
			h.mixed = true
			h.twins++
			return
		}
		p.open[name] = new(hashing)
		return
	}
	h := p.open[name]
	text, ok := strings.CutPrefix(rest, ": ")
	if h == nil || !ok {
		return
	}
	if strings.HasPrefix(text, `"`) {
		if written, err := strconv.Unquote(text); err == nil && name != moduleIndex {
			h.writes = append(h.writes, written)
			p.kept += len(written)
		}
		return
	}
	if !isID(text) {
		return
	}
	if h.twins > 0 {
		h.twins--
	} else {
		delete(p.open, name)
	}
	if h.mixed {
		p.trace.Kinds[text] = kindOf(name)
		return
	}
	p.sum(name, text, h.writes)
}

// Names of hashes (NewHash in cmd/go/internal).
const (
	moduleIndex = "moduleIndex"
	testResult  = "testResult"
	testInputs  = "testInputs"
)

func isID(text string) bool {
	var id [sha256.Size]byte
	if len(text) != 2*len(id) {
		return false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return err == nil
}

// kindOf is the first word of a hash's name: "build", "vet", "link", …
func kindOf(name string) string {
	kind, _, _ := strings.Cut(name, " ")
	return kind
}

// sum takes a finished hash, of which the first write is the go command's version.
func (p *parser) sum(name, id string, writes []string) {
	if len(writes) == 0 {
		p.trace.Kinds[id] = kindOf(name)
		return
	}
	version, text := writes[0], strings.Join(writes[1:], "")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	kind, pkg, _ := strings.Cut(name, " ")
	switch kind {
	case Build, Vet, Link:
		if p.trace.Kinds[id] == kind {
			return // a program's hash is computed twice, to see whether it is up to date
		}
		p.trace.Kinds[id] = kind
		p.trace.GoVersion = version
		p.trace.Actions = append(p.trace.Actions, Action{Kind: kind, Package: pkg, ID: id, Inputs: lines})
		return
	case "getenv":
		// Values may be secrets, and a recording may be given away.
		p.details[id] = unset
		if value, ok := strings.CutPrefix(text, "\x01"); ok {
			p.details[id] = fingerprint(value)
		}
	case "stat", "open":
		p.details[id] = fileState(lines)
	case testInputs:
		p.inputs[id] = lines
	case testResult:
		// One write: test binary %s args %q execcmd %q
		if _, args, ok := strings.Cut(text, " args "); ok {
			p.args[id] = args
		}
	}
	p.trace.Kinds[id] = kind
}

// unset is instead of the fingerprint of a variable's value.
const unset = "unset"

func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:8])
}

// fileState tells a file from its state: "stat SIZE MODE TIME ISDIR" (hashWriteStat
// in test.go), for a directory followed by its files.
func fileState(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	state := strings.TrimPrefix(lines[0], "stat ")
	if len(lines) > 1 {
		state += " and " + fingerprint(strings.Join(lines[1:], "\n"))
	}
	return state
}

// subkey takes: PARENT "description" = ID
func (p *parser) subkey(rest string) {
	i := strings.LastIndex(rest, " = ")
	if i < 0 || !isID(rest[i+3:]) {
		return
	}
	_, quoted, _ := strings.Cut(rest[:i], " ")
	if what, err := strconv.Unquote(quoted); err == nil {
		p.trace.Kinds[rest[i+3:]] = subkeyKind(what)
	}
}

// subkeyKind is what is the same in all descriptions of one kind.
func subkeyKind(what string) string {
	for _, prefix := range []string{"inputs", "coverdeps"} {
		if strings.HasPrefix(what, prefix+":") {
			return prefix
		}
	}
	for _, prefix := range []string{"gccSupportsFlag", "cgo compile"} {
		if strings.HasPrefix(what, prefix+" ") {
			return prefix
		}
	}
	if strings.HasPrefix(what, "srcfiles") || what == "stdout" || what == "link-stdout" || what == "coverprofile" {
		return what
	}
	return "output"
}

// test takes a line about a test's result:
//
//	PACKAGE: test ID BINARY => ID
//	PACKAGE: test ID ID => input ID ID => ID
//	caching disabled …
func (p *parser) test(rest string) {
	if strings.HasPrefix(rest, "caching disabled") {
		p.trace.Disabled = append(p.trace.Disabled, rest)
		return
	}
	pkg, rest, ok := strings.Cut(rest, ": test ID ")
	if !ok {
		return
	}
	parts := strings.Split(rest, " => ")
	switch {
	case len(parts) == 2 && isID(parts[1]):
		if p.tests[pkg] != nil {
			return // by the binary's content, once it is linked
		}
		binary, _ := hex.DecodeString(parts[0])
		p.tests[pkg] = &Action{Kind: Test, Package: pkg, ID: parts[1], Inputs: append([]string{"binary " + string(binary)}, argLines(p.args[parts[1]])...)}
		p.order = append(p.order, pkg)
	case len(parts) == 3 && p.tests[pkg] != nil && p.tests[pkg].ID == parts[0]:
		p.testInputs(p.tests[pkg], strings.TrimPrefix(parts[1], "input ID "))
	}
}

func argLines(args string) []string {
	args, execcmd, ok := strings.Cut(args, " execcmd ")
	if !ok {
		return nil
	}
	return []string{"args " + args, "execcmd " + execcmd}
}

// testInputs adds what a test has read, each with its state instead of its hash.
func (p *parser) testInputs(a *Action, id string) {
	for _, line := range p.inputs[id] {
		i := strings.LastIndex(line, " ")
		if i < 0 || line == "" || strings.HasPrefix(line, "env GODEBUG ") {
			continue // it is this trace's own
		}
		if detail, ok := p.details[line[i+1:]]; ok {
			line = fmt.Sprintf("%s %q %s", kindOf(line), line[strings.Index(line, " ")+1:max(i, strings.Index(line, " ")+1)], detail)
		}
		a.Inputs = append(a.Inputs, line)
	}
}

func (p *parser) finish() {
	for _, pkg := range p.order {
		p.trace.Actions = append(p.trace.Actions, *p.tests[pkg])
	}
}
