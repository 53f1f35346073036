// Package native is what Larder knows of builds that run without it, between a
// "larder pull" and a "larder push": when they began to be on their own, and so
// which of the entries that they use are to be uploaded.
//
// A Mark says when the last pull or push of a kind of build began. It is a file of
// the agent's place, beside no checkout and in no GOCACHE; one kind has one for a
// store and a remote. Losing marks, or writing two at once, costs uploads that were
// not needed, or the sharing of a test's new list of inputs; never an entry that
// the server lacks.
package native

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/session"
)

// markAge is when a mark is dropped: what was built before is trimmed by then, and
// uploads are given up.
const markAge = 5 * 24 * time.Hour

// Marks are the marks of one store and one remote. Processes may use them at once.
type Marks struct {
	dir string
	now time.Time
}

// OpenMarks returns the marks. It does no I/O. now is the time of this pull or push.
func OpenMarks(place session.Place, store string, remote session.Remote, now time.Time) Marks {
	sum := sha256.Sum256([]byte(store + "\x00" + remote.URL))
	return Marks{filepath.Join(place.Base, "native", fmt.Sprintf("%x", sum[:8])), now}
}

// A Mark is what is kept of the last pull or push of a kind.
type Mark struct {
	Begun time.Time `json:"begun"`
	// Known says that the server had been asked then for all that it has, so that
	// what has been put since is new. Otherwise the server may have it already.
	Known bool     `json:"known"`
	Dir   string   `json:"dir"`  // the working directory
	Args  []string `json:"args"` // the go command, its name first
	// Came is what pulls have brought although its put is younger than a mark, since
	// another machine made it, or since that machine's clock is ahead: the times of
	// the puts, in Unix nanoseconds, by action.
	Came map[string]int64 `json:"came,omitempty"`
}

// Of returns the mark of a kind, by its manifest's key.
func (m Marks) Of(key string) (Mark, bool) {
	mark, ok := m.all()[key]
	return mark, ok
}

// In returns the marks of the commands that were run in a directory, by key.
func (m Marks) In(dir string) map[string]Mark {
	marks := m.all()
	maps.DeleteFunc(marks, func(_ string, mark Mark) bool { return mark.Dir != dir })
	return marks
}

const markEnding = ".json"

// all reads the marks. Those that are too old are removed; those that do not parse
// are passed over.
func (m Marks) all() map[string]Mark {
	marks := make(map[string]Mark)
	names, _ := filepath.Glob(filepath.Join(m.dir, "*"+markEnding))
	for _, name := range names {
		var mark Mark
		data, err := os.ReadFile(name)
		if err != nil || json.Unmarshal(data, &mark) != nil {
			continue
		}
		if m.now.Sub(mark.Begun) > markAge {
			os.Remove(name)
			continue
		}
		marks[strings.TrimSuffix(filepath.Base(name), markEnding)] = mark
	}
	return marks
}

// Set replaces the mark of a kind. came are entries that a pull has brought in
// addition to those of the mark before; they are kept as far as somebody might take
// them for what was built here.
func (m Marks) Set(key string, mark Mark, came map[entry.ActionID]time.Time) error {
	marks := m.all()
	oldest := mark.Begun
	for of, other := range marks {
		if of != key && other.Begun.Before(oldest) {
			oldest = other.Begun
		}
	}
	mark.Came = marks[key].Came
	if mark.Came == nil {
		mark.Came = make(map[string]int64)
	}
	for id, put := range came {
		mark.Came[id.String()] = put.UnixNano()
	}
	maps.DeleteFunc(mark.Came, func(_ string, put int64) bool { return put < oldest.UnixNano() })
	data, err := json.Marshal(mark)
	if err != nil {
		return fmt.Errorf("encode mark: %w", err)
	}
	if err := m.write(key, data); err != nil {
		return fmt.Errorf("note what was pulled: %w", err)
	}
	return nil
}

func (m Marks) write(key string, data []byte) error {
	f, err := os.CreateTemp(m.dir, "new-*")
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(m.dir, 0o700); err != nil {
			return err
		}
		f, err = os.CreateTemp(m.dir, "new-*")
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(m.dir, key+markEnding))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// New returns what tells whether an entry of a kind is new: put here since the
// kind's mark, and not brought by a pull of whatever kind. Of what is not new the
// server may still lack some; without a mark nothing is known to be new.
func (m Marks) New(key string) func(entry.ActionID, time.Time) bool {
	marks := m.all()
	mark, ok := marks[key]
	if !ok || !mark.Known {
		return func(entry.ActionID, time.Time) bool { return false }
	}
	return func(id entry.ActionID, put time.Time) bool {
		if put.Before(mark.Begun) {
			return false
		}
		for _, other := range marks {
			if came, ok := other.Came[id.String()]; ok && came == put.UnixNano() {
				return false
			}
		}
		return true
	}
}
