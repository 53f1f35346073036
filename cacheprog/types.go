// Package cacheprog speaks the GOCACHEPROG protocol, both ends of it.
//
// The go command (Go 1.24 and later) starts the program that GOCACHEPROG names and keeps its build and test cache in it. [Serve]
// is what such a program is written on; [Start] and [NewClient] drive one as the go command does. The protocol's own package,
// cmd/go/internal/cacheprog, cannot be imported.
//
// # Promise
//
// Serve never leaves a request without an answer: a handler that fails, panics or ignores a body costs one error answer, never
// the stream, and never the process. A [Client] never hangs on a program that dies or talks nonsense, and never exits its caller.
//
// # Format
//
// The go command writes each request as one line of JSON and an empty line; a put whose BodySize is not zero is followed by its
// body, as one JSON string in base64 on a line of its own (cmd/go/internal/cache/prog.go, writeToChild). The program writes one
// JSON object for each answer, in any order. Its first, with ID 0, tells the commands that it knows. Bodies travel to the program
// only; back goes the path of a local file. A line of JSON may have 1 MiB; a body may have any length, and is never held whole.
//
// Lines that look as the go command writes them are scanned by hand; whatever else encoding/json accepts is left to encoding/json,
// with the same result. Go 1.21 to 1.23 called the OutputID ObjectID; both names are read, only the new one is written.
//
// # Concurrency
//
// Serve calls a handler's methods from many goroutines at once, and returns when all of them have ended. The methods of a Client
// may be called from many goroutines at once.
//
// # Trust
//
// Serve trusts its peer, the go command that started it, to be who it is, and nothing that it says: no input makes it panic, hang
// while input goes on, or grow without bound, but for requests that are sent and not waited for, which it queues. A Client trusts
// the program no further than that the paths that it names are to be opened. Neither checks that a body matches its OutputID.
package cacheprog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// A Cmd is a command of the protocol. The go command sends only those that the program's first answer lists.
type Cmd string

const (
	// CmdGet asks for what is stored under an action.
	CmdGet = Cmd("get")

	// CmdPut stores a body under an action, replacing what was there: go test puts the same action again with a new log.
	CmdPut = Cmd("put")

	// CmdClose asks the program to finish, answer, and exit.
	CmdClose = Cmd("close")
)

// A Request is what the go command sends, in the form of cmd/go/internal/cacheprog/cacheprog.go.
type Request struct {
	ID      int64 // unique in a session; the answer repeats it
	Command Cmd

	ActionID []byte `json:",omitempty"` // of get and put
	OutputID []byte `json:",omitempty"` // of put

	// ObjectID is what Go 1.21 to 1.23 sent for OutputID. It is for reading only: a decoded Request has its OutputID set from it
	// when the request brought no OutputID.
	ObjectID []byte `json:",omitempty"`

	Body     io.Reader `json:"-"`          // of put; its frame follows the request's line when BodySize is not zero
	BodySize int64     `json:",omitempty"` // length of Body, before base64
}

// UnmarshalJSON decodes a request of any version of the protocol.
func (r *Request) UnmarshalJSON(data []byte) error {
	type plain Request // without this method
	if err := json.Unmarshal(data, (*plain)(r)); err != nil {
		return err
	}
	if len(r.OutputID) == 0 {
		r.OutputID = r.ObjectID
	}
	return nil
}

// A Response is what the program sends, in the form of cmd/go/internal/cacheprog/cacheprog.go.
type Response struct {
	ID  int64  // of the request that it answers; 0 for the first
	Err string `json:",omitempty"` // what went wrong; empty when nothing did

	KnownCommands []Cmd `json:",omitempty"` // in the first answer only

	Miss     bool       `json:",omitempty"` // get: nothing is stored
	OutputID []byte     `json:",omitempty"` // get: as it was put
	Size     int64      `json:",omitempty"` // get: length of the body
	Time     *time.Time `json:",omitempty"` // get: when it was put; the go command takes an absent one for now

	DiskPath string `json:",omitempty"` // get and put: absolute path of a file that holds the body at least until close
}

// An ActionID is the key of a cache entry: the hash of all that an action depends on.
type ActionID [32]byte

// String returns the ID in hexadecimal, as the go command's own cache names its files.
func (id ActionID) String() string { return hex.EncodeToString(id[:]) }

// An OutputID is the SHA-256 of an action's output.
type OutputID [32]byte

// String returns the ID in hexadecimal, as the go command's own cache names its files.
func (id OutputID) String() string { return hex.EncodeToString(id[:]) }

// An Entry is what a cache holds for an action.
type Entry struct {
	OutputID OutputID
	Size     int64
	Time     time.Time // when it was put; zero if not known

	// DiskPath is the absolute path of a file with the output. The go command opens it at any time until the session's end, with
	// no fallback if it has gone. It travels as JSON, so bytes that are not UTF-8 arrive as U+FFFD: such a path cannot be served.
	DiskPath string
}

// ErrMiss says that a cache holds nothing for an action. A [Getter] returns an error that wraps it, and so does [Client.Get].
var ErrMiss = errors.New("cache miss")

// ErrNotNow is what a [NowGetter] returns, bare or wrapped, to have [Getter] asked instead.
var ErrNotNow = errors.New("no answer without waiting")

// A Getter is a handler that answers get.
type Getter interface {
	// Get returns the entry for an action. An error that wraps [ErrMiss] is answered as a miss, any other as an error, which the
	// go command takes for a miss in most places, but not in all (cmd/go/internal/cache, callers of Get).
	Get(ctx context.Context, id ActionID) (Entry, error)
}

// A NowGetter is a [Getter] that can answer some gets at once.
type NowGetter interface {
	// GetNow is called before Get, on the goroutine that reads the requests, so it saves a switch of goroutines and holds up
	// whatever comes behind it: it may wait for the local disk, but for nothing slower. Its errors mean what Get's do, except
	// that one that wraps [ErrNotNow] sends the request to Get.
	GetNow(id ActionID) (Entry, error)
}

// A Putter is a handler that answers put.
type Putter interface {
	// Put stores a body and returns the absolute path of a file that holds it at least until close. No other request is read
	// until the body has been read to its end or Put has returned; a Put that is still busy after that delays nobody.
	//
	// Put's error is answered as an error, which fails some go commands. An error of the body is answered even if Put returns none.
	Put(ctx context.Context, p Put) (diskPath string, err error)
}

// A Put is one put request.
type Put struct {
	ActionID ActionID
	OutputID OutputID
	Size     int64

	// Body is never nil. It yields exactly Size bytes and then [io.EOF], or it fails: with an error that wraps
	// [io.ErrUnexpectedEOF] when it ends early, and with another when it is longer or no base64. The last bytes come only when the
	// end has been checked, so who has read Size bytes has read it all. It is of use until Put returns, and fails thereafter.
	Body io.Reader
}

// A Closer is a handler that wants to know of the session's end.
type Closer interface {
	// Close is called once, however the session ends: by a close request, by the end of input without one, or by input that
	// makes no sense. No other call is running then, and none follows. If there was a close request, Close's error is its answer,
	// and the go command fails the whole build on it (cmd/go/internal/cache/prog.go, Close), so a cache had better return nil.
	Close(ctx context.Context) error
}
