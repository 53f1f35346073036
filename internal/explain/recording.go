package explain

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/folder"
)

// Kinds of actions: what the go command calls them in its hashes' names.
const (
	Build = "build"
	Vet   = "vet"
	Link  = "link"
	Test  = "test" // a test's result
)

// An Action is one action with all that its ID is a hash of.
type Action struct {
	Kind    string   `json:"k"`
	Package string   `json:"p"` // import path
	ID      string   `json:"i"` // hexadecimal
	Inputs  []string `json:"l"`
}

// A Read is one thing that a test has read and that its result depends on.
type Read struct {
	Op    string // env, open, stat or chdir
	Name  string // of a variable, or an absolute path
	Unset bool   // the variable is not set
}

// Reads are what a test has read, of an action of the kind Test.
func (a *Action) Reads() (reads []Read) {
	if a.Kind != Test {
		return nil
	}
	for _, in := range inputsOf(a) {
		switch op, name, _ := strings.Cut(in.key, " "); op {
		case "env", "open", "stat", "chdir":
			reads = append(reads, Read{Op: op, Name: name, Unset: in.value == unset})
		}
	}
	return reads
}

// A Recording is what one go command needed. It holds paths, flags and hashes of
// files, but of environment variables that tests read only hashes of the values.
type Recording struct {
	Version   int       `json:"version"`
	Time      time.Time `json:"time"`
	Dir       string    `json:"dir"` // the working directory
	Command   []string  `json:"command"`
	Failed    bool      `json:"failed,omitempty"` // and so did not use all
	GoVersion string    `json:"go"`
	Actions   []Action  `json:"actions"`
}

// recordingVersion is that of the form above.
const recordingVersion = 1

// recordingBytesMax bounds what reading a recording takes. One of 1,018 packages
// has 7 MB, compressed 2.
const recordingBytesMax = 512 << 20

// Write writes the recording to a file, which it replaces.
func (r *Recording) Write(name string) error {
	r.Version = recordingVersion
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if err := errors.Join(json.NewEncoder(z).Encode(r), z.Close()); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return folder.Replace(name, packed.Bytes())
}

// ReadRecording reads a recording from a file.
func ReadRecording(name string) (*Recording, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := decodeRecording(f)
	if err != nil {
		return nil, fmt.Errorf("read recording %s: %w", name, err)
	}
	return r, nil
}

func decodeRecording(in io.Reader) (*Recording, error) {
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	r := new(Recording)
	if err := json.NewDecoder(io.LimitReader(z, recordingBytesMax)).Decode(r); err != nil {
		return nil, err
	}
	if r.Version != recordingVersion {
		return nil, fmt.Errorf("its version is %d, not %d", r.Version, recordingVersion)
	}
	return r, nil
}

// Fail says that the command failed, and leaves only the actions that it has come
// to: of the others the trace does not know what they depend on.
func (r *Recording) Fail(accesses map[string]Access) {
	r.Failed = true
	r.Actions = slices.DeleteFunc(r.Actions, func(a Action) bool {
		_, used := accesses[a.ID]
		return !used
	})
}
