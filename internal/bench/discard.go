package bench

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Discard puts a directory out of the way, into a directory below bin, and gives
// back the disk space and the memory of its files, but leaves the files: ext4 looks
// for a minute and more past the inodes of each deleted file whenever it makes one
// (fs/ext4/ialloc.c, recently_deleted), so what is timed after many were deleted is
// slower. That was an eighth of the CPU time of a cold machine. Whoever has bin
// deletes it when nothing more is timed. A directory that does not exist is none.
func Discard(dir, bin string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(bin, 0o777); err != nil {
		return err
	}
	place, err := os.MkdirTemp(bin, "")
	if err != nil {
		return err
	}
	to := filepath.Join(place, filepath.Base(dir))
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	return filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return os.Truncate(path, 0)
	})
}
