package body_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/entry"
)

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

var bodies = map[string][]byte{
	"empty":          {},
	"one byte":       {7},
	"short":          []byte("a line of text"),
	"text":           bytes.Repeat([]byte("some text that repeats. "), 1000),
	"incompressible": random(100_000),
	"zeros":          make([]byte, 3<<20),
	"larger":         append(random(1<<20), make([]byte, 9<<20)...),
}

// pack is an entry of plain, as it is stored.
func pack(t testing.TB, c *body.Codec, plain []byte) (entry.Header, []byte) {
	t.Helper()
	h := entry.Header{OutputID: sha256.Sum256(plain)}
	stored := c.Pack(&h, plain, nil)
	if _, err := h.Append(nil); err != nil {
		t.Fatal(err)
	}
	return h, bytes.Clone(stored)
}

func TestRoundTrip(t *testing.T) {
	c := body.NewCodec()
	for name, plain := range bodies {
		t.Run(name, func(t *testing.T) {
			h, stored := pack(t, c, plain)
			var file bytes.Buffer
			large := entry.Header{OutputID: h.OutputID, Size: h.Size}
			check := func(h *entry.Header, stored []byte) {
				t.Helper()
				if got, err := c.Unpack(h, stored, nil); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("unpack: %d bytes, %v", len(got), err)
				}
				if err := c.Verify(h, stored, nil); err != nil {
					t.Errorf("verify: %v", err)
				}
				r, err := body.NewReader(h, io.MultiReader(bytes.NewReader(stored), bytes.NewReader([]byte("the next entry"))))
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("read: %d bytes, %v", len(got), err)
				}
				v := body.Verifying(h, iotest.HalfReader(bytes.NewReader(stored)))
				defer v.Close()
				if got, err := io.ReadAll(v); err != nil || !bytes.Equal(got, stored) {
					t.Errorf("pass through: %d bytes, %v", len(got), err)
				}
			}
			check(&h, stored)
			if err := c.Measure(&large, iotest.HalfReader(bytes.NewReader(plain))); err != nil {
				t.Fatal(err)
			}
			if err := c.Send(&large, &file, bytes.NewReader(plain)); err != nil {
				t.Fatal(err)
			}
			check(&large, file.Bytes())
			if len(plain) < 1000 || name == "incompressible" {
				if h.Encoding != entry.Raw || large.Encoding != entry.Raw {
					t.Error("compressed for nothing")
				}
				return
			}
			if large.Encoding != entry.Zstd {
				t.Error("not compressed")
			}
		})
	}
}

// Wrong bytes are found by every way to read them, with no more memory than the
// header admits.
func TestDamage(t *testing.T) {
	c := body.NewCodec()
	for name, plain := range bodies {
		if len(plain) > 200_000 || len(plain) == 0 {
			continue
		}
		h, stored := pack(t, c, plain)
		flipped := bytes.Clone(stored)
		flipped[len(flipped)/2] ^= 4
		wrong, short, long := h, h, h
		wrong.OutputID[0]++
		short.Size--
		long.Size++
		if h.Encoding == entry.Raw {
			short.Stored--
			long.Stored++
		}
		for what, tt := range map[string]struct {
			h      entry.Header
			stored []byte
		}{
			"flipped bit":     {h, flipped},
			"cut off":         {h, stored[:len(stored)-1]},
			"another output":  {wrong, stored},
			"size too small":  {short, stored},
			"size too large":  {long, stored},
			"nothing":         {h, nil},
			"not as promised": {resum(h, flipped), flipped},
		} {
			if err := c.Verify(&tt.h, tt.stored, nil); err == nil {
				t.Errorf("%s, %s: verified", name, what)
			}
			v := body.Verifying(&tt.h, bytes.NewReader(tt.stored))
			if _, err := io.ReadAll(v); err == nil {
				t.Errorf("%s, %s: passed through", name, what)
			}
			v.Close()
		}
	}
}

// resum is h with the right checksum for what is wrong.
func resum(h entry.Header, stored []byte) entry.Header {
	h.Sum = entry.Checksum(stored)
	return h
}

