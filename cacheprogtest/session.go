package cacheprogtest

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// leaveLimit is how long a program that is not needed any more may take to leave when its input ends, before it is killed.
const leaveLimit = 500 * time.Millisecond

// A session is one run of the program, driven by one goroutine. What a program writes that is against the rules is noted, for the
// checks that hold those rules, and otherwise ignored.
type session struct {
	t       *trial
	known   []cacheprog.Cmd
	r       io.ReadCloser
	w       io.WriteCloser
	process *exec.Cmd // nil for a connection
	stderr  string    // file
	unwatch func() bool

	lastID int64 // of a request

	mu      sync.Mutex
	first   *incoming       // what the program has said first
	early   []string        // junk before that
	began   chan struct{}   // closed when first is there
	pending map[int64]*call // requests without an answer
	past    map[int64]bool  // requests with one
	closing bool            // nothing is noted any more, as by the go command
	breach  breaches

	over   chan struct{} // closed when the program's output has ended
	exited chan struct{} // closed when the program has
}

// breaches are what the go command would have ended itself for.
type breaches struct {
	junk    []string // no JSON, or JSON of another form
	unknown []int64  // IDs of answers to requests that never were
	twice   []int64  // IDs of second answers
	hellos  int      // further first messages
}

// A call is a request that has been, or is being, sent.
type call struct {
	what   string
	id     int64
	answer chan cacheprog.Response // has room for one
}

// launch starts a session without waiting for the program's first word.
func (t *trial) launch() *session {
	s := &session{
		t: t, began: make(chan struct{}), pending: make(map[int64]*call), past: make(map[int64]bool),
		over: make(chan struct{}), exited: make(chan struct{}),
	}
	var err error
	if t.Connect != nil {
		s.r, s.w, err = t.Connect(t.ctx, t.dir)
	} else {
		err = s.start()
	}
	if err != nil {
		t.nothing = t.current
		t.failf("the program does not start: %v", err)
	}
	t.sessions = append(t.sessions, s)
	s.unwatch = context.AfterFunc(t.ctx, s.kill)
	go s.read()
	if s.process == nil {
		close(s.exited)
		return s
	}
	go func() {
		defer close(s.exited)
		<-s.over // Wait closes the pipe
		_ = s.process.Wait()
	}()
	return s
}

// start starts the program.
func (s *session) start() error {
	t := s.t
	args := make([]string, len(t.args))
	for i, arg := range t.args {
		args[i] = strings.ReplaceAll(arg, "{dir}", t.dir)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "GOCACHE="+t.goCache())
	for _, v := range t.Env {
		cmd.Env = append(cmd.Env, strings.ReplaceAll(v, "{dir}", t.dir))
	}
	s.stderr = filepath.Join(t.work, fmt.Sprintf("stderr-%d", len(t.sessions)))
	stderr, err := os.Create(s.stderr)
	if err != nil {
		return err
	}
	defer stderr.Close() // the program has its own
	cmd.Stderr = stderr  // a file: nobody waits for a child that holds it
	if s.r, err = cmd.StdoutPipe(); err != nil {
		return err
	}
	if s.w, err = cmd.StdinPipe(); err != nil {
		return err
	}
	s.process = cmd
	return cmd.Start()
}

// begin starts a session and waits for the program's capabilities, whatever their ID.
func (t *trial) begin() *session {
	s := t.launch()
	s.awaitFirst()
	s.known = s.first.answer.KnownCommands
	if len(s.known) == 0 {
		t.failf("the program declares no commands")
	}
	return s
}

// awaitFirst waits until the program has said something that could be its capabilities.
func (s *session) awaitFirst() {
	select {
	case <-s.began:
		return
	case <-s.over:
	case <-s.t.ctx.Done():
	}
	select {
	case <-s.began:
		return
	default:
	}
	if len(s.t.sessions) == 1 {
		s.t.nothing = s.t.current
	}
	if s.t.ctx.Err() != nil {
		s.t.failf("no capabilities within %v%s", s.t.limit, s.junkText())
	}
	s.t.failf("the program ends its output before it has sent its capabilities%s", s.junkText())
}

// junkText says what the program has written that was no answer.
func (s *session) junkText() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if junk := append(slices.Clone(s.early), s.breach.junk...); len(junk) > 0 {
		return "; it wrote " + junk[0]
	}
	return ""
}

// noted returns what has been noted so far.
func (s *session) noted() breaches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return breaches{junk: slices.Clone(s.breach.junk), unknown: slices.Clone(s.breach.unknown), twice: slices.Clone(s.breach.twice), hellos: s.breach.hellos}
}

// read reads what the program writes, to the end.
func (s *session) read() {
	defer close(s.over)
	r := bufio.NewReader(s.r)
	for {
		in, err := next(r)
		if err == nil || in.junk != "" {
			s.take(in)
		}
		if err != nil {
			s.r.Close()
			return
		}
	}
}

