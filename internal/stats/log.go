package stats

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/larder-build/larder/internal/folder"
)

// logBytesMax is the size at which a log file is full. A session is about 700
// bytes, so a file holds about 700 of them, and no more than keptFiles full
// files are kept: enough for "the last sessions", nothing to notice on a disk.
const logBytesMax = 512 << 10

// keptFiles is how many log files stay beside the total. It is two, so that
// the file that is folded into the total is never one that a running session
// may still be appending to.
const keptFiles = 2

// A Log is the sessions of one store: numbered files of JSON lines in
// dir/larder/sessions, and the total of those that have been deleted.
type Log struct{ store, dir string }

// OpenLog returns the log of the store in dir.
func OpenLog(dir string) Log { return Log{dir, folder.Sub(dir, logDir)} }

const logDir = "sessions"

// Append adds a session's line to the file at path, in one write, so that
// lines of concurrent sessions do not mix. The file is made if need be.
func Append(path string, s Session) error {
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode session: %w", err)
	}
	return appendLine(path, line)
}

func appendLine(path string, line []byte) error {
	f, err := folder.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// ReadFile returns the sessions in the file at path, oldest first. Lines that
// do not parse (a crash or a full disk in the middle of one) are skipped.
func ReadFile(path string) ([]Session, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var sessions []Session
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, logBytesMax)
	for lines.Scan() {
		var s Session
		if json.Unmarshal(lines.Bytes(), &s) == nil && !s.Start.IsZero() && s.plausible() {
			sessions = append(sessions, s)
		}
	}
	return sessions, nil
}

// Add records a session in a store that is there. Each time a log file is full it
// also folds the older ones: that is the session's to do, for later ones, when the
// go command has gone, make no file.
func (l Log) Add(s Session) error {
	numbers := l.numbers()
	current := 1
	if len(numbers) > 0 {
		current = numbers[len(numbers)-1]
	}
	info, err := os.Stat(l.file(current))
	full := err == nil && info.Size() >= logBytesMax
	if full {
		current++
	}
	err = Append(l.file(current), s)
	if errors.Is(err, fs.ErrNotExist) {
		if err := folder.MkdirSub(l.store, logDir); err != nil {
			return err
		}
		err = Append(l.file(current), s)
	}
	if full && err == nil {
		err = l.Fold()
	}
	return err
}

// Read returns the total of all sessions since the last Reset, and the last
// ones, oldest first. A log that does not exist is empty.
func (l Log) Read() (Total, []Session, error) {
	numbers := l.numbers()
	t, err := l.readTotals(numbers)
	if err != nil {
		return Total{}, nil, err
	}
	var sessions []Session
	for _, n := range numbers {
		if n <= t.Through {
			continue // folded, not deleted yet
		}
		more, err := ReadFile(l.file(n))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Total{}, nil, err
		}
		sessions = append(sessions, more...)
	}
	total := t.Total
	for _, s := range sessions {
		total.Add(s)
	}
	return total, sessions, nil
}

// Fold keeps the log bounded: it moves all but the newest files into the
// total. Two processes that do it at once write the same total.
//
// The total says through which file it counts and is renamed into place before
// a file is deleted, so a crash at any point counts nothing twice.
func (l Log) Fold() error {
	numbers := l.numbers()
	if len(numbers) <= keptFiles {
		return nil
	}
	t, err := l.readTotals(numbers)
	if err != nil {
		return err
	}
	old := numbers[:len(numbers)-keptFiles]
	for _, n := range old {
		if n <= t.Through {
			continue
		}
		sessions, err := ReadFile(l.file(n))
		if err != nil {
			return err
		}
		for _, s := range sessions {
			t.Total.Add(s)
		}
		t.Through = n
	}
	if err := l.writeTotals(t); err != nil {
		return err
	}
	for _, n := range old {
		if err := os.Remove(l.file(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Reset forgets all sessions.
func (l Log) Reset() error { return os.RemoveAll(l.dir) }

// totals is the file of what has been folded.
type totals struct {
	Through int   `json:"through"` // number of the last file that is counted here
	Total   Total `json:"total"`
}

func (l Log) totalsFile() string { return filepath.Join(l.dir, "totals.json") }

// readTotals reads the totals, beside which there are the log files of the given
// numbers. A damaged file counts as none: nothing can be done about it, and it must
// not stop the log for ever.
func (l Log) readTotals(numbers []int) (totals, error) {
	var t totals
	data, err := os.ReadFile(l.totalsFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, nil
	case err != nil:
		return t, err
	}
	if json.Unmarshal(data, &t) != nil || !t.Total.plausible() {
		return totals{}, nil
	}
	// The newest file is never folded, so if it seems to be, it is newer than that:
	// the log files have been removed, and numbered anew.
	if len(numbers) > 0 && t.Through >= numbers[len(numbers)-1] {
		t.Through = 0
	}
	return t, nil
}

func (l Log) writeTotals(t totals) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode totals: %w", err)
	}
	return folder.Replace(l.totalsFile(), data)
}

// file is the name of log file n.
func (l Log) file(n int) string { return filepath.Join(l.dir, fmt.Sprintf("%06d.jsonl", n)) }

// numbers are those of the log files, in order.
func (l Log) numbers() []int {
	names, _ := os.ReadDir(l.dir)
	var numbers []int
	for _, e := range names {
		if base, ok := strings.CutSuffix(e.Name(), ".jsonl"); ok {
			if n, err := strconv.Atoi(base); err == nil && n > 0 {
				numbers = append(numbers, n)
			}
		}
	}
	sort.Ints(numbers)
	return numbers
}
