package explain

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/larder-build/larder/internal/folder"
)

// A History is the recordings of the last commands that were explained, in files
// of dir/larder/explain. One command in one directory has one.
type History struct{ store, dir string }

// OpenHistory returns the history of the store in dir.
func OpenHistory(dir string) History { return History{dir, folder.Sub(dir, historyDir)} }

const historyDir = "explain"

// historyMax is how many recordings are kept: some commands for some checkouts.
const historyMax = 8

const recordingEnding = ".json.gz"

// Load returns the recordings, the newest first. What cannot be read is left out.
func (h History) Load() (list []*Recording) {
	for _, name := range h.names() {
		if r, err := ReadRecording(name); err == nil {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b *Recording) int { return b.Time.Compare(a.Time) })
	return list
}

func (h History) names() []string {
	names, _ := filepath.Glob(filepath.Join(h.dir, "*"+recordingEnding))
	return names
}

// Add keeps a recording instead of the last one of the same command in the same
// directory, and removes the oldest beyond historyMax. What a command used that
// failed, which is not all, does not take the place of what it used when it did not.
func (h History) Add(r *Recording) error {
	if err := folder.MkdirSub(h.store, historyDir); err != nil {
		return err
	}
	key, err := json.Marshal(append([]string{r.Dir, strconv.FormatBool(r.Failed)}, r.Command...))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(key)
	if err := r.Write(filepath.Join(h.dir, hex.EncodeToString(sum[:8])+recordingEnding)); err != nil {
		return err
	}
	type aged struct {
		name string
		time int64
	}
	var files []aged
	for _, name := range h.names() {
		if info, err := os.Stat(name); err == nil {
			files = append(files, aged{name, info.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(files, func(a, b aged) int {
		if a.time != b.time {
			if a.time > b.time {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	for _, f := range files[min(len(files), historyMax):] {
		os.Remove(f.name)
	}
	return nil
}
