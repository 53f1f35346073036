package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/filelock"
	"github.com/larder-build/larder/internal/folder"
)

// Limits say what a store may hold.
type Limits struct {
	MaxAge  time.Duration // unused for longer goes; 0 is the go command's 5 days
	MaxSize int64         // bytes on the disk; 0 is no limit
}

// The go command's own times (cmd/go/internal/cache/cache.go).
const (
	trimInterval = 24 * time.Hour
	trimLimit    = 5 * 24 * time.Hour
)

// scanInterval is the least time between two scans because of MaxSize, so that
// a store whose contents are all in use is not scanned after every go command.
const scanInterval = 10 * time.Minute

// quarantineAge is how long Verify's finds are kept for whoever wants to look.
const quarantineAge = 5 * 24 * time.Hour

// A TrimReport says what trimming did.
type TrimReport struct {
	Busy           bool  `json:"busy"` // another process is trimming; nothing was done
	Bytes          int64 `json:"bytes"`
	RemovedBytes   int64 `json:"removed_bytes"`
	RemovedActions int   `json:"removed_actions"`
	RemovedOutputs int   `json:"removed_outputs"`
	Collected      int   `json:"collected"` // what dead sessions and old quarantines left
}

// A Duty is what a session has to do for its store in the end.
type Duty struct {
	options Options
	limits  Limits
	due     bool
	err     error
	files   trimFiles
}

// TrimDuty finds out whether the store is to be trimmed, as the go command does after
// its work: once a day, by the same file, trim.txt, so that the two share the duty;
// and whenever the store seems to be over MaxSize. putBytes is what the session has
// put. It takes microseconds, and makes what files trimming needs.
func TrimDuty(o Options, l Limits, putBytes int64) *Duty {
	d := &Duty{options: o, limits: l}
	o.addUsage(putBytes)
	over := l.MaxSize > 0 && o.overSize(l.MaxSize)
	due, err := o.trimDue()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.due = true // no store: there is nothing to trim but in another place
	case err != nil:
		d.err = err
	case due || over:
		d.due = true
		d.files, d.err = o.openTrimFiles()
	}
	return d
}

// Do trims, if that is due, and reports whether it did. The go command has gone, and
// somebody may be removing the store: it makes no file that stays.
func (d *Duty) Do(ctx context.Context) (trimmed bool, err error) {
	if d.err != nil || d.due && !d.files.open() {
		_, err := collectFallbacks(d.options) // as in Trim
		return false, errors.Join(d.err, err)
	}
	if !d.due {
		return false, nil
	}
	report, err := trim(ctx, d.options, d.limits, d.files, nil)
	return err == nil && !report.Busy, err
}

// TrimIfDue is both together.
func TrimIfDue(ctx context.Context, o Options, l Limits, putBytes int64) (trimmed bool, err error) {
	return TrimDuty(o, l, putBytes).Do(ctx)
}

// trimDue reports whether it is a day since anybody trimmed, and if so writes
// down that it is being done, before it is: fewer start it at once then.
func (o Options) trimDue() (bool, error) {
	name := filepath.Join(o.Dir, "trim.txt")
	if data, err := os.ReadFile(name); err == nil && !o.trimmedLongAgo(data) {
		return false, nil
	}
	f, err := folder.OpenFile(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if locked, err := filelock.Try(f); err != nil || !locked {
		return false, err
	}
	data := make([]byte, 64)
	n, _ := f.ReadAt(data, 0)
	if !o.trimmedLongAgo(data[:n]) {
		return false, nil // somebody was faster
	}
	if err := f.Truncate(0); err != nil {
		return false, err
	}
	_, err = f.WriteAt(strconv.AppendInt(nil, o.now().Unix(), 10), 0)
	return err == nil, err
}

// trimmedLongAgo reads trim.txt. What does not parse, or lies in the future,
// counts as long ago.
func (o Options) trimmedLongAgo(data []byte) bool {
	unix, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64)
	if err != nil {
		return true
	}
	d := o.now().Sub(time.Unix(unix, 0))
	return d >= trimInterval || d <= -mtimeInterval
}

// The estimate of the store's size is larder/usage: the line "<bytes> <Unix
// time>" of the last scan, then a line "<bytes>" for each session that put
// something since, appended with one write each. It errs where the go command
// works natively; the daily scan puts it right.

func (o Options) addUsage(putBytes int64) {
	if putBytes <= 0 {
		return
	}
	f, err := folder.OpenFile(o.own("usage"), os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return
	}
	fmt.Fprintf(f, "%d\n", putBytes)
	f.Close()
}

// setUsage writes the file anew, in place, as it may be removed at any time. Who
// reads it meanwhile finds lines that are not numbers, and scans once more.
func (o Options) setUsage(f *os.File, bytes int64) error {
	line := fmt.Appendf(nil, "%d %d\n", bytes, o.now().Unix())
	if _, err := f.WriteAt(line, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(line)))
}

