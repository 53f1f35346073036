package content

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// errForm is that of a body that is not of the form that is known.
var errForm = errors.New("not of a known form")

// TestName is the package of a test's result, and how long the test ran, as the go
// command has written it: "ok", tab, package, tab, "0.123s".
func TestName(r io.ReaderAt, size int64) (path string, took time.Duration, err error) {
	tail := make([]byte, min(size, tailMax))
	if n, err := r.ReadAt(tail, size-int64(len(tail))); n < len(tail) {
		return "", 0, err
	}
	rest, ok := okLine(tail)
	if !ok {
		return "", 0, errForm
	}
	path, text, ok := strings.Cut(string(rest), "\t")
	if !ok || !plausiblePath(path) {
		return "", 0, errForm
	}
	end := strings.IndexFunc(text, func(c rune) bool { return (c < '0' || c > '9') && c != '.' })
	seconds, err := strconv.ParseFloat(text[:max(end, 0)], 64)
	if err != nil || seconds > 1e6 {
		return "", 0, errForm
	}
	return path, time.Duration(seconds * float64(time.Second)), nil
}

// An archive of a package (cmd/internal/archive/archive.go): its header, then
// files, each with a header of its own and at an even place. The first is __.PKGDEF,
// what importers need; the second is the compiler's object. That one is text up to
// "\n!\n", and then (cmd/internal/goobj/objfile.go) a magic number, a fingerprint
// of 8 bytes, 4 bytes of flags, and the places of blocks: of the strings first,
// which are right after it, of the symbols later.
const (
	archiveHeader = "!<arch>\n"
	fileHeader    = 60
	sizeAt        = 48 // in a file's header, 10 columns
	objectMagic   = "\x00go120ld"
	blocksAt      = len(objectMagic) + 8 + 4
	symbolsBlock  = 3       // BlkSymdef, the first block of symbols
	refFlagsBlock = 8       // BlkRefFlags, after the last one
	symbolBytes   = 21      // SymSize
	textMax       = 4 << 20 // of an object: what cgo says to the linker is there too, 80 KB of it in runtime/cgo
	blocksMax     = 64 << 20
)

// unitPrefix begins the name of a symbol that each compiled package has: about its
// compilation, for debuggers (CUInfoPrefix in cmd/internal/dwarf/dwarf.go; the linker
// looks it up by the package's path, cmd/link/internal/ld/dwarf.go).
const unitPrefix = "go:cuinfo.producer."

// PackagePath is the import path of a compiled package, which the go command keeps
// no other record of. A program's is "main".
func PackagePath(r io.ReaderAt, size int64) (path string, err error) {
	object, err := findObject(r, size)
	if err != nil {
		return "", err
	}
	head := make([]byte, blocksAt+4*(refFlagsBlock+1))
	if _, err := r.ReadAt(head, object); err != nil {
		return "", err
	}
	block := func(i int) int64 { return int64(binary.LittleEndian.Uint32(head[blocksAt+4*i:])) }
	end := block(refFlagsBlock)
	if end > blocksMax || object+end > size {
		return "", errForm
	}
	data := make([]byte, end)
	if _, err := r.ReadAt(data, object); err != nil {
		return "", err
	}
	for b := symbolsBlock; b < refFlagsBlock; b++ {
		from, to := block(b), block(b+1)
		if from > to || to > end {
			return "", errForm
		}
		for symbols := data[from:to]; len(symbols) >= symbolBytes; symbols = symbols[symbolBytes:] {
			// A name is the length and the place of a string.
			n, at := int64(binary.LittleEndian.Uint32(symbols)), int64(binary.LittleEndian.Uint32(symbols[4:]))
			if at+n > end || !bytes.HasPrefix(data[at:at+n], []byte(unitPrefix)) {
				continue
			}
			if path := string(data[at+int64(len(unitPrefix)) : at+n]); plausiblePath(path) {
				return path, nil
			}
		}
	}
	return "", errForm
}

// findObject finds the compiler's object in an archive.
func findObject(r io.ReaderAt, size int64) (at int64, err error) {
	var head [len(archiveHeader) + fileHeader]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return 0, err
	}
	columns := strings.TrimSpace(string(head[len(archiveHeader)+sizeAt:][:10]))
	n, err := strconv.ParseInt(columns, 10, 64)
	if err != nil || n < 0 || n > size || string(head[:len(archiveHeader)]) != archiveHeader {
		return 0, errForm
	}
	start := int64(len(head)) + n + n&1 + fileHeader
	mark := []byte("\n!\n" + objectMagic)
	chunk := make([]byte, 16<<10)
	for at = start; at < min(size, start+textMax); at += int64(len(chunk) - len(mark) + 1) {
		m, err := r.ReadAt(chunk, at)
		if err != nil && err != io.EOF {
			return 0, err
		}
		if i := bytes.Index(chunk[:m], mark); i >= 0 {
			return at + int64(i) + int64(len("\n!\n")), nil
		}
	}
	return 0, errForm
}

// plausiblePath keeps what is no path of a package from a terminal.
func plausiblePath(path string) bool {
	const pathMax = 400
	return path != "" && len(path) <= pathMax && utf8.ValidString(path) &&
		strings.IndexFunc(path, func(c rune) bool { return c <= ' ' || c == 0x7f || !strconv.IsPrint(c) }) < 0
}
