package cacheprogtest_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/filelock"
)

// A reference is a small and correct cache program on a directory, that handles one request after the other. With the name of a
// defect it has that one.
type reference struct {
	defect string
	dir    string
	name   string // that no other run has
	gone   <-chan struct{}
	stdin  *pieces
	in     *bufio.Reader
	stdout io.Writer
	out    *bufio.Writer // to stdout

	answers   int // of gets in a row
	held      *cacheprog.Response
	lastPut   bool // the last request was a put
	fresh     bool // the store was empty at the start
	mine      map[string]bool
	copies    string // directory of path-kept
	more      bool   // a request is there before the one before it has been answered
	unflushed bool
	lock      *os.File
}

// An entry is what the file of an action has.
type entry struct {
	OutputID []byte
	Size     int64
	Time     time.Time
	File     string // in dir
}

// is reports whether the program has a defect.
func (p *reference) is(defects ...string) bool { return slices.Contains(defects, p.defect) }

// pieces notes when its reader gets tiny pieces only.
type pieces struct {
	r    io.Reader
	tiny int // reads in a row
}

func (p *pieces) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if p.tiny++; n >= 16 {
		p.tiny = 0
	}
	return n, err
}

// runReference runs the program until its session ends. A defect that is about hanging hangs until gone is closed.
func runReference(defect, dir string, r io.Reader, w io.Writer, gone <-chan struct{}) error {
	stdin := &pieces{r: r}
	p := &reference{
		defect: defect, dir: dir, gone: gone, stdin: stdin, in: bufio.NewReader(stdin), stdout: w, out: bufio.NewWriter(w),
		mine: make(map[string]bool), name: strconv.FormatInt(runs.Add(1), 10) + "-" + strconv.Itoa(os.Getpid()),
	}
	defer func() {
		if p.lock != nil {
			p.lock.Close()
		}
	}()
	return p.run()
}

// runs counts the runs in this process, so that each can have its own name.
var runs atomic.Int64

// hang waits for the end.
func (p *reference) hang() { <-p.gone }

func (p *reference) run() error {
	switch p.defect {
	case "panic":
		panic("boom")
	case "hang":
		p.hang()
	case "junk":
		for {
			if _, err := fmt.Fprint(p.stdout, "junk and more junk, "); err != nil {
				return err
			}
		}
	case "object":
		for sep := "{"; ; sep = "," {
			if _, err := fmt.Fprintf(p.stdout, `%s"a":[{`, sep); err != nil {
				return err
			}
		}
	}
	names, err := filepath.Glob(filepath.Join(p.dir, "a-*"))
	if err != nil {
		return err
	}
	p.fresh = len(names) == 0
	if err := p.lockOut(); err != nil {
		return err
	}
	hello := cacheprog.Response{KnownCommands: []cacheprog.Cmd{cacheprog.CmdGet, cacheprog.CmdPut, cacheprog.CmdClose}}
	switch p.defect {
	case "hello-first":
		hello.ID = 1
	case "hello-first-junk":
		fmt.Fprintln(p.stdout, "starting up")
	case "hello-prompt":
		time.Sleep(1200 * time.Millisecond)
	case "hello-commands":
		hello.KnownCommands = hello.KnownCommands[:2]
	}
	p.answer(hello)
	switch p.defect {
	case "deaf": // and silent
		p.out.Flush()
		p.hang()
	case "quit":
		p.out.Flush()
		return errors.New("the disk is gone")
	case "nonsense":
		p.out.Flush()
		for {
			if _, err := fmt.Fprintln(p.stdout, `{"ID":12345} nonsense {"ID":1,"Size":-1,"Miss":"no"}`); err != nil {
				return err
			}
		}
	}
	for {
		p.flush()
		line, err := p.line()
		if err == io.EOF {
			if p.is("eof-exits") {
				p.hang()
			}
			return nil
		}
		if err != nil {
			return err
		}
		if done, err := p.request(line); done || err != nil {
			return err
		}
	}
}

