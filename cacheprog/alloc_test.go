package cacheprog_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/larder-build/larder/cacheprog"
)

// A repeater yields a text again and again.
type repeater struct {
	text string
	left int // bytes
	pos  int
}

func (r *repeater) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.left)], r.text[r.pos:])
	r.left -= n
	r.pos = (r.pos + n) % len(r.text)
	return n, nil
}

// TestServeMemory bounds what Serve allocates for a body of 192 MB and for 100,000 gets.
func TestServeMemory(t *testing.T) {
	const bytesMax = 512 << 10
	chunk := base64.StdEncoding.EncodeToString(make([]byte, 3<<10))
	const chunks = 64 << 10
	head := strings.Replace(putLines(1, 1, "x"), `"BodySize":1}`, fmt.Sprintf(`"BodySize":%d}`, chunks*3<<10), 1)
	head, _, _ = strings.Cut(head, "eA==")
	const gets = 100_000

	buf := make([]byte, 64<<10)
	h := nowFuncs{funcs{put: func(_ context.Context, p cacheprog.Put) (string, error) {
		n, err := io.CopyBuffer(onlyWriter{io.Discard}, p.Body, buf)
		if n != p.Size {
			t.Errorf("%d bytes, want %d", n, p.Size)
		}
		return "/x", err
	}}, func(cacheprog.ActionID) (cacheprog.Entry, error) { return benchEntry, nil }}
	for name, r := range map[string]io.Reader{
		"put":  io.MultiReader(strings.NewReader(head), &repeater{text: chunk, left: chunks * len(chunk)}, strings.NewReader("\"\n")),
		"gets": &repeater{text: getLine(1, 1), left: gets * len(getLine(1, 1))},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := cacheprog.Serve(context.Background(), r, io.Discard, h, nil); err != nil {
			t.Error(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > bytesMax {
			t.Errorf("%s: %d bytes allocated, want at most %d", name, n, bytesMax)
		}
	}
}
