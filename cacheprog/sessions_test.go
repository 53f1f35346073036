package cacheprog_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// A wireRequest is a request as any version of the go command writes it, decoded without the package under test.
type wireRequest struct {
	ID                           int64
	Command                      string
	ActionID, OutputID, ObjectID []byte
	BodySize                     int64
	body                         []byte
}

func decodeRequest(t *testing.T, raw string) (r wireRequest) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(raw))
	err := d.Decode(&r)
	if err == nil && r.BodySize > 0 {
		err = d.Decode(&r.body)
	}
	if len(r.OutputID) == 0 {
		r.OutputID = r.ObjectID
	}
	if err != nil || int64(len(r.body)) != r.BodySize {
		t.Fatalf("recorded request %s: %v", raw, err)
	}
	return r
}

// A wireResponse is an answer, decoded without the package under test.
type wireResponse struct {
	ID            int64
	Err           string
	KnownCommands []string
	Miss          bool
	OutputID      []byte
	Size          int64
	Time          *time.Time
	DiskPath      string
}

// same compares answers by what they mean.
func (r wireResponse) same(other wireResponse) bool {
	if (r.Time == nil) != (other.Time == nil) || r.Time != nil && !r.Time.Equal(*other.Time) {
		return false
	}
	r.Time, other.Time = nil, nil
	return reflect.DeepEqual(r, other)
}

// noHandlerCan are sessions whose program does what no handler of Serve can make it do.
var noHandlerCan = []string{
	"fault-none-known", "fault-first-id", "fault-first-text", "fault-first-end", "fault-end", "fault-text", "fault-unknown-id",
	"fault-twice", "fault-close-end", "fault-get-no-path", "fault-put-no-path", "fault-long-id",
}

// TestServeSessions has Serve answer what go commands have sent, in the order of the recording, with a handler that says what the
// recorded program has said.
func TestServeSessions(t *testing.T) {
	for _, s := range readSessions(t) {
		t.Run(s.Go+"/"+s.Name, func(t *testing.T) { serveSession(t, s) })
	}
}

func serveSession(t *testing.T, s session) {
	h := newReplay(t, s)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	served := make(chan error, 1)
	go func() {
		err := cacheprog.Serve(context.Background(), inR, outW, h.handler(), nil)
		inR.CloseWithError(io.ErrClosedPipe) // who writes after close is not to wait
		outW.Close()
		served <- err
	}()
	answers := make(chan wireResponse, len(s.events)+1)
	go func() {
		defer close(answers)
		d := json.NewDecoder(outR)
		for {
			var r wireResponse
			if d.Decode(&r) != nil {
				return
			}
			answers <- r
		}
	}()
	first, ok := <-answers
	if want := append(slices.DeleteFunc(h.known(), func(c string) bool { return c == "close" }), "close"); !ok || !first.same(wireResponse{KnownCommands: want}) {
		t.Errorf("first message %+v, want the commands %v", first, want)
	}
	early := make(map[int64]wireResponse) // answers that came before the recorded ones
	for _, e := range s.events {
		switch {
		case e.From == "go" && e.End:
			inW.Close()
		case e.From == "go":
			if _, err := io.WriteString(inW, e.Raw); err != nil {
				t.Fatalf("Serve does not take %s: %v", e.Raw, err)
			}
		case e.End, slices.Contains(noHandlerCan, s.Name):
		default:
			var want wireResponse
			if err := json.Unmarshal([]byte(e.Raw), &want); err != nil {
				t.Fatal(err)
			}
			if want.KnownCommands != nil {
				continue
			}
			for got, ok := early[want.ID]; ; got, ok = early[want.ID] {
				if ok {
					if !got.same(want) {
						t.Errorf("answered %+v, want %+v", got, want)
					}
					break
				}
				next, more := <-answers
				if !more {
					t.Fatalf("request %d has no answer", want.ID)
				}
				early[next.ID] = next
			}
		}
	}
	inW.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	h.done()
}

// A replay is a handler that knows what it will be asked, and what to answer. It knows no IDs, so it goes by action and order.
type replay struct {
	t *testing.T

	mu       sync.Mutex
	commands []string
	asked    map[string][]wireRequest // by command and action
	answered map[int64]wireResponse
}

