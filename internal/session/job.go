package session

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// A Job is what a session leaves to be uploaded: a file in the place's queue,
// written by the helper in one go when its go command has ended, and removed by
// the agent when the server has all of it. The bodies are in the local store.
type Job struct {
	Remote   Remote    `json:"remote"`
	Store    string    `json:"store"` // absolute path of the local store
	Manifest string    `json:"manifest"`
	Time     time.Time `json:"time"`
	// Identity is whose this is: nobody else uploads it. Nil is unknown: then only a
	// remote without tokens is given it.
	Identity *Identity `json:"identity,omitempty"`
	// Traceparent names the span of the session, which those of uploads belong to.
	Traceparent string `json:"traceparent,omitempty"`

	Unput   []Unput          `json:"unput,omitempty"`   // what it missed and did not put: links, perhaps
	Outputs []string         `json:"outputs,omitempty"` // absolute paths of files, and of directories of files, that it may have linked
	Used    []entry.ActionID `json:"-"`                 // what the session used, in the order of first use
	Puts    []Put            `json:"-"`
	// Unsure says that the last so many of Puts may be on the server already: they
	// are sent only if it lacks them.
	Unsure int `json:"unsure,omitempty"`
	// Pinned says that each put has its output: jobs of older versions have none.
	Pinned bool `json:"pinned,omitempty"`
}

// A Put is one entry to upload.
type Put struct {
	Action entry.ActionID
	Cost   time.Duration // of building it, as in entry.Header
	// Output is what was put: what the store has under the action by the time of the
	// upload may be somebody else's. Zero is unknown.
	Output entry.OutputID

	Under entry.ActionID // its ID on the server; no part of a job, the agent finds it out
}

// An Unput is an action that was missed and not put.
type Unput struct {
	Action string        `json:"action"` // hexadecimal
	Cost   time.Duration `json:"cost"`   // from the miss to the end of the session
}

// UnputMax is how many of them a job has: a build links few programs.
const UnputMax = 16

// jobEnding is that of the files of complete jobs.
const jobEnding = ".job"

// Append appends the encoded job: a line of JSON, the number of actions used and
// the actions, the number of puts and for each the action, its cost in nanoseconds (8
// bytes) and its output, CRC-32 of all that; numbers are big-endian, of 4 bytes.
func (j *Job) Append(b []byte) []byte {
	start := len(b)
	j.Pinned = true
	b = AppendGreeting(b, j)
	b = binary.BigEndian.AppendUint32(b, uint32(len(j.Used)))
	for _, id := range j.Used {
		b = append(b, id[:]...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(j.Puts)))
	for _, p := range j.Puts {
		b = append(b, p.Action[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(max(p.Cost, 0)))
		b = append(b, p.Output[:]...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

// ParseJob reads a job. Its errors wrap ErrFormat.
func ParseJob(b []byte) (*Job, error) {
	const sumBytes, countBytes = 4, 4
	bad := func(what string) (*Job, error) { return nil, fmt.Errorf("%w: job: %s", ErrFormat, what) }
	if len(b) < sumBytes {
		return bad("too short")
	}
	body, sum := b[:len(b)-sumBytes], binary.BigEndian.Uint32(b[len(b)-sumBytes:])
	if crc32.ChecksumIEEE(body) != sum {
		return bad("damaged")
	}
	line, rest, _ := bytes.Cut(body, []byte("\n"))
	j := new(Job)
	if err := json.Unmarshal(line, j); err != nil {
		return bad(err.Error())
	}
	count := func(each int) (n int, ok bool) {
		if len(rest) < countBytes {
			return 0, false
		}
		n, rest = int(binary.BigEndian.Uint32(rest)), rest[countBytes:]
		return n, n <= len(rest)/each
	}
	n, ok := count(entry.HashSize)
	if !ok {
		return bad("cut off")
	}
	for range n {
		j.Used = append(j.Used, entry.ActionID(rest))
		rest = rest[entry.HashSize:]
	}
	putBytes := entry.HashSize + 8
	if j.Pinned {
		putBytes += entry.HashSize
	}
	if n, ok = count(putBytes); !ok || len(rest) != n*putBytes {
		return bad("cut off")
	}
	for ; len(rest) > 0; rest = rest[putBytes:] {
		cost := max(time.Duration(binary.BigEndian.Uint64(rest[entry.HashSize:])), 0)
		p := Put{Action: entry.ActionID(rest), Cost: cost}
		if j.Pinned {
			p.Output = entry.OutputID(rest[entry.HashSize+8:])
		}
		j.Puts = append(j.Puts, p)
	}
	return j, nil
}

// Write puts a job into the place's queue. It is whole or not there.
func (j *Job) Write(place Place) error {
	// Names sort by time.
	name := strconv.FormatInt(j.Time.UnixNano(), 10) + "-" + strconv.FormatUint(rand.Uint64(), 36)
	return j.WriteFile(filepath.Join(place.Queue(), name+jobEnding))
}

// WriteFile writes a job to a file, which it replaces.
func (j *Job) WriteFile(name string) error {
	temporary := name + ".new"
	err := os.WriteFile(temporary, j.Append(nil), 0o600)
	if os.IsNotExist(err) {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		err = os.WriteFile(temporary, j.Append(nil), 0o600)
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary, name)
}

// Jobs are the files in the place's queue, oldest first.
func (p Place) Jobs() ([]string, error) {
	return filepath.Glob(filepath.Join(p.Queue(), "*"+jobEnding))
}

// ManifestKey is a manifest's key from its hexadecimal form; false is none.
func ManifestKey(text string) (key [32]byte, ok bool) {
	if len(text) != 2*len(key) {
		return key, false
	}
	_, err := hex.Decode(key[:], []byte(text))
	return key, err == nil
}
