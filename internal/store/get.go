package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// A Reason is why a get missed.
type Reason uint8

const (
	Absent        Reason = iota // there is no action file
	Damaged                     // the action file does not parse, or is another action's
	OutputMissing               // the output is gone or has another size
	Unreadable                  // the system answered an error: no permission, a broken disk
)

func (r Reason) String() string {
	return [...]string{"absent", "damaged", "output missing", "unreadable"}[r]
}

// ErrMiss is what every error of Get wraps.
var ErrMiss = errors.New("not in the store")

// A missError is a miss and its reason. The cause may be nil.
type missError struct {
	reason Reason
	cause  error
}

func (e *missError) Error() string {
	if e.cause == nil {
		return ErrMiss.Error() + ": " + e.reason.String()
	}
	return ErrMiss.Error() + ": " + e.reason.String() + ": " + e.cause.Error()
}

func (e *missError) Is(target error) bool { return target == ErrMiss }

func (e *missError) Unwrap() error { return e.cause }

// errAbsent is the common miss, which is to cost nothing.
var errAbsent = error(&missError{reason: Absent})

// MissReason is the reason of a miss that Get returned.
func MissReason(err error) Reason {
	var miss *missError
	if errors.As(err, &miss) {
		return miss.reason
	}
	return Unreadable
}

// mtimeInterval is how old a file's time of last use may get before a use
// renews it: the go command's own value (cmd/go/internal/cache/cache.go), which
// spares nearly all renewals.
const mtimeInterval = time.Hour

// Get returns the output of an action. All errors are misses: they wrap ErrMiss
// and have a MissReason. The output's file has the size that the action says;
// it is not hashed.
func (s *Store) Get(id entry.ActionID) (entry.Object, error) {
	if s.remembering.Load() {
		if o, ok := s.recall(id); ok {
			return o, nil
		}
	}
	s.session.begin()
	var nameSpace [nameBytes]byte
	name := appendName(nameSpace[:0], s.options.Dir, id, 'a')
	a, used, err := readAction(name, id)
	if err != nil {
		return entry.Object{}, err
	}
	path, u, err := s.output(a, s.stale)
	if err != nil {
		return entry.Object{}, err
	}
	if u != recent || s.stale(used) {
		// Last of all, for trimming removes an action first of all and looks at
		// the output's time once more after that: what it still finds here, it
		// finds used there (evict).
		switch err := s.renew(string(name)); {
		case errors.Is(err, fs.ErrNotExist):
			return entry.Object{}, &missError{OutputMissing, err}
		case errors.Is(err, fs.ErrPermission):
			u = foreign
		}
	}
	if u == foreign {
		if err := s.adopt(a, path); err != nil {
			return entry.Object{}, &missError{OutputMissing, err}
		}
	}
	return a.object(path), nil
}

// Peek is Get for who only looks: it notes no use, and what it answers may be
// trimmed at any time.
func (s *Store) Peek(id entry.ActionID) (entry.Object, error) {
	a, _, err := readAction(appendName(nil, s.options.Dir, id, 'a'), id)
	if err != nil {
		return entry.Object{}, err
	}
	path, _, err := s.output(a, func(time.Time) bool { return false })
	if err != nil {
		return entry.Object{}, err
	}
	return a.object(path), nil
}

// readAction reads an action's file, and when its use was last noted. Its errors
// are misses.
func readAction(name []byte, id entry.ActionID) (a action, used time.Time, err error) {
	var space [actionSize + 1]byte // one more, to see that a file is too long
	n, used, err := readFile(name, space[:])
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return a, used, errAbsent
		}
		return a, used, &missError{Unreadable, err}
	}
	if a, err = parseAction(space[:n]); err != nil {
		return a, used, &missError{Damaged, err}
	}
	if a.id != id {
		return a, used, &missError{Damaged, errors.New("it is another action's")}
	}
	return a, used, nil
}

// A use says what became of noting one.
type use int

const (
	recent  use = iota // one has been noted a short while ago
	renewed            // it has been noted
	foreign            // it cannot be: the file is somebody else's
)

// output returns the path of an action's output, and notes its use if due says that
// of when it was last noted.
func (s *Store) output(a action, due func(used time.Time) bool) (path string, u use, err error) {
	path = fileName(s.options.Dir, a.output, 'd')
	info, err := statFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", u, &missError{reason: OutputMissing}
		}
		return "", u, &missError{Unreadable, err}
	}
	if due(info.mtime) {
		u = renewed
		switch err := s.renew(path); {
		case errors.Is(err, fs.ErrNotExist):
			return "", u, &missError{OutputMissing, err} // trimming has just taken it
		case errors.Is(err, fs.ErrPermission):
			u = foreign
		}
	}
	if info.dir {
		if path, info, err = executable(path); err != nil {
			return "", u, &missError{OutputMissing, err}
		}
	}
	if info.size != a.size {
		return "", u, &missError{reason: OutputMissing}
	}
	return path, u, nil
}

// adopt stores an entry of another user again, as this user's own, since the times of
// its files say that it is not used, and would have it trimmed from under a build. An
// error says that it is not there any more, or damaged. Where it cannot be stored,
// this user could not trim it either.
func (s *Store) adopt(a action, path string) error {
	if path != fileName(s.options.Dir, a.output, 'd') || s.cannotAdopt.Load() {
		return nil // an executable in its directory: it is used at once
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return nil
	}
	defer f.Close()
	err = s.Import(a.id, a.output, a.size, time.Unix(0, a.time), f)
	var mismatch *entry.MismatchError
	if errors.As(err, &mismatch) {
		return err
	}
	if err != nil {
		s.cannotAdopt.Store(true)
	}
	return nil
}

// executable finds the one file in an output that is a directory: an executable
// of go run or go tool, which the go command keeps under the name that it is to
// run by (cmd/go/internal/cache/cache.go, PutExecutable).
func executable(dir string) (path string, info fileInfo, err error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return "", info, err
	}
	if len(names) != 1 {
		return "", info, errors.New("not one executable in its directory")
	}
	path = filepath.Join(dir, names[0].Name())
	info, err = statFile(path)
	return path, info, err
}

// stale reports whether a noted use is so old that another one is to be noted.
// Times in the future, as after a clock jump, are left alone.
func (s *Store) stale(used time.Time) bool { return s.options.now().Sub(used) >= mtimeInterval }

// renew notes the use of a file, if it may.
func (s *Store) renew(name string) error {
	now := s.options.now()
	err := os.Chtimes(name, now, now)
	if errors.Is(err, fs.ErrPermission) {
		err = touch(name)
	}
	return err
}

// recall finds an action that could not be written to the directory.
func (s *Store) recall(id entry.ActionID) (entry.Object, bool) {
	s.mu.Lock()
	o, ok := s.remembered[id]
	s.mu.Unlock()
	if !ok {
		return o, false
	}
	info, err := statFile(o.DiskPath)
	return o, err == nil && info.size == o.Size
}

func (s *Store) remember(id entry.ActionID, o entry.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.remembered == nil {
		s.remembered = make(map[entry.ActionID]entry.Object)
	}
	s.remembered[id] = o
	s.remembering.Store(true)
}

// forget drops what was remembered of an action that is in the directory now.
func (s *Store) forget(id entry.ActionID) {
	if !s.remembering.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.remembered, id)
}

// A fileInfo is what the store asks of a file.
type fileInfo struct {
	size  int64
	mtime time.Time
	dir   bool
}
