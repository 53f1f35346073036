// Package body compresses and decompresses the bodies of entries.
//
// A body is compressed once, by whoever puts it, and sent and stored like that
// by all others. Whoever takes one in from elsewhere decodes it and compares the
// result with what its header says, all of it, before it believes a byte: sizes,
// CRC-32C of what was sent, SHA-256 of what it stands for. Nothing is allocated
// beyond what the header admits, and the header is checked before (entry).
package body

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"

	"github.com/larder-build/larder/internal/entry"
)

// InRAM is the largest body, in bytes, compressed or not, that callers should
// handle whole, in RAM. Of a build's outputs, one in a hundred is larger.
const InRAM = 8 << 20

// worthwhile is the smallest body that is tried to be compressed, in bytes.
const worthwhile = 256

// A Codec compresses and decompresses. It is safe for concurrent use.
type Codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

// NewCodec returns a Codec. It keeps a few MB of tables for each CPU in use.
func NewCodec() *Codec {
	procs := runtime.GOMAXPROCS(0)
	// The options are constants, and right.
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(procs), zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(level), zstd.WithWindowSize(window))
	if err != nil {
		panic(err)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(procs), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(windowMax))
	if err != nil {
		panic(err)
	}
	return &Codec{encoder, decoder}
}

const (
	// level takes a quarter longer than the default one, once and after a build, for
	// 5% fewer bytes, which are also decoded a tenth faster, everywhere and often.
	level = zstd.SpeedBetterCompression
	// window is how far back a body refers: 8 MiB instead saves less than 1% of a
	// build's bytes.
	window = 1 << 20
	// windowMax is how far back a body from elsewhere may refer.
	windowMax = 8 << 20
)

// Pack compresses plain, which is the body of h, if that makes it smaller, and
// sets what h says about it. The result is plain itself or in buf's array.
func (c *Codec) Pack(h *entry.Header, plain, buf []byte) []byte {
	stored := plain
	h.Encoding = entry.Raw
	if len(plain) >= worthwhile {
		if packed := c.encoder.EncodeAll(plain, buf[:0]); smaller(int64(len(packed)), int64(len(plain))) {
			stored, h.Encoding = packed, entry.Zstd
		}
	}
	h.Size, h.Stored, h.Sum = int64(len(plain)), int64(len(stored)), entry.Checksum(stored)
	return stored
}

// Measure is Pack for a body that is too large for RAM: it reads all of plain and sets
// what h says about the stored body, which Send then writes. (What is compressed is
// compressed twice so: its size comes before it, and a temporary file for it would be one
// more thing that a full disk can fail.) The body must have h.Size bytes and be what
// h.OutputID says, else the error is an *entry.MismatchError.
func (c *Codec) Measure(h *entry.Header, plain io.Reader) error {
	packed, raw := &summing{w: io.Discard}, &summing{w: io.Discard}
	encoder, err := newEncoder(packed)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(hash, raw, encoder), plain)
	if closeErr := encoder.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("compress output %v: %w", h.OutputID, err)
	}
	if err := compare(h, entry.OutputID(hash.Sum(nil)), raw.n); err != nil {
		return err
	}
	h.Encoding, h.Stored, h.Sum = entry.Zstd, packed.n, packed.sum
	if _, err := h.Append(nil); err != nil || !smaller(packed.n, raw.n) {
		h.Encoding, h.Stored, h.Sum = entry.Raw, raw.n, raw.sum
	}
	return nil
}

// Send writes the stored body of an entry that Measure has set, from the same plain. It
// writes h.Stored bytes whatever becomes of plain, so that what follows in a stream
// stays readable; whoever receives others than those that were measured sees that by
// their checksum. Its error is w's.
func (c *Codec) Send(h *entry.Header, w io.Writer, plain io.Reader) error {
	out := &exactly{w: w, left: h.Stored}
	if h.Encoding == entry.Raw {
		io.Copy(out, plain)
	} else if encoder, err := newEncoder(out); err == nil {
		io.Copy(encoder, plain)
		encoder.Close()
	}
	return out.fill()
}

func newEncoder(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(level), zstd.WithWindowSize(window))
}

// smaller reports whether compressing has made a body enough smaller to be decoded
// everywhere.
func smaller(packed, plain int64) bool { return packed < plain-plain/16 }

// exactly writes the first so many bytes of what it is given, and zeros if it is not
// given so many.
type exactly struct {
	w    io.Writer
	left int64
	err  error
}

func (e *exactly) Write(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	n, err := e.w.Write(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if e.err = err; err != nil {
		return n, err
	}
	return len(p), nil
}

func (e *exactly) fill() error {
	var zeros [4096]byte
	for e.left > 0 && e.err == nil {
		e.Write(zeros[:])
	}
	return e.err
}

// summing counts and sums up what is written.
type summing struct {
	w   io.Writer
	n   int64
	sum uint32
}

func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	s.sum = entry.UpdateChecksum(s.sum, p[:n])
	return n, err
}

// compare answers what is wrong with a body's hash and size.
func compare(h *entry.Header, got entry.OutputID, size int64) error {
	if got != h.OutputID || size != h.Size {
		return &entry.MismatchError{Want: h.OutputID, Got: got, WantSize: h.Size, GotSize: size}
	}
	return nil
}

