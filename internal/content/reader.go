package content

import (
	"bytes"
	"io"
)

// A Reader notes the kind of a body that is read through it, and whether it is
// portable.
type Reader struct {
	R io.Reader

	size  int64
	walk  stream
	heads int
	tails int
	head  [headMax]byte
	tail  [tailMax]byte
}

func (r *Reader) Read(p []byte) (n int, err error) {
	n, err = r.R.Read(p)
	if n > 0 {
		r.note(p[:n])
	}
	return n, err
}

func (r *Reader) note(p []byte) {
	if r.size == 0 {
		r.walk.walk = newWalk()
	}
	r.walk.note(p, r.size)
	r.size += int64(len(p))
	r.heads += copy(r.head[r.heads:], p)
	if len(p) >= tailMax {
		r.tails = copy(r.tail[:], p[len(p)-tailMax:])
		return
	}
	if over := r.tails + len(p) - tailMax; over > 0 {
		r.tails = copy(r.tail[:], r.tail[over:r.tails])
	}
	r.tails += copy(r.tail[r.tails:], p)
}

// Kind is the kind of what has been read.
func (r *Reader) Kind() Kind { return sniff(r.head[:r.heads], r.tail[:r.tails], r.size) }

// Portable is Portable of what has been read.
func (r *Reader) Portable() bool {
	head := r.head[:r.heads]
	return bytes.HasPrefix(head, []byte(indexStart)) ||
		bytes.HasPrefix(head, []byte(archiveHeader)) && r.walk.holds == 0 && r.walk.ends(r.size)
}

// OfFile is the kind of a body in a file; not ok is one that cannot be read.
func OfFile(f io.ReaderAt, size int64) (kind Kind, ok bool) {
	var head [headMax]byte
	var tail [tailMax]byte
	h, t := head[:min(size, headMax)], tail[:min(size, tailMax)]
	if n, _ := f.ReadAt(h, 0); n < len(h) {
		return Unknown, false
	}
	if n, _ := f.ReadAt(t, size-int64(len(t))); n < len(t) {
		return Unknown, false
	}
	return sniff(h, t, size), true
}
