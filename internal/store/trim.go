package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/filelock"
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

// TrimIfDue trims as the go command does after its work: once a day, by the
// same file, trim.txt, so that the two share the duty; and whenever the store
// seems to be over MaxSize. putBytes is what the session has put. It reports
// whether it trimmed.
func TrimIfDue(ctx context.Context, o Options, l Limits, putBytes int64) (trimmed bool, err error) {
	o.addUsage(putBytes)
	over := l.MaxSize > 0 && o.overSize(l.MaxSize)
	due, err := o.trimDue()
	if err != nil {
		_, fallbackErr := collectFallbacks(o) // as in Trim
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // no store, nothing to trim
		}
		return false, errors.Join(err, fallbackErr)
	}
	if !due && !over {
		return false, nil
	}
	report, err := Trim(ctx, o, l, nil)
	return err == nil && !report.Busy, err
}

// trimDue reports whether it is a day since anybody trimmed, and if so writes
// down that it is being done, before it is: fewer start it at once then.
func (o Options) trimDue() (bool, error) {
	name := filepath.Join(o.Dir, "trim.txt")
	if data, err := os.ReadFile(name); err == nil && !o.trimmedLongAgo(data) {
		return false, nil
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
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
	f, err := os.OpenFile(o.own("usage"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return
	}
	fmt.Fprintf(f, "%d\n", putBytes)
	f.Close()
}

func (o Options) setUsage(bytes int64) error {
	name := o.own("usage")
	if err := os.WriteFile(name+".new", fmt.Appendf(nil, "%d %d\n", bytes, o.now().Unix()), 0o666); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
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
	// First, for it is where the store cannot be written, and so not be trimmed
	// either, that there are fallback directories.
	n, fallbackErr := collectFallbacks(o)
	report := TrimReport{Collected: n}
	err := trimStore(ctx, evictor{options: o, limits: l, report: &report}, progress)
	return report, errors.Join(err, fallbackErr)
}

func trimStore(ctx context.Context, e evictor, progress func(done, total int)) error {
	o := e.options
	if _, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(o.own(), 0o777); err != nil {
		return err
	}
	lock, err := os.OpenFile(o.own("trim.lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer lock.Close()
	if locked, err := filelock.Try(lock); err != nil || !locked {
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
	if err := o.setUsage(e.report.Bytes - e.report.RemovedBytes); err != nil {
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
	dir := o.own("quarantine")
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
