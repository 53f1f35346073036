package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// A scanned is a file of the store as a scan found it.
type scanned struct {
	name   string // path
	kind   byte   // 'a' or 'd'
	size   int64  // bytes; of an executable's directory, of what is in it
	mtime  time.Time
	dir    bool
	output entry.OutputID // the file's own, or the one that the action names
	action action         // if kind is 'a' and damage is nil
	damage error          // what is wrong with it, as far as can be seen without hashing
}

// diskBlock is the unit in which file systems give out space. Three quarters of
// a store's files are smaller, so what a store takes is counted in these.
const diskBlock = 4096

func (f scanned) diskBytes() int64 { return (f.size + diskBlock - 1) / diskBlock * diskBlock }

// A file is one of the store's, by its name.
type file struct {
	name string // path
	id   [entry.HashSize]byte
	kind byte // 'a' or 'd'
}

// walk passes every file of the store to visit, one subdirectory after the other.
// Whatever has not an action's or an output's name is passed over. A store that does
// not exist is empty. Subdirectories that cannot be read are passed over too, and are
// an error in the end (skipped). progress may be nil.
func walk(ctx context.Context, o Options, progress func(done, total int), visit func(file)) (skipped, err error) {
	if info, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, &fs.PathError{Op: "scan", Path: o.Dir, Err: errors.New("not a directory")}
	}
	const subdirs = 256
	for i := range subdirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if progress != nil {
			progress(i, subdirs)
		}
		skipped = errors.Join(skipped, walkSubdir(o, i, visit))
	}
	return skipped, nil
}

// listNames is how many names are read at a time: 100 KB.
const listNames = 1000

// walkSubdir is walk for one subdirectory.
func walkSubdir(o Options, i int, visit func(file)) error {
	dir := subdir(o.Dir, [entry.HashSize]byte{byte(i)})
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(listNames)
		for _, base := range names {
			f := file{}
			if len(base) != hexSize+2 || base[hexSize] != '-' || base[hexSize+1] != 'a' && base[hexSize+1] != 'd' {
				continue
			}
			if f.kind = base[hexSize+1]; !decodeID(&f.id, base[:hexSize]) || f.id[0] != byte(i) {
				continue
			}
			f.name = dir + string(filepath.Separator) + base
			visit(f)
		}
		if err == io.EOF || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// decodeID reads an ID as names have it, in small letters.
func decodeID(id *[entry.HashSize]byte, digits string) bool {
	for i := range id {
		high, low := hexDigit(digits[2*i]), hexDigit(digits[2*i+1])
		if high|low > 15 {
			return false
		}
		id[i] = high<<4 | low
	}
	return true
}

func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// scan looks at every file of the store, in the way of walk.
func scan(ctx context.Context, o Options, visit func(scanned)) (skipped, err error) {
	return walk(ctx, o, nil, func(f file) {
		info, err := os.Lstat(f.name)
		if err != nil {
			return
		}
		if s, ok := look(f, info); ok {
			visit(s)
		}
	})
}

// look is what scan does with one file. It is not ok if that has just gone.
func look(named file, info fs.FileInfo) (f scanned, ok bool) {
	f = scanned{name: named.name, kind: named.kind, size: info.Size(), mtime: info.ModTime(), dir: info.IsDir()}
	if f.kind == 'd' {
		f.output = named.id
		if f.dir {
			_, inner, err := executable(f.name)
			f.size, f.damage = inner.size, err
		}
		return f, true
	}
	var space [actionSize + 1]byte
	n, _, err := readFile([]byte(f.name), space[:])
	if err == nil {
		f.action, err = parseAction(space[:n])
	}
	if err == nil && f.action.id != named.id {
		err = errors.New("it is another action's")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return f, false
	}
	f.output, f.damage = f.action.output, err
	return f, true
}
