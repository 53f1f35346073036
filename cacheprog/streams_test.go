package cacheprog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/larder-build/larder/cacheprog"
)

// FuzzServe has Serve read anything: it comes to an end, answers each request once and in JSON, and does not depend on how the
// input is cut.
func FuzzServe(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(vectorsDir, "requests.json"))
	if err != nil {
		f.Fatal(err)
	}
	var v requestVectors
	if err := json.Unmarshal(data, &v); err != nil {
		f.Fatal(err)
	}
	for _, c := range v.Cases {
		if in := c.Send.bytes(); len(in) < 10_000 {
			f.Add(in)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, asked, wholeErr := serveBytes(t, bytes.NewReader(in))
		cut, askedCut, cutErr := serveBytes(t, iotest.HalfReader(iotest.OneByteReader(bytes.NewReader(in))))
		if (wholeErr == nil) != (cutErr == nil) || whole != cut || asked != askedCut {
			t.Errorf("whole: %d answers to %d calls, %v; byte by byte: %d to %d, %v", whole, asked, wholeErr, cut, askedCut, cutErr)
		}
	})
}

// serveBytes returns how many answers Serve has given, the first message not counted, and how many calls it has made.
func serveBytes(t *testing.T, in io.Reader) (answers, calls int, err error) {
	t.Helper()
	var l listing
	var out bytes.Buffer
	err = cacheprog.Serve(context.Background(), in, &out, &l, &cacheprog.ServeOptions{PanicLog: func(v any, _ []byte) { t.Errorf("panic: %v", v) }})
	d := json.NewDecoder(&out)
	for {
		var a wireResponse
		if err := d.Decode(&a); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("an answer is no JSON: %v", err)
		}
		answers++
	}
	if answers == 0 || len(l.asked) > answers-1 {
		t.Errorf("%d answers to %d calls", answers-1, len(l.asked))
	}
	return answers - 1, len(l.asked), err
}

// FuzzClient has a Client read anything after its first message: a call ends, with an entry that has a path, a miss or an error.
func FuzzClient(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(vectorsDir, "responses.json"))
	if err != nil {
		f.Fatal(err)
	}
	var v responseVectors
	if err := json.Unmarshal(data, &v); err != nil {
		f.Fatal(err)
	}
	for _, c := range v.Cases {
		f.Add(c.Send.bytes())
	}
	f.Fuzz(func(t *testing.T, send []byte) {
		var results []string
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
			r, w := io.Pipe()
			answers := io.MultiReader(bytes.NewReader(cacheprog.Capabilities(memory())), &afterRequest{r: r, answer: wrap(bytes.NewReader(send))})
			c, err := cacheprog.NewClient(t.Context(), io.NopCloser(answers), w, nil)
			if err != nil {
				t.Fatal(err)
			}
			e, err := c.Get(t.Context(), action(1))
			result := e.DiskPath
			switch {
			case err == nil && e.DiskPath == "":
				t.Error("a hit without a path")
			case errors.Is(err, cacheprog.ErrMiss):
				result = "miss"
			case err != nil:
				result = "error"
			}
			results = append(results, result)
			r.Close()
			c.Close()
		}
		if results[0] != results[1] {
			t.Errorf("whole: %q, byte by byte: %q", results[0], results[1])
		}
	})
}

// An afterRequest yields the answers when there has been a request, and then the end.
type afterRequest struct {
	r      io.Reader
	answer io.Reader
	asked  bool
}

func (a *afterRequest) Read(p []byte) (int, error) {
	if !a.asked {
		a.asked = true
		a.r.Read(make([]byte, 1000)) // whatever it is, it is the whole line of a get
		go io.Copy(io.Discard, a.r)
	}
	return a.answer.Read(p)
}

// FuzzSplitCommand splits anything, and what can be joined again splits the same.
func FuzzSplitCommand(f *testing.F) {
	for _, s := range []string{"larder -v", `"C:\Program Files\x" 'a b'`, "'open", "a'b", "'a'b", "'' x", "\t\r\n", "é\u00a0x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, err := cacheprog.SplitCommand(s)
		if err != nil {
			return
		}
		joined, err := cacheprog.JoinCommand(args)
		if err != nil {
			return // an argument has both kinds of quotes
		}
		if again, err := cacheprog.SplitCommand(joined); err != nil || !slices.Equal(args, again) {
			t.Errorf("%q is %q, joined %q, and that is %q, %v", s, args, joined, again, err)
		}
	})
}
