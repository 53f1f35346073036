package explain

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// A Replayer answers a go command that is only run for its trace, from a store.
type Replayer struct{ store, puts *store.Store }

// NewReplayer returns a Replayer that answers from one store and puts what had to be
// made once more into another, or the same.
func NewReplayer(s, puts *store.Store) *Replayer { return &Replayer{s, puts} }

// Get answers from the store.
func (r *Replayer) Get(_ context.Context, action cacheprog.ActionID) (cacheprog.Entry, error) {
	object, err := r.store.Get(entry.ActionID(action))
	if err != nil {
		return cacheprog.Entry{}, cacheprog.ErrMiss
	}
	return cacheprog.Entry{OutputID: cacheprog.OutputID(object.OutputID), Size: object.Size, Time: object.Time, DiskPath: object.DiskPath}, nil
}

// Put stores what had to be made once more.
func (r *Replayer) Put(_ context.Context, put cacheprog.Put) (diskPath string, err error) {
	return r.puts.Put(entry.ActionID(put.ActionID), entry.OutputID(put.OutputID), put.Size, put.Body)
}

// A Pretender is a Replayer for a go command that runs tests. It claims to have the results of all tests, since a test's result has
// another action ID under GODEBUG, which every test depends on: without it, tests
// would be run a second time. It reads the trace to tell which action ID is of
// what; the go command writes a hash to the trace before it asks for it.
type Pretender struct {
	Replayer

	// KnownOnly has it give up too when a package is not in the store, instead of
	// having it compiled.
	KnownOnly bool

	giveUp func() // ends the session: a test's program would be linked, and run

	mu    sync.Mutex
	trace *os.File
	rest  []byte // the beginning of a line
	kinds map[string]string
}

// NewPretender returns a Pretender on a Replayer, whose go command writes its trace to a file. It
// calls giveUp instead of having a test run; giveUp ends the session, and so the go
// command.
func NewPretender(r *Replayer, trace string, giveUp func()) (*Pretender, error) {
	f, err := os.Open(trace)
	if err != nil {
		return nil, err
	}
	return &Pretender{Replayer: *r, giveUp: giveUp, trace: f, kinds: make(map[string]string)}, nil
}

// Answers for what is not in the store. A list of what a test reads, an output
// that says it passed (cmd/go/internal/test/test.go, tryCacheWithID).
const (
	pretendedLog    = "# test log\n"
	pretendedResult = "ok  \tpretended\t0.000s\n"
)

// Get answers from the store, and for a test's result in any case.
func (p *Pretender) Get(ctx context.Context, action cacheprog.ActionID) (cacheprog.Entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kind := p.kind(hex.EncodeToString(action[:]))
	if strings.HasPrefix(kind, Link+" ") && strings.HasSuffix(kind, ".test") {
		// The go command did not ask for the result, or would not have it: it will
		// not keep it either (-count=1), so there is nothing to learn.
		p.giveUp()
	}
	if found, err := p.Replayer.Get(ctx, action); err == nil {
		return found, nil
	}
	switch kind {
	case testResult:
		return p.pretend(pretendedLog)
	case "inputs":
		return p.pretend(pretendedResult)
	case "coverprofile":
		return p.pretend("") // as of a test that has written none
	}
	if p.KnownOnly && strings.HasPrefix(kind, Build+" ") {
		p.giveUp()
	}
	return cacheprog.Entry{}, cacheprog.ErrMiss
}

// pretend is an entry with this body, whose file is beside the trace.
func (p *Pretender) pretend(body string) (cacheprog.Entry, error) {
	sum := sha256.Sum256([]byte(body))
	name := p.trace.Name() + "-" + hex.EncodeToString(sum[:4])
	if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
		return cacheprog.Entry{}, err
	}
	return cacheprog.Entry{OutputID: sum, Size: int64(len(body)), Time: time.Now(), DiskPath: name}, nil
}

// kind is what the trace says that an action ID is of, "" if nothing.
func (p *Pretender) kind(id string) string {
	more, _ := io.ReadAll(p.trace)
	p.rest = append(p.rest, more...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 {
			return p.kinds[id]
		}
		p.note(string(p.rest[:i]))
		p.rest = p.rest[i+1:]
	}
}

func (p *Pretender) note(line string) {
	if text, ok := strings.CutPrefix(line, subkeyPrefix); ok {
		if i := strings.LastIndex(text, " = "); i >= 0 {
			_, quoted, _ := strings.Cut(text[:i], " ")
			p.kinds[text[i+3:]] = subkeyKind(strings.Trim(quoted, `"`))
		}
		return
	}
	if text, ok := strings.CutPrefix(line, hashPrefix); ok {
		if name, sum, ok := strings.Cut(text, "]: "); ok && isID(sum) {
			p.kinds[sum] = name
		}
	}
}
