package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// Import stores what another machine has put, at the time of that put. Unlike
// Put it has no second place to go to: where the directory cannot be written,
// what was to be imported is simply not there.
//
// If body is not what out and size say, the error is an *entry.MismatchError; in
// that case, as with every error, nothing is stored. A body that is an
// io.WriterTo is written as it comes: a bytes.Reader takes one write, which
// for a build's bodies is twice as fast as pieces of 128 KiB are.
//
// Once the store is closed the error is os.ErrClosed.
func (s *Store) Import(id entry.ActionID, out entry.OutputID, size int64, put time.Time, body io.Reader) error {
	return s.ImportNamed(func() (entry.ActionID, error) { return id, nil }, out, size, put, body)
}

// ImportNamed is Import of a body that says itself whose it is: name is called when
// it has been read to its end. An error of name's is one of the import.
func (s *Store) ImportNamed(name func() (entry.ActionID, error), out entry.OutputID, size int64, put time.Time, body io.Reader) (err error) {
	s.importing.RLock()
	defer s.importing.RUnlock()
	if s.session.hasEnded() {
		return os.ErrClosed
	}
	if _, inRAM := body.(io.WriterTo); !inRAM {
		body = sessionReader{&s.session, body} // it may take its time
	}
	var id entry.ActionID
	named := func() error {
		id, err = name()
		return err
	}
	if size == 0 && out == entry.EmptyOutput && s.hasEmpty() {
		err = named()
	} else {
		err = s.importOutput(out, size, body, named)
	}
	if err != nil {
		return err
	}
	return s.putAction(action{id: id, output: out, size: size, time: put.UnixNano()})
}

// A sessionReader reads until its session ends.
type sessionReader struct {
	session *session
	body    io.Reader
}

func (r sessionReader) Read(p []byte) (int, error) {
	if r.session.hasEnded() {
		return 0, os.ErrClosed
	}
	return r.body.Read(p)
}

// hasEmpty reports whether the one empty body is there, in use: a third of all
// entries have it.
func (s *Store) hasEmpty() bool {
	info, err := statFile(fileName(s.options.Dir, entry.EmptyOutput, 'd'))
	return err == nil && info.size == 0 && !info.dir && !s.stale(info.mtime)
}

// importOutput stores an output, unless named has something against it.
func (s *Store) importOutput(out entry.OutputID, size int64, body io.Reader, named func() error) (err error) {
	if err := s.failed("create", s.options.Dir); err != nil {
		return err
	}
	f, err := s.session.create()
	if err != nil {
		return err
	}
	name := f.Name()
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(name)
		}
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(h, f), body)
	if err == nil {
		err = s.failed("write", name)
	}
	if err != nil {
		return err
	}
	var got entry.OutputID
	if h.Sum(got[:0]); got != out || n != size {
		return &entry.MismatchError{Want: out, Got: got, WantSize: size, GotSize: n}
	}
	if err := named(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return s.rename(name, fileName(s.options.Dir, out, 'd'), subdir(s.options.Dir, out))
}

// Actions calls yield for each action that the store holds, until it answers
// false. It lists directories and reads no file, so an action may turn out to be
// damaged. Directories that cannot be read hold nothing.
func (s *Store) Actions(ctx context.Context, yield func(entry.ActionID) bool) {
	for i := range 256 {
		dir, err := os.Open(subdir(s.options.Dir, [entry.HashSize]byte{byte(i)}))
		if err != nil {
			continue
		}
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		if ctx.Err() != nil {
			return
		}
		for _, name := range names {
			digits, ok := strings.CutSuffix(name, "-a")
			var id entry.ActionID
			if !ok || len(digits) != 2*len(id) {
				continue
			}
			if _, err := hex.Decode(id[:], []byte(digits)); err == nil && !yield(id) {
				return
			}
		}
	}
}
