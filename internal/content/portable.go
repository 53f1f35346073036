package content

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/larder-build/larder/internal/entry"
)

// Portable reports whether a body shows that it depends on nothing but what its action
// ID holds: it is a module index, or a package in which there is nothing of a C
// compiler. All else may depend on headers and libraries of the machine, which no
// action ID holds (buildActionID in cmd/go/internal/work/exec.go, go.dev/issue/24355):
// what cgo has made; and what vet found or a test printed, whose bodies do not show
// whether there is cgo in what they are about. Of an empty body nothing shows.
func Portable(body []byte) bool {
	portable, _ := PortableFile(bytes.NewReader(body), int64(len(body)))
	return portable
}

// PortableFile is Portable of a body in a file; not ok is one that cannot be read.
func PortableFile(f io.ReaderAt, size int64) (portable, ok bool) {
	var head [headMax]byte
	h := head[:min(size, headMax)]
	if n, _ := f.ReadAt(h, 0); n < len(h) {
		return false, false
	}
	if bytes.HasPrefix(h, []byte(indexStart)) {
		return true, true
	}
	if !bytes.HasPrefix(h, []byte(archiveHeader)) {
		return false, true
	}
	w := newWalk()
	var chunk [memberBytes]byte
	for !w.over && w.at < size {
		b := chunk[:min(size-w.at, int64(len(chunk)))]
		if n, _ := f.ReadAt(b, w.at); n < len(b) {
			return false, false
		}
		w.member(b)
	}
	return w.ends(size), true
}

// memberBytes is what of each file in an archive is looked at: its header and the
// start of its content.
const memberBytes = fileHeader + len(goObject)

// goObject is what the compiler and the assembler begin their objects with
// (cmd/internal/obj and cmd/compile/internal/gc/obj.go; the linker tells by it, too:
// ldobj in cmd/link/internal/ld/lib.go). A package that uses cgo, or has a .syso
// file, has other files besides: what the C compiler has made (_x001.o), and empty
// ones that are words to the linker (preferlinkext and dynimportfail, cgo in
// cmd/go/internal/work/exec.go).
const goObject = "go object "

// A walk goes through the files of an archive.
type walk struct {
	at    int64 // of the next file
	files int
	over  bool // a file is none of Go's, or none at all
}

func newWalk() walk { return walk{at: int64(len(archiveHeader))} }

// member looks at the first memberBytes of the file at w.at, or at all there is.
func (w *walk) member(b []byte) {
	w.over = true
	if len(b) < memberBytes || string(b[fileHeader:]) != goObject || string(b[fileHeader-2:fileHeader]) != "`\n" {
		return
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(b[sizeAt:sizeAt+10])), 10, 64)
	if err != nil || size < int64(len(goObject)) || size > entry.MaxSize {
		return
	}
	w.over = false
	w.files++
	w.at += fileHeader + size + size&1
}

// ends reports whether an archive of such a size was gone through to its end, and is
// all Go's.
func (w *walk) ends(size int64) bool { return !w.over && w.files > 0 && w.at == size }

// A stream is a walk through a body that comes in pieces.
type stream struct {
	walk
	held  [memberBytes]byte // of the file at walk.at
	holds int
}

// note takes the next piece, which begins at the given place.
func (s *stream) note(p []byte, at int64) {
	for !s.over && len(p) > 0 {
		if skip := s.at + int64(s.holds) - at; skip > 0 {
			n := min(skip, int64(len(p)))
			p, at = p[n:], at+n
			continue
		}
		n := copy(s.held[s.holds:], p)
		s.holds += n
		p, at = p[n:], at+int64(n)
		if s.holds == memberBytes {
			s.holds = 0
			s.member(s.held[:])
		}
	}
}
