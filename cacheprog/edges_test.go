package cacheprog_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// A listing is a handler that lists what it is asked, in the form of the vectors.
type listing struct {
	mu    sync.Mutex
	asked []requestWanted
}

func (l *listing) add(r requestWanted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, r)
}

func (l *listing) Get(_ context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
	l.add(requestWanted{Command: "get", ActionID: id[:]})
	return cacheprog.Entry{}, cacheprog.ErrMiss
}

func (l *listing) Put(_ context.Context, p cacheprog.Put) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, p.Body)
	if err == nil && (n != p.Size || !bytes.Equal(h.Sum(nil), p.OutputID[:])) {
		err = errors.New("a body that is not what it should be, without an error")
	}
	l.add(requestWanted{Command: "put", ActionID: p.ActionID[:], OutputID: p.OutputID[:], BodySize: p.Size, Error: err != nil})
	return "/stored", err
}

// TestRequestVectors has Serve read what requests.json sends, as it comes and byte by byte.
func TestRequestVectors(t *testing.T) {
	var v requestVectors
	readVectors(t, "requests.json", &v)
	for _, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			in := c.Send.bytes()
			serveRequests(t, c, bytes.NewReader(in))
			if len(in) < 100_000 {
				serveRequests(t, c, iotest.OneByteReader(bytes.NewReader(in)))
			}
		})
	}
}

func serveRequests(t *testing.T, c requestCase, in io.Reader) {
	t.Helper()
	var l listing
	var out bytes.Buffer
	err := cacheprog.Serve(context.Background(), in, &out, &l, nil)
	if (err != nil) != (c.Then == "broken") {
		t.Errorf("Serve: %v, want %s", err, c.Then)
	}
	answers := make(map[int64]wireResponse)
	d := json.NewDecoder(&out)
	for {
		var a wireResponse
		if err := d.Decode(&a); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if _, twice := answers[a.ID]; twice {
			t.Errorf("request %d has two answers", a.ID)
		}
		answers[a.ID] = a
	}
	var wanted []requestWanted
	for _, w := range c.Want {
		a, ok := answers[w.ID]
		delete(answers, w.ID)
		good := a.Err == ""
		switch {
		case w.Error:
			good = a.Err != ""
		case w.Command == "get":
			good = a.Miss
		case w.Command == "put":
			good = a.DiskPath == "/stored"
		}
		if !ok || !good {
			t.Errorf("answered %+v, %v, to %+v", a, ok, w)
		}
		if w.Command == "get" || w.Command == "put" {
			w.ID = 0
			wanted = append(wanted, w)
		}
	}
	delete(answers, 0)
	if len(answers) > 0 {
		t.Errorf("answers to nothing: %+v", answers)
	}
	for _, list := range [][]requestWanted{wanted, l.asked} { // gets run at the same time
		slices.SortFunc(list, func(a, b requestWanted) int {
			return cmp.Or(bytes.Compare(a.ActionID, b.ActionID), bytes.Compare(a.OutputID, b.OutputID))
		})
	}
	if !slices.EqualFunc(wanted, l.asked, func(a, b requestWanted) bool {
		return a.Command == b.Command && bytes.Equal(a.ActionID, b.ActionID) && bytes.Equal(a.OutputID, b.OutputID) && a.BodySize == b.BodySize && a.Error == b.Error
	}) {
		t.Errorf("asked %+v, want %+v", l.asked, wanted)
	}
}

// stricter are the answers that a Client takes for a miss and the go command for a hit, on an output that cannot be meant.
var stricter = []string{"hit-no-output-id", "hit-short-output-id"}

// TestResponseVectors has a Client read what responses.json sends, as it comes and byte by byte.
func TestResponseVectors(t *testing.T) {
	var v responseVectors
	readVectors(t, "responses.json", &v)
	for _, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			if slices.Contains(stricter, c.Name) {
				c.Go, c.Entry = "miss", nil
			}
			clientResponse(t, &v, c, bytes.NewReader(c.Send.bytes()))
			clientResponse(t, &v, c, iotest.OneByteReader(bytes.NewReader(c.Send.bytes())))
		})
	}
}

func clientResponse(t *testing.T, v *responseVectors, c responseCase, send io.Reader) {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go func() {
		defer outW.Close()
		if c.To != "start" {
			outW.Write(cacheprog.Capabilities(memory()))
			if _, err := readFrame(bufio.NewReader(inR)); err != nil {
				return
			}
		}
		io.Copy(outW, send)
		if !c.End {
			io.Copy(io.Discard, inR)
		}
	}()
	client, err := cacheprog.NewClient(t.Context(), outR, inW, &cacheprog.StartOptions{CloseLimit: 10 * time.Second})
	defer inR.Close()
	if c.To == "start" || err != nil {
		if (err == nil) != (c.Go == "ok") || err != nil && c.To != "start" {
			t.Errorf("start: %v, want %s", err, c.Go)
		}
		if err == nil {
			outW.Close()
			client.Close()
		}
		return
	}
	var e cacheprog.Entry
	got := "ok"
	switch c.To {
	case "get":
		got = "hit"
		e, err = client.Get(t.Context(), cacheprog.ActionID(v.Action))
	case "put":
		e.OutputID, e.Size, err = client.Put(t.Context(), cacheprog.ActionID(v.Action), bytes.NewReader(v.Body))
		e.DiskPath = client.OutputFile(e.OutputID)
	case "close":
		err = client.Close()
	}
	if err != nil {
		got = "error"
		if errors.Is(err, cacheprog.ErrMiss) {
			got = "miss"
		} else if c.Go == "fatal" {
			// It has ended the session if the next call fails as well; otherwise that has no answer.
			if _, again := client.Get(t.Context(), cacheprog.ActionID{}); again != nil {
				got = "fatal"
			}
		}
	}
	if got != c.Go || c.Err != "" && !strings.Contains(c.Err, "GOCACHEPROG") && !strings.HasSuffix(err.Error(), c.Err) {
		t.Errorf("%s: %v, want %s %s", got, err, c.Go, c.Err)
	} else if c.Entry != nil {
		checkEntry(t, responseEntry{e.OutputID[:], e.Size, e.Time.UTC().Format(time.RFC3339Nano), e.DiskPath}, *c.Entry, c.To == "get")
	}
	outW.Close()
	client.Close()
}

// checkEntry compares what an answer was read as with what it should be.
func checkEntry(t *testing.T, got, want responseEntry, withTime bool) {
	t.Helper()
	if withTime && want.Time == "" {
		if at, err := time.Parse(time.RFC3339Nano, got.Time); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("time %s, want the present", got.Time)
		}
	}
	if want.Time == "" {
		got.Time = ""
	}
	if !bytes.Equal(got.OutputID, want.OutputID) || got.Size != want.Size || got.Time != want.Time || got.DiskPath != want.DiskPath {
		t.Errorf("read as %+v, want %+v", got, want)
	}
}

func TestCommandVectors(t *testing.T) {
	var v commandVectors
	readVectors(t, "commands.json", &v)
	for _, c := range v.Cases {
		args, err := cacheprog.SplitCommand(c.Text)
		if (err != nil) != c.Error || !slices.Equal(args, c.Args) {
			t.Errorf("%q: %q, %v, want %q", c.Text, args, err, c.Args)
		}
	}
}
