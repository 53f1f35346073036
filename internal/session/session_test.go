package session_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/session"
)

func TestFrames(t *testing.T) {
	id := entry.ActionID{1, 2, 3}
	want := []session.Frame{
		{Kind: session.Get, Action: id}, {Kind: session.Have, Action: id}, {Kind: session.Lack, Action: id},
		{Kind: session.Alive}, {Kind: session.End}, {Kind: session.Leave}, {Kind: session.Flush},
		{Kind: session.Text, Text: []byte("a line")}, {Kind: session.Results, Text: []byte("{}")},
		{Kind: session.Filter, Text: make([]byte, session.FilterBytesMax)},
	}
	var b []byte
	for _, f := range want {
		b = f.Append(b)
	}
	r := bufio.NewReader(bytes.NewReader(b))
	for _, w := range want {
		if got, err := session.ReadFrame(r); err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("read %+v, %v; want %+v", got, err, w)
		}
	}
	if _, err := session.ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, text := range []string{"z", "T\xff\xff\xff\xff", "N\xff\xff\xff\xff", "T\x00\x01\x00\x01"} {
		if _, err := session.ReadFrame(bufio.NewReader(strings.NewReader(text))); !errors.Is(err, session.ErrFormat) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := session.ReadFrame(bufio.NewReader(strings.NewReader("Gxx"))); err != io.ErrUnexpectedEOF {
		t.Errorf("cut off: %v", err)
	}
}

func TestJob(t *testing.T) {
	want := &session.Job{
		Remote: session.Remote{URL: "https://larder.example", TokenFile: "/t"}, Store: "/go", Manifest: strings.Repeat("ab", 32),
		Time: time.Unix(1700000000, 0).UTC(),
		Used: []entry.ActionID{{1}, {2}},
		Puts: []session.Put{{Action: entry.ActionID{2}, Cost: 1500 * time.Millisecond}, {Action: entry.ActionID{3}}},
	}
	b := want.Append(nil)
	if got, err := session.ParseJob(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("parsed %+v, %v", got, err)
	}
	for i := range b {
		if _, err := session.ParseJob(b[:i]); !errors.Is(err, session.ErrFormat) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		b[i] ^= 0x10
		if _, err := session.ParseJob(b); !errors.Is(err, session.ErrFormat) {
			t.Fatalf("damaged at %d: %v", i, err)
		}
		b[i] ^= 0x10
	}
}

// A job of an older version has no outputs, and does not say whose it is.
func TestOldJob(t *testing.T) {
	b := []byte(`{"remote":{"url":"https://x"},"store":"/go","manifest":"","time":"2026-11-28T12:00:00Z"}` + "\n")
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, 2)
	for i := range byte(2) {
		id := entry.ActionID{i}
		b = binary.BigEndian.AppendUint64(append(b, id[:]...), 7)
	}
	j, err := session.ParseJob(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
	if err != nil || j.Identity != nil || !slices.Equal(j.Puts, []session.Put{{Action: entry.ActionID{0}, Cost: 7}, {Action: entry.ActionID{1}, Cost: 7}}) {
		t.Errorf("%+v, %v", j, err)
	}
}

// FuzzJob reads a job whose checksum is right: whoever can write in the queue can make one.
func FuzzJob(f *testing.F) {
	for _, j := range []*session.Job{
		{Used: []entry.ActionID{{1}}, Puts: []session.Put{{}}},
		{Remote: session.Remote{URL: "https://x"}, Store: "/store", Time: time.Unix(1e9, 5), Unput: []session.Unput{{Action: "00", Cost: 1}}, Outputs: []string{"/bin"}},
	} {
		b := j.Append(nil)
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := session.ParseJob(binary.BigEndian.AppendUint32(b[:len(b):len(b)], crc32.ChecksumIEEE(b)))
		if err != nil {
			if !errors.Is(err, session.ErrFormat) {
				t.Error(err)
			}
			return
		}
		if len(j.Used)*entry.HashSize+len(j.Puts)*entry.HashSize > len(b) {
			t.Errorf("%d and %d actions in %d bytes", len(j.Used), len(j.Puts), len(b))
		}
		again, err := session.ParseJob(j.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), j.Append(nil)) {
			t.Errorf("%+v became %+v, %v", j, again, err)
		}
		if len(b) > 5 {
			bad := b[:len(b)-1]
			if _, err := session.ParseJob(bad); err == nil && crc32.ChecksumIEEE(bad[:len(bad)-4]) != binary.BigEndian.Uint32(bad[len(bad)-4:]) {
				t.Error("a damaged job passes")
			}
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(session.Frame{Kind: session.Text, Text: []byte("x")}.Append(nil))
	f.Add(session.Frame{Kind: session.Get, Action: entry.ActionID{1}}.Append(session.Frame{Kind: session.Leave}.Append(nil)))
	f.Add([]byte{byte(session.Results), 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var read []byte
		for {
			frame, err := session.ReadFrame(r)
			if err != nil {
				if err == io.EOF && len(read) != len(b) || err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, session.ErrFormat) {
					t.Errorf("after %d of %d bytes: %v", len(read), len(b), err)
				}
				break
			}
			read = frame.Append(read)
		}
		if !bytes.HasPrefix(b, read) {
			t.Errorf("%x became %x", b, read)
		}
	})
}

