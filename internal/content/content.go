// Package content says what the body of an entry is: a compiled package, what vet
// found, a test's result, a module index, and so on.
//
// The protocol does not say it and an action ID, which is a hash, does not show it.
// The first bytes of a body do, nearly always, and for test results the last line:
// they are what the go command itself goes by when it reads them back. Of an empty
// body only the requests around it say what it is; that is left to who saw them.
//
// A body may be anything: nothing here fails, and what is not recognised is Other.
package content

import (
	"bytes"
	"crypto/sha256"

	"github.com/larder-build/larder/internal/entry"
)

// A Kind is what an entry is. Its numbers are in files: new ones go to the end.
type Kind uint8

// The kinds. The go command puts Message, Source and TestResult beside the entry
// that the work was for, most often without asking for them first.
const (
	Unknown    Kind = iota // nobody has looked, or it is empty
	Package                // a compiled package (updateBuildID in cmd/go/internal/work/buildid.go)
	Vet                    // what vet found out about a package, and its fixes (vet in work/exec.go)
	TestInputs             // what a test reads (saveOutput in cmd/go/internal/test/test.go)
	TestResult             // what a test printed, and its coverage profile (the same)
	Index                  // of a module or a directory (cmd/go/internal/modindex/read.go)
	Message                // what compiler, linker or vet printed: nothing, as a rule (work/buildid.go, work/exec.go)
	Source                 // a list of a package's sources, or one that was generated (cacheSrcFiles in work/exec.go)
	Program                // an executable
	Tool                   // what was found out about a C compiler (gccSupportsFlag, gccCompilerID in work/exec.go)
	Other                  // none of these: of another tool, or of a later go command
	Kinds                  // how many there are
)

var names = [Kinds]string{"unknown", "package", "vet", "test_inputs", "test_result", "index", "message", "source", "program", "tool", "other"}

// String is the kind's name, as in JSON and metrics.
func (k Kind) String() string {
	if k >= Kinds {
		k = Unknown
	}
	return names[k]
}

// Parse is the kind of a name; Unknown is that of all names that are none.
func Parse(name string) Kind {
	for k, n := range names {
		if n == name {
			return Kind(k)
		}
	}
	return Unknown
}

// Along reports whether entries of the kind cost nothing by themselves: they are
// left over from work that another entry was made by, and that one's cost is the
// work's.
func (k Kind) Along() bool { return k == Message || k == Source || k == TestResult }

const (
	// headMax is how much of the start of a body is looked at. The type that a gob
	// of facts begins with is named within 40 bytes.
	headMax = 64
	// tailMax is how much of its end: the line that a test's output ends with has
	// the package's path, which is rarely longer than 100 bytes, and, with
	// -coverpkg, patterns.
	tailMax = 512
)

// Of is the kind of a whole body.
func Of(body []byte) Kind {
	return sniff(body[:min(len(body), headMax)], body[max(len(body)-tailMax, 0):], int64(len(body)))
}

// OfEmpty is the kind of an empty body: asked says whether the go command had asked
// for the action before it put it. It puts nothing but what a tool printed without
// asking for it first, and of what it asks for only what vet found may be empty. (But
// for the mark that "go test -coverpkg" leaves where there is no profile, saveOutput in
// cmd/go/internal/test/test.go: that counts as printed.)
func OfEmpty(asked bool) Kind {
	if asked {
		return Vet
	}
	return Message
}

// A start is what bodies of a kind start with.
type start struct {
	text string
	kind Kind
}

// indexStart is what module indexes start with.
const indexStart = "go index v"

// magic are starts that mean one kind whatever comes after them.
var magic = [...]start{
	{archiveHeader, Package},      // the same in cmd/internal/archive/archive.go
	{indexStart, Index},           // indexVersion in modindex/write.go
	{"# test log\n", TestInputs},  // testlogMagic in test/test.go
	{"PK\x03\x04", Vet},           // the archive of fixes, vet in work/exec.go
	{"\x00cvm", Source},           // coverage meta-data, made with the instrumented sources (internal/coverage/defs.go)
	{"GO PREPROFILE V1\n", Other}, // cmd/internal/pgo/serialize.go
	{"\x7fELF", Program},          // Linux and the BSDs
	{"MZ", Program},               // Windows
	{"\xcf\xfa\xed\xfe", Program}, // macOS
	{"\x00asm", Program},          // WebAssembly
}

// texts are starts of texts, which a test may print too.
var texts = [...]start{
	{"mode: ", TestResult}, // a coverage profile (cmd/go/internal/test/cover.go)
	{"./", Source},         // a list of sources: cacheSrcFiles in work/exec.go
	{"_cgo_", Source},      // one that begins with a generated file
	{"//", Source},         // what cmd/cgo and cmd/cover write: "// Code generated", "//line", "//go:cgo_ldflag"
	{"/*", Source},         // and cmd/cgo in C (cmd/cgo/out.go)
	{"package ", Source},   // _cgo_import.go: dynimport in cmd/cgo/out.go
	{"# ", Message},        // newCmdError in work/shell.go
	{"{", Message},         // go vet -json
}

// sniff is the kind of a body of the given size, from its first and last bytes.
func sniff(head, tail []byte, size int64) Kind {
	if size == 0 {
		return Unknown
	}
	for _, m := range magic {
		if bytes.HasPrefix(head, []byte(m.text)) {
			return m.kind
		}
	}
	if bytes.Contains(head, []byte("gobFact")) { // cmd/vendor/golang.org/x/tools/internal/facts/facts.go
		return Vet
	}
	if _, ok := okLine(tail); ok {
		return TestResult
	}
	for _, t := range texts {
		if bytes.HasPrefix(head, []byte(t.text)) {
			return t.kind
		}
	}
	if text := string(head); text == "true" || text == "false" || bytes.Contains(head, []byte("\x00stat ")) {
		return Tool
	}
	return Other
}

// okLine is what comes after "ok  \t" in the last line of what a test has printed.
// The go command, too, takes only what ends so for a result (tryCacheWithID in
// cmd/go/internal/test/test.go).
func okLine(tail []byte) (rest []byte, ok bool) {
	if len(tail) == 0 || tail[len(tail)-1] != '\n' {
		return nil, false
	}
	tail = tail[:len(tail)-1]
	return bytes.CutPrefix(tail[bytes.LastIndexByte(tail, '\n')+1:], []byte("ok  \t"))
}

// Subkey is the action ID of what the go command keeps beside another action
// (Subkey in cmd/go/internal/cache/hash.go).
func Subkey(parent entry.ActionID, what string) (id entry.ActionID) {
	h := sha256.New()
	h.Write([]byte("subkey:"))
	h.Write(parent[:])
	h.Write([]byte(what))
	h.Sum(id[:0])
	return id
}
