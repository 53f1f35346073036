//go:build unix

package folder

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// An Owner is who is to own what is made in a directory. The zero Owner is
// whoever makes it.
type Owner struct {
	other    bool
	uid, gid int
}

// OwnerOf is the owner of what is made in dir: for root the directory's own.
func OwnerOf(dir string) (o Owner) {
	if os.Geteuid() != 0 {
		return o
	}
	info, err := os.Stat(dir)
	if err != nil {
		return o
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
		o = Owner{true, int(st.Uid), int(st.Gid)}
	}
	return o
}

// Give gives a file that has just been made to its owner. In vain (a root that may
// not, a network file system), the file stays as it is.
func (o Owner) Give(f *os.File) {
	if o.other {
		f.Chown(o.uid, o.gid)
	}
}

// giveName is Give for a directory that has just been made.
func (o Owner) giveName(path string) {
	if o.other {
		os.Lchown(path, o.uid, o.gid)
	}
}

// HandOver gives the directories that root has made in somebody else's store to
// that one: those that the go command has made before it started its cache program,
// and those of versions of Larder that did not give them. What is in them need not
// be given: in a directory of one's own one can replace everything.
//
// Only directories in a directory that belongs to the store's owner, or to root, are
// given, and none is reached by a name that the owner could lead elsewhere.
func HandOver(store string) {
	o := OwnerOf(store)
	if !o.other {
		return
	}
	dir, err := os.Open(store)
	if err != nil {
		return
	}
	defer dir.Close()
	for i := range 256 {
		o.giveDir(dir, fmt.Sprintf("%02x", i))
	}
	o.giveDir(dir, name)
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	own := os.NewFile(uintptr(fd), filepath.Join(store, name))
	defer own.Close()
	names, _ := own.Readdirnames(-1)
	for _, sub := range names {
		o.giveDir(own, sub)
	}
}

// giveDir gives what is a directory of root's in dir.
func (o Owner) giveDir(dir *os.File, name string) {
	var st unix.Stat_t
	fd := int(dir.Fd())
	if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Uid != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	_ = unix.Fchownat(fd, name, o.uid, o.gid, unix.AT_SYMLINK_NOFOLLOW)
}

// writable reports whether files can be made in a directory.
func writable(dir string) bool { return unix.Access(dir, unix.W_OK|unix.X_OK) == nil }
