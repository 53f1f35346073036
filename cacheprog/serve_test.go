package cacheprog_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// A funcs is a handler of functions; a nil one is not to be called.
type funcs struct {
	get   func(ctx context.Context, id cacheprog.ActionID) (cacheprog.Entry, error)
	put   func(ctx context.Context, p cacheprog.Put) (string, error)
	close func(ctx context.Context) error
}

func (f funcs) Get(ctx context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
	return f.get(ctx, id)
}
func (f funcs) Put(ctx context.Context, p cacheprog.Put) (string, error) { return f.put(ctx, p) }
func (f funcs) Close(ctx context.Context) error {
	if f.close == nil {
		return nil
	}
	return f.close(ctx)
}

// A nowFuncs is a funcs with GetNow.
type nowFuncs struct {
	funcs
	now func(id cacheprog.ActionID) (cacheprog.Entry, error)
}

func (f nowFuncs) GetNow(id cacheprog.ActionID) (cacheprog.Entry, error) { return f.now(id) }

// action is the action of a number.
func action(n int) (id cacheprog.ActionID) {
	return cacheprog.ActionID(sha256.Sum256(fmt.Append(nil, n)))
}

func getLine(id, n int) string {
	a := action(n)
	return fmt.Sprintf("{\"ID\":%d,\"Command\":\"get\",\"ActionID\":%q}\n\n", id, base64.StdEncoding.EncodeToString(a[:]))
}

func putLines(id, n int, body string) string {
	a, o := action(n), sha256.Sum256([]byte(body))
	s := fmt.Sprintf("{\"ID\":%d,\"Command\":\"put\",\"ActionID\":%q,\"OutputID\":%q", id,
		base64.StdEncoding.EncodeToString(a[:]), base64.StdEncoding.EncodeToString(o[:]))
	if body == "" {
		return s + "}\n\n"
	}
	return s + fmt.Sprintf(",\"BodySize\":%d}\n\n\"%s\"\n", len(body), base64.StdEncoding.EncodeToString([]byte(body)))
}

func closeLine(id int) string { return fmt.Sprintf("{\"ID\":%d,\"Command\":\"close\"}\n\n", id) }

// serve serves a whole input and returns the answers by their IDs.
func serve(t *testing.T, handler any, input string, opts *cacheprog.ServeOptions) (map[int64]cacheprog.Response, error) {
	t.Helper()
	var out bytes.Buffer
	err := cacheprog.Serve(context.Background(), strings.NewReader(input), &out, handler, opts)
	return answers(t, out.Bytes()), err
}

func answers(t *testing.T, out []byte) map[int64]cacheprog.Response {
	t.Helper()
	all := make(map[int64]cacheprog.Response)
	for line := range bytes.Lines(out) {
		var res cacheprog.Response
		if err := json.Unmarshal(line, &res); err != nil {
			t.Errorf("answer %q: %v", line, err)
		}
		if _, ok := all[res.ID]; ok {
			t.Errorf("request %d answered twice", res.ID)
		}
		all[res.ID] = res
	}
	return all
}

// memory is a handler that keeps all in memory, under paths that are the outputs.
func memory() funcs {
	var mu sync.Mutex
	entries := make(map[cacheprog.ActionID]cacheprog.Entry)
	return funcs{
		get: func(_ context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
			mu.Lock()
			defer mu.Unlock()
			e, ok := entries[id]
			if !ok {
				return e, fmt.Errorf("%s: %w", id, cacheprog.ErrMiss)
			}
			return e, nil
		},
		put: func(_ context.Context, p cacheprog.Put) (string, error) {
			data, err := io.ReadAll(p.Body)
			if err != nil {
				return "", err
			}
			if sha256.Sum256(data) != p.OutputID || int64(len(data)) != p.Size {
				return "", errors.New("not that output")
			}
			mu.Lock()
			defer mu.Unlock()
			e := cacheprog.Entry{OutputID: p.OutputID, Size: p.Size, Time: time.Unix(1e9, 5), DiskPath: "/" + p.OutputID.String()}
			entries[p.ActionID] = e
			return e.DiskPath, nil
		},
	}
}

type (
	getOnly struct{ cacheprog.Getter }
	putOnly struct{ cacheprog.Putter }
)