// lockOut is the defect that one process keeps others out.
func (p *reference) lockOut() error {
	if !p.is("second-process") {
		return nil
	}
	f, err := os.Create(filepath.Join(p.dir, "lock")) // held to the end of the process
	if err != nil {
		return err
	}
	for {
		if locked, err := filelock.Try(f); locked || err != nil {
			p.lock = f
			return err
		}
		select {
		case <-p.gone:
			return errors.New("the lock is held")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// line returns the next line that is not empty.
func (p *reference) line() ([]byte, error) {
	for {
		line, err := p.in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			p.skipEmpty()
			return line, err
		}
		if err != nil {
			return nil, err
		}
	}
}

// skipEmpty uses up line ends that are there already.
func (p *reference) skipEmpty() {
	for p.in.Buffered() > 0 {
		if b, _ := p.in.Peek(1); b[0] != '\n' {
			return
		}
		p.in.ReadByte()
	}
}

func (p *reference) answer(res cacheprog.Response) {
	if p.is("close-last") && p.unflushed && res.DiskPath == "" && !res.Miss && res.Err == "" { // close
		p.out.Reset(p.stdout)
	}
	json.NewEncoder(p.out).Encode(res)
}

// flush writes the answers. Some defects leave that for later.
func (p *reference) flush() {
	p.skipEmpty()
	p.more = p.in.Buffered() > 0
	p.unflushed = p.is("slow-body", "close-last") && p.more
	if !p.unflushed {
		p.out.Flush()
	}
}

// request handles one request. It returns true after close.
func (p *reference) request(line []byte) (done bool, err error) {
	if p.is("json-forms") && !bytes.HasPrefix(line, []byte(`{"ID":`)) {
		return false, errors.New("a request that does not begin with its ID")
	}
	var r cacheprog.Request
	if err := json.Unmarshal(line, &r); err != nil {
		return false, err
	}
	if p.is("large-id") {
		r.ID = int64(float64(r.ID))
	}
	res := cacheprog.Response{ID: r.ID}
	switch {
	case p.is("unknown-fields") && bytes.Contains(line, []byte("ObjectID")):
		res.Err = "unknown field ObjectID"
		if r.Command == cacheprog.CmdPut {
			io.Copy(io.Discard, p.body())
		}
		p.answer(res)
	case r.Command == cacheprog.CmdGet:
		p.get(r, &res)
		p.answerGet(res)
	case r.Command == cacheprog.CmdPut:
		if err := p.put(r, &res); err != nil {
			return false, err
		}
		p.answerPut(res)
	case r.Command == cacheprog.CmdClose:
		return true, p.close(res)
	case p.is("unknown-command"):
		return false, errors.New("unknown command")
	case p.is("unknown-command-silent"):
	default:
		res.Err = "unknown command"
		p.answer(res)
	}
	p.lastPut = r.Command == cacheprog.CmdPut
	if p.lastPut {
		p.answers = 0
	}
	return false, nil
}

// actionFile is the file of an action's entry.
func (p *reference) actionFile(action []byte) string {
	if p.is("whole-key") {
		action = action[:8]
	}
	name := "a-" + hex.EncodeToString(action)
	if p.is("next-process") {
		name += "-" + p.name
	}
	return filepath.Join(p.dir, name)
}

func (p *reference) get(r cacheprog.Request, res *cacheprog.Response) {
	name := p.actionFile(r.ActionID)
	if p.is("miss-after-restart") && !p.fresh {
		if all, _ := filepath.Glob(filepath.Join(p.dir, "a-*")); len(all) == 1 {
			name = all[0]
		}
	}
	var e entry
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	path := filepath.Join(p.dir, e.File)
	if err == nil && !p.is("lost-file") {
		_, err = os.Stat(path)
	}
	if err != nil || p.is("put-get") && p.mine[string(r.ActionID)] {
		switch {
		case p.is("miss"):
			res.Err = "not found"
		case p.is("miss-empty"):
		default:
			res.Miss = true
		}
		return
	}
	res.OutputID, res.Size, res.Time, res.DiskPath = e.OutputID, e.Size, &e.Time, path
	switch p.defect {
	case "get-output-id":
		res.OutputID = res.OutputID[:20]
	case "get-size":
		res.Size = int64(base64.StdEncoding.EncodedLen(int(res.Size)))
	case "time-kept":
		now := time.Now()
		res.Time = &now
	case "time-kept-none":
		res.Time = nil
	case "path-absolute":
		wd, _ := os.Getwd()
		res.DiskPath, _ = filepath.Rel(wd, path)
	case "path-extension":
		res.DiskPath = p.copyTo(path, path+".bin")
	case "path-kept":
		p.copies = filepath.Join(p.dir, "session-"+p.name)
		os.MkdirAll(p.copies, 0o777)
		res.DiskPath = p.copyTo(path, filepath.Join(p.copies, e.File))
	}
}

// copyTo copies a file for a defect.
func (p *reference) copyTo(from, to string) string {
	data, _ := os.ReadFile(from)
	tmp := to + p.name
	os.WriteFile(tmp, data, 0o666)
	os.Rename(tmp, to)
	return to
}

func (p *reference) answerGet(res cacheprog.Response) {
	p.answers++
	if p.is("behind-body") && p.lastPut && p.in.Buffered() > 0 {
		return // as if the body's reader had swallowed it
	}
	if p.is("concurrent-gets") && p.answers > 100 && p.in.Buffered() > 1000 {
		if p.held == nil {
			p.held = &res
			return
		}
		res.ID, p.held.ID = p.held.ID, res.ID
	}
	p.answer(res)
	if p.held != nil {
		p.answer(*p.held)
		p.held = nil
	}
	if p.is("one-answer") {
		p.answer(res)
	}
}

func (p *reference) answerPut(res cacheprog.Response) {
	p.answer(res)
	switch p.defect {
	case "hello-once":
		p.answer(cacheprog.Response{KnownCommands: []cacheprog.Cmd{"get", "put", "close"}})
	case "stdout-json":
		fmt.Fprintln(p.out, "stored one more")
	case "stdout-json-type":
		fmt.Fprintln(p.out, `{"ID":"one"}`)
	case "known-ids":
		p.answer(cacheprog.Response{ID: res.ID + 1_000_000, Miss: true})
	}
}

func (p *reference) close(res cacheprog.Response) error {
	switch p.defect {
	case "close-answered":
		res.Err = "the cache cannot be trimmed"
	case "close-answered-not":
		p.out.Flush()
		return nil
	}
	p.answer(res)
	p.out.Flush()
	if p.copies != "" {
		os.RemoveAll(p.copies)
	}
	switch p.defect {
	case "close-exits":
		p.hang()
	case "close-exits-child":
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		child := exec.Command(exe)
		child.Env = append(os.Environ(), defectEnv+"=sleep")
		child.Stdout = os.Stdout
		return child.Start()
	}
	return nil
}

// A bodyReader yields the base64 of a body, up to the closing quote.
type bodyReader struct{ p *reference }

func (b bodyReader) Read(data []byte) (int, error) {
	if _, err := b.p.in.Peek(1); err != nil {
		return 0, io.ErrUnexpectedEOF
	}
	there, _ := b.p.in.Peek(min(b.p.in.Buffered(), len(data)))
	if i := bytes.IndexByte(there, '"'); i >= 0 {
		n := copy(data, there[:i])
		b.p.in.Discard(n + 1)
		return n, io.EOF
	}
	n := copy(data, there)
	b.p.in.Discard(n)
	return n, nil
}

// body returns a body that comes next.
func (p *reference) body() io.Reader {
	for {
		c, err := p.in.ReadByte()
		if err != nil {
			return failing{io.ErrUnexpectedEOF}
		}
		if c == '"' {
			return base64.NewDecoder(base64.StdEncoding, bodyReader{p})
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// put stores a body. An error is one of the input.
func (p *reference) put(r cacheprog.Request, res *cacheprog.Response) error {
	if !p.is("close-last") { // which is about answers that wait for something else
		defer p.out.Flush()
	} else {
		p.out.Flush()
	}
	p.stdin.tiny = 0
	var body io.Reader = bytes.NewReader(nil)
	if r.BodySize > 0 || p.is("empty-body") {
		body = p.body()
	}
	if p.is("body-large") && r.BodySize > 8<<20 {
		io.Copy(io.Discard, body)
		res.Err = "too large"
		return nil
	}
	if p.is("memory-bounded") && r.BodySize > 8<<20 {
		data, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	e := entry{OutputID: r.OutputID, Size: r.BodySize, Time: time.Now(), File: "o-" + hex.EncodeToString(r.OutputID)}
	if err := p.store(&e, r, body); err != nil {
		return err
	}
	if p.is("pipelined-puts") && p.lastPut && p.more {
		os.Truncate(filepath.Join(p.dir, e.File), 5)
	}
	if _, err := os.Stat(p.actionFile(r.ActionID)); p.is("last-write-wins") && err == nil {
		res.DiskPath = filepath.Join(p.dir, e.File)
		return nil
	}
	if p.is("shared-output") {
		p.forget(e.File)
	}
	p.mine[string(r.ActionID)] = true
	if err := p.writeEntry(r.ActionID, e); err != nil {
		return err
	}
	res.DiskPath = filepath.Join(p.dir, e.File)
	switch p.defect {
	case "put-path":
		res.DiskPath = ""
	case "put-body":
		res.DiskPath += "x"
		os.WriteFile(res.DiskPath, []byte("not yet"), 0o666)
	case "put-error":
		res.Err = "disk full"
	}
	return nil
}

// forget is the defect that an output belongs to one action.
func (p *reference) forget(file string) {
	all, _ := filepath.Glob(filepath.Join(p.dir, "a-*"))
	for _, name := range all {
		if data, _ := os.ReadFile(name); bytes.Contains(data, []byte(file)) {
			os.Remove(name)
		}
	}
}

func (p *reference) writeEntry(action []byte, e entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(p.dir, "tmp-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	return errors.Join(err, tmp.Close(), os.Rename(tmp.Name(), p.actionFile(action)))
}

// store writes a body to its file.
func (p *reference) store(e *entry, r cacheprog.Request, body io.Reader) error {
	name := filepath.Join(p.dir, e.File)
	_, statErr := os.Stat(name)
	exists := statErr == nil
	f, err := os.CreateTemp(p.dir, "tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing after the renaming
	switch {
	case p.is("path-keeps-bytes") && p.mine[string(r.ActionID)]:
		if data, _ := os.ReadFile(p.actionFile(r.ActionID)); data != nil {
			var old entry
			json.Unmarshal(data, &old)
			e.File = old.File
			name = filepath.Join(p.dir, e.File)
		}
	case p.is("path-whole") && exists, p.is("killed-midway") && !exists && r.BodySize > 500_000:
		os.Remove(f.Name())
		f.Close()
		if f, err = os.Create(name); err != nil {
			return err
		}
		if p.is("killed-midway") {
			if err := p.writeEntry(r.ActionID, *e); err != nil {
				return err
			}
		}
	case p.is("same-action"):
		os.Remove(f.Name())
		f.Close()
		if f, err = os.Create(filepath.Join(p.dir, "tmp-"+hex.EncodeToString(r.ActionID))); err != nil {
			return err
		}
	}
	size := r.BodySize
	if p.is("body-sizes") && size%3 == 1 {
		size--
	}
	_, err = io.CopyN(f, body, size)
	if err == nil {
		_, err = io.Copy(io.Discard, body) // the quote
	}
	if p.is("dribbled-body") && p.stdin.tiny > 10 {
		f.Truncate(size / 2)
	}
	if err != nil && p.is("cut-body") {
		f.Close()
		os.Rename(f.Name(), name)
		return errors.Join(err, p.writeEntry(r.ActionID, *e))
	}
	if err != nil {
		f.Close()
		if p.is("killed-midway") && f.Name() == name {
			os.Remove(name)
			os.Remove(p.actionFile(r.ActionID))
		}
		return err
	}
	err = f.Close()
	if f.Name() != name {
		if renameErr := os.Rename(f.Name(), name); !p.is("same-action") {
			err = errors.Join(err, renameErr)
		}
	}
	return err
}
