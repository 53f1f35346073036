// Package session is what the helper and the agent say to each other, both ends
// of it, and how the helper finds the agent or starts it.
//
// The agent listens on a unix socket in a directory that only its user may use,
// so neither side distrusts the other's intentions; but either may be of another
// version, hang or die at any moment. To the helper all of that is a miss: no
// function of this package makes it wait for longer than Silence without a sign
// of life.
//
// A connection is one go command's session. Each side first sends one line of
// JSON, Hello and Welcome, which is all that will never change. Then there are
// frames, a byte that says what it is and a body of fixed length or with its
// length before it:
//
//	helper: G action    bring this action into the store, if it is to be had
//	        U keys      the first 8 bytes of actions that were in the store when they were
//	                    asked for, so that no question came
//	        E           the session is over; a report, please
//	        Q           leave: take no new sessions, end when the others have
//	        F           report progress until all uploads are done
//	agent:  H action    it is in the store
//	        M action    it is not to be had
//	        N filter    what is not in this filter (package manifest) is not to be had:
//	                    the helper need not ask
//	        T text      a line for the user
//	        P           still here
//	        R report    JSON: the answer to E and F, and how a pull gets on
package session

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// Protocol is the version of what follows the greeting.
const Protocol = 3

const (
	// Silence is for how long a helper hears nothing before it gives the agent
	// up: long enough for a machine that swaps, short enough to wait for once.
	Silence = 4 * time.Second
	// Pulse is the time between the agent's signs of life (Alive), which it sends
	// all the time.
	Pulse = time.Second

	greetingBytesMax = 64 << 10
	textBytesMax     = 64 << 10
)

// FilterBytesMax is the largest encoded filter that a Filter frame carries, in
// bytes: 300,000 actions. Parsing that takes a helper 3 ms, and 1.2 MB.
const FilterBytesMax = 1 << 20

// A Hello is what a helper says first.
type Hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // of larder
	World    string `json:"world"`   // the caller's (Place); an agent of another one does nothing for it
	Store    string `json:"store"`   // absolute path of the local store; "" if this is not a build
	Remote   Remote `json:"remote"`
	// Executables says that the go command copies what it is given for a link. It
	// does so out of its own GOCACHE only, and moves it out of another directory
	// (cmd/go/internal/work/shell.go, moveOrCopyFile).
	Executables bool `json:"executables"`

	Manifest string `json:"manifest"` // key of the session's manifest, hexadecimal; "" is none
	Project  string `json:"project"`  // main module
	Command  string `json:"command"`  // as the user typed it, for lists of sessions

	// Traceparent names the span that the go command was run in, "" if there is
	// none; Private says that project and command are not to be told to anybody.
	Traceparent string `json:"traceparent,omitempty"`
	Private     bool   `json:"private,omitempty"`

	// Pull says that this is no build, but wants what is prefetched for one. The
	// agent reports on it unasked, until it has come (Report.Pending).
	Pull  bool `json:"pull,omitempty"`
	Older bool `json:"older,omitempty"` // of a pull: also what only older sessions have used

	// Identify says that this is a push, which uses nothing but wants to know what of the
	// store it may upload: the agent asks the server who it is (Report.Identity, Since).
	Identify bool `json:"identify,omitempty"`
}

// A Remote says where entries come from and go to.
type Remote struct {
	URL       string `json:"url"`
	TokenFile string `json:"token_file,omitempty"` // the agent reads it, and the next three
	CAFile    string `json:"ca_file,omitempty"`

	ClientCert string `json:"client_cert,omitempty"`
	ClientKey  string `json:"client_key,omitempty"`

	ReadOnly bool `json:"read_only,omitempty"`
	// Alike is the label of machines that share with each other only what may depend
	// on more than action IDs hold; "" is that of machines without one.
	Alike string `json:"alike,omitempty"`
}

// A Welcome is the agent's answer.
type Welcome struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	World    string `json:"world"`
	PID      int    `json:"pid"`

	Identity *Identity `json:"identity,omitempty"` // of the session, as far as it is known
}

