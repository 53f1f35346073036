package entry_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/larder-build/larder/internal/entry"
)

// sample is a stream with every kind of frame.
func sample(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := entry.NewStreamWriter(&b)
	h := header(nil)
	empty := header(func(h *entry.Header) { h.Size, h.Stored = 0, 0 })
	err := errors.Join(
		w.Blob([]byte("a manifest")),
		w.Entry(&h, strings.NewReader("0123456789")),
		w.Action(entry.Miss, entry.ActionID{9}),
		w.Entry(&empty, strings.NewReader("")),
		w.Action(entry.Withheld, entry.ActionID{8}),
		w.Entry(&h, strings.NewReader("abcdefghij")),
		w.End(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStream(t *testing.T) {
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "data with EOF": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			r := entry.NewStreamReader(wrap(bytes.NewReader(sample(t))))
			var got []string
			for {
				f, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				text := string(f.Kind) + " " + string(f.Blob)
				if f.Kind == entry.Entry && len(got) < 4 { // the last body is left unread
					body, err := io.ReadAll(r.Body())
					if err != nil || f.ActionID != f.Header.ActionID {
						t.Fatalf("%+v: %v", f, err)
					}
					text += string(body)
				}
				got = append(got, text)
				if f.Kind == entry.End {
					break
				}
			}
			if want := []string{"B a manifest", "E 0123456789", "M ", "E ", "W ", "E ", "X "}; !reflect.DeepEqual(got, want) {
				t.Errorf("frames %q, want %q", got, want)
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// A stream that was cut off anywhere says so; its last frame is what tells.
func TestStreamCutOff(t *testing.T) {
	whole := sample(t)
	for n := range whole {
		r := entry.NewStreamReader(bytes.NewReader(whole[:n]))
		for {
			f, err := r.Next()
			if err == nil && f.Kind == entry.Entry {
				_, err = io.Copy(io.Discard, r.Body())
			}
			if err != nil {
				if err != io.ErrUnexpectedEOF {
					t.Errorf("cut at %d: %v", n, err)
				}
				break
			}
			if f.Kind == entry.End {
				t.Errorf("cut at %d: ends", n)
				break
			}
		}
	}
}

func TestStreamWriterRefuses(t *testing.T) {
	w := entry.NewStreamWriter(io.Discard)
	h := header(nil)
	if err := w.Entry(&h, strings.NewReader("short")); err != io.ErrUnexpectedEOF {
		t.Errorf("body too short: %v", err)
	}
	h.Cost = -1
	if err := w.Entry(&h, strings.NewReader("")); !errors.Is(err, entry.ErrFormat) {
		t.Errorf("wrong header: %v", err)
	}
	if err := w.Blob(make([]byte, entry.MaxBlob+1)); !errors.Is(err, entry.ErrFormat) {
		t.Errorf("blob too long: %v", err)
	}
}

// A promise of a long blob costs no memory.
func TestStreamBlobLies(t *testing.T) {
	if got := testing.AllocsPerRun(10, func() {
		r := entry.NewStreamReader(strings.NewReader("B\x00\x7f\xff\xffshort"))
		if _, err := r.Next(); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	}); got > 10 {
		t.Errorf("%v allocations", got)
	}
	r := entry.NewStreamReader(strings.NewReader("B\xff\xff\xff\xff"))
	if _, err := r.Next(); !errors.Is(err, entry.ErrFormat) {
		t.Errorf("blob of 4 GiB: %v", err)
	}
}

func FuzzStream(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte("X\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := entry.NewStreamReader(bytes.NewReader(b))
		for frames := 0; ; frames++ {
			f, err := r.Next()
			if err != nil {
				return
			}
			if frames > len(b) {
				t.Fatal("more frames than bytes")
			}
			if f.Kind == entry.Entry {
				if n, err := io.Copy(io.Discard, r.Body()); err == nil && n != f.Header.Stored {
					t.Fatalf("body of %d bytes, %d promised", n, f.Header.Stored)
				}
			}
			if len(f.Blob) > len(b) {
				t.Fatal("a blob from nowhere")
			}
			if f.Kind == entry.End {
				if _, err := r.Next(); err != io.EOF {
					t.Fatalf("after the end: %v", err)
				}
				return
			}
		}
	})
}
