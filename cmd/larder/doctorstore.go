package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/folder"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

// freeBytesMin is the free space below which doctor warns: about one cold build
// of a large program with its temporary files.
const freeBytesMin = 1e9

// checkStore looks at the local store: its directory, its space, its contents.
func checkStore(ctx context.Context, cfg config.Config) []cli.Finding {
	findings := []cli.Finding{checkDir(cfg.Dir)}
	if free, err := freeSpace(existing(cfg.Dir)); err == nil {
		f := cli.Good("space", "%s free", config.FormatSize(free))
		if free < freeBytesMin {
			f = cli.Bad("space", "make room, or set max_size and run \"larder trim\"; until then builds pass, but their outputs are not kept",
				"only %s free on the disk of %s", config.FormatSize(free), cfg.Dir)
		}
		findings = append(findings, f)
	}
	return append(findings, checkContents(ctx, cfg))
}

// checkDir tries to write what a session writes.
func checkDir(dir string) cli.Finding {
	const check = "store"
	unwritable := func(err error) cli.Finding {
		return cli.Bad(check, "correct that, or set LARDER_DIR to a directory that can be written; until then builds pass, but their outputs are not kept",
			"%s cannot be written: %v", dir, cause(err))
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		// The doctor leaves it at that: what has been removed is not to come back.
		parent := existing(dir)
		if err := tryWrite(parent); err != nil {
			return unwritable(fmt.Errorf("%s: %w", parent, cause(err)))
		}
		return cli.Good(check, "%s is not there yet and can be made", dir)
	}
	own := folder.Of(dir)
	if err := folder.Mkdir(own); err != nil {
		return unwritable(err)
	}
	for i := range 256 {
		sub := filepath.Join(dir, fmt.Sprintf("%02x", i))
		info, err := os.Stat(sub)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // made when it is needed
		case err != nil:
			return unwritable(err)
		case !info.IsDir():
			return cli.Bad(check, "remove it; until then builds pass, but some of their outputs are not kept", "%s is not a directory", sub)
		}
		dir := sub
		if err := tryWrite(dir); err != nil {
			return unwritable(fmt.Errorf("%s: %w", dir, cause(err)))
		}
	}
	if err := tryWrite(own); err != nil {
		return unwritable(err)
	}
	return cli.Good(check, "%s can be written", dir)
}

// existing is dir, or the nearest one above it that is there.
func existing(dir string) string {
	for {
		if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, "doctor-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString("larder doctor was here\n")
	return errors.Join(err, f.Close())
}

// cause is what the system said, without operation and path.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// checkContents looks at every entry without hashing it.
func checkContents(ctx context.Context, cfg config.Config) cli.Finding {
	const check = "contents"
	found, err := store.Check(ctx, store.Options{Dir: cfg.Dir})
	switch {
	case err != nil:
		return cli.Bad(check, "see to the directory", "%s cannot be read: %v", cfg.Dir, cause(err))
	case found.ProblemCount > 0:
		return cli.Bad(check, `run "larder verify" to take them out; until then they are misses, and builds pass`,
			"%d damaged files, for example %s: %s", found.ProblemCount, found.Problems[0].Path, found.Problems[0].What)
	case found.Newest.After(time.Now().Add(24 * time.Hour)):
		return cli.Bad(check, "correct the clock; until that time such entries are not trimmed by age",
			"some entries were last used in the future (%s): the clock has jumped", found.Newest.Format(time.DateTime))
	}
	return cli.Good(check, "%s, %s, %s", count(int64(found.Actions), "action"), count(int64(found.Outputs), "output"), config.FormatSize(found.Bytes))
}

// checkSessions looks for trouble in the last sessions.
func checkSessions(cfg config.Config) []cli.Finding {
	const check = "sessions"
	_, sessions, err := stats.OpenLog(cfg.Dir).Read()
	if err != nil {
		return []cli.Finding{cli.Bad(check, "see to the directory", "their log cannot be read: %v", err)}
	}
	const recent = 100
	sessions = sessions[max(0, len(sessions)-recent):]
	var total stats.Total
	for _, s := range sessions {
		total.Add(s)
	}
	switch m := total.Misses; {
	case total.PutErrors > 0:
		return []cli.Finding{cli.Bad(check, "see to the store and to the directory for temporary files", "%d outputs of the last %d could not be stored anywhere", total.PutErrors, len(sessions))}
	case m.Damaged+m.OutputMissing+m.Unreadable > 0:
		return []cli.Finding{cli.Good(check, "in the last %d, %d misses%s; they were made anew", len(sessions), m.Total(), missKinds(m))}
	}
	return []cli.Finding{cli.Good(check, "nothing wrong in the last %d", len(sessions))}
}
