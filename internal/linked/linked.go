// Package linked recognises what the go command has linked.
//
// The go command offers no executables to a cache program, but asks one for them:
// before it links, it gets the link's action, and takes what it is given
// (cmd/go/internal/work/buildid.go, useCache and updateBuildID). So an executable
// that lies where a build has put it can be cached, if it is known to be just what
// a certain action has yielded. It says so itself, in its build ID: four parts, of
// which the first is the link's action ID and the last a hash of the content. Both
// are compared here; a file that was stripped, patched or half written does not
// pass.
//
// Only what Go's own linker has made passes. What a C linker has made depends on
// the machine's C library beyond what the action ID says, and stays where it is. So
// does what wants another dynamic linker than glibc's.
package linked

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/larder-build/larder/internal/entry"
)

// interpreter is the dynamic linker that Go's linker names on a machine with glibc.
// On one with musl it names another (cmd/link/internal/ld/elf.go, doelf), and the
// action ID does not tell the two apart.
func interpreter() string {
	switch runtime.GOARCH {
	case "amd64":
		return "/lib64/ld-linux-x86-64.so.2"
	case "arm64":
		return "/lib/ld-linux-aarch64.so.1"
	}
	return ""
}

// Runs reports whether this machine can run all that passes Inspect on another of
// its architecture.
func Runs() bool {
	_, err := os.Stat(interpreter())
	return err == nil
}

// ErrOther is what errors about files that are no such executables wrap.
var ErrOther = errors.New("not an executable that the go command has linked by itself")

func other(what string) error { return fmt.Errorf("%w: %s", ErrOther, what) }

// parts is how many parts an executable's build ID has: the link's action ID, the
// main package's action ID and content ID, the executable's content ID.
const parts = 4

// shortID is how a build ID writes a hash: the first 15 bytes in base64
// (cmd/internal/buildid, HashToString).
func shortID(h []byte) string { return base64.URLEncoding.EncodeToString(h[:15]) }

// An Executable is one that has passed.
type Executable struct {
	OutputID entry.OutputID
	Size     int64
	link     string // its action ID, as the build ID has it
}

// Of reports whether e is what an action has yielded.
func (e *Executable) Of(id entry.ActionID) bool { return e.link == shortID(id[:]) }

// Inspect reads a file and compares it with what it says of itself. Errors are
// f's, or wrap ErrOther.
func Inspect(f *os.File) (*Executable, error) {
	file, err := elf.NewFile(f)
	if err != nil {
		return nil, other("no ELF file")
	}
	// A C linker adds its start-up code, which has these.
	for _, name := range []string{".init", ".eh_frame"} {
		if file.Section(name) != nil {
			return nil, other("a C linker has made it")
		}
	}
	if s := file.Section(".interp"); s != nil {
		name, err := contentOf(s)
		if err != nil || interpreter() == "" || string(bytes.TrimRight(name, "\x00")) != interpreter() {
			return nil, other("its dynamic linker is not glibc's")
		}
	}
	id, err := buildID(file)
	if err != nil {
		return nil, err
	}
	part := strings.Split(id, "/")
	if len(part) != parts {
		return nil, other("its build ID has no four parts")
	}
	c := contentHash{id: []byte(id), zeros: make([]byte, len(id)), hash: sha256.New()}
	// The GNU build ID, after its note's head, is made from the Go one, so it does
	// not count.
	if s := file.Section(".note.gnu.build-id"); s != nil {
		c.zeroFrom, c.zeroTo = int64(s.Offset)+noteHead, int64(s.Offset+s.FileSize)
	}
	whole := sha256.New()
	size, err := io.Copy(io.MultiWriter(whole, &c), io.NewSectionReader(f, 0, entry.MaxSize))
	if err != nil {
		return nil, err
	}
	if c.sum() != part[parts-1] {
		return nil, other("it has been changed since")
	}
	return &Executable{OutputID: entry.OutputID(whole.Sum(nil)), Size: size, link: part[0]}, nil
}

// contentOf reads a short section as it lies in the file. A compressed one, which may
// have any size and yield any other, is none of Go's linker: it compresses DWARF only.
func contentOf(s *elf.Section) ([]byte, error) {
	const bytesMax = 1000
	if s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_COMPRESSED != 0 || s.FileSize > bytesMax {
		return nil, other("its section " + s.Name + " is not plain")
	}
	data := make([]byte, s.FileSize)
	if _, err := s.ReadAt(data, 0); err != nil {
		return nil, other("its section " + s.Name + " cannot be read")
	}
	return data, nil
}

// noteHead is the length of an ELF note before its description: three words, and a
// name of four bytes.
const noteHead = 16

// buildID reads the Go note: lengths of name and description, a type, "Go", the
// build ID.
func buildID(file *elf.File) (string, error) {
	s := file.Section(".note.go.buildid")
	if s == nil || s.FileSize < noteHead {
		return "", other("it has no build ID")
	}
	data, err := contentOf(s)
	if err != nil {
		return "", err
	}
	length := int(file.ByteOrder.Uint32(data[4:]))
	if string(data[12:16]) != "Go\x00\x00" || length == 0 || length > len(data)-noteHead {
		return "", other("its build ID cannot be read")
	}
	return string(data[noteHead : noteHead+length]), nil
}

// A contentHash is the hash that the last part of a build ID has: of the content
// with zeros for the build ID and for the GNU build ID (cmd/internal/buildid,
// FindAndHash).
type contentHash struct {
	id, zeros        []byte
	zeroFrom, zeroTo int64
	hash             hash.Hash
	at               int64  // of the file, what comes next
	held             []byte // the end of what came, in which an ID may begin
}

func (c *contentHash) Write(p []byte) (int, error) {
	n := int64(len(p))
	c.held = append(c.held, p...)
	came := c.held[int64(len(c.held))-n:]
	if from, to := max(c.zeroFrom-c.at, 0), min(c.zeroTo-c.at, n); from < to {
		clear(came[from:to])
	}
	c.at += n
	c.hashHeld()
	return len(p), nil
}

// hashHeld hashes what has come, but for an end in which an ID may begin.
func (c *contentHash) hashHeld() {
	for {
		i := bytes.Index(c.held, c.id)
		if i < 0 {
			break
		}
		c.hash.Write(c.held[:i])
		c.hash.Write(c.zeros)
		c.held = c.held[i+len(c.id):]
	}
	if n := len(c.held) - len(c.id) + 1; n > 0 {
		c.hash.Write(c.held[:n])
		c.held = append(c.held[:0:0], c.held[n:]...)
	}
}

func (c *contentHash) sum() string {
	c.hash.Write(c.held)
	return shortID(c.hash.Sum(nil))
}
