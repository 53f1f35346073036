package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/folder"
)

// A Report is what Check or Verify found.
type Report struct {
	Actions      int       `json:"actions"`
	Outputs      int       `json:"outputs"`
	Bytes        int64     `json:"bytes"`  // on the disk, in blocks
	Newest       time.Time `json:"newest"` // last use of what was used last
	Problems     []Problem `json:"problems"`
	ProblemCount int       `json:"problem_count"` // of which Problems are the first
}

// A Problem is a file that is not what it should be.
type Problem struct {
	Path        string `json:"path"`
	What        string `json:"what"`
	Quarantined bool   `json:"quarantined"`
}

// problemsMax is how many problems a report lists: more than anybody reads.
const problemsMax = 100

// Check looks at every entry without hashing it: action files that do not
// parse, outputs whose size is not what their actions say. An action without
// output is no problem: that is how outputs are trimmed natively.
func Check(ctx context.Context, o Options) (Report, error) {
	v := verifier{ctx: ctx, options: o}
	return v.run()
}

// Verify hashes every output as well. With quarantine, damaged files are moved
// to larder/quarantine, from where Trim removes them after some days, and with
// an output the actions that name it; then the go command makes them anew.
// progress may be nil; it counts MiB.
func Verify(ctx context.Context, o Options, quarantine bool, progress func(done, total int)) (Report, error) {
	v := verifier{ctx: ctx, options: o, hash: true, quarantine: quarantine, progress: progress}
	return v.run()
}

// quarantineDir is the directory, in Larder's own folder, of what is damaged.
const quarantineDir = "quarantine"

type verifier struct {
	ctx        context.Context
	options    Options
	hash       bool
	quarantine bool
	progress   func(done, total int)

	report  Report
	actions []scanned
	outputs map[entry.OutputID]scanned
}

func (v *verifier) run() (Report, error) {
	v.outputs = make(map[entry.OutputID]scanned)
	skipped, err := scan(v.ctx, v.options, func(f scanned) {
		v.report.Bytes += f.diskBytes()
		if f.mtime.After(v.report.Newest) {
			v.report.Newest = f.mtime
		}
		if f.kind == 'd' {
			v.report.Outputs++
			v.outputs[f.output] = f
			return
		}
		v.report.Actions++
		if f.damage != nil {
			v.problem(f, f.damage.Error())
			return
		}
		v.actions = append(v.actions, f)
	})
	if err != nil {
		return v.report, err
	}
	bad, err := v.verifyOutputs()
	if err != nil {
		return v.report, err
	}
	for _, a := range v.actions {
		switch d, ok := v.outputs[a.output]; {
		case bad[a.output]:
			if v.quarantine {
				v.moveAway(a.name) // its output's problem, not one of its own
			}
		case ok && !v.hash && d.size != a.action.size:
			v.problem(d, fmt.Sprintf("its size is %d, and should be %d", d.size, a.action.size))
		case ok && d.size != a.action.size && !changed(d): // the output is right: it has its hash
			v.problem(a, fmt.Sprintf("its output has %d bytes, not %d", d.size, a.action.size))
		}
	}
	return v.report, skipped
}

// verifyOutputs hashes the outputs, if that is asked for, and returns those
// that are damaged.
func (v *verifier) verifyOutputs() (bad map[entry.OutputID]bool, err error) {
	bad = make(map[entry.OutputID]bool)
	var total, done int64
	for _, f := range v.outputs {
		total += f.diskBytes()
	}
	const mib = 1 << 20
	for id, f := range v.outputs {
		if err := v.ctx.Err(); err != nil {
			return bad, err
		}
		what := ""
		if f.damage != nil {
			what = f.damage.Error()
		} else if v.hash {
			what = hashProblem(v.ctx, f)
		}
		if err := v.ctx.Err(); err != nil {
			return bad, err
		}
		if what != "" && !changed(f) {
			bad[id] = true
			v.problem(f, what)
		}
		if done += f.diskBytes(); v.progress != nil {
			v.progress(int(done/mib), int(total/mib))
		}
	}
	return bad, nil
}

// changed reports whether a file has changed since it was scanned. The go command
// writes in place (cmd/go/internal/cache/cache.go, copyFile): it may just be
// doing so, and moving the file away would take it from under a build.
func changed(f scanned) bool {
	info, err := os.Lstat(f.name)
	if err != nil {
		return true
	}
	named := file{f.name, f.output, f.kind}
	if f.kind == 'a' {
		named.id = f.action.id
	}
	again, ok := look(named, info)
	return !ok || again.size != f.size || !again.mtime.Equal(f.mtime)
}

// hashProblem is what is wrong with an output, "" if it is what its name says
// or has just gone.
func hashProblem(ctx context.Context, f scanned) string {
	name := f.name
	if f.dir {
		inner, _, err := executable(name)
		if err != nil {
			return err.Error()
		}
		name = inner
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	} else if err != nil {
		return err.Error()
	}
	defer file.Close()
	if err := hashesTo(interruptible{ctx, file}, f.output); err != nil {
		return err.Error()
	}
	return ""
}

// interruptible is a file that cannot be read any more once ctx is done.
type interruptible struct {
	ctx  context.Context
	file io.ReaderAt
}

func (r interruptible) ReadAt(p []byte, at int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.file.ReadAt(p, at)
}

func (v *verifier) problem(f scanned, what string) {
	moved := v.quarantine && v.moveAway(f.name)
	v.report.ProblemCount++
	if len(v.report.Problems) < problemsMax {
		v.report.Problems = append(v.report.Problems, Problem{Path: f.name, What: what, Quarantined: moved})
	}
}

// moveAway moves a file to the quarantine.
func (v *verifier) moveAway(name string) bool {
	if err := folder.MkdirSub(v.options.Dir, quarantineDir); err != nil {
		return false
	}
	dir := folder.Sub(v.options.Dir, quarantineDir)
	to := filepath.Join(dir, filepath.Base(name))
	os.RemoveAll(to) // from an earlier time
	return os.Rename(name, to) == nil
}
