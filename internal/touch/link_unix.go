//go:build unix

package touch

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// canTouchLinks is whether a link can have a time of its own set.
const canTouchLinks = true

// touchLink sets the times of a link, not of what it points to.
func touchLink(name string, t time.Time) error {
	spec, err := unix.TimeToTimespec(t)
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{spec, spec}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return &fs.PathError{Op: "set times of link", Path: name, Err: err}
	}
	return nil
}
