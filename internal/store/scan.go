package store

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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

// scan looks at every file of the store, one subdirectory at a time, and passes
// it to visit. Whatever is not an action's or an output's file is passed over.
// A store that does not exist is empty. Subdirectories that cannot be read are
// passed over too, and are an error in the end (skipped). progress may be nil.
func scan(ctx context.Context, o Options, progress func(done, total int), visit func(scanned)) (skipped, err error) {
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
		dir := subdir(o.Dir, [entry.HashSize]byte{byte(i)})
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			skipped = errors.Join(skipped, err)
		}
		for _, e := range entries {
			if f, ok := look(dir, e); ok {
				visit(f)
			}
		}
	}
	return skipped, nil
}

// look is what scan does with one directory entry. It is not ok if that is none
// of the store's, or has just gone.
func look(dir string, e fs.DirEntry) (f scanned, ok bool) {
	base := e.Name()
	if len(base) != hexSize+2 || !strings.HasSuffix(base, "-a") && !strings.HasSuffix(base, "-d") {
		return f, false
	}
	info, err := e.Info()
	if err != nil {
		return f, false
	}
	f = scanned{name: filepath.Join(dir, base), kind: base[hexSize+1], size: info.Size(), mtime: info.ModTime(), dir: info.IsDir()}
	var id [entry.HashSize]byte
	if _, err := hex.Decode(id[:], []byte(base[:hexSize])); err != nil || filepath.Base(dir) != base[:2] {
		return f, false
	}
	if f.kind == 'd' {
		f.output = id
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
	if err == nil && f.action.id != id {
		err = errors.New("it is another action's")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return f, false
	}
	f.output, f.damage = f.action.output, err
	return f, true
}
