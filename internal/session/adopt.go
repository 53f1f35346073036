package session

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/filelock"
)

// abandonedAge is after how long without a sign of life what is left of a world is
// removed: jobs are given up by then.
const abandonedAge = 5 * 24 * time.Hour

// Adopt takes over the jobs and notices that agents which run no more have left, of
// worlds that are kin to this one and of the time before there were worlds: a machine
// that has been restarted has other namespaces. It returns how many jobs those were.
// What has been left for long by whatever world is removed. It is the agent's.
func (p Place) Adopt() (jobs int, err error) {
	for _, other := range append(p.Others(), Place{Base: p.Base, Dir: p.Base}) {
		n, adoptErr := p.adopt(other)
		jobs += n
		err = errors.Join(err, adoptErr)
	}
	return jobs, err
}

func (p Place) adopt(other Place) (jobs int, err error) {
	info, err := os.Stat(other.Dir)
	if err != nil {
		return 0, err
	}
	old := other.World == ""
	abandoned := !old && time.Since(info.ModTime()) > abandonedAge
	if !old && !abandoned && !p.KinOf(other) {
		return 0, nil
	}
	free, locks := other.unused()
	defer closeAll(locks)
	if !free || old && len(locks) == 0 {
		return 0, nil
	}
	if !abandoned {
		jobs, err = p.moveFrom(other)
	}
	switch {
	case err != nil:
	case abandoned:
		err = os.RemoveAll(other.Dir)
	case old:
		for _, name := range [...]string{"agent.sock", "agent.lock", "agent.lock.start", "agent.log", "agent.pid", "agent.silent", "queue"} {
			os.Remove(filepath.Join(other.Dir, name))
		}
	}
	return jobs, err
}

// unused reports whether no agent has a run of this place, as far as the system can
// tell, and returns the locks that keep one from beginning.
func (p Place) unused() (free bool, locks []*os.File) {
	runs := p.Runs()
	if p.World == "" {
		runs = []Run{{p.Dir}}
	}
	for _, r := range runs {
		lock, err := os.OpenFile(r.Lock(), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, locks
		}
		locks = append(locks, lock)
		if mine, err := filelock.Try(lock); err != nil || !mine {
			return false, locks
		}
	}
	return true, locks
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// moveFrom moves another place's jobs, and its notices if there are none here.
func (p Place) moveFrom(other Place) (jobs int, err error) {
	names, err := other.Jobs()
	if err != nil || len(names) == 0 && !other.HasNotices() {
		return 0, err
	}
	if err := os.MkdirAll(p.Queue(), 0o700); err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := os.Rename(name, filepath.Join(p.Queue(), filepath.Base(name))); err != nil {
			return jobs, err
		}
		jobs++
	}
	if !p.HasNotices() {
		os.Rename(other.outbox(), p.outbox()) // lines of a dashboard
	}
	return jobs, nil
}