func TestCapabilities(t *testing.T) {
	for _, row := range []struct {
		handler any
		want    string
	}{
		{memory(), `{"ID":0,"KnownCommands":["get","put","close"]}`},
		{nowFuncs{}, `{"ID":0,"KnownCommands":["get","put","close"]}`},
		{getOnly{memory()}, `{"ID":0,"KnownCommands":["get","close"]}`},
		{putOnly{memory()}, `{"ID":0,"KnownCommands":["put","close"]}`},
	} {
		if got := string(cacheprog.Capabilities(row.handler)); got != row.want+"\n" {
			t.Errorf("%T: %q, want %q", row.handler, got, row.want)
		}
		for _, sent := range []bool{false, true} {
			var out bytes.Buffer
			if err := cacheprog.Serve(context.Background(), strings.NewReader(""), &out, row.handler, &cacheprog.ServeOptions{CapabilitiesSent: sent}); err != nil {
				t.Error(err)
			}
			if want := map[bool]string{false: row.want + "\n"}[sent]; out.String() != want {
				t.Errorf("%T: Serve wrote %q, want %q", row.handler, &out, want)
			}
		}
	}
	if err := cacheprog.Serve(context.Background(), strings.NewReader(""), io.Discard, 7, nil); err == nil {
		t.Error("a handler that handles nothing is no error")
	}
}

