package cacheprog_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

func init() {
	programs["memory"] = func() error {
		in, out, err := cacheprog.Stdio()
		if err != nil {
			return err
		}
		return cacheprog.Serve(context.Background(), in, out, memory(), nil)
	}
	programs["silent"] = func() error { return nil }
	programs["hang"] = func() error { // stays, whatever it is told, with its standard output open
		fmt.Print(`{"ID":0,"KnownCommands":["get","put","close"]}`)
		time.Sleep(time.Minute)
		return nil
	}
	programs["linger"] = func() error { // answers close, and stays
		_ = programs["memory"]()
		time.Sleep(time.Minute)
		return nil
	}
}

// start starts the test binary as one of its programs.
func start(t *testing.T, program string, opts cacheprog.StartOptions) (*cacheprog.Client, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command, err := cacheprog.JoinCommand([]string{exe})
	if err != nil {
		t.Fatal(err)
	}
	opts.Env = append(os.Environ(), programEnv+"="+program)
	return cacheprog.Start(t.Context(), command, &opts)
}

// connect returns a client of a handler in this process.
func connect(t *testing.T, handler any) *cacheprog.Client {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go func() {
		outW.CloseWithError(cacheprog.Serve(context.Background(), inR, outW, handler, nil))
	}()
	c, err := cacheprog.NewClient(t.Context(), outR, inW, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStart(t *testing.T) {
	c, err := start(t, "memory", cacheprog.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	testClient(t, c)
}

func TestNewClient(t *testing.T) { testClient(t, connect(t, memory())) }

func testClient(t *testing.T, c *cacheprog.Client) {
	t.Helper()
	ctx := t.Context()
	if got := fmt.Sprint(c.KnownCommands()); got != "[get put close]" {
		t.Errorf("commands %s", got)
	}
	var wg sync.WaitGroup
	for i, size := range []int{0, 1, 2, 3, 48 << 10, 48<<10 + 1, 1 << 20, 5<<20 + 2} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := c.Get(ctx, action(i)); !errors.Is(err, cacheprog.ErrMiss) {
				t.Errorf("get %d: %v", i, err)
			}
			body := bytes.Repeat([]byte{byte(i)}, size)
			want := cacheprog.OutputID(sha256.Sum256(body))
			if id, n, err := c.Put(ctx, action(i), bytes.NewReader(body)); err != nil || id != want || n != int64(size) {
				t.Errorf("put %d: %v, %d, %v", i, id, n, err)
			}
			e, err := c.Get(ctx, action(i))
			if err != nil || e.OutputID != want || e.Size != int64(size) || !e.Time.Equal(time.Unix(1e9, 5)) || e.DiskPath != "/"+want.String() {
				t.Errorf("get %d: %+v, %v", i, e, err)
			}
			if path := c.OutputFile(want); path != e.DiskPath {
				t.Errorf("output file %d: %q", i, path)
			}
		}()
	}
	wg.Wait()
	if path := c.OutputFile(cacheprog.OutputID{}); path != "" {
		t.Errorf("output file of no output: %q", path)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Get(ctx, action(1)); err == nil || errors.Is(err, cacheprog.ErrMiss) {
		t.Errorf("get after close: %v", err)
	}
}

func TestStartFails(t *testing.T) {
	for _, command := range []string{"", "'open", "/does/not/exist"} {
		if c, err := cacheprog.Start(t.Context(), command, nil); err == nil {
			c.Close()
			t.Errorf("%q started", command)
		}
	}
	if c, err := start(t, "silent", cacheprog.StartOptions{}); err == nil {
		c.Close()
		t.Error("a program without capabilities started")
	}
}

// TestCloseLimit closes programs that do not end.
func TestCloseLimit(t *testing.T) {
	for _, program := range []string{"hang", "linger"} {
		c, err := start(t, program, cacheprog.StartOptions{CloseLimit: 100 * time.Millisecond, Stderr: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		go func() {
			_, err := c.Get(context.Background(), action(1))
			waiting <- err
		}()
		if err := c.Close(); err == nil || !strings.Contains(err.Error(), "not closed after 100ms") {
			t.Errorf("%s: close: %v", program, err)
		}
		if err := <-waiting; err == nil {
			t.Errorf("%s: a call outlived Close", program)
		}
	}
}

// TestClientBadProgram has calls end with an error whatever a program does.
func TestClientBadProgram(t *testing.T) {
	const hello = `{"ID":0,"KnownCommands":["get","put","close"]}` + "\n"
	for _, row := range []struct {
		name, hello, start string // before the first request, and what Start says to it
		answer, get        string // to the first request, and what Get says to it
		stays              bool   // until its input ends
	}{
		{name: "nothing", hello: "", start: "ended before close"},
		{name: "nonsense first", hello: "hello, world\n", start: "invalid character"},
		{name: "no commands", hello: `{"ID":0}` + "\n", start: "no commands"},
		{name: "another answer first", hello: `{"ID":1}` + "\n", start: "unknown request 1"},
		{name: "exit", hello: hello, get: "ended before close, 1 requests unanswered"},
		{name: "nonsense", hello: hello, answer: "panic: boom", get: "invalid character", stays: true},
		{name: "open nonsense", hello: hello, answer: "{panic", get: "invalid character", stays: true},
		{name: "cut answer", hello: hello, answer: `{"ID":1,"Mi`, get: "unexpected EOF"},
		{name: "unknown ID", hello: hello, answer: `{"ID":7}` + "\n", get: "unknown request 7", stays: true},
		{name: "first again", hello: hello, answer: hello, get: "unknown request 0", stays: true},
		{name: "endless", hello: hello, answer: `{"Err":"` + strings.Repeat("x", 1<<20+1<<17), get: "line of more than"},
		{name: "error", hello: hello, answer: `{"ID":1,"Err":"disk full"}` + "\n", get: "disk full", stays: true},
		{name: "no path", hello: hello, answer: `{"ID":1,"OutputID":"` + id2 + `"}` + "\n", get: "cache miss", stays: true},
		{name: "short output", hello: hello, answer: `{"ID":1,"OutputID":"AAAA","DiskPath":"/x"}`, get: "cache miss", stays: true},
		{name: "unusual", hello: "\n" + strings.TrimSpace(hello), answer: "{\n \"id\": 1,\n \"miss\": true,\n \"new\": \"}\"\n}", get: "cache miss", stays: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
				inR, inW := io.Pipe()
				outR, outW := io.Pipe()
				go func() {
					defer outW.Close()
					io.Copy(outW, wrap(strings.NewReader(row.hello)))
					if row.start == "" {
						bufio.NewReader(inR).ReadString('\n')
						io.Copy(outW, wrap(strings.NewReader(row.answer)))
					}
					if row.stays {
						io.Copy(io.Discard, inR)
					} else {
						go io.Copy(io.Discard, inR)
					}
				}()
				c, err := cacheprog.NewClient(t.Context(), outR, inW, &cacheprog.StartOptions{CloseLimit: 50 * time.Millisecond})
				if row.start != "" || err != nil {
					if err == nil || row.start == "" || !strings.Contains(err.Error(), row.start) {
						t.Errorf("start: %v, want %q", err, row.start)
					}
					continue
				}
				if _, err := c.Get(t.Context(), action(1)); err == nil || !strings.Contains(err.Error(), row.get) {
					t.Errorf("get: %v, want %q", err, row.get)
				}
				c.Close()
			}
		})
	}
}

func TestClientLimitedProgram(t *testing.T) {
	c := connect(t, putOnly{memory()})
	if _, err := c.Get(t.Context(), action(1)); !errors.Is(err, cacheprog.ErrMiss) {
		t.Errorf("get: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	c = connect(t, getOnly{memory()})
	want := cacheprog.OutputID(sha256.Sum256([]byte("hello")))
	if id, n, err := c.Put(t.Context(), action(1), strings.NewReader("hello")); err != nil || id != want || n != 5 || c.OutputFile(id) != "" {
		t.Errorf("put: %v, %d, %v, %q", id, n, err, c.OutputFile(id))
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestClientCloseError(t *testing.T) {
	m := memory()
	m.close = func(context.Context) error { return errors.New("disk full") }
	if err := connect(t, m).Close(); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("close: %v", err)
	}
}

// TestClientGivesUp ends one call's context and has the others go on.
func TestClientGivesUp(t *testing.T) {
	hold, called := make(chan struct{}), make(chan struct{}, 1)
	m := memory()
	get := m.get
	m.get = func(ctx context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
		if id == action(1) {
			called <- struct{}{}
			<-hold
		}
		return get(ctx, id)
	}
	c := connect(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() {
		_, err := c.Get(ctx, action(1))
		given <- err
	}()
	<-called
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("get given up: %v", err)
	}
	if _, err := c.Get(t.Context(), action(2)); !errors.Is(err, cacheprog.ErrMiss) {
		t.Errorf("another get: %v", err)
	}
	close(hold)
	// A body that cannot be had leaves the stream in step.
	if _, _, err := c.Put(t.Context(), action(3), &shrinking{Reader: bytes.NewReader(make([]byte, 200_000))}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("put of a file that shrinks: %v", err)
	}
	if _, _, err := c.Put(t.Context(), action(4), strings.NewReader("next")); err != nil {
		t.Errorf("put: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A shrinking file is shorter when it is read a second time.
type shrinking struct {
	*bytes.Reader
	seeks int
}

func (s *shrinking) Seek(offset int64, whence int) (int64, error) {
	if s.seeks++; s.seeks == 2 {
		s.Reader = bytes.NewReader(make([]byte, 100_000))
	}
	return s.Reader.Seek(offset, whence)
}

func TestSlowNotice(t *testing.T) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go io.Copy(io.Discard, inR)
	notices := 0
	c, err := cacheprog.NewClient(t.Context(), outR, inW, &cacheprog.StartOptions{
		SlowAfter:  time.Millisecond,
		CloseLimit: time.Millisecond,
		SlowNotice: func(command string, waited time.Duration) {
			if notices++; notices == 2 && waited >= 2*time.Millisecond {
				go outW.Write(cacheprog.Capabilities(memory()))
			}
		},
	})
	if err != nil || notices < 2 {
		t.Fatalf("%d notices, %v", notices, err)
	}
	c.Close()
}

func TestStartContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go io.Copy(io.Discard, inR)
	go outW.Write(cacheprog.Capabilities(memory()))
	c, err := cacheprog.NewClient(ctx, outR, inW, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := c.Get(context.Background(), action(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	if err := c.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("close: %v", err)
	}
}
