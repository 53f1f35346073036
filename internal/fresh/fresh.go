// Package fresh keeps what was read from files in step with them: certificates are
// renewed while programs run.
package fresh

import (
	"os"
	"sync"
	"time"
)

// check is how often files are looked at, at most: renewing is a matter of days, and
// a look is a system call for each file.
const check = 10 * time.Second

// A Value is what a function makes of files. One that cannot be made anew, since a
// file is missing, or of two that belong together only one has been renewed yet,
// leaves the old one in use. It is safe for concurrent use.
type Value[T any] struct {
	// Check is how often the files are looked at, at most.
	Check time.Duration
	// Complain, if not nil, is told why the old value stays, once for each reason.
	Complain func(error)

	load  func() (T, error)
	files []string

	mu       sync.Mutex
	current  T
	loaded   bool
	seen     []os.FileInfo // as they were before current was loaded
	checked  time.Time
	complain string // what was complained of last
}

// New returns a Value that is not loaded yet.
func New[T any](load func() (T, error), files ...string) *Value[T] {
	return &Value[T]{Check: check, load: load, files: files}
}

// Get returns the value. It is an error only as long as there was none at all.
func (v *Value[T]) Get() (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.loaded && time.Since(v.checked) < v.Check {
		return v.current, nil
	}
	v.checked = time.Now()
	seen, err := stat(v.files)
	if err == nil && v.loaded && same(seen, v.seen) {
		return v.current, nil
	}
	var next T
	if err == nil || !v.loaded { // its error says more than that of looking
		next, err = v.load()
	}
	switch {
	case err == nil:
		v.current, v.loaded, v.seen, v.complain = next, true, seen, ""
	case !v.loaded:
		return next, err
	case v.Complain != nil && err.Error() != v.complain:
		v.complain = err.Error()
		v.Complain(err)
	}
	return v.current, nil
}

func stat(files []string) (infos []os.FileInfo, err error) {
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func same(a, b []os.FileInfo) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}
