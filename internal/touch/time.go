package touch

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"time"
)

// Times lie in the 2^30 seconds, 34 years, from the first on. The first is after
// 1980, before which zip has no times, in every zone.
const (
	firstSecond = 504921600 // 1986-01-01 00:00 UTC
	seconds     = 1 << 30
)

// A digest makes a time of what is written to it, in fields that cannot run into
// each other.
type digest struct{ h hash.Hash }

func newDigest(kind Kind, path string) digest {
	d := digest{sha256.New()}
	d.field("larder touch 1")
	d.field(string(kind))
	d.field(path)
	return d
}

func (d digest) field(s string) {
	fmt.Fprintf(d.h, "%d:%s", len(s), s)
}

func (d digest) time() time.Time {
	sum := d.h.Sum(nil)
	second := binary.BigEndian.Uint64(sum) % seconds
	micro := binary.BigEndian.Uint64(sum[8:]) % 1e6
	return time.Unix(firstSecond+int64(second), int64(micro)*1000).UTC()
}

// fileTime is the time for a file at a path below the root, with its content.
func fileTime(path string, content io.Reader) (time.Time, error) {
	d := newDigest(File, path)
	_, err := io.Copy(d.h, content)
	return d.time(), err
}

// linkTime is the time for a symbolic link that points to target.
func linkTime(path, target string) time.Time {
	d := newDigest(Link, path)
	d.field(target)
	return d.time()
}

// gitDirectory is not part of what a checkout contains, and is a file in some.
const gitDirectory = ".git"

// directoryTime is the time for a directory with these entries, sorted by name.
func directoryTime(path string, entries []fs.DirEntry) time.Time {
	d := newDigest(Directory, path)
	for _, e := range entries {
		if path == "." && e.Name() == gitDirectory {
			continue
		}
		d.field(e.Type().String()[:1]) // as ls shows it: d, L, or - for a file
		d.field(e.Name())
	}
	return d.time()
}