func TestServeSession(t *testing.T) {
	legacy := strings.Replace(putLines(8, 8, "legacy"), "OutputID", "ObjectID", 1)
	input := getLine(1, 5) + putLines(2, 1, "hello") + putLines(3, 3, "") + legacy + closeLine(9)
	m := memory()
	got, err := serve(t, m, input, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !got[1].Miss || len(got) != 6 {
		t.Errorf("got %+v", got)
	}
	got, err = serve(t, m, getLine(1, 1)+getLine(3, 3)+getLine(8, 8)+closeLine(9), nil)
	if err != nil {
		t.Fatal(err)
	}
	for id, body := range map[int64]string{1: "hello", 3: "", 8: "legacy"} {
		want := sha256.Sum256([]byte(body))
		if r := got[id]; !bytes.Equal(r.OutputID, want[:]) || r.Size != int64(len(body)) || !r.Time.Equal(time.Unix(1e9, 5)) || r.DiskPath != fmt.Sprintf("/%x", want) {
			t.Errorf("%q: %+v", body, r)
		}
	}
}

// TestServeAnswersErr has each fault of a handler or a request answered with an error, and the next requests served.
func TestServeAnswersErr(t *testing.T) {
	boom := func(context.Context, cacheprog.ActionID) (cacheprog.Entry, error) { panic("boom") }
	put := func(f func(p cacheprog.Put) (string, error)) funcs {
		m := memory()
		ok := m.put
		m.put = func(ctx context.Context, p cacheprog.Put) (string, error) {
			if p.ActionID == action(1) {
				return f(p)
			}
			return ok(ctx, p)
		}
		return m
	}
	get := func(f func(context.Context, cacheprog.ActionID) (cacheprog.Entry, error)) funcs {
		m := memory()
		ok := m.get
		m.get = func(ctx context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
			if id == action(1) {
				return f(ctx, id)
			}
			return ok(ctx, id)
		}
		return m
	}
	big := strings.Repeat("larder ", 100_000)
	short := func(s string) string { return strings.Replace(s, `"BodySize":5`, `"BodySize":6`, 1) }
	long := func(s string) string { return strings.Replace(s, `"BodySize":5`, `"BodySize":4`, 1) }
	goexit := func(context.Context, cacheprog.ActionID) (cacheprog.Entry, error) {
		runtime.Goexit()
		panic("unreachable")
	}
	for _, row := range []struct {
		name    string
		handler any
		request string
		want    string // in Err
	}{
		{"get fails", get(func(context.Context, cacheprog.ActionID) (e cacheprog.Entry, _ error) { return e, io.ErrNoProgress }), getLine(1, 1), "no data"},
		{"get panics", get(boom), getLine(1, 1), "panic: boom"},
		{"get exits", get(goexit), getLine(1, 1), "Goexit"},
		{"get without path", get(func(context.Context, cacheprog.ActionID) (e cacheprog.Entry, _ error) { return e, nil }), getLine(1, 1), "path"},
		{"getnow panics", nowFuncs{memory(), func(id cacheprog.ActionID) (cacheprog.Entry, error) {
			if id == action(1) {
				panic("boom")
			}
			return cacheprog.Entry{}, cacheprog.ErrNotNow
		}}, getLine(1, 1), "panic: boom"},
		{"get of a short action", memory(), `{"ID":1,"Command":"get","ActionID":"AAAA"}` + "\n", "ActionID of 3 bytes"},
		{"get without an action", memory(), `{"ID":1,"Command":"get"}` + "\n", "ActionID of 0 bytes"},
		{"put of a short output", memory(), strings.Replace(putLines(1, 1, "hello"), `"OutputID":"`, `"OutputID":"AAAA`, 1), "OutputID of 35 bytes"},
		{"put without output", memory(), `{"ID":1,"Command":"put","ActionID":"` + id1 + "\"}\n", "OutputID of 0 bytes"},
		{"put fails unread", put(func(cacheprog.Put) (string, error) { return "", errors.New("disk full") }), putLines(1, 1, big), "disk full"},
		{"put fails half-way", put(func(p cacheprog.Put) (string, error) {
			io.CopyN(io.Discard, p.Body, p.Size/2)
			return "", errors.New("disk full")
		}), putLines(1, 1, big), "disk full"},
		{"put fails with an error without a text", put(func(cacheprog.Put) (string, error) { return "", errors.New("") }), putLines(1, 1, big), "without a text"},
		{"put panics unread", put(func(cacheprog.Put) (string, error) { panic("boom") }), putLines(1, 1, big), "panic: boom"},
		{"put panics half-way", put(func(p cacheprog.Put) (string, error) {
			io.CopyN(io.Discard, p.Body, p.Size/2+1)
			panic(errors.New("boom"))
		}), putLines(1, 1, big), "panic: boom"},
		{"put exits", put(func(cacheprog.Put) (string, error) { runtime.Goexit(); return "", nil }), putLines(1, 1, big), "Goexit"},
		{"put without path", put(func(cacheprog.Put) (string, error) { return "", nil }), putLines(1, 1, "hello"), "path"},
		{"body too short", memory(), short(putLines(1, 1, "hello")), "unexpected EOF"},
		{"body too long", memory(), long(putLines(1, 1, "hello")), "longer"},
		{"body too short, error ignored", put(func(p cacheprog.Put) (string, error) { io.Copy(io.Discard, p.Body); return "/x", nil }), short(putLines(1, 1, "hello")), "unexpected EOF"},
		{"body no base64", memory(), strings.Replace(putLines(1, 1, "hello"), `"aGVs`, `"a~\"s`, 1), "base64"},
		{"negative size", memory(), `{"ID":1,"Command":"put","BodySize":-1}` + "\n", "BodySize of -1"},
		{"unknown command", memory(), `{"ID":1,"Command":"touch"}` + "\n", `unknown command "touch"`},
		{"unknown command with body", memory(), `{"ID":1,"Command":"put2","BodySize":5}` + "\n\n" + `"aGVs\"bG8="` + "\n", `unknown command "put2"`},
		{"unknown command without its body", memory(), `{"ID":1,"Command":"put2","BodySize":5}` + "\n", `unknown command "put2"`},
		{"get of who cannot", putOnly{memory()}, getLine(1, 1), "unknown command"},
		{"put of who cannot", getOnly{memory()}, putLines(1, 1, big), "unknown command"},
	} {
		t.Run(row.name, func(t *testing.T) {
			opts := &cacheprog.ServeOptions{PanicLog: func(any, []byte) {}, MaxConcurrentGets: 1}
			got, err := serve(t, row.handler, row.request+putLines(2, 2, "next")+getLine(3, 3)+closeLine(4), opts)
			if err != nil {
				t.Error(err)
			}
			if !strings.Contains(got[1].Err, row.want) || got[1].Err == "" {
				t.Errorf("answer %+v, want an error with %q", got[1], row.want)
			}
			if r := got[2]; r.DiskPath == "" && strings.Contains(fmt.Sprintf("%T", row.handler), "funcs") {
				t.Errorf("next put: %+v", r)
			}
			if _, ok := got[4]; !ok || len(got) != 5 {
				t.Errorf("answers: %+v", got)
			}
		})
	}
}

func TestServeStops(t *testing.T) {
	for _, row := range []struct {
		name, input string
		want        error
	}{
		{"no JSON", getLine(1, 1) + "get it\n", nil},
		{"other JSON", "[1,2]\n", nil},
		{"line too long", `{"ID":1,"Command":"` + strings.Repeat("x", 2<<20), nil},
		{"cut line", `{"ID":1,"Comm`, io.ErrUnexpectedEOF},
		{"no body", strings.TrimSuffix(putLines(1, 1, "hello"), "\"aGVsbG8=\"\n"), io.ErrUnexpectedEOF},
		{"request for a body", strings.Replace(putLines(1, 1, "hello"), `"aGVsbG8="`, getLine(1, 1), 1), nil},
	} {
		closed := 0
		m := memory()
		m.close = func(context.Context) error { closed++; return nil }
		_, err := serve(t, m, row.input, nil)
		if err == nil || row.want != nil && !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
		if closed != 1 {
			t.Errorf("%s: closed %d times", row.name, closed)
		}
	}
}

func TestServeClose(t *testing.T) {
	for _, row := range []struct {
		name         string
		input        string
		close        func(context.Context) error
		answer, want string
	}{
		{"close", closeLine(1), func(context.Context) error { return nil }, "", ""},
		{"close fails", closeLine(1), func(context.Context) error { return errors.New("disk full") }, "disk full", ""},
		{"close panics", closeLine(1), func(context.Context) error { panic("boom") }, "panic: boom", ""},
		{"end of input", "", func(context.Context) error { return nil }, "", ""},
		{"end of input, close fails", "", func(context.Context) error { return errors.New("disk full") }, "", "serve cache program: close: disk full"},
		{"more after close", closeLine(1) + getLine(2, 2), nil, "", ""},
	} {
		closed := 0
		m := memory()
		m.close = func(ctx context.Context) error {
			closed++
			if row.close == nil {
				return nil
			}
			return row.close(ctx)
		}
		got, err := serve(t, m, row.input, &cacheprog.ServeOptions{PanicLog: func(any, []byte) {}})
		if got[1].Err != row.answer || len(got) != min(1+len(row.input), 2) {
			t.Errorf("%s: %+v", row.name, got)
		}
		if err == nil && row.want != "" || err != nil && err.Error() != row.want {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
		if closed != 1 {
			t.Errorf("%s: closed %d times", row.name, closed)
		}
	}
}

// TestServeTruncated ends a session's input at every byte.
func TestServeTruncated(t *testing.T) {
	input := getLine(1, 1) + putLines(2, 1, "hello, world") + putLines(3, 3, "") + getLine(4, 1) + `{"ID":5,"Command":"x\u0079"}` + "\n" + closeLine(9)
	for n := range len(input) + 1 {
		var closed atomic.Int64
		m := memory()
		m.close = func(context.Context) error { closed.Add(1); return nil }
		got, err := serve(t, m, input[:n], nil)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if closed.Load() != 1 {
			t.Errorf("%d bytes: closed %d times", n, closed.Load())
		}
		for id, r := range got {
			if r.Err != "" && id != 5 && !strings.Contains(r.Err, "unexpected EOF") {
				t.Errorf("%d bytes: %+v", n, r)
			}
		}
	}
}

// TestServePutPassesGets sends a big put while hundreds of gets are held up, and has them answered in another order.
func TestServePutPassesGets(t *testing.T) {
	const gets, limit = 500, 40
	m := memory()
	var running, most atomic.Int64
	hold := make(chan struct{})
	m.get = func(context.Context, cacheprog.ActionID) (cacheprog.Entry, error) {
		n := running.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-hold
		running.Add(-1)
		return cacheprog.Entry{}, cacheprog.ErrMiss
	}
	p := startPeer(t, m, &cacheprog.ServeOptions{MaxConcurrentGets: limit})
	for i := range gets {
		p.send(getLine(i+1, i))
	}
	p.send(putLines(1000, 1000, strings.Repeat("0123456789abcdef", 1<<18)))
	if r := p.answer(); r.ID != 1000 || r.DiskPath == "" {
		t.Fatalf("first answer %+v", r)
	}
	close(hold)
	seen := make(map[int64]bool)
	for range gets {
		r := p.answer()
		if !r.Miss || r.ID < 1 || r.ID > gets || seen[r.ID] {
			t.Fatalf("answer %+v", r)
		}
		seen[r.ID] = true
	}
	p.send(closeLine(1001))
	if r := p.answer(); r.ID != 1001 {
		t.Errorf("close: %+v", r)
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
	if most.Load() > limit {
		t.Errorf("%d gets at once, limit %d", most.Load(), limit)
	}
}

func TestServeOutOfOrder(t *testing.T) {
	turns := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	m := memory()
	m.get = func(_ context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
		for i := range turns {
			if id == action(i) {
				<-turns[i]
			}
		}
		return cacheprog.Entry{}, cacheprog.ErrMiss
	}
	p := startPeer(t, m, nil)
	p.send(getLine(1, 0) + getLine(2, 1) + getLine(3, 2))
	for _, i := range []int{2, 0, 1} {
		close(turns[i])
		if r := p.answer(); r.ID != int64(i+1) {
			t.Errorf("answer %+v, want request %d's", r, i+1)
		}
	}
	p.in.Close()
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// TestServeSlowPut has a put that goes on after it has read its body, without holding up others.
func TestServeSlowPut(t *testing.T) {
	m, hold := memory(), make(chan struct{})
	var late io.Reader
	put := m.put
	m.put = func(ctx context.Context, p cacheprog.Put) (string, error) {
		path, err := put(ctx, p)
		if p.ActionID == action(1) {
			late = p.Body
			<-hold
		}
		return path, err
	}
	p := startPeer(t, m, nil)
	p.send(putLines(1, 1, "slow") + putLines(2, 2, "fast"))
	if r := p.answer(); r.ID != 2 || r.DiskPath == "" {
		t.Errorf("answer %+v", r)
	}
	close(hold)
	if r := p.answer(); r.ID != 1 || r.DiskPath == "" {
		t.Errorf("answer %+v", r)
	}
	if n, err := late.Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("late read: %d bytes, %v", n, err)
	}
	p.in.Close()
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// TestServeBodyReadLate reads a body after Put has returned, which must not give away the next request.
func TestServeBodyReadLate(t *testing.T) {
	bodies := make(chan io.Reader, 1)
	m := memory()
	m.put = func(_ context.Context, p cacheprog.Put) (string, error) {
		io.ReadFull(p.Body, make([]byte, 2))
		bodies <- p.Body
		return "/kept", nil
	}
	p := startPeer(t, m, nil)
	p.send(putLines(1, 1, "hello, world"))
	if r := p.answer(); r.DiskPath != "/kept" {
		t.Errorf("answer %+v", r)
	}
	body := <-bodies
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(body)
		read <- err
	}()
	p.send(getLine(2, 2))
	if r := p.answer(); !r.Miss {
		t.Errorf("answer %+v", r)
	}
	if err := <-read; err == nil {
		t.Error("late read succeeded")
	}
	p.in.Close()
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// TestServeBurst has a burst of gets answered with few writes.
func TestServeBurst(t *testing.T) {
	h := nowFuncs{memory(), func(cacheprog.ActionID) (cacheprog.Entry, error) { return cacheprog.Entry{}, cacheprog.ErrMiss }}
	var input strings.Builder
	for i := range 100 {
		input.WriteString(getLine(i+1, i))
	}
	var w countingWriter
	if err := cacheprog.Serve(context.Background(), strings.NewReader(input.String()), &w, h, nil); err != nil {
		t.Fatal(err)
	}
	if got := answers(t, w.Bytes()); len(got) != 101 || w.writes != 2 {
		t.Errorf("%d answers in %d writes", len(got), w.writes)
	}
}

type countingWriter struct {
	bytes.Buffer
	writes int
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.writes++
	return w.Buffer.Write(p)
}

func TestServeContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	m := memory()
	m.get = func(ctx context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
		<-ctx.Done()
		return cacheprog.Entry{}, ctx.Err()
	}
	p := startPeerContext(t, ctx, m, nil)
	p.send(getLine(1, 1))
	cancel()
	if r := p.answer(); r.Err == "" {
		t.Errorf("answer %+v", r)
	}
	p.in.CloseWithError(io.ErrClosedPipe)
	if err := p.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeWriteError(t *testing.T) {
	r, w := io.Pipe()
	r.Close() // the go command has gone
	input := strings.NewReader(strings.Repeat(getLine(1, 1), 10000))
	if err := cacheprog.Serve(context.Background(), input, w, memory(), nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Serve: %v", err)
	}
}

// A peer is the go command's side of Serve.
type peer struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Scanner
	done chan error
}

func startPeer(t *testing.T, handler any, opts *cacheprog.ServeOptions) *peer {
	return startPeerContext(t, context.Background(), handler, opts)
}

func startPeerContext(t *testing.T, ctx context.Context, handler any, opts *cacheprog.ServeOptions) *peer {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	p := &peer{t: t, in: inW, out: bufio.NewScanner(outR), done: make(chan error, 1)}
	go func() {
		defer outW.Close()
		p.done <- cacheprog.Serve(ctx, inR, outW, handler, opts)
	}()
	if r := p.answer(); !slices.Contains(r.KnownCommands, cacheprog.CmdClose) {
		t.Errorf("capabilities: %+v", r)
	}
	return p
}

func (p *peer) send(lines string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, lines); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) answer() (r cacheprog.Response) {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatal("no more answers: ", p.out.Err())
	}
	if err := json.Unmarshal(p.out.Bytes(), &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// end returns what Serve has returned, after making sure that no more is answered.
func (p *peer) end() error {
	p.t.Helper()
	if p.out.Scan() {
		p.t.Errorf("answered after the end: %s", p.out.Text())
	}
	return <-p.done
}
