package disk

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/larder-build/larder/internal/entry"
)

// What is in the index. All that is stored has an ident: its kind, its
// namespace, a zero byte, and its name, which is an action ID in 32 bytes or the
// key of a blob. All numbers are big-endian.
//
//	b <ident>           what is stored: file number (8; 0: here), head, body if it is here
//	m <ident>           what is known about it: minute of the last use (4), file number (8), bytes (8)
//	u <minute> <ident>  in order of last use: file number (8), bytes (8)
//	f <file number>     a file in use; no value
//	t <namespace>       totals: bytes (8), entries (8), blobs (8)
//	n                   the first file number that has not been given out (8)
//	h <key>             a note
//
// The head is an entry.Header, or of a blob its length (8) and CRC-32C (4). The
// m record is apart from b, so that noting a use does not write the body again;
// u repeats what an eviction needs, so that it reads no m records, which lie anywhere.
const (
	recordPrefix = 'b'
	metaPrefix   = 'm'
	usePrefix    = 'u'
	filePrefix   = 'f'
	totalPrefix  = 't'
	notePrefix   = 'h'
	numberKey    = "n"

	actionKind = 'a'
	blobKind   = 'b'

	nameMax = 1024 // bytes of a namespace and of a blob's key: more than anybody types
)

func identOf(kind byte, ns, name string) (string, error) {
	if len(ns) > nameMax || strings.IndexByte(ns, 0) >= 0 {
		return "", fmt.Errorf("namespace %.40q: not one", ns)
	}
	if len(name) > nameMax {
		return "", fmt.Errorf("key %.40q…: %d bytes long", name, len(name))
	}
	return string(kind) + ns + "\x00" + name, nil
}

func actionIdent(ns string, id entry.ActionID) (string, error) {
	return identOf(actionKind, ns, string(id[:]))
}

// namespaceOf is the namespace of an ident.
func namespaceOf(ident string) string {
	return ident[1:strings.IndexByte(ident, 0)]
}

func recordKey(ident string) []byte { return append([]byte{recordPrefix}, ident...) }
func metaKey(ident string) []byte   { return append([]byte{metaPrefix}, ident...) }
func totalKey(ns string) []byte     { return append([]byte{totalPrefix}, ns...) }

func useKey(minute uint32, ident string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{usePrefix}, minute), ident...)
}

func parseUseKey(key []byte) (minute uint32, ident string, ok bool) {
	if len(key) < 1+4+2 {
		return 0, "", false
	}
	ident = string(key[5:])
	return binary.BigEndian.Uint32(key[1:]), ident, strings.IndexByte(ident, 0) > 0
}

func fileKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{filePrefix}, number)
}

// A meta is an m record.
type meta struct {
	minute uint32
	number uint64
	bytes  int64
}

func (m meta) value() []byte {
	return append(binary.BigEndian.AppendUint32(nil, m.minute), m.useValue()...)
}

func (m meta) useValue() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, m.number), uint64(m.bytes))
}

func parseMeta(b []byte) (meta, bool) {
	if len(b) != 20 {
		return meta{}, false
	}
	m, ok := parseUse(binary.BigEndian.Uint32(b), b[4:])
	return m, ok
}

func parseUse(minute uint32, b []byte) (meta, bool) {
	if len(b) != 16 {
		return meta{}, false
	}
	return meta{minute, binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:]))}, true
}

// blobHead is the head of a blob.
func blobHead(value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(len(value)))
	return binary.BigEndian.AppendUint32(b, entry.Checksum(value))
}

// A stored is what a b record says, whatever it is of.
type stored struct {
	header entry.Header // of an action
	number uint64       // of the file; 0: the body is in inline
	size   int64
	sum    uint32
	inline []byte
}

// parseRecord reads a b record. Its errors wrap entry.ErrFormat.
func parseRecord(ident string, b []byte) (stored, error) {
	if len(b) < 8 {
		return stored{}, fmt.Errorf("%w: record of %d bytes", entry.ErrFormat, len(b))
	}
	r := stored{number: binary.BigEndian.Uint64(b)}
	b = b[8:]
	if ident[0] == blobKind {
		if len(b) < 12 {
			return stored{}, fmt.Errorf("%w: blob's record of %d bytes", entry.ErrFormat, len(b))
		}
		r.size, r.sum, r.inline = int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:]), b[12:]
	} else {
		var err error
		if r.header, r.inline, err = entry.ParseHeader(b); err != nil {
			return stored{}, err
		}
		if !strings.HasSuffix(ident, string(r.header.ActionID[:])) {
			return stored{}, fmt.Errorf("%w: record of action %v under another", entry.ErrFormat, r.header.ActionID)
		}
		r.size, r.sum = r.header.Stored, r.header.Sum
	}
	if r.number != 0 {
		if len(r.inline) != 0 || r.size < 0 || r.size > entry.MaxSize {
			return stored{}, fmt.Errorf("%w: record of a file with %d bytes after it", entry.ErrFormat, len(r.inline))
		}
		return r, nil
	}
	if int64(len(r.inline)) != r.size {
		return stored{}, fmt.Errorf("%w: body of %d bytes, want %d", entry.ErrFormat, len(r.inline), r.size)
	}
	if entry.Checksum(r.inline) != r.sum {
		return stored{}, fmt.Errorf("%w: body is damaged", entry.ErrFormat)
	}
	return r, nil
}
