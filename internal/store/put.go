package store

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/folder"
)

// retryPuts is how many puts go to the fallback directory after one that could
// not be stored, before the store's own directory is tried again: often enough
// to come back soon after somebody made room, seldom enough that a build on a
// full disk does not write everything twice.
const retryPuts = 50

// spareTries is how often a file is tried to be made in the fallback directory.
// It is the last place, and what fails there fails the build, or has the go
// command say that packages of the standard library do not exist; and where one
// call fails (too many files are open, a disk is in trouble) the next may not.
const spareTries = 4

// Put stores body as the output of an action and returns the path of its file.
// The last put of an action counts.
//
// If body is not what out and size say, the error is an *entry.MismatchError; if
// reading it fails, it is that error; in both cases nothing is stored. If the
// store's directory cannot be written, at whatever point, the output goes to a
// private temporary directory, and the action is remembered for this session.
// Only if that cannot be written either is there another error.
func (s *Store) Put(id entry.ActionID, out entry.OutputID, size int64, body io.Reader) (path string, err error) {
	path, spare, err := s.putOutput(out, size, body)
	if err != nil {
		return "", err
	}
	a := action{id: id, output: out, size: size, time: s.options.now().UnixNano()}
	if spare {
		s.remember(id, a.object(path))
		return path, nil
	}
	if err := s.putAction(a); err != nil {
		// The output is where it should be, and will do for this session. Nor
		// does this say much about the directory, which has just taken it.
		s.remember(id, a.object(path))
		return path, nil
	}
	s.forget(id)
	return path, nil
}

// noteFailure makes the next puts pass the store's directory by. Not so if
// something else stands where a file or its subdirectory should be: that is one
// name's trouble, or, where it is everyone's, found out before much is written.
func (s *Store) noteFailure(err error) {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) {
		return
	}
	s.failure.Store(&err)
	s.sinceFailure.Store(0)
}

// tryDir reports whether a put should go to the store's own directory, and if
// not why.
func (s *Store) tryDir() (bool, error) {
	failure := s.failure.Load()
	if failure == nil {
		return true, nil
	}
	return s.sinceFailure.Add(1)%retryPuts == 0, *failure
}

// putOutput stores a body under its name, or (spare) in the fallback directory.
func (s *Store) putOutput(out entry.OutputID, size int64, body io.Reader) (path string, spare bool, err error) {
	buf := s.buffers.Get().(*[copyBytes]byte)
	defer s.buffers.Put(buf)
	n, end := fill(buf[:], body)
	if end == io.EOF && n == 0 && size == 0 && out == entry.EmptyOutput {
		// A third of all puts. There is only one empty body.
		name := fileName(s.options.Dir, out, 'd')
		if info, err := statFile(name); err == nil && info.size == 0 && !info.dir && !s.stale(info.mtime) {
			return name, false, nil
		}
	}
	w := outputWriter{store: s, hash: sha256.New()}
	if err := w.open(); err != nil {
		return "", false, err
	}
	defer w.abandon()
	for {
		if n > 0 {
			if err := w.write(buf[:n]); err != nil {
				return "", false, err
			}
		}
		if end != nil || w.size > size {
			break
		}
		n, end = fill(buf[:], body)
	}
	if end != nil && end != io.EOF {
		return "", false, end
	}
	var got entry.OutputID
	if w.hash.Sum(got[:0]); got != out || w.size != size {
		return "", false, &entry.MismatchError{Want: out, Got: got, WantSize: size, GotSize: w.size}
	}
	path, err = w.commit(out)
	return path, w.spare, err
}

// fill reads until buf is full, or until body's end or error, which it returns as
// it is: io.ReadFull's own io.ErrUnexpectedEOF could not be told from body's.
func fill(buf []byte, body io.Reader) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = body.Read(buf[n:])
		n += m
	}
	return n, err
}

// An outputWriter writes one body to a temporary file, and gives that its name.
// While it writes, what goes wrong with the store's directory moves what has been
// written to the fallback directory.
type outputWriter struct {
	store *Store
	hash  hash.Hash
	file  *os.File // nil: closed, or given its name
	name  string   // of the temporary file, "" when there is none to remove
	size  int64
	spare bool // it is in the fallback directory
}

func (w *outputWriter) open() error {
	s := w.store
	ok, err := s.tryDir()
	if ok {
		if err = s.failed("create", s.options.Dir); err == nil {
			w.file, err = s.session.create()
		}
		if err == nil {
			w.name = w.file.Name()
			return nil
		}
		s.noteFailure(err)
	}
	return w.openSpare(err)
}

// openSpare opens a file in the fallback directory; why is what makes that necessary.
func (w *outputWriter) openSpare(why error) (err error) {
	for range spareTries {
		if err = w.store.failed("create", "fallback"); err == nil {
			w.file, err = w.store.fallback.create("-d", why)
		}
		if err == nil {
			w.name, w.spare = w.file.Name(), true
			return nil
		}
	}
	return err
}