func FuzzGreetings(f *testing.F) {
	f.Add(session.AppendGreeting(nil, session.Hello{Protocol: 1, Version: "v1"}))
	f.Add(session.AppendGreeting(nil, session.Welcome{}))
	f.Add([]byte("{\"protocol\":1e0}\nrest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(greeting, again any) {
			r := bufio.NewReader(bytes.NewReader(b))
			if err := session.ReadGreeting(r, greeting); err != nil {
				return
			}
			line := session.AppendGreeting(nil, greeting)
			if err := session.ReadGreeting(bufio.NewReader(bytes.NewReader(line)), again); err != nil || !reflect.DeepEqual(greeting, again) {
				t.Errorf("%+v became %+v, %v", greeting, again, err)
			}
			rest, _ := io.ReadAll(r)
			if i := bytes.IndexByte(b, '\n'); !bytes.Equal(rest, b[i+1:]) {
				t.Errorf("it leaves %q", rest)
			}
		}
		check(new(session.Hello), new(session.Hello))
		check(new(session.Welcome), new(session.Welcome))
	})
}

// place is a private place for a test's agent.
func place(t *testing.T) session.Place {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	p, err := session.FindPlace()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Make(); err != nil {
		t.Fatal(err)
	}
	return p
}

// listen answers each connection with a greeting and whatever serve does.
func listen(t *testing.T, p session.Place, welcome session.Welcome, serve func(net.Conn, *bufio.Reader)) {
	t.Helper()
	if welcome.World == "" {
		welcome.World = p.World
	}
	l, err := net.Listen("unix", p.Runs()[0].Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				var hello session.Hello
				if session.ReadGreeting(r, &hello) == nil {
					c.Write(session.AppendGreeting(nil, welcome))
					serve(c, r)
				}
			}()
		}
	}()
}

var current = session.Welcome{Protocol: session.Protocol, Version: "v1.0.0"}