func newReplay(t *testing.T, s session) *replay {
	r := &replay{t: t, asked: make(map[string][]wireRequest), answered: make(map[int64]wireResponse)}
	for _, e := range s.events {
		switch {
		case e.End:
		case e.From == "go":
			q := decodeRequest(t, e.Raw)
			key := q.Command + string(q.ActionID)
			r.asked[key] = append(r.asked[key], q)
		default:
			var a wireResponse
			if json.Unmarshal([]byte(e.Raw), &a) != nil {
				continue
			}
			if a.ID == 0 {
				r.commands = a.KnownCommands
			}
			if _, twice := r.answered[a.ID]; !twice {
				r.answered[a.ID] = a
			}
		}
	}
	return r
}

// known are the commands of the recorded program that Serve can offer.
func (r *replay) known() (known []string) {
	for _, c := range []string{"get", "put", "close"} {
		if slices.Contains(r.commands, c) {
			known = append(known, c)
		}
	}
	if len(known) == 0 {
		return []string{"get", "put", "close"}
	}
	return known
}

// handler is the replay with no more methods than the recorded program had commands.
func (r *replay) handler() any {
	get, put := slices.Contains(r.known(), "get"), slices.Contains(r.known(), "put")
	switch {
	case get && put:
		return r
	case get:
		return struct {
			cacheprog.Getter
			cacheprog.Closer
		}{r, r}
	}
	return struct {
		cacheprog.Putter
		cacheprog.Closer
	}{r, r}
}

// next takes the request that is being made, and what was answered to it.
func (r *replay) next(command string, action []byte) (q wireRequest, a wireResponse, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := command + string(action)
	if len(r.asked[key]) == 0 {
		r.t.Errorf("%s of %x, which was not asked", command, action)
		return q, a, errors.New("not asked")
	}
	q = r.asked[key][0]
	r.asked[key] = r.asked[key][1:]
	a = r.answered[q.ID]
	if a.Err != "" {
		err = errors.New(a.Err)
	}
	return q, a, err
}

func (r *replay) Get(ctx context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
	_, a, err := r.next("get", id[:])
	if err != nil {
		return cacheprog.Entry{}, err
	}
	if a.Miss || a.DiskPath == "" || len(a.OutputID) != 32 {
		return cacheprog.Entry{}, cacheprog.ErrMiss
	}
	return cacheprog.Entry{OutputID: cacheprog.OutputID(a.OutputID), Size: a.Size, Time: *a.Time, DiskPath: a.DiskPath}, nil
}

func (r *replay) Put(ctx context.Context, p cacheprog.Put) (string, error) {
	q, a, err := r.next("put", p.ActionID[:])
	body, readErr := io.ReadAll(p.Body)
	sum := sha256.Sum256(body)
	if readErr != nil || p.OutputID != sum || !bytes.Equal(q.OutputID, sum[:]) || p.Size != q.BodySize || !bytes.Equal(body, q.body) {
		r.t.Errorf("put %x: output %x of %d bytes, %v, want %x of %d", q.ActionID, p.OutputID, p.Size, readErr, q.OutputID, q.BodySize)
	}
	return a.DiskPath, err
}

func (r *replay) Close(context.Context) error {
	r.mu.Lock()
	asked := len(r.asked["close"])
	r.mu.Unlock()
	if asked == 0 { // the input has ended
		return nil
	}
	_, _, err := r.next("close", nil)
	return err
}

// done checks that all that was asked has been.
func (r *replay) done() {
	for _, left := range r.asked {
		for _, q := range left {
			r.t.Errorf("%s of %x never came to the handler", q.Command, q.ActionID)
		}
	}
}

// TestClientSessions has a Client ask what the go command has asked, byte for byte, and take what the programs have answered.
func TestClientSessions(t *testing.T) {
	for _, s := range readSessions(t) {
		t.Run(s.Go+"/"+s.Name, func(t *testing.T) { clientSession(t, s) })
	}
}

