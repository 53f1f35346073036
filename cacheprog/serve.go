package cacheprog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
)

// defaultConcurrentGets is how many calls of Get run at once by default. The go command has one get under way for each of its
// workers, of which it starts GOMAXPROCS, so this stays out of the way on any machine of today; it is there so that a peer that
// sends more cannot use up the sockets or files that Get may need.
const defaultConcurrentGets = 256

// ServeOptions are Serve's options. The zero value is fine, and so is no value.
type ServeOptions struct {
	// MaxConcurrentGets bounds the calls of [Getter] that run at once; further gets wait, without holding up other requests.
	// Zero means 256.
	MaxConcurrentGets int

	// PanicLog is told of each panic of a handler, with the stack. Nil writes it to standard error, which the go command passes
	// on to its user.
	PanicLog func(v any, stack []byte)

	// CapabilitiesSent says that the caller has already written [Capabilities].
	CapabilitiesSent bool
}

// Capabilities returns the line that a program sends before all others: get if the handler is a [Getter], put if it is a [Putter],
// and close. Serve sends it first thing; a program that has slower work to do before it can call Serve may send it by itself, and
// say so in [ServeOptions]. The go command starts no work before it has this line (cmd/go/internal/cache/prog.go, startCacheProg).
//
// A program had better offer get and put both: without a put, the go command cannot tell vet and others the paths of outputs.
func Capabilities(handler any) []byte {
	line := []byte(`{"ID":0,"KnownCommands":[`)
	if _, ok := handler.(Getter); ok {
		line = append(line, `"get",`...)
	}
	if _, ok := handler.(Putter); ok {
		line = append(line, `"put",`...)
	}
	return append(line, "\"close\"]}\n"...)
}

// Serve answers the requests that come from r, with answers to w, until a close request has been answered or r ends.
//
// What the handler implements decides what it is asked: [Getter] and optionally [NowGetter], [Putter], [Closer]. Gets run at the
// same time, up to a limit, each put as soon as its request is there, and answers go out in the order in which they are ready.
// When the session ends, Serve waits for the calls that are still running, calls Close, and answers the close request, if there
// was one, last.
//
// Serve returns nil after a close request, and when r ends between two requests, in which case Close's error is returned. It
// returns an error if r or w fails, or if a request is no JSON, for there is no telling where the next one starts.
//
// Ending ctx ends the calls' contexts, no more: Serve goes on reading, and answering with what the calls return, until r ends or,
// where it can be, is closed by the caller.
func Serve(ctx context.Context, r io.Reader, w io.Writer, handler any, opts *ServeOptions) error {
	if opts == nil {
		opts = new(ServeOptions)
	}
	s := &server{ctx: ctx, in: newInput(r), out: output{w: w}, panicLog: opts.PanicLog}
	s.getter, _ = handler.(Getter)
	s.putter, _ = handler.(Putter)
	s.closer, _ = handler.(Closer)
	if s.getter == nil && s.putter == nil {
		return fmt.Errorf("serve cache program: %T is neither a Getter nor a Putter", handler)
	}
	if s.getter != nil {
		s.nowGetter, _ = handler.(NowGetter)
	}
	if s.panicLog == nil {
		s.panicLog = func(v any, stack []byte) { fmt.Fprintf(os.Stderr, "cacheprog: panic: %v\n%s", v, stack) }
	}
	s.in.beforeRead = s.out.flush
	s.gets.init(opts.MaxConcurrentGets, s.get)

	if !opts.CapabilitiesSent {
		s.out.writeLine(Capabilities(handler))
	}
	return s.serve()
}

// A server is one run of Serve.
type server struct {
	ctx      context.Context
	in       *input
	out      output
	panicLog func(v any, stack []byte)

	getter    Getter
	nowGetter NowGetter // nil if getter is not one
	putter    Putter
	closer    Closer

	gets getQueue
	puts sync.WaitGroup
}

// serve runs the session from its first request to its end.
func (s *server) serve() error {
	closeID, closed, err := s.requests()
	s.out.flush()
	s.gets.close()
	s.puts.Wait()

	closeErr := s.close()
	if closed {
		s.out.add(&answer{id: closeID, err: errText(closeErr)})
		closeErr = nil // whoever asked for it has it
	}
	s.out.flush()
	switch {
	case err != nil:
		if s.ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(s.ctx), err)
		}
		return fmt.Errorf("serve cache program: %w", err)
	case closeErr != nil:
		return fmt.Errorf("serve cache program: close: %w", closeErr)
	}
	if err := s.out.failure(); err != nil {
		return fmt.Errorf("serve cache program: write answer: %w", err)
	}
	return nil
}

