// Package touch sets the times of what git tracks in a checkout to a function of
// path and content, so that two checkouts of the same content look the same to the
// go command: it identifies the files that a test has read by size and time of
// modification (cmd/go/internal/test/test.go, hashOpen and hashStat), and so does
// the index of a package's files (cmd/go/internal/modindex/read.go, dirHash).
//
// What it promises:
//
//   - A time says what is there, not what git believes to be there: a file's is
//     made of its bytes in the checkout, so it is right for what was edited, for
//     line endings that git converts, for filters such as LFS, and for what git
//     was told not to look at. A link's is made of where it points to, a
//     directory's of the names in it and whether each is a file, a directory or a
//     link, as these are what its time tells of elsewhere too.
//   - Different contents have different times, but for one pair in 2^50 (2^30 on
//     a file system that keeps whole seconds only).
//   - Times are whole microseconds, which nearly all file systems keep, between
//     1986 and 2020: archives can hold them, and what is built is newer.
//   - Only regular files and links that git tracks, and the directories that hold
//     them, are touched, and nothing beyond a link or in another repository. Times
//     of last access stay as they are, except those of links.
//
// Nobody should write to the checkout meanwhile. A file that changes while it is
// read is left alone.
package touch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A Report is what was done to a checkout.
type Report struct {
	Root   string   `json:"root"`   // absolute path of the checkout
	Set    []Change `json:"set"`    // what had another time, by path
	Right  int      `json:"right"`  // how many had the right time already
	Absent int      `json:"absent"` // tracked, but no file or link is there: deleted, not checked out, or a submodule
	Failed []string `json:"failed"` // what was left alone, and why
}

// A Change is one time that was set.
type Change struct {
	Path string    `json:"path"` // below the root, with slashes; "." is the root
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
}

// A Kind is what a path names.
type Kind string

// The kinds that are touched.
const (
	File      Kind = "file"
	Link      Kind = "link"
	Directory Kind = "directory"
)

// Checkout touches what git tracks in the checkout at root, of which tracked are
// the paths. With dryRun it only says what it would do. Its error is the
// context's; what fails by itself is in the report.
func Checkout(ctx context.Context, root string, tracked []string, dryRun bool) (Report, error) {
	c := checkout{root: root, dryRun: dryRun, report: Report{Root: root, Set: []Change{}, Failed: []string{}}}
	work := make(chan directory)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for d := range work {
				c.touch(ctx, d)
			}
		}()
	}
	for _, d := range c.directories(tracked) {
		work <- d
	}
	close(work)
	workers.Wait()
	slices.SortFunc(c.report.Set, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	slices.Sort(c.report.Failed)
	return c.report, ctx.Err()
}

type checkout struct {
	root   string
	dryRun bool

	mu     sync.Mutex
	report Report
}

// A directory holds tracked files, itself or further down.
type directory struct {
	path  string   // below the root, with slashes
	names []string // of the tracked files in it
}

// directories groups paths by directory, of those that are directories indeed:
// what git tracks may have given way to a link that leads elsewhere.
func (c *checkout) directories(tracked []string) []directory {
	names := map[string][]string{".": nil}
	for _, p := range tracked {
		dir, name := path.Split(p)
		dir = path.Clean(dir)
		names[dir] = append(names[dir], name)
		for ; dir != "."; dir = path.Dir(dir) {
			if above := path.Dir(dir); names[above] == nil {
				names[above] = []string{}
			}
		}
	}
	paths := make([]string, 0, len(names))
	for dir := range names {
		paths = append(paths, dir)
	}
	slices.Sort(paths)
	there := map[string]bool{".": true}
	var list []directory
	for _, dir := range paths { // parents come before what is in them
		if dir != "." {
			info, err := os.Lstat(c.file(dir))
			there[dir] = there[path.Dir(dir)] && err == nil && info.IsDir()
		}
		if !there[dir] {
			c.report.Absent += len(names[dir])
			continue
		}
		list = append(list, directory{dir, slices.Compact(names[dir])}) // what is in conflict is listed thrice
	}
	return list
}

// file is where a path is in the file system.
func (c *checkout) file(p string) string { return filepath.Join(c.root, filepath.FromSlash(p)) }

// touch touches the tracked files of a directory, and then itself.
func (c *checkout) touch(ctx context.Context, d directory) {
	for _, name := range d.names {
		if ctx.Err() != nil {
			return
		}
		p := path.Join(d.path, name)
		info, err := os.Lstat(c.file(p))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			c.absent()
		case err != nil:
			c.failed(err)
		case info.Mode().IsRegular():
			t, err := c.fileTime(p, info)
			c.set(Change{p, File, t}, info, err)
		case info.Mode().Type() == fs.ModeSymlink && canTouchLinks:
			target, err := os.Readlink(c.file(p))
			c.set(Change{p, Link, linkTime(p, target)}, info, err)
		default:
			c.absent()
		}
	}
	info, err := os.Lstat(c.file(d.path))
	if err != nil {
		c.failed(err)
		return
	}
	entries, err := os.ReadDir(c.file(d.path))
	c.set(Change{d.path, Directory, directoryTime(d.path, entries)}, info, err)
}

// fileTime is the time that the file at p should have. It is an error if the file
// does not stay as info has it.
func (c *checkout) fileTime(p string, info fs.FileInfo) (time.Time, error) {
	f, err := os.Open(c.file(p))
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	t, err := fileTime(p, f)
	if err != nil {
		return time.Time{}, err
	}
	now, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	if !os.SameFile(info, now) || now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime()) {
		return time.Time{}, fmt.Errorf("%s changed while it was read; it was left alone", c.file(p))
	}
	return t, nil
}

// set sets a time, unless finding it ended with an error or it is right already.
func (c *checkout) set(change Change, info fs.FileInfo, err error) {
	right := err == nil && info.ModTime().Equal(change.Time)
	if err == nil && !right && !c.dryRun {
		if change.Kind == Link {
			err = touchLink(c.file(change.Path), change.Time)
		} else {
			err = os.Chtimes(c.file(change.Path), time.Time{}, change.Time)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.report.Failed = append(c.report.Failed, err.Error())
	case right:
		c.report.Right++
	default:
		c.report.Set = append(c.report.Set, change)
	}
}

func (c *checkout) absent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Absent++
}

func (c *checkout) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Failed = append(c.report.Failed, err.Error())
}

// Count is how many times of a kind were set.
func (r Report) Count(kind Kind) (n int) {
	for _, c := range r.Set {
		if c.Kind == kind {
			n++
		}
	}
	return n
}
