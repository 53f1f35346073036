package cacheprog_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// vectorsDir holds what docs/protocol/vectors/README.md describes.
var vectorsDir = filepath.Join("..", "docs", "protocol", "vectors")

// A session is a recorded session of a go command with a cache program.
type session struct {
	sessionHead
	events []event
}

// A sessionHead is the first line of a session's file.
type sessionHead struct {
	Vector   string   `json:"vector"` // "session"
	Name     string   `json:"name"`
	About    string   `json:"about"`
	Go       string   `json:"go"`       // the release
	Platform string   `json:"platform"` // as GOOS/GOARCH
	Args     []string `json:"args"`     // the go command
	Env      []string `json:"env,omitempty"`
	Exit     int      `json:"exit"`   // its status; -1 if it never ended and was killed
	Stderr   string   `json:"stderr"` // what it wrote, together with its program
}

// An event is each further line of it.
type event struct {
	From string `json:"from"`          // "go" or "program"
	Raw  string `json:"raw,omitempty"` // the bytes of one message
	End  bool   `json:"end,omitempty"` // From has closed its end of the pipe
}

// minor returns the 26 of go1.26.8.
func minor(release string) int {
	_, after, _ := strings.Cut(release, ".")
	before, _, _ := strings.Cut(after, ".")
	n, err := strconv.Atoi(before)
	if err != nil {
		panic(err)
	}
	return n
}

// readSessions reads all sessions.
func readSessions(t *testing.T) []session {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(vectorsDir, "sessions", "*", "*.jsonl"))
	if err != nil || len(names) == 0 {
		t.Fatalf("sessions: %d, %v", len(names), err)
	}
	var all []session
	for _, name := range names {
		s, err := readSession(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, s)
	}
	return all
}

func readSession(name string) (s session, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return s, err
	}
	for i, line := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if i == 0 {
			err = d.Decode(&s.sessionHead)
		} else {
			var e event
			err = d.Decode(&e)
			s.events = append(s.events, e)
		}
		if err != nil {
			return s, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return s, nil
}

// readVectors reads one of the files of hand-written vectors.
func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorsDir, name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// A stream is what one side sends: texts, and texts that are repeated.
type stream []streamPart

type streamPart struct {
	text   string
	Base64 []byte `json:"base64"`
	Repeat string `json:"repeat"`
	Times  int    `json:"times"`
}

func (p *streamPart) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, &p.text)
	}
	type plain streamPart // without this method
	return json.Unmarshal(data, (*plain)(p))
}

// bytes is all of the stream.
func (s stream) bytes() (b []byte) {
	for _, p := range s {
		b = append(append(append(b, p.text...), p.Base64...), strings.Repeat(p.Repeat, p.Times)...)
	}
	return b
}

// requestVectors is requests.json.
type requestVectors struct {
	Vector string        `json:"vector"`
	About  string        `json:"about"`
	Cases  []requestCase `json:"cases"`
}

type requestCase struct {
	Name   string          `json:"name"`
	About  string          `json:"about"`
	Go     bool            `json:"go"`     // it is byte for byte what the go command writes
	Schema *bool           `json:"schema"` // whether it is in the schema; true if it is not said
	Send   stream          `json:"send"`
	Want   []requestWanted `json:"want"`
	Then   string          `json:"then"` // close, end, or broken
}

type requestWanted struct {
	ID       int64
	Command  string
	ActionID []byte
	OutputID []byte
	BodySize int64
	Error    bool `json:"error"` // it is answered with an error, and nothing is stored
}

// responseVectors is responses.json.
type responseVectors struct {
	Vector string         `json:"vector"`
	About  string         `json:"about"`
	Action []byte         `json:"action"` // of the get and the put
	Body   []byte         `json:"body"`   // of the put
	Cases  []responseCase `json:"cases"`
}

type responseCase struct {
	Name   string         `json:"name"`
	About  string         `json:"about"`
	To     string         `json:"to"` // start, get, put, or close
	Schema *bool          `json:"schema"`
	Send   stream         `json:"send"`
	End    bool           `json:"end"`   // the program ends after it
	Go     string         `json:"go"`    // what the go command takes it for
	Since  int            `json:"since"` // if not all releases do: the first that does
	Entry  *responseEntry `json:"entry"`
	Err    string         `json:"err"`
}

type responseEntry struct {
	OutputID []byte
	Size     int64
	Time     string // in UTC; empty for the present
	DiskPath string
}

// commandVectors is commands.json.
type commandVectors struct {
	Vector string `json:"vector"`
	About  string `json:"about"`
	Cases  []struct {
		Text  string   `json:"text"`
		Args  []string `json:"args"`
		Error bool     `json:"error"`
	} `json:"cases"`
}