// Unpack returns the body that stored stands for. Its size and the checksum of
// stored have been compared with h, its hash has not. The result is stored
// itself or in buf's array, which grows to h.Size if it must.
func (c *Codec) Unpack(h *entry.Header, stored, buf []byte) ([]byte, error) {
	if err := checkStored(h, int64(len(stored)), entry.Checksum(stored)); err != nil {
		return nil, err
	}
	if h.Encoding == entry.Raw {
		return stored, nil
	}
	if int64(cap(buf)) < h.Size {
		buf = make([]byte, 0, h.Size)
	}
	plain, err := c.decoder.DecodeAll(stored, buf[:0:h.Size])
	if err != nil {
		return nil, decodeError(h, err)
	}
	if int64(len(plain)) != h.Size {
		return nil, fmt.Errorf("%w: output %v has %d bytes, not %d", entry.ErrFormat, h.OutputID, len(plain), h.Size)
	}
	return plain, nil
}

func checkStored(h *entry.Header, n int64, sum uint32) error {
	if n != h.Stored || sum != h.Sum {
		return fmt.Errorf("%w: stored body of output %v is damaged", entry.ErrFormat, h.OutputID)
	}
	return nil
}

func decodeError(h *entry.Header, err error) error {
	return fmt.Errorf("%w: decode output %v: %w", entry.ErrFormat, h.OutputID, err)
}

// Verify reports what is wrong with a stored body, whatever that is. buf is as
// for Unpack.
func (c *Codec) Verify(h *entry.Header, stored, buf []byte) error {
	plain, err := c.Unpack(h, stored, buf)
	if err != nil {
		return err
	}
	return compare(h, sha256.Sum256(plain), int64(len(plain)))
}

// NewReader returns the body that stored, of which exactly h.Stored bytes are
// read, stands for: the form of Unpack for bodies that are too large for RAM.
// Damage shows at the end at the latest. It must be closed.
func NewReader(h *entry.Header, stored io.Reader) (io.ReadCloser, error) {
	r := &reader{h: h, stored: checking{h: h, r: stored}}
	if h.Encoding == entry.Raw {
		r.plain = &r.stored
		return r, nil
	}
	// Decoding and what is done with the result go on at the same time. With less
	// memory the decoder would move its whole window for each block of 128 KiB.
	decoder, err := zstd.NewReader(&r.stored, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(windowMax), zstd.WithDecoderLowmem(false))
	if err != nil {
		return nil, decodeError(h, err)
	}
	r.plain, r.decoder = decoder, decoder
	return r, nil
}

type reader struct {
	h       *entry.Header
	stored  checking
	plain   io.Reader
	decoder *zstd.Decoder
	n       int64
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	r.n += int64(n)
	switch {
	case r.n > r.h.Size, err == io.EOF && r.n != r.h.Size:
		return n, fmt.Errorf("%w: output %v has %d bytes or more, not %d", entry.ErrFormat, r.h.OutputID, r.n, r.h.Size)
	case err == io.EOF && r.stored.n != r.h.Stored:
		return n, checkStored(r.h, r.stored.n, 0)
	case err != nil && err != io.EOF && !errors.Is(err, entry.ErrFormat) && r.stored.err == nil:
		return n, decodeError(r.h, err)
	}
	return n, err
}

func (r *reader) Close() error {
	if r.decoder != nil {
		r.decoder.Close()
	}
	return nil
}

// checking reads a stored body and compares its checksum at the end.
type checking struct {
	h   *entry.Header
	r   io.Reader
	n   int64
	sum uint32
	err error // of r
}

func (c *checking) Read(p []byte) (int, error) {
	if c.n == c.h.Stored {
		if err := checkStored(c.h, c.n, c.sum); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.h.Stored-c.n)])
	c.n += int64(n)
	c.sum = entry.UpdateChecksum(c.sum, p[:n])
	if c.n == c.h.Stored {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.err = err
	return n, err
}

// Verifying passes a stored body through, and ends it, with its last byte, with an
// error instead of io.EOF if it is not what h says: the form of Verify for bodies that are too
// large for RAM. It must be closed.
func Verifying(h *entry.Header, stored io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	v := &verifying{r: io.TeeReader(io.LimitReader(stored, h.Stored), pw), left: h.Stored, pipe: pw, verdict: make(chan error, 1)}
	go func() { // ends with the pipe, which Close closes
		err := verifyStream(h, pr)
		pr.CloseWithError(err) // nil: writes are errors from now on, and there are none
		v.verdict <- err
	}()
	return v
}

func verifyStream(h *entry.Header, stored io.Reader) error {
	r, err := NewReader(h, stored)
	if err != nil {
		return err
	}
	defer r.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	if err != nil {
		return err
	}
	return compare(h, entry.OutputID(hash.Sum(nil)), n)
}

type verifying struct {
	r       io.Reader
	left    int64 // bytes
	pipe    *io.PipeWriter
	verdict chan error
	done    bool
	err     error
}

func (v *verifying) Read(p []byte) (int, error) {
	if v.done {
		return 0, v.err
	}
	n, err := v.r.Read(p)
	v.left -= int64(n)
	if err == nil && v.left > 0 {
		return n, nil
	}
	if err == nil {
		err = io.EOF // with the last byte comes the verdict, for who reads no further
	}
	if verdict := v.finish(); verdict != nil {
		err = verdict
	}
	v.err = err
	return n, err
}

// finish waits for the verdict.
func (v *verifying) finish() error {
	v.done = true
	v.pipe.Close()
	return <-v.verdict
}

func (v *verifying) Close() error {
	if !v.done {
		v.err = errors.New("read after close")
		v.pipe.CloseWithError(v.err)
		v.finish()
	}
	return nil
}
