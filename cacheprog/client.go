package cacheprog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	// defaultSlowAfter is how long the go command waits before it says so (cmd/go/internal/cache/prog.go, startCacheProg).
	defaultSlowAfter = 5 * time.Second

	// defaultCloseLimit is long enough for a program that uploads what it has when it is told to close, and short enough for a
	// continuous integration job to show the error before it is killed itself. The go command waits for ever.
	defaultCloseLimit = time.Minute
)

// errEnded ends calls when a program has gone after close, which it may do without an answer.
var errEnded = errors.New("cache program has ended")

// StartOptions are the options of [Start] and [NewClient]. The zero value is fine, and so is no value.
type StartOptions struct {
	Env    []string  // of the program; nil for the caller's
	Dir    string    // for the program to run in; empty for the caller's
	Stderr io.Writer // for the program's standard error; nil for the caller's

	// SlowNotice is called each time that another SlowAfter has gone by without a word from the program.
	SlowNotice func(command string, waited time.Duration)
	SlowAfter  time.Duration // zero for 5 s, as the go command

	// CloseLimit bounds what [Client.Close] waits for the program's answer and end. Zero is for a minute.
	CloseLimit time.Duration
}

// A Client drives a cache program as the go command does (cmd/go/internal/cache/prog.go, ProgCache). After an error of the program
// itself, such as its end or an answer to what was not asked, all calls fail with that error.
//
// A call whose context ends returns, and leaves the others alone, with one exception: while a program that does not read has the
// pipe blocked, the one call that writes to it waits until the program reads, or ends, or Close is called.
type Client struct {
	command string
	r       io.ReadCloser
	w       io.WriteCloser
	process *process // nil if there is only a connection
	known   []Cmd
	limit   time.Duration // of Close

	// writing is taken by whoever writes. It is never taken while mu is held.
	writing chan struct{}
	buf     []byte // of the writer

	mu      sync.Mutex
	lastID  int64
	pending map[int64]chan<- Response // including calls that have been given up; nil once err is set
	files   map[OutputID]string
	closing bool
	err     error // why the session is over

	done      chan struct{} // closed when nothing more is read
	unwatch   func() bool   // ends the watch on NewClient's context
	closeOnce sync.Once
	closeErr  error
}

// NewClient drives a program over a connection: r brings its answers, w takes requests. It returns when the program has said which
// commands it knows. The client closes both ends; closing r must end a read. The end of ctx ends the session.
func NewClient(ctx context.Context, r io.ReadCloser, w io.WriteCloser, opts *StartOptions) (*Client, error) {
	return newClient(ctx, &Client{command: "connection", r: r, w: w}, opts)
}

// newClient completes a client, and closes it if it does not get as far as to be of use.
func newClient(ctx context.Context, c *Client, opts *StartOptions) (*Client, error) {
	if opts == nil {
		opts = new(StartOptions)
	}
	c.limit = opts.CloseLimit
	if c.limit <= 0 {
		c.limit = defaultCloseLimit
	}
	first := make(chan Response, 1)
	c.pending = map[int64]chan<- Response{0: first}
	c.files = make(map[OutputID]string)
	c.writing = make(chan struct{}, 1)
	c.done = make(chan struct{})
	c.unwatch = context.AfterFunc(ctx, func() { c.abort(context.Cause(ctx)) })
	go c.readAnswers()

	err := c.hello(first, opts)
	if err == nil {
		return c, nil
	}
	c.abort(err)
	c.Close()
	return nil, fmt.Errorf("start cache program %s: %w", c.command, err)
}

// hello waits for the first answer.
func (c *Client) hello(first <-chan Response, opts *StartOptions) error {
	after := opts.SlowAfter
	if after <= 0 {
		after = defaultSlowAfter
	}
	ticker := time.NewTicker(after)
	defer ticker.Stop()
	for waited := after; ; waited += after {
		select {
		case res, ok := <-first:
			switch {
			case !ok:
				return c.failure()
			case len(res.KnownCommands) == 0:
				return errors.New("it declared no commands")
			}
			c.known = res.KnownCommands
			return nil
		case <-ticker.C:
			if opts.SlowNotice != nil {
				opts.SlowNotice(c.command, waited)
			}
		}
	}
}

// KnownCommands returns the commands that the program has declared, in its order.
func (c *Client) KnownCommands() []Cmd { return slices.Clone(c.known) }

