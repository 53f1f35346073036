package store

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// trimmedPercent is how full, in percent of MaxSize, trimming leaves a store
// that was over it: some room, so that not every session has to trim again.
const trimmedPercent = 90

// An evictor removes from one store what its limits do not allow.
type evictor struct {
	options Options
	limits  Limits
	spared  time.Time // what has been used since stays
	report  *TrimReport

	groups map[entry.OutputID]*group
	broken []scanned // damaged action files
	doomed []scanned // outputs whose actions have been removed
	freed  int64     // bytes of what has been removed or is doomed
}

// A group is an output and the actions that name it, which live and die
// together; either part may be missing.
type group struct {
	output  scanned // no name: missing
	actions []scanned
	used    time.Time // when any of them was
	bytes   int64     // on the disk
}

func (g *group) add(f scanned) {
	if f.kind == 'd' {
		g.output = f
	} else {
		g.actions = append(g.actions, f)
	}
	if f.mtime.After(g.used) {
		g.used = f.mtime
	}
	g.bytes += f.diskBytes()
}

// run scans and evicts; skipped is what scan could not read.
func (e *evictor) run(ctx context.Context, progress func(done, total int)) (skipped, err error) {
	if err := os.RemoveAll(e.aside()); err != nil { // of a crash
		return nil, err
	}
	e.groups = make(map[entry.OutputID]*group)
	skipped, err = scan(ctx, e.options, progress, func(f scanned) {
		e.report.Bytes += f.diskBytes()
		if f.kind == 'a' && f.damage != nil {
			e.broken = append(e.broken, f)
			return
		}
		g := e.groups[f.output]
		if g == nil {
			g = new(group)
			e.groups[f.output] = g
		}
		g.add(f)
	})
	if err != nil {
		return nil, err
	}
	return skipped, e.evict(ctx)
}

// evict removes groups, least recently used first, until those that are left
// are young enough and fit.
//
// First it removes all the actions, and only then their outputs. A get notes its
// use of the output and then looks once more whether the action is there; so if
// it answers, its use is seen here before the output is removed.
func (e *evictor) evict(ctx context.Context) error {
	age := e.limits.MaxAge
	if age == 0 {
		age = trimLimit
	}
	// As the go command does, for times of use may be that old.
	expired := e.options.now().Add(-age - mtimeInterval)
	tooMuch := int64(0)
	if limit := e.limits.MaxSize; limit > 0 && e.report.Bytes > limit {
		tooMuch = e.report.Bytes - limit/100*trimmedPercent
	}
	for _, f := range e.broken {
		if f.mtime.Before(e.spared) {
			e.removeAction(f)
		}
	}
	groups := make([]*group, 0, len(e.groups))
	for _, g := range e.groups {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *group) int { return a.used.Compare(b.used) })
	for _, g := range groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		if g.used.Before(e.spared) && (g.used.Before(expired) || e.freed < tooMuch) {
			e.doom(g)
			continue
		}
		// Many actions share an output, above all the empty one; those that are
		// not used any more need not wait for the others.
		for _, f := range g.actions {
			if f.mtime.Before(expired) && f.mtime.Before(e.spared) && !e.usedSince(f) {
				e.removeAction(f)
			}
		}
	}
	for _, f := range e.doomed {
		if err := ctx.Err(); err != nil {
			return err // the next trim finds them without actions
		}
		e.removeOutput(f)
	}
	return nil
}

// doom removes the actions of a group, so that nobody finds its output any more,
// unless any part has been used since it was scanned.
func (e *evictor) doom(g *group) {
	there := g.output.name != ""
	if there && e.usedSince(g.output) || slices.ContainsFunc(g.actions, e.usedSince) {
		return
	}
	for _, f := range g.actions {
		e.removeAction(f)
	}
	if there {
		e.doomed = append(e.doomed, g.output)
		e.freed += g.output.diskBytes()
	}
}

func (e *evictor) usedSince(f scanned) bool {
	info, err := statFile(f.name)
	return err == nil && info.mtime.After(f.mtime)
}

func (e *evictor) removeAction(f scanned) {
	if os.Remove(f.name) == nil {
		e.report.RemovedActions++
		e.report.RemovedBytes += f.diskBytes()
		e.freed += f.diskBytes()
	}
}

// aside is where an output is for the moment before it is removed.
func (e *evictor) aside() string { return e.options.own("evicted") }

// removeOutput takes the output's name away, looks once more whether somebody
// was using it, and only then removes it. A get notes its use before it
// answers, so either it is seen here, or it finds nothing and is a miss.
func (e *evictor) removeOutput(f scanned) {
	if e.usedSince(f) {
		return // it is not even away for a moment
	}
	aside := e.aside()
	if os.Rename(f.name, aside) != nil {
		return
	}
	if info, err := statFile(aside); err == nil && info.mtime.After(f.mtime) {
		os.Rename(aside, f.name)
		return
	}
	if os.RemoveAll(aside) == nil {
		e.report.RemovedOutputs++
		e.report.RemovedBytes += f.diskBytes()
	}
}