// An agent that dies, talks nonsense or says nothing is no to all who wait.
func TestBadAgents(t *testing.T) {
	for name, serve := range map[string]func(net.Conn, *bufio.Reader){
		"dies":            func(net.Conn, *bufio.Reader) {},
		"dies when asked": func(c net.Conn, r *bufio.Reader) { session.ReadFrame(r) },
		"talks nonsense":  func(c net.Conn, r *bufio.Reader) { c.Write([]byte("nonsense")); io.Copy(io.Discard, r) },
		"answers another": func(c net.Conn, r *bufio.Reader) {
			c.Write(session.Frame{Kind: session.Have, Action: entry.ActionID{9}}.Append(nil))
			session.ReadFrame(r)
		},
		"stops in a frame": func(c net.Conn, r *bufio.Reader) { c.Write([]byte("H123")); session.ReadFrame(r) },
		"hangs":            func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) },
	} {
		t.Run(name, func(t *testing.T) {
			p := place(t)
			listen(t, p, current, serve)
			c, err := session.Connect(context.Background(), p, nil, session.Hello{Version: "v1.0.0"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			begin := time.Now()
			if c.Get(context.Background(), entry.ActionID{1}) || c.Get(context.Background(), entry.ActionID{2}) {
				t.Error("it is there")
			}
			if took := time.Since(begin); took > time.Minute { // on a machine that is busy, too
				t.Errorf("took %v", took)
			}
			if c.Err() == nil {
				t.Error("the connection lives on")
			}
			if _, ok := c.End(time.Second); ok {
				t.Error("a report from nowhere")
			}
		})
	}
}

// What the agent has said to be nowhere is not asked for.
func TestFilter(t *testing.T) {
	p := place(t)
	there, nowhere := entry.ActionID{1}, entry.ActionID{2}
	listen(t, p, current, func(c net.Conn, r *bufio.Reader) {
		filter := manifest.NewFilter(func(yield func(entry.ActionID) bool) { yield(there) })
		c.Write(session.Frame{Kind: session.Filter, Text: []byte("nonsense")}.Append(nil))
		c.Write(session.Frame{Kind: session.Filter, Text: filter.Append(nil)}.Append(nil))
		for {
			f, err := session.ReadFrame(r)
			if err != nil {
				return
			}
			switch f.Kind {
			case session.Get: // all that is asked for is there
				c.Write(session.Frame{Kind: session.Have, Action: f.Action}.Append(nil))
			case session.End:
				c.Write(session.Frame{Kind: session.Results, Text: []byte(`{"filtered":16}`)}.Append(nil))
			}
		}
	})
	c, err := session.Connect(context.Background(), p, nil, session.Hello{Version: "v1.0.0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.Get(context.Background(), there) { // its answer comes after the filter
		t.Error("what is there is not to be had")
	}
	if c.Get(context.Background(), nowhere) {
		t.Error("what is nowhere was asked for")
	}
	if r, ok := c.End(time.Minute); !ok || r.Filtered != 17 {
		t.Errorf("report %+v", r)
	}
}

// Signs of life keep a connection on which nothing else happens.
func TestAlive(t *testing.T) {
	p := place(t)
	listen(t, p, current, func(c net.Conn, r *bufio.Reader) {
		f, err := session.ReadFrame(r)
		if err != nil {
			return
		}
		for range int(session.Silence/session.Pulse) + 1 {
			time.Sleep(session.Pulse)
			c.Write(session.Frame{Kind: session.Alive}.Append(nil))
		}
		c.Write(session.Frame{Kind: session.Text, Text: []byte("slow\x1b[2J")}.Append(nil))
		f.Kind = session.Have
		c.Write(f.Append(nil))
		session.ReadFrame(r) // the end
		report, _ := json.Marshal(session.Report{Fetched: 7})
		c.Write(session.Frame{Kind: session.Results, Text: report}.Append(nil))
		session.ReadFrame(r)
	})
	var said []string
	c, err := session.Connect(context.Background(), p, nil, session.Hello{Version: "v1.0.0"}, func(text string) { said = append(said, text) })
	if err != nil {
		t.Fatal(err)
	}
	if !c.Get(context.Background(), entry.ActionID{1}) {
		t.Errorf("not there: %v", c.Err())
	}
	if r, ok := c.End(time.Minute); !ok || r.Fetched != 7 {
		t.Errorf("report %+v, %v", r, ok)
	}
	if !reflect.DeepEqual(said, []string{"slow [2J"}) {
		t.Errorf("said %q", said)
	}
}

func TestConnectRefuses(t *testing.T) {
	hello := session.Hello{Version: "v1.0.0"}
	p := place(t)
	if _, err := session.Connect(context.Background(), p, nil, hello, nil); !errors.Is(err, session.ErrNoAgent) {
		t.Errorf("nobody there: %v", err)
	}
	starter := &session.Starter{Place: p, Larderd: filepath.Join(p.Dir, "nothing")}
	if _, err := session.Connect(context.Background(), p, starter, hello, nil); !errors.Is(err, session.ErrNoAgent) {
		t.Errorf("nothing to start: %v", err)
	}
	starter.Larderd = "/bin/false"
	if _, err := session.Connect(context.Background(), p, starter, hello, nil); !errors.Is(err, session.ErrNoAgent) || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("it fails: %v", err)
	}
	listen(t, p, session.Welcome{Protocol: session.Protocol + 1, Version: "v9.0.0"}, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	if _, err := session.Connect(context.Background(), p, nil, hello, nil); !errors.Is(err, session.ErrNoAgent) || !strings.Contains(err.Error(), "v9.0.0") {
		t.Errorf("another protocol: %v", err)
	}
	if err := os.Chmod(p.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Connect(context.Background(), p, nil, hello, nil); !errors.Is(err, session.ErrNoAgent) || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a place that others can enter: %v", err)
	}
}

// A directory of the user's that others may enter, as another program may have
// made it, is made private; a link is not followed to one.
func TestMakePrivate(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", home)
	dir := filepath.Join(home, "larder")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if p, err := session.FindPlace(); err != nil || p.Base != dir {
		t.Errorf("the place is in %s, %v", p.Base, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := errors.Join(os.Rename(dir, dir+"2"), os.Symlink(dir+"2", dir)); err != nil {
		t.Fatal(err)
	}
	if p, err := session.FindPlace(); err != nil || p.Base == dir {
		t.Errorf("a link is taken: %s, %v", p.Base, err)
	}
}

// An agent that speaks an older protocol is asked to leave for another one; one of
// another version, or of another world, is not.
func TestReplaces(t *testing.T) {
	for _, tt := range []struct {
		name    string
		welcome session.Welcome
		leaves  bool
		err     string
	}{
		{"an older protocol", session.Welcome{Protocol: session.Protocol - 1, Version: "v1.0.0"}, true, "no agent"},
		{"an older version", session.Welcome{Protocol: session.Protocol, Version: "v0.9.0"}, false, ""},
		{"a later version", session.Welcome{Protocol: session.Protocol, Version: "v1.1.0"}, false, ""},
		{"a version without a number", session.Welcome{Protocol: session.Protocol, Version: "devel"}, false, ""},
		{"another world", session.Welcome{Protocol: session.Protocol, Version: "v1.0.0", World: "x"}, false, "other surroundings"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := place(t)
			asked := make(chan session.Frame, 1)
			listen(t, p, tt.welcome, func(c net.Conn, r *bufio.Reader) {
				if f, err := session.ReadFrame(r); err == nil {
					asked <- f
					os.Remove(p.Runs()[0].Socket())
				}
			})
			c, err := session.Connect(context.Background(), p, &session.Starter{Place: p, Larderd: "/bin/false"}, session.Hello{Version: "v1.0.0"}, nil)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("connecting: %v", err)
			}
			if err == nil {
				c.Close()
			}
			select {
			case f := <-asked:
				if !tt.leaves || f.Kind != session.Leave {
					t.Errorf("the agent was sent %q", f.Kind)
				}
			default:
				if tt.leaves {
					t.Error("the agent was not asked to leave")
				}
			}
		})
	}
}