// overSize reports whether the store seems to hold more than limit, and has not
// been scanned just now.
func (o Options) overSize(limit int64) bool {
	data, err := os.ReadFile(o.own("usage"))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	size, at, scanned := strings.Cut(first, " ")
	sum, err := strconv.ParseInt(size, 10, 64)
	when, timeErr := strconv.ParseInt(at, 10, 64)
	if err != nil || !scanned || timeErr != nil {
		return true // nobody knows its size yet
	}
	if since := o.now().Sub(time.Unix(when, 0)); since >= 0 && since < scanInterval {
		return false
	}
	for line := range strings.Lines(rest) {
		n, _ := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		sum += max(n, 0)
	}
	return sum > limit
}

// Trim removes what has not been used for MaxAge, then the least recently used
// until the store is within MaxSize, and what dead sessions left behind. What
// was used in the last hour stays, and so does what a living session, in
// whatever process, may have been given. One process at a time trims a store.
// progress may be nil.
func Trim(ctx context.Context, o Options, l Limits, progress func(done, total int)) (TrimReport, error) {
	if _, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		n, err := collectFallbacks(o)
		return TrimReport{Collected: n}, err
	}
	files, err := o.openTrimFiles()
	if err != nil {
		n, fallbackErr := collectFallbacks(o)
		return TrimReport{Collected: n}, errors.Join(err, fallbackErr)
	}
	return trim(ctx, o, l, files, progress)
}

// trimFiles are the files that trimming needs.
type trimFiles struct{ lock, usage *os.File }

func (f trimFiles) open() bool { return f.lock != nil }

func (f trimFiles) close() {
	f.lock.Close()
	f.usage.Close()
}

// openTrimFiles opens them, in a store that is there.
func (o Options) openTrimFiles() (f trimFiles, err error) {
	if err := folder.Mkdir(o.own()); err != nil {
		return f, err
	}
	name := o.own("trim.lock")
	lock, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) {
		lock, err = os.Open(name) // another user's, who may be trimming; only NFS wants more
	}
	if err != nil {
		lock, err = folder.OpenFile(name, os.O_RDWR|os.O_CREATE)
	}
	if err != nil {
		return f, err
	}
	usage, err := folder.OpenFile(o.own("usage"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		lock.Close()
		return f, err
	}
	return trimFiles{lock, usage}, nil
}

// trimGCPercent is the garbage collector's setting while a store is trimmed, which is
// the last thing that a helper does. What is alive then, up to 60 MB, has no pointers
// and costs nothing to be marked, and what is garbage would double it.
const trimGCPercent = 10

// trim trims a store whose files are open, and closes them.
func trim(ctx context.Context, o Options, l Limits, files trimFiles, progress func(done, total int)) (TrimReport, error) {
	defer files.close()
	defer debug.SetGCPercent(debug.SetGCPercent(trimGCPercent))
	// First, for it is where the store cannot be written, and so not be trimmed
	// either, that there are fallback directories.
	n, fallbackErr := collectFallbacks(o)
	report := TrimReport{Collected: n}
	e := evictor{options: o, limits: l, lock: files.lock.Name(), report: &report}
	err := trimStore(ctx, e, files, progress)
	return report, errors.Join(err, fallbackErr)
}

func trimStore(ctx context.Context, e evictor, files trimFiles, progress func(done, total int)) error {
	o := e.options
	if locked, err := filelock.Try(files.lock); err != nil || !locked {
		e.report.Busy = !locked && err == nil
		return err
	}
	oldest, collected, err := living(o)
	e.report.Collected += collected
	if err != nil {
		return err
	}
	e.spared = sparedSince(o.now(), oldest)
	skipped, err := e.run(ctx, progress)
	if err != nil {
		return err
	}
	if err := o.setUsage(files.usage, e.report.Bytes-e.report.RemovedBytes); err != nil {
		return err
	}
	n, err := emptyQuarantine(o)
	e.report.Collected += n
	return errors.Join(skipped, err)
}

// sparedSince is the time such that whatever has been used since stays. Times
// of use may be mtimeInterval old, both for what was used in the last hour and
// for what the oldest living session was given first.
func sparedSince(now, oldest time.Time) time.Time {
	spared := now.Add(-time.Hour - mtimeInterval)
	if !oldest.IsZero() && oldest.Add(-mtimeInterval).Before(spared) {
		spared = oldest.Add(-mtimeInterval)
	}
	return spared
}

func emptyQuarantine(o Options) (removed int, err error) {
	dir := folder.Sub(o.Dir, quarantineDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || o.now().Sub(info.ModTime()) < quarantineAge {
			continue
		}
		if os.RemoveAll(filepath.Join(dir, e.Name())) == nil {
			removed++
		}
	}
	return removed, err
}
