package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/larder-build/larder/internal/folder"
)

// trimmedPercent is how full, in percent of MaxSize, trimming leaves a store
// that was over it: some room, so that not every session has to trim again.
const trimmedPercent = 90

// An evictor removes from one store what its limits do not allow.
//
// An output and the actions that name it are a group, which lives and dies together;
// either part may be missing. It goes over the store three times: to record its
// files, then to remove the actions that it has chosen, then the outputs. It keeps no
// names, of which 2,000,000 took 2 GB.
type evictor struct {
	options Options
	limits  Limits
	spared  time.Time // what has been used since stays
	lock    string    // the name of the lock file of whoever trims
	report  *TrimReport

	files   *ledger // by group; in the end the outputs that are to be removed
	actions *ledger // that are to be removed, by their own IDs
	scratch []record
	freed   int64           // bytes of what is to be removed
	saved   map[uint64]bool // groups that turned out to be used
	space   [actionSize + 1]byte
}

// run scans and evicts; skipped is what could not be read.
func (e *evictor) run(ctx context.Context, progress func(done, total int)) (skipped, err error) {
	for _, name := range []string{e.aside(), e.options.own("evicted")} { // of a crash; the other of earlier versions
		if err := os.RemoveAll(name); err != nil {
			return nil, err
		}
	}
	e.files, e.actions = newLedgers()
	e.saved = make(map[uint64]bool)
	skipped, err = walk(ctx, e.options, progress, e.record)
	if err != nil {
		return nil, err
	}
	e.choose()
	// First all actions, and only then their outputs. A get notes its use of the
	// output and then looks once more whether the action is there; so if it answers,
	// its use is seen here before the output is removed.
	for i := range e.actions.lists {
		if err := e.removeActions(ctx, i); err != nil {
			return skipped, err
		}
	}
	for i := range e.files.lists {
		// If this is the end, the next trim finds those that are left without actions.
		if err := e.removeOutputs(ctx, i); err != nil {
			return skipped, err
		}
	}
	return skipped, nil
}

// record records a file.
func (e *evictor) record(f file) {
	r := record{group: prefix(f.id), own: prefix(f.id)}
	size, broken := int64(0), false
	if f.kind == 'd' {
		info, err := statFile(f.name)
		if err != nil {
			return // it has just gone
		}
		if size = info.size; info.dir {
			_, inner, _ := executable(f.name)
			size = inner.size
		}
		r.used, r.bits = seconds(info.mtime), recordOutput
	} else {
		n, used, err := readOnce([]byte(f.name), e.space[:])
		if err != nil {
			info, err := os.Lstat(f.name)
			if err != nil {
				return
			}
			n, used, broken = int(info.Size()), info.ModTime(), !info.Mode().IsRegular()
		} else if a, err := parseAction(e.space[:n]); err == nil && a.id == f.id {
			r.group = prefix(a.output)
		} else {
			broken = true
		}
		size, r.used = int64(n), seconds(used)
	}
	blocks := (size + diskBlock - 1) / diskBlock
	r.bits |= uint32(min(blocks, recordBlocks))
	e.report.Bytes += blocks * diskBlock
	switch {
	case !broken:
		e.files.add(int(r.group>>56), r)
	case int64(r.used) < e.spared.Unix():
		e.freed += r.diskBytes()
		e.actions.add(int(r.own>>56), r)
	}
}

// choose chooses groups, those used least recently first, until those that are left
// are young enough and fit.
func (e *evictor) choose() {
	age := e.limits.MaxAge
	if age == 0 {
		age = trimLimit
	}
	// As the go command does, for times of use may be that old.
	expired := seconds(e.options.now().Add(-age - mtimeInterval))
	spared := seconds(e.spared)
	tooMuch := int64(0)
	if limit := e.limits.MaxSize; limit > 0 && e.report.Bytes > limit {
		tooMuch = e.report.Bytes - limit/100*trimmedPercent
	}
	var groups []uint64 // that may go: when used, and where they begin
	for list := range e.files.lists {
		e.scratch = e.files.sort(list, e.scratch, func(r record) uint64 { return r.group })
		for from, to := 0, 0; from < e.files.lists[list].n; from = to {
			var used uint32
			to, used = e.group(list, from)
			if used < spared && from < 1<<24 { // what is beyond has to wait
				groups = append(groups, uint64(used)<<32|uint64(list)<<24|uint64(from))
			} else {
				e.doomExpired(list, from, to, min(expired, spared))
			}
		}
	}
	slices.Sort(groups)
	for _, g := range groups {
		list, from := int(g>>24&0xff), int(g&(1<<24-1))
		to, used := e.group(list, from)
		if used >= expired && e.freed >= tooMuch {
			e.doomExpired(list, from, to, expired)
			continue
		}
		for i := from; i < to; i++ {
			e.doom(list, i)
		}
	}
	e.split()
}