// take hands out an answer, or notes what is wrong with it.
func (s *session) take(in incoming) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, asked := s.pending[in.answer.ID]
	switch {
	case in.junk != "" && !s.closing:
		s.breach.junk = appendSome(s.breach.junk, in.junk)
	case in.junk != "":
	case s.first == nil:
		s.first = &in
		s.early, s.breach.junk = s.breach.junk, nil
		close(s.began)
	case asked:
		delete(s.pending, in.answer.ID)
		s.past[in.answer.ID] = true
		c.answer <- in.answer
	case s.closing:
	case in.answer.ID == 0 || len(in.answer.KnownCommands) > 0:
		s.breach.hellos++
	case s.past[in.answer.ID]:
		s.breach.twice = appendSome(s.breach.twice, in.answer.ID)
	default:
		s.breach.unknown = appendSome(s.breach.unknown, in.answer.ID)
	}
}

// appendSome appends as long as there is little: a program may write junk for ever.
func appendSome[T any](list []T, v T) []T {
	if len(list) < 100 {
		list = append(list, v)
	}
	return list
}

// register makes a call with an ID that the next request is to have.
func (s *session) register(id int64, what string) *call {
	c := &call{what: what, id: id, answer: make(chan cacheprog.Response, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[id] = c
	return c
}

// write writes to the program.
func (s *session) write(data []byte) {
	if _, err := s.w.Write(data); err != nil {
		s.t.failf("the program stops reading its input (%v)%s", err, s.junkText())
	}
}

// writerFunc is a writer as a function.
type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// send sends a request with its body byte for byte as the go command does (cmd/go/internal/cache/prog.go, writeToChild).
func (s *session) send(r cacheprog.Request) *call {
	s.lastID++
	return s.sendAs(s.lastID, r)
}

func (s *session) sendAs(id int64, r cacheprog.Request) *call {
	r.ID = id
	c := s.register(id, string(r.Command))
	bw := bufio.NewWriter(writerFunc(s.write))
	json.NewEncoder(bw).Encode(r)
	bw.WriteByte('\n')
	if r.BodySize > 0 {
		bw.WriteByte('"')
		e := base64.NewEncoder(base64.StdEncoding, bw)
		io.Copy(e, r.Body)
		e.Close()
		bw.WriteString("\"\n")
	}
	bw.Flush() // no error is possible: write ends the trial
	return c
}

// frame is a request as the go command writes it, with its body, for checks that send it in their own way.
func frame(r cacheprog.Request, body []byte) []byte {
	line, _ := json.Marshal(r) // cannot fail
	line = append(line, "\n\n"...)
	if len(body) > 0 {
		line = append(line, '"')
		line = base64.StdEncoding.AppendEncode(line, body)
		line = append(line, "\"\n"...)
	}
	return line
}

// await waits for an answer.
func (s *session) await(c *call) cacheprog.Response {
	select {
	case res := <-c.answer:
		return res
	case <-s.over:
	case <-s.t.ctx.Done():
	}
	select {
	case res := <-c.answer: // which came before the end
		return res
	default:
	}
	if s.t.ctx.Err() != nil {
		s.t.failf("no answer to %s (ID %d) within %v%s", c.what, c.id, s.t.limit, s.junkText())
	}
	s.t.failf("the program ends its output before it has answered %s (ID %d)%s", c.what, c.id, s.junkText())
	panic("unreachable")
}

// needs skips the check if the program does not know a command.
func (s *session) needs(commands ...cacheprog.Cmd) {
	for _, c := range commands {
		if !slices.Contains(s.known, c) {
			s.t.skipf("the program does not offer %s", c)
		}
	}
}

// finish ends the session as the go command does: close, if the program knows it, and the end of input. A program that does not
// leave thereupon is killed: that is for other checks.
func (s *session) finish() {
	timer := time.NewTimer(s.t.limit / 2)
	defer timer.Stop()
	if slices.Contains(s.known, cacheprog.CmdClose) {
		c := s.sendClose()
		select {
		case <-c.answer:
		case <-s.over:
		case <-timer.C:
			timer.Reset(0)
		}
	}
	s.w.Close()
	for _, done := range []chan struct{}{s.over, s.exited} {
		select {
		case <-done:
		case <-timer.C:
			s.kill()
			return
		}
	}
}

// sendClose sends close. From here on nothing is noted: the go command does not look at what else comes.
func (s *session) sendClose() *call {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	return s.send(cacheprog.Request{Command: cacheprog.CmdClose})
}

// kill ends the program at once. It may be called by any goroutine, and more than once.
func (s *session) kill() {
	if s.process != nil {
		_ = s.process.Process.Kill() // the only error is that it has gone
	}
	s.w.Close()
	s.r.Close()
	if s.process != nil {
		<-s.exited
	}
}

// leave lets go of the program, which has time to leave by itself.
func (s *session) leave() {
	s.unwatch()
	s.w.Close()
	select {
	case <-s.exited:
	case <-time.After(leaveLimit):
	case <-s.t.ctx.Done():
	}
	s.kill()
	<-s.over
}

// stderrText returns the beginning and the end of what the program has written to its standard error.
func (s *session) stderrText() string {
	if s.stderr == "" {
		return ""
	}
	data, err := os.ReadFile(s.stderr)
	if err != nil {
		return ""
	}
	const each = 160
	text := strings.TrimSpace(string(data))
	if len(text) > 2*each {
		text = text[:each] + " … " + text[len(text)-each:]
	}
	return text
}
