package cacheprogtest

import (
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// named returns the paths of right files that a program names for an object that is put, and got.
func (s *session) named(o object) []string {
	s.needs(cacheprog.CmdGet)
	var paths []string
	for _, path := range []string{s.put(o).DiskPath, s.get(o.action).DiskPath} {
		if path != "" && o.isIn(path) == "" {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		s.t.skipf("neither put nor get names a file with the body, see put-body, put-get and body-sizes")
	}
	return paths
}

func pathAbsolute(t *trial) {
	s := t.begin()
	for _, path := range s.named(newObject(plainBytes)) {
		if !filepath.IsAbs(path) {
			t.failf("the path %q is not absolute", path)
		}
	}
}

func pathExtension(t *trial) {
	s := t.begin()
	for _, path := range s.named(newObject(plainBytes)) {
		if ext := filepath.Ext(path); ext != "" && ext != ".go" {
			t.warnf("the path %q has the extension %q", path, ext)
		}
	}
}

func pathKept(t *trial) {
	s := t.begin()
	o := newObject(plainBytes)
	paths := s.named(o)
	s.finish()
	for _, path := range paths {
		if wrong := o.isIn(path); wrong != "" {
			t.warnf("when the program has left, %s %s", path, wrong)
		}
	}
}

func pathKeepsBytes(t *trial) {
	s := t.begin()
	o := newObject(plainBytes)
	paths := s.named(o)
	s.put(o.with(2 * plainBytes))
	s.put(o.with(plainBytes))
	for _, path := range paths {
		if wrong := o.isIn(path); wrong != "" {
			t.failf("when the action has been put again with another body, the file that was named for the first, %s, %s", path, wrong)
		}
	}
}

// pathWhole puts an output again and looks at its file while the body is on its way.
func pathWhole(t *trial) {
	s := t.begin()
	o := newObject(t.sizes.big)
	path := s.named(o)[0]
	var data []byte
	c := s.next(&data, o.request(), o.bytes())
	look := func(when string) {
		info, err := os.Stat(path)
		if err != nil || info.Size() != o.size {
			t.failf("%s the same output is put again, its file %s is not whole: %s", when, path, o.isIn(path))
		}
	}
	const pieces = 8
	for i := range pieces {
		s.write(data[i*len(data)/pieces : (i+1)*len(data)/pieces])
		look("while")
		time.Sleep(time.Millisecond) // for the program to take the piece
		look("while")
	}
	s.stored(c, o)
	if wrong := o.isIn(path); wrong != "" {
		t.failf("when the same output has been put again, its file %s %s", path, wrong)
	}
}

func lostFile(t *trial) {
	s := t.begin()
	o := newObject(plainBytes)
	s.put(o)
	path := s.hit(o).DiskPath
	s.finish()
	if err := os.Remove(path); err != nil {
		t.skipf("the file of a hit cannot be removed: %v", err)
	}
	s = t.begin()
	if res := s.get(o.action); isHit(res) && o.isIn(res.DiskPath) != "" {
		t.warnf("the get is a hit with %s, which is not there any more", res.DiskPath)
	}
}
