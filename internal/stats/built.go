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
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
)

// A Built is what one session missed and put: the packages that were compiled and
// the tests that were run. Names are not in it. They are in the entries' bodies,
// which a session does not wait to be searched; who asks for them reads those.
type Built struct {
	Start   time.Time `json:"start"`
	Dir     string    `json:"dir"` // the go command's working directory
	Entries []Entry   `json:"entries"`
	More    int       `json:"more,omitempty"` // packages that were left out, the cheapest
}

// An Entry is one that a session has put.
type Entry struct {
	Action entry.ActionID `json:"-"`
	Kind   content.Kind   `json:"-"`
	Cost   time.Duration  `json:"-"` // from its miss to its put; NoCost is unknown
}

// BuiltMax is how many entries of a session are kept: more than anybody reads.
const BuiltMax = 200

// builtBytesMax bounds the file of what was built; the one before it is kept too.
// A session of BuiltMax entries takes 24 KB, most take a few hundred bytes.
const builtBytesMax = 256 << 10

// builtEntry is an entry's form in the file.
type builtEntry struct {
	Action  []byte  `json:"a"`
	Kind    string  `json:"k"`
	Seconds float64 `json:"s"`
}

// MarshalJSON writes the form that the file has.
func (e Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(builtEntry{e.Action[:], e.Kind.String(), max(e.Cost.Seconds(), -1)})
}

// UnmarshalJSON reads it.
func (e *Entry) UnmarshalJSON(data []byte) error {
	var b builtEntry
	if err := json.Unmarshal(data, &b); err != nil {
		return err
	}
	const secondsMax = 1e9
	if len(b.Action) != len(e.Action) || !(b.Seconds < secondsMax) {
		return errors.New("no entry")
	}
	*e = Entry{entry.ActionID(b.Action), content.Parse(b.Kind), NoCost}
	if b.Seconds >= 0 {
		e.Cost = time.Duration(b.Seconds * float64(time.Second))
	}
	return nil
}

func (l Log) builtFile() string { return filepath.Join(l.dir, "built") }

// AddBuilt records what a session has built, if that is anything.
func (l Log) AddBuilt(b Built) error {
	if len(b.Entries) == 0 {
		return nil
	}
	name := l.builtFile()
	if info, err := os.Stat(name); err == nil && info.Size() >= builtBytesMax {
		if err := os.Rename(name, name+".old"); err != nil {
			return err
		}
	}
	line, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode what was built: %w", err)
	}
	return appendLine(name, line)
}

// ReadBuilt returns what sessions have built, oldest first: those of the last that
// fit into the bounded files. Lines that do not parse are skipped.
func (l Log) ReadBuilt() (list []Built, err error) {
	for _, name := range []string{l.builtFile() + ".old", l.builtFile()} {
		data, err := os.ReadFile(name)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, err
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		lines.Buffer(nil, 2*builtBytesMax)
		for lines.Scan() {
			var b Built
			if json.Unmarshal(lines.Bytes(), &b) == nil && !b.Start.IsZero() && len(b.Entries) > 0 {
				list = append(list, b)
			}
		}
	}
	return list, nil
}