func clientSession(t *testing.T, s session) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	defer inR.Close()
	defer outW.Close()
	var client *cacheprog.Client
	started := make(chan error, 1)
	go func() {
		var err error
		client, err = cacheprog.NewClient(ctx, outR, inW, nil)
		started <- err
	}()
	requests := bufio.NewReader(inR)
	calls := make(map[int64]*clientCall)
	begun := false
	lost := false // the program has sent what ends the session, though not all have noticed
	for _, e := range s.events {
		switch {
		case e.From == "program":
			if e.End {
				outW.Close()
			} else if _, err := io.WriteString(outW, e.Raw); err != nil && s.Exit == 0 {
				t.Fatalf("the client does not read %s: %v", e.Raw, err)
			}
			if !begun {
				begun = true
				if err := <-started; (err != nil) != strings.HasPrefix(s.Name, "fault-first-") && s.Name != "fault-none-known" {
					t.Fatalf("start: %v", err)
				} else if err != nil {
					return // and so has the go command
				}
			}
			var a wireResponse
			switch err := json.Unmarshal([]byte(e.Raw), &a); {
			case e.End || a.KnownCommands != nil:
			case err != nil || calls[a.ID] == nil:
				lost = true
				go io.Copy(io.Discard, requests)
			case lost:
			case calls[a.ID].request.Command != "close":
				calls[a.ID].check(t, &a)
				delete(calls, a.ID)
			}
		case e.End && slices.Contains(client.KnownCommands(), cacheprog.CmdClose):
			cancel() // the go command has ended without close
		case e.End:
			calls[0] = startCall(ctx, client, wireRequest{Command: "close"})
			if _, err := requests.ReadByte(); err != io.EOF {
				t.Errorf("a request instead of the end: %v", err)
			}
		default:
			q := decodeRequest(t, e.Raw)
			calls[q.ID] = startCall(ctx, client, q)
			if lost {
				continue
			}
			got, err := readFrame(requests)
			if want := strings.Replace(e.Raw, `"ObjectID"`, `"OutputID"`, 1); err != nil || string(got) != want {
				t.Fatalf("the client sends %s, %v, want %s", got, err, want)
			}
		}
	}
	// What is left was never answered, or was close, whose call ends with the program.
	outW.Close()
	for _, c := range calls {
		var answer *wireResponse
		for _, e := range s.events {
			var a wireResponse
			if e.From == "program" && !lost && json.Unmarshal([]byte(e.Raw), &a) == nil && a.ID == c.request.ID {
				answer = &a
			}
		}
		c.check(t, answer)
	}
}

// A clientCall is a call of a Client that is under way.
type clientCall struct {
	request wireRequest
	ended   chan struct{}
	entry   cacheprog.Entry
	err     error
}

func startCall(ctx context.Context, client *cacheprog.Client, q wireRequest) *clientCall {
	c := &clientCall{request: q, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		switch q.Command {
		case "get":
			c.entry, c.err = client.Get(ctx, cacheprog.ActionID(q.ActionID))
		case "put":
			_, _, c.err = client.Put(ctx, cacheprog.ActionID(q.ActionID), bytes.NewReader(q.body))
		case "close":
			c.err = client.Close()
		}
	}()
	return c
}

// check waits for the call's end and compares it with what the program has answered, which is nil if it has not.
func (c *clientCall) check(t *testing.T, a *wireResponse) {
	t.Helper()
	<-c.ended
	want := "ok"
	switch {
	case a == nil && c.request.Command == "close":
	case a == nil || a.Err != "":
		want = "error"
	case c.request.Command == "get" && (a.Miss || a.DiskPath == "" || len(a.OutputID) > 32):
		want = "miss"
	case c.request.Command == "put" && a.DiskPath == "":
		want = "error"
	}
	got := "ok"
	switch {
	case errors.Is(c.err, cacheprog.ErrMiss):
		got = "miss"
	case c.err != nil:
		got = "error"
	}
	if got != want || want == "error" && a != nil && !strings.Contains(c.err.Error(), a.Err) {
		t.Errorf("%s %d: %s, %v, want %s of %+v", c.request.Command, c.request.ID, got, c.err, want, a)
		return
	}
	if got != "ok" || c.request.Command != "get" {
		return
	}
	e := cacheprog.Entry{OutputID: cacheprog.OutputID(a.OutputID), Size: a.Size, Time: *a.Time, DiskPath: a.DiskPath}
	if fmt.Sprint(c.entry) != fmt.Sprint(e) {
		t.Errorf("get %d: %+v, want %+v", c.request.ID, c.entry, e)
	}
}