// group is where the group that begins at from ends, and when it was used.
func (e *evictor) group(list, from int) (to int, used uint32) {
	id := e.files.at(list, from).group
	for to = from; to < e.files.lists[list].n && e.files.at(list, to).group == id; to++ {
		used = max(used, e.files.at(list, to).used)
	}
	return to, used
}

// doomExpired dooms the old actions of a group that stays. Many actions share an
// output, above all the empty one; those that are not used any more need not wait
// for the others.
func (e *evictor) doomExpired(list, from, to int, expired uint32) {
	for i := from; i < to; i++ {
		if r := e.files.at(list, i); !r.is(recordOutput) && r.used < expired {
			e.doom(list, i)
		}
	}
}

func (e *evictor) doom(list, i int) {
	r := e.files.at(list, i)
	r.bits |= recordDoomed
	e.freed += r.diskBytes()
}

// split leaves the doomed outputs in files, and hands the doomed actions over to the
// other ledger.
func (e *evictor) split() {
	for list := range e.files.lists {
		kept := 0
		for i := range e.files.lists[list].n {
			r := *e.files.at(list, i)
			switch {
			case !r.is(recordDoomed):
			case r.is(recordOutput):
				*e.files.at(list, kept) = r
				kept++
			default:
				e.actions.add(int(r.own>>56), r)
			}
		}
		e.files.cut(list, kept)
	}
	for list := range e.actions.lists {
		e.scratch = e.actions.sort(list, e.scratch, func(r record) uint64 { return r.own })
	}
}

// A doomed is a file that is to be removed.
type doomed struct {
	name string
	record
}

// usedSince reports whether a file has been used since it was recorded.
func (d doomed) usedSince(info fileInfo) bool { return info.mtime.Unix() > int64(d.used) }

// find finds a subdirectory's files that are to be removed. They are all found before
// the first is, as removing may disturb listing.
func (e *evictor) find(l *ledger, list int, kind byte) (files []doomed, err error) {
	if l.lists[list].n == 0 {
		return nil, nil
	}
	err = walkSubdir(e.options, list, func(f file) {
		if f.kind != kind {
			return
		}
		for r := range l.find(list, prefix(f.id)) {
			files = append(files, doomed{f.name, r})
			return
		}
	})
	return files, err
}

// removeActions removes the chosen actions in a subdirectory, so that nobody finds
// their outputs any more, unless they have been used since they were recorded.
func (e *evictor) removeActions(ctx context.Context, list int) error {
	files, err := e.find(e.actions, list, 'a')
	if err != nil {
		return err
	}
	for _, d := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := statFile(d.name)
		if err == nil && d.usedSince(info) {
			e.saved[d.group] = true
			continue
		}
		if os.Remove(d.name) == nil {
			e.report.RemovedActions++
			e.report.RemovedBytes += d.diskBytes()
		}
	}
	return nil
}

func (e *evictor) removeOutputs(ctx context.Context, list int) error {
	files, err := e.find(e.files, list, 'd')
	if err != nil {
		return err
	}
	for _, d := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.saved[d.group] {
			continue
		}
		if err := e.removeOutput(d); err != nil {
			return err
		}
	}
	return nil
}

// aside is where an output is for the moment before it is removed. It is in the
// store's own directory and not in Larder's, since that is what "rm -r" removes last:
// when it finds that empty, or not, there is no output any more to be moved here.
func (e *evictor) aside() string {
	return filepath.Join(e.options.Dir, filepath.Base(folder.Of(e.options.Dir))+".evicted")
}

// errWiped ends a trim of a store that somebody else is removing.
var errWiped = errors.New("somebody else is removing the store")

// removeOutput takes the output's name away, looks once more whether somebody
// was using it, and only then removes it. A get notes its use before it
// answers, so either it is seen here, or it finds nothing and is a miss.
func (e *evictor) removeOutput(d doomed) error {
	info, err := statFile(d.name)
	if err == nil && d.usedSince(info) {
		return nil // it is not even away for a moment
	}
	if _, lockErr := os.Lstat(e.lock); lockErr != nil || errors.Is(err, fs.ErrNotExist) {
		return errWiped
	}
	aside := e.aside()
	if err := os.Rename(d.name, aside); errors.Is(err, fs.ErrNotExist) {
		return errWiped
	} else if err != nil {
		return nil
	}
	if info, err := statFile(aside); err == nil && d.usedSince(info) {
		os.Rename(aside, d.name)
		return nil
	}
	if os.RemoveAll(aside) == nil {
		e.report.RemovedOutputs++
		e.report.RemovedBytes += d.diskBytes()
	}
	return nil
}