// A Report is what the agent did in a session; after F, what is left to do.
type Report struct {
	Fetched      int64 `json:"fetched"`       // entries that gets brought in one by one or in batches
	Prefetched   int64 `json:"prefetched"`    // entries that came ahead of their gets
	FetchedBytes int64 `json:"fetched_bytes"` // as sent, of both
	RoundTrips   int64 `json:"round_trips"`
	Skipped      int64 `json:"skipped"`  // gets that would have cost more to fetch than to build
	Filtered     int64 `json:"filtered"` // gets that the miss filter answered
	Errors       int64 `json:"errors"`   // of the remote

	HitsAhead int64  `json:"hits_ahead"`        // of the keys in Used frames, those that had come for the session
	Breaker   string `json:"breaker,omitempty"` // why nothing is asked of the remote at the moment

	Planned      int64 `json:"planned,omitempty"`       // of a pull: entries that are to come
	PlannedBytes int64 `json:"planned_bytes,omitempty"` // as sent
	Pending      bool  `json:"pending,omitempty"`       // of a pull: it goes on

	Queued        int64  `json:"queued"`   // entries that wait to be uploaded
	Uploaded      int64  `json:"uploaded"` // entries, since the agent started
	UploadedBytes int64  `json:"uploaded_bytes"`
	Problem       string `json:"problem,omitempty"` // why uploads do not get on; of a pull, why not all has come
	Refused       string `json:"refused,omitempty"` // why the remote of the Hello takes no uploads

	Identity *Identity `json:"identity,omitempty"` // of the session, as in the Welcome, or more of it
	// Since says since when only this identity's sessions have put anything into the
	// store, as far as agents know; zero: always.
	Since time.Time `json:"since,omitzero"`

	Traceparent string `json:"traceparent,omitempty"` // of the session's span, for its job; "" if it has none
}

// A Kind says what a frame is.
type Kind byte

const (
	Get   Kind = 'G'
	Used  Kind = 'U'
	End   Kind = 'E'
	Leave Kind = 'Q'
	Flush Kind = 'F'

	Have    Kind = 'H'
	Lack    Kind = 'M'
	Filter  Kind = 'N'
	Text    Kind = 'T'
	Alive   Kind = 'P'
	Results Kind = 'R'
)

// A Frame is one frame.
type Frame struct {
	Kind   Kind
	Action entry.ActionID // of Get, Have and Lack
	Text   []byte         // of Text, Results, Used and Filter
}

// textMax is how long a frame's text may be, in bytes.
func (k Kind) textMax() int {
	if k == Filter {
		return FilterBytesMax
	}
	return textBytesMax
}

// ErrFormat is what errors about bytes that are no frame wrap.
var ErrFormat = errors.New("not the session protocol")

// Append appends the encoded frame to b.
func (f Frame) Append(b []byte) []byte {
	b = append(b, byte(f.Kind))
	switch f.Kind {
	case Get, Have, Lack:
		b = append(b, f.Action[:]...)
	case Text, Results, Used, Filter:
		text := f.Text[:min(len(f.Text), f.Kind.textMax())]
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	return b
}

// ReadFrame reads a frame. Its errors are r's, or wrap ErrFormat.
func ReadFrame(r *bufio.Reader) (Frame, error) {
	kind, err := r.ReadByte()
	if err != nil {
		return Frame{}, err
	}
	f := Frame{Kind: Kind(kind)}
	switch f.Kind {
	case End, Leave, Flush, Alive:
	case Get, Have, Lack:
		_, err = io.ReadFull(r, f.Action[:])
	case Text, Results, Used, Filter:
		var length [4]byte
		if _, err = io.ReadFull(r, length[:]); err != nil {
			break
		}
		n := binary.BigEndian.Uint32(length[:])
		if int64(n) > int64(f.Kind.textMax()) {
			return Frame{}, fmt.Errorf("%w: text of %d bytes", ErrFormat, n)
		}
		f.Text = make([]byte, n)
		_, err = io.ReadFull(r, f.Text)
	default:
		return Frame{}, fmt.Errorf("%w: frame %q", ErrFormat, kind)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return f, err
}

// AppendGreeting appends a Hello or a Welcome as a line.
func AppendGreeting(b []byte, greeting any) []byte {
	line, err := json.Marshal(greeting)
	if err != nil {
		panic(err) // strings, numbers and booleans only
	}
	return append(append(b, line...), '\n')
}

// ReadGreeting reads a line into a *Hello or a *Welcome.
func ReadGreeting(r *bufio.Reader, greeting any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if err != bufio.ErrBufferFull {
			return err
		}
		if len(line) > greetingBytesMax {
			return fmt.Errorf("%w: greeting of %d bytes", ErrFormat, len(line))
		}
	}
	if err := json.Unmarshal(line, greeting); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}
