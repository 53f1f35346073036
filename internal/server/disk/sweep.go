package disk

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// sweep removes the files that a crash has left and nothing refers to.
//
// It only looks at numbers given out before this Open: whoever held those is
// gone, so that what nothing refers to now is not going to be referred to. It
// asks the index about each file there is, and keeps nothing in memory.
func (s *Store) sweep(ctx context.Context) {
	if err := s.removeAsideBodies(); err != nil {
		s.log("remove the bodies of a damaged index", err)
	}
	files, bytes, err := s.sweepDirs(ctx)
	if files > 0 {
		s.options.Log.Info("removed files that a crash has left", "dir", s.options.Dir, "files", files, "bytes", bytes)
	}
	s.log("look for files that a crash has left", err)
}

func (s *Store) sweepDirs(ctx context.Context) (files int, bytes int64, err error) {
	dirs, err := s.fs.List(s.path(bodiesDir))
	if err != nil {
		return 0, 0, err
	}
	for _, d := range dirs {
		n, b, err := s.sweepDir(ctx, s.path(bodiesDir, d))
		files += n
		bytes += b
		if err != nil || ctx.Err() != nil {
			return files, bytes, err
		}
	}
	return files, bytes, nil
}

func (s *Store) sweepDir(ctx context.Context, dir string) (files int, bytes int64, err error) {
	names, err := s.fs.List(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		path := filepath.Join(dir, name)
		number, err := strconv.ParseUint(name, 16, 64)
		if err != nil || number >= s.numbers.atOpen || s.bodyPath(number) != path {
			continue
		}
		_, closer, err := s.db.Get(fileKey(number))
		if err == nil {
			closer.Close()
			continue
		}
		if !errors.Is(err, pebble.ErrNotFound) {
			return files, bytes, err
		}
		info, err := s.fs.Stat(path)
		if err == nil && s.fs.Remove(path) == nil {
			files++
			bytes += info.Size()
		}
	}
	return files, bytes, nil
}

// removeAsideBodies removes what setAside has moved away with an index.
func (s *Store) removeAsideBodies() error {
	names, err := s.fs.List(s.options.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, asidePrefix) {
			continue
		}
		if err := s.fs.RemoveAll(s.path(name, bodiesDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