// A body that promises little and holds much is stopped early.
func TestBomb(t *testing.T) {
	c := body.NewCodec()
	h, stored := pack(t, c, make([]byte, 64<<20))
	h.Size = int64(len(stored))
	if _, err := c.Unpack(&h, stored, nil); !errors.Is(err, entry.ErrFormat) {
		t.Errorf("unpack: %v", err)
	}
	r, err := body.NewReader(&h, bytes.NewReader(stored))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, onlyReader{r})
	if !errors.Is(err, entry.ErrFormat) || n > 1<<20 {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

type onlyReader struct{ io.Reader }

// A writer of an output whose source changes under it finds out.
func TestMeasureMismatch(t *testing.T) {
	c := body.NewCodec()
	h := entry.Header{OutputID: sha256.Sum256([]byte("before")), Size: 6}
	var mismatch *entry.MismatchError
	if err := c.Measure(&h, bytes.NewReader([]byte("after!"))); !errors.As(err, &mismatch) {
		t.Errorf("error %v", err)
	}
}

// A source that changes between its two readings costs no other entry of the stream:
// as many bytes are sent as were announced, and they are refused.
func TestSendChanged(t *testing.T) {
	c := body.NewCodec()
	for name, plain := range bodies {
		if len(plain) < 2 {
			continue
		}
		h := entry.Header{OutputID: sha256.Sum256(plain), Size: int64(len(plain))}
		if err := c.Measure(&h, bytes.NewReader(plain)); err != nil {
			t.Fatal(err)
		}
		other := bytes.Clone(plain)
		other[len(other)/2] ^= 1
		for what, source := range map[string]io.Reader{
			"cut off":    bytes.NewReader(plain[:len(plain)/2]),
			"longer":     bytes.NewReader(append(bytes.Clone(other), random(100_000)...)),
			"another":    bytes.NewReader(other),
			"unreadable": io.MultiReader(bytes.NewReader(plain[:len(plain)/2]), iotest.ErrReader(errors.New("input/output error"))),
		} {
			var sent bytes.Buffer
			if err := c.Send(&h, &sent, source); err != nil || int64(sent.Len()) != h.Stored {
				t.Errorf("%s, %s: %d of %d bytes, %v", name, what, sent.Len(), h.Stored, err)
			}
			if c.Verify(&h, sent.Bytes(), nil) == nil {
				t.Errorf("%s, %s: verified", name, what)
			}
		}
	}
}

func TestVerifyingClosedEarly(t *testing.T) {
	c := body.NewCodec()
	h, stored := pack(t, c, bodies["text"])
	v := body.Verifying(&h, bytes.NewReader(stored))
	v.Read(make([]byte, 10))
	v.Close()
	if _, err := v.Read(make([]byte, 10)); err == nil || err == io.EOF {
		t.Errorf("read after close: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	c := body.NewCodec()
	for _, plain := range bodies {
		if len(plain) < 200_000 {
			h, stored := pack(f, c, plain)
			f.Add(stored, h.Size, byte(h.Encoding))
		}
	}
	f.Fuzz(func(t *testing.T, stored []byte, size int64, encoding byte) {
		h := entry.Header{Size: size, Stored: int64(len(stored)), Sum: entry.Checksum(stored), Encoding: entry.Encoding(encoding)}
		if _, err := h.Append(nil); err != nil || size > 16<<20 {
			return
		}
		plain, err := c.Unpack(&h, stored, nil)
		if err == nil && int64(len(plain)) != size {
			t.Errorf("%d bytes, want %d", len(plain), size)
		}
		r, openErr := body.NewReader(&h, bytes.NewReader(stored))
		if openErr != nil {
			return
		}
		defer r.Close()
		streamed, readErr := io.ReadAll(r)
		if (err == nil) != (readErr == nil) || err == nil && !bytes.Equal(plain, streamed) {
			t.Errorf("whole %v, streamed %v", err, readErr)
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	c := body.NewCodec()
	plain := bytes.Repeat(random(1000), 1000)
	h, stored := pack(b, c, plain)
	buf := make([]byte, 0, len(plain))
	b.SetBytes(h.Size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Unpack(&h, stored, buf); err != nil {
			b.Fatal(err)
		}
	}
}
