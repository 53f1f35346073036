package cacheprog_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

var benchEntry = cacheprog.Entry{
	OutputID: sha256.Sum256([]byte("hello")),
	Size:     123456,
	Time:     time.Unix(1700000000, 123456789),
	DiskPath: "/root/.cache/go-build/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824-d",
}

func BenchmarkParseRequest(b *testing.B) {
	for _, s := range requestSeeds[:2] {
		b.Run(s[17:20], func(b *testing.B) {
			var p cacheprog.Parser
			line := []byte(s)
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Parse(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = cacheprog.AppendHit(buf[:0], 1234, &benchEntry)
	}
}

// BenchmarkServeGet has gets answered over pipes of the operating system: one at a time, and many at once; at once by GetNow, and
// by Get on goroutines of its own.
func BenchmarkServeGet(b *testing.B) {
	get := func(context.Context, cacheprog.ActionID) (cacheprog.Entry, error) { return benchEntry, nil }
	now := nowFuncs{funcs{get: get}, func(cacheprog.ActionID) (cacheprog.Entry, error) { return benchEntry, nil }}
	for _, h := range []struct {
		name    string
		handler any
	}{{"now", now}, {"queued", funcs{get: get}}} {
		for _, burst := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/burst=%d", h.name, burst), func(b *testing.B) {
				in, out, end := servePipes(b, h.handler)
				lines := []byte(strings.Repeat(getLine(1000, 1), burst))
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					if n%burst == 0 {
						in.Write(lines)
						for range burst {
							if _, err := out.ReadSlice('\n'); err != nil {
								b.Fatal(err)
							}
						}
					}
					n++
				}
				end()
			})
		}
	}
}

// BenchmarkServePut has bodies put that come as the go command writes them, in writes of 4 KiB, through a pipe.
func BenchmarkServePut(b *testing.B) {
	put := func(_ context.Context, p cacheprog.Put) (string, error) {
		_, err := io.CopyBuffer(onlyWriter{io.Discard}, p.Body, make([]byte, min(p.Size+3, 256<<10)))
		return "/x", err
	}
	for _, size := range []int{1 << 10, 64 << 10, 200 << 20} {
		for _, writes := range []int{4 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%dKB/writes=%dKB", size>>10, writes>>10), func(b *testing.B) {
				in, out, end := servePipes(b, funcs{put: put})
				w := bufio.NewWriterSize(onlyWriter{in}, writes)
				chunk := make([]byte, 3<<10)
				for i := range chunk {
					chunk[i] = byte(i * 7)
				}
				encoded := base64.StdEncoding.EncodeToString(chunk)
				head := strings.Replace(putLines(1, 1, "x"), `"BodySize":1}`, fmt.Sprintf(`"BodySize":%d}`, size/len(chunk)*len(chunk)+1), 1)
				head, _, _ = strings.Cut(head, `"eA==`)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					w.WriteString(head)
					w.WriteString(`"`)
					for range size / len(chunk) {
						w.WriteString(encoded)
					}
					w.WriteString("eA==\"\n")
					w.Flush()
					if line, err := out.ReadSlice('\n'); err != nil || strings.Contains(string(line), "Err") {
						b.Fatal(string(line), err)
					}
				}
				end()
			})
		}
	}
}

type onlyWriter struct{ io.Writer }

// servePipes runs Serve on pipes, and returns what a program's peer has in hand.
func servePipes(b *testing.B, handler any) (in *os.File, out *bufio.Reader, end func()) {
	inR, in, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cacheprog.Serve(context.Background(), inR, outW, handler, nil) }()
	out = bufio.NewReaderSize(outR, 64<<10)
	if _, err := out.ReadSlice('\n'); err != nil {
		b.Fatal(err)
	}
	return in, out, func() {
		in.Close()
		if err := <-done; err != nil {
			b.Error(err)
		}
		for _, f := range []*os.File{inR, outR, outW} {
			f.Close()
		}
	}
}
