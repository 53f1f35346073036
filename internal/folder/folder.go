// Package folder is Larder's own folder in a store: larder/, beside the go
// command's 256 directories.
//
// Whoever may write a store may have made what is in the folder: root, when a
// user has run one build with sudo, or another member of a group. Two rules keep
// each from shutting the others out:
//
//   - What root makes in a directory that belongs to somebody else is given to
//     that one.
//   - A directory that this user cannot write is passed by with one of the user's
//     own, which has the user's ID in its name; a file is replaced by a copy.
//
// A third keeps what has been removed from coming back: nothing here makes a
// directory above the one that it is asked for, so a store that is gone stays gone.
package folder

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// name is the folder's in a store.
const name = "larder"

// copyBytesMax is up to which size a file of somebody else is copied before it is
// replaced. The largest of Larder's own, the table of costs, has 1 MiB.
const copyBytesMax = 4 << 20

// Of is the folder of a store, for this user.
func Of(store string) string { return usable(filepath.Join(store, name)) }

// Sub is a directory in the folder, for this user.
func Sub(store, sub string) string { return usable(filepath.Join(Of(store), sub)) }

// usable is path, or what stands in for it where it is there and cannot be written.
func usable(path string) string {
	if writable(path) || !writable(filepath.Dir(path)) {
		return path // where there is no place for another one, this can be read at least
	}
	if _, err := os.Lstat(path); err != nil {
		return path
	}
	return path + "-" + strconv.Itoa(os.Geteuid())
}

// All are the directories named sub in the folders of all users of a store.
func All(store, sub string) (dirs []string) {
	folders, _ := os.ReadDir(store)
	for _, f := range folders {
		if !f.IsDir() || !isVariant(f.Name(), name) {
			continue
		}
		subs, _ := os.ReadDir(filepath.Join(store, f.Name()))
		for _, s := range subs {
			if s.IsDir() && isVariant(s.Name(), sub) {
				dirs = append(dirs, filepath.Join(store, f.Name(), s.Name()))
			}
		}
	}
	return dirs
}

// isVariant reports whether usable may have made name of base.
func isVariant(name, base string) bool {
	rest, ok := strings.CutPrefix(name, base)
	if !ok || rest == "" {
		return ok
	}
	_, err := strconv.ParseUint(strings.TrimPrefix(rest, "-"), 10, 32)
	return rest[0] == '-' && err == nil
}

// Mkdir makes a directory, if it is not there. The one above it must be.
func Mkdir(path string) error {
	err := os.Mkdir(path, 0o777)
	if err == nil {
		OwnerOf(filepath.Dir(path)).giveName(path)
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// MkdirSub makes Sub(store, sub), and the folder. The store must be there.
func MkdirSub(store, sub string) error {
	if err := Mkdir(Of(store)); err != nil {
		return err
	}
	return Mkdir(Sub(store, sub))
}

// OpenFile opens a file for writing, as os.OpenFile does with these flags. One that
// it makes belongs to the directory's owner, one that cannot be written is replaced.
func OpenFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag&^os.O_CREATE, 0)
	if errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0 {
		// O_EXCL, so that only what has been made here is given away.
		f, err = os.OpenFile(path, flag|os.O_EXCL, 0o666)
		if err == nil {
			OwnerOf(filepath.Dir(path)).Give(f)
			return f, nil
		}
		if errors.Is(err, fs.ErrExist) { // somebody was faster
			f, err = os.OpenFile(path, flag&^os.O_CREATE, 0)
		}
	}
	if errors.Is(err, fs.ErrPermission) && Replace(path, content(path)) == nil {
		f, err = os.OpenFile(path, flag&^os.O_CREATE, 0)
	}
	return f, err
}

// content is what can be read of a file that is to be replaced.
func content(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, copyBytesMax+1))
	if len(data) > copyBytesMax {
		return nil
	}
	return data
}

// Replace gives a file new content, whoever it belongs to, in one step.
func Replace(path string, data []byte) error {
	temporary := path + ".new-" + strconv.FormatUint(rand.Uint64(), 36)
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	OwnerOf(filepath.Dir(path)).Give(f)
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}