// write adds p, which is hashed once whatever happens to the file.
func (w *outputWriter) write(p []byte) error {
	w.hash.Write(p)
	err := w.store.failed("write", w.name)
	if err == nil {
		_, err = w.file.WriteAt(p, w.size)
	}
	if err != nil {
		if w.spare {
			return err
		}
		if err := w.move(err); err != nil {
			return err
		}
		if _, err := w.file.WriteAt(p, w.size); err != nil {
			return err
		}
	}
	w.size += int64(len(p))
	return nil
}

// move takes what has been written to the fallback directory. What is read
// back from a directory in trouble is hashed again before it counts (commit).
func (w *outputWriter) move(why error) error {
	w.store.noteFailure(why)
	old, oldName := w.file, w.name
	defer os.Remove(oldName)
	defer old.Close()
	if err := w.openSpare(why); err != nil {
		w.file, w.name = nil, ""
		return err
	}
	_, err := io.Copy(w.file, io.NewSectionReader(old, 0, w.size))
	return err
}

// commit gives the file its name in the store, or, if that cannot be done,
// leaves it in the fallback directory.
func (w *outputWriter) commit(out entry.OutputID) (path string, err error) {
	if !w.spare {
		if path, err = w.rename(out); err == nil {
			w.store.failure.Store(nil)
			return path, nil
		}
		if w.file == nil {
			if w.file, err = os.Open(w.name); err != nil {
				return "", err
			}
		}
		if err := w.move(err); err != nil {
			return "", err
		}
	}
	if err := hashesTo(w.file, out); err != nil {
		return "", err
	}
	if err := w.file.Close(); err != nil {
		return "", err
	}
	path, w.file, w.name = w.name, nil, ""
	return path, nil
}

// hashesTo is nil if f's content is what out says.
func hashesTo(f io.ReaderAt, out entry.OutputID) error {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return err
	}
	var got entry.OutputID
	if h.Sum(got[:0]); got != out {
		return &entry.MismatchError{Want: out, Got: got, WantSize: n, GotSize: n}
	}
	return nil
}

// rename gives the temporary file its name in the store. After an error it is
// still open, or can be opened again by w.name.
//
// The file is closed last, so that what was written can still be read if the
// directory is wiped at this moment. Windows cannot rename an open file.
func (w *outputWriter) rename(out entry.OutputID) (path string, err error) {
	s := w.store
	path = fileName(s.options.Dir, out, 'd')
	if runtime.GOOS == "windows" {
		f := w.file
		w.file = nil
		if err := f.Close(); err != nil {
			return "", err
		}
	}
	err = s.rename(w.name, path, subdir(s.options.Dir, out))
	if err != nil {
		return w.standing(path, out, err)
	}
	w.name = ""
	if w.file != nil {
		f := w.file
		w.file = nil
		if err := errors.Join(s.failed("close", path), f.Close()); err != nil {
			// What the system has kept is not sure. Only a network file system does this.
			w.name = path
			return "", err
		}
	}
	return path, nil
}

// standing is the path of what could not be replaced, if it is what it should
// be: an executable's directory or, on Windows, an open file. If not, it answers
// what replacing it did.
func (w *outputWriter) standing(path string, out entry.OutputID, why error) (string, error) {
	info, err := statFile(path)
	if err == nil && info.dir {
		path, _, err = executable(path)
	}
	if err != nil {
		return "", why
	}
	f, err := os.Open(path)
	if err != nil {
		return "", why
	}
	defer f.Close()
	if hashesTo(f, out) != nil {
		return "", why
	}
	return path, nil
}

// rename renames a temporary file into a subdirectory, which it makes if it is
// missing: the store is new, or has just been wiped.
func (s *Store) rename(from, to, dir string) error {
	if err := s.failed("rename", to); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if err := folder.Mkdir(dir); err != nil {
			return err
		}
		err = os.Rename(from, to)
	}
	return err
}

// abandon removes the temporary file of a put that came to nothing.
func (w *outputWriter) abandon() {
	if w.file != nil {
		w.file.Close()
	}
	if w.name != "" {
		os.Remove(w.name)
	}
}

// putAction writes an action file.
func (s *Store) putAction(a action) error {
	name := fileName(s.options.Dir, a.id, 'a')
	if err := s.failed("create", name); err != nil {
		return err
	}
	f, err := s.session.create()
	if err != nil {
		return err
	}
	temporary := f.Name()
	var space [actionSize]byte
	if err = s.failed("write", name); err == nil {
		_, err = f.Write(a.appendTo(space[:0]))
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.rename(temporary, name, subdir(s.options.Dir, a.id))
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}