// OutputFile returns the path that the program has last named for an output in this session, or "".
func (c *Client) OutputFile(id OutputID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files[id]
}

// Get asks the program for an action. A miss is an error that wraps [ErrMiss]: the program's, or that of a program that knows no
// get, or of one that answers with no path or with no proper OutputID. An entry without a time gets the current one.
func (c *Client) Get(ctx context.Context, id ActionID) (Entry, error) {
	if !slices.Contains(c.known, CmdGet) {
		return Entry{}, ErrMiss
	}
	res, err := c.send(ctx, &Request{Command: CmdGet, ActionID: id[:]})
	switch {
	case err != nil:
		return Entry{}, fmt.Errorf("get %s: %w", id, err)
	case res.Miss:
		return Entry{}, ErrMiss
	case res.DiskPath == "":
		return Entry{}, fmt.Errorf("get %s: hit without a path: %w", id, ErrMiss)
	case len(res.OutputID) != len(OutputID{}):
		return Entry{}, fmt.Errorf("get %s: OutputID of %d bytes: %w", id, len(res.OutputID), ErrMiss)
	}
	e := Entry{OutputID: OutputID(res.OutputID), Size: res.Size, DiskPath: res.DiskPath}
	if res.Time != nil {
		e.Time = *res.Time
	} else {
		e.Time = time.Now()
	}
	c.note(e.OutputID, e.DiskPath)
	return e, nil
}

// Put stores what file holds from its start to its end under an action, and returns its SHA-256 and size, which for a program that
// knows no put is all that it does. The file is read twice and must not change meanwhile.
func (c *Client) Put(ctx context.Context, id ActionID, file io.ReadSeeker) (OutputID, int64, error) {
	output, size, err := hashFile(file)
	if err != nil {
		return OutputID{}, 0, fmt.Errorf("put %s: hash: %w", id, err)
	}
	if !slices.Contains(c.known, CmdPut) {
		return output, size, nil
	}
	res, err := c.send(ctx, &Request{Command: CmdPut, ActionID: id[:], OutputID: output[:], Body: file, BodySize: size})
	if err == nil && res.DiskPath == "" {
		err = errors.New("program named no path")
	}
	if err != nil {
		return OutputID{}, 0, fmt.Errorf("put %s: %w", id, err)
	}
	c.note(output, res.DiskPath)
	return output, size, nil
}

// hashFile returns the SHA-256 and the size of a file, and rewinds it.
func hashFile(file io.ReadSeeker) (id OutputID, size int64, err error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return id, 0, err
	}
	h := sha256.New()
	if size, err = io.Copy(h, file); err != nil {
		return id, 0, err
	}
	h.Sum(id[:0])
	_, err = file.Seek(0, io.SeekStart)
	return id, size, err
}

// note remembers the path of an output.
func (c *Client) note(id OutputID, path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[id] = path
}

// Close sends close, waits for the answer, and then for the program to close its standard output and end. It returns the answer's
// error, or the error that ended the session before, but not the program's exit status, at which the go command does not look
// either. A program may end without an answer.
//
// A program that is not done within StartOptions.CloseLimit is killed, and the connection closed, which is an error. Further calls
// of Close return what the first has returned.
func (c *Client) Close() error {
	c.closeOnce.Do(func() { c.closeErr = c.close() })
	return c.closeErr
}

func (c *Client) close() error {
	c.mu.Lock()
	c.closing = true
	err := c.err // from before close
	c.mu.Unlock()

	errLimit := fmt.Errorf("not closed after %v", c.limit)
	ctx, cancel := context.WithTimeoutCause(context.Background(), c.limit, errLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.abort(errLimit) })() // a write may not see ctx
	defer c.unwatch()

	if err == nil && slices.Contains(c.known, CmdClose) {
		_, err = c.send(ctx, &Request{Command: CmdClose})
		if errors.Is(err, errEnded) {
			err = nil
		}
	}
	c.w.Close()
	select {
	case <-c.done:
	case <-ctx.Done():
		err = errors.Join(err, errLimit)
	}
	if c.process != nil {
		c.process.wait(ctx.Done())
	}
	c.r.Close()
	if err != nil {
		return fmt.Errorf("close cache program %s: %w", c.command, err)
	}
	return nil
}