// requests handles the requests up to close, whose ID it returns, or to the end of the input.
func (s *server) requests() (closeID int64, closed bool, err error) {
	var r request
	stringMayFollow := false // the last request was an unknown one with a body
	for s.out.failure() == nil {
		if stringMayFollow {
			stringMayFollow = false
			if c, err := s.in.peek(); err == nil && c == '"' {
				s.in.start++
				if err := s.in.skipString(); err != nil {
					return 0, false, fmt.Errorf("skip body: %w", noEOF(err))
				}
			}
		}
		line, err := s.in.line()
		if err == io.EOF {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, fmt.Errorf("read request: %w", err)
		}
		if err := parseRequest(line, &r); err != nil {
			if s.in.err == io.EOF && s.in.start == s.in.end {
				err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
			}
			return 0, false, fmt.Errorf("parse request: %w", err)
		}
		switch {
		case r.cmd == CmdClose:
			return r.id, true, nil
		case r.cmd == CmdGet && s.getter != nil:
			s.getNow(&r)
		case r.cmd == CmdPut:
			if err := s.put(&r); err != nil {
				return 0, false, fmt.Errorf("read body: %w", err)
			}
		default:
			s.out.add(&answer{id: r.id, err: fmt.Sprintf("unknown command %q", r.cmd)})
		}
		stringMayFollow = r.cmd != CmdPut && r.bodySize > 0
	}
	return 0, false, nil
}

// getNow answers a get at once if that can be done, and queues it otherwise.
func (s *server) getNow(r *request) {
	if !r.action.ok() {
		s.out.add(&answer{id: r.id, err: lengthText("ActionID", r.action.length)})
		return
	}
	if s.nowGetter != nil {
		e, err := s.callGetNow(r.action.id)
		if err == nil || !errors.Is(err, ErrNotNow) {
			a := getAnswer(r.id, e, err)
			s.out.add(&a)
			return
		}
	}
	s.gets.add(queuedGet{id: r.id, action: r.action.id})
}

// get answers a get that has been queued.
func (s *server) get(g queuedGet) {
	a := answer{id: g.id, err: errExited}
	defer func() { s.out.write(&a) }()
	e, err := s.callGet(g.action)
	a = getAnswer(g.id, e, err)
}

// getAnswer is the answer to a get.
func getAnswer(id int64, e Entry, err error) answer {
	switch {
	case err == nil && e.DiskPath == "":
		return answer{id: id, err: "get returned no path"}
	case err == nil:
		return answer{id: id, hit: true, entry: e}
	case errors.Is(err, ErrMiss):
		return answer{id: id, miss: true}
	}
	return answer{id: id, err: errText(err)}
}

// put has a put handled, and returns when its body has been used up. An error is one of the input.
func (s *server) put(r *request) error {
	if r.bodySize < 0 {
		s.out.add(&answer{id: r.id, err: fmt.Sprintf("BodySize of %d bytes", r.bodySize)})
		return nil
	}
	b := newBody(s.in, r.bodySize)
	var problem string
	switch {
	case s.putter == nil:
		problem = fmt.Sprintf("unknown command %q", r.cmd)
	case !r.action.ok():
		problem = lengthText("ActionID", r.action.length)
	case !r.output.ok():
		problem = lengthText("OutputID", r.output.length)
	}
	if problem != "" {
		b.release()
		s.out.add(&answer{id: r.id, err: problem})
		return b.skip()
	}
	id, p := r.id, Put{ActionID: r.action.id, OutputID: r.output.id, Size: r.bodySize, Body: b}
	s.out.flush() // the handler may take its time over the body
	s.puts.Add(1)
	go func() {
		defer s.puts.Done()
		a := answer{id: id, err: errExited}
		defer func() {
			if err := b.release(); err != nil && a.err == "" {
				a.err = errText(err)
			}
			s.out.write(&a)
		}()
		path, err := s.callPut(p)
		switch {
		case err != nil:
			a.err = errText(err)
		case path == "":
			a.err = "put returned no path"
		default:
			a = answer{id: id, entry: Entry{DiskPath: path}}
		}
	}()
	<-b.done
	return b.skip()
}

// errExited answers for a handler that has ended its goroutine.
const errExited = "handler called runtime.Goexit"

// callGetNow calls GetNow and turns a panic into an error; and so on.
func (s *server) callGetNow(id ActionID) (_ Entry, err error) {
	defer s.recoverAs(&err)
	return s.nowGetter.GetNow(id)
}

func (s *server) callGet(id ActionID) (_ Entry, err error) {
	defer s.recoverAs(&err)
	return s.getter.Get(s.ctx, id)
}

func (s *server) callPut(p Put) (_ string, err error) {
	defer s.recoverAs(&err)
	return s.putter.Put(s.ctx, p)
}

// close calls Close, if there is one.
func (s *server) close() (err error) {
	if s.closer == nil {
		return nil
	}
	defer s.recoverAs(&err)
	return s.closer.Close(s.ctx)
}

// recoverAs ends a panic and sets err to it.
func (s *server) recoverAs(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("panic: %v", v)
		s.panicLog(v, debug.Stack())
	}
}

// errText is an error as an answer, which takes an empty text for none.
func errText(err error) string {
	if err == nil {
		return ""
	}
	if text := err.Error(); text != "" {
		return text
	}
	return fmt.Sprintf("error of type %T without a text", err)
}

// lengthText says what is wrong with an ID that is not as long as IDs are.
func lengthText(name string, length int) string {
	return fmt.Sprintf("%s of %d bytes instead of 32", name, length)
}
