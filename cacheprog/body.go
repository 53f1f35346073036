package cacheprog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"
)

var (
	errBodyReleased = errors.New("body read after Put has returned")
	errBodyLong     = errors.New("body longer than its BodySize")
	errBodyBase64   = errors.New("body is not base64")
	errBodyString   = errors.New("body is not a JSON string")
)

// A body decodes the body of a put, a JSON string of base64, for a handler, out of the buffer that the requests come in as well.
// While a body is open, the goroutine that reads the requests leaves the input alone and waits for done.
type body struct {
	mu   sync.Mutex // serves a handler that reads from several goroutines, or after it has returned
	in   *input
	left int64 // bytes still to be decoded
	err  error // what Read returns from now on; nil while the body is open

	opened  bool    // the opening quote has been used up
	closed  bool    // the closing quote has been used up
	padded  bool    // base64's padding has been seen: nothing may follow
	decoded []byte  // of quantum, what did not fit the handler's buffer
	quantum [3]byte // the last one that was decoded by itself

	done chan struct{} // closed when err is set
}

// newBody returns a body of size bytes that is about to come from in. A body of no bytes has no frame.
func newBody(in *input, size int64) *body {
	b := &body{in: in, left: size, done: make(chan struct{})}
	if size == 0 {
		b.opened, b.closed = true, true
		b.end(io.EOF)
	}
	return b
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.decode(p)
	if err == nil && b.left == 0 && len(b.decoded) == 0 {
		err = b.finish()
	}
	if err == nil {
		return n, nil
	}
	b.end(err)
	if err == io.EOF {
		return n, nil
	}
	return 0, err // not even the last bytes of a body that is not as it should be
}

// end sets the error of all further reads, the first time it is called.
func (b *body) end(err error) {
	if b.err == nil {
		b.err = err
		close(b.done)
	}
}

// release ends the handler's use of the body and returns what was wrong with the part that it has read.
func (b *body) release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end(errBodyReleased)
	if b.err == io.EOF || b.err == errBodyReleased {
		return nil
	}
	return b.err
}

// skip uses up what a body that has ended has left of itself in the input.
func (b *body) skip() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.open(); err != nil {
		return err
	}
	if b.closed {
		return nil
	}
	b.closed = true
	return noEOF(b.in.skipString())
}

// open uses up the opening quote.
func (b *body) open() error {
	if b.opened {
		return nil
	}
	c, err := b.in.peek()
	if err != nil {
		return noEOF(err)
	}
	if c != '"' {
		return errBodyString
	}
	b.in.start++
	b.opened = true
	return nil
}

// decode puts at least one byte into p, or fails.
func (b *body) decode(p []byte) (int, error) {
	if err := b.open(); err != nil {
		return 0, err
	}
	if n := b.decodePlain(p); n > 0 {
		return n, nil
	}
	n := 0
	for {
		if len(b.decoded) == 0 {
			if b.left == 0 {
				return n, nil
			}
			if err := b.decodeQuantum(); err != nil {
				return n, err
			}
		}
		c := copy(p[n:], b.decoded)
		b.decoded = b.decoded[c:]
		n += c
		if n == len(p) || b.in.end-b.in.start < 4 {
			return n, nil
		}
		if m := b.decodePlain(p[n:]); m > 0 {
			return n + m, nil
		}
	}
}

// decodePlain decodes as many whole quanta as are buffered, fit p, and are owed. It leaves quanta with escapes and padding, those
// that are wrong, and all behind them, to decodeQuantum.
func (b *body) decodePlain(p []byte) int {
	if len(b.decoded) > 0 || b.padded {
		return 0
	}
	if b.in.end-b.in.start < 4 && b.left >= 3 && b.in.fill() != nil {
		return 0 // decodeQuantum meets the same error
	}
	quanta := int(min(int64((b.in.end-b.in.start)/4), int64(len(p)/3), b.left/3))
	chars := b.in.buf[b.in.start : b.in.start+quanta*4]
	n, err := base64.StdEncoding.Decode(p[:quanta*3], chars)
	if err != nil || n != quanta*3 { // less for padding and for line breaks, which Decode skips
		quanta = plainChars(chars) / 4
		if n, err = base64.StdEncoding.Decode(p[:quanta*3], chars[:quanta*4]); err != nil {
			return 0
		}
	}
	b.in.start += quanta * 4
	b.left -= int64(n)
	return n
}

// plainChars returns how many characters of base64 there are before the first character that is none, or is padding.
func plainChars(chars []byte) int {
	for i, c := range chars {
		if !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/') {
			return i
		}
	}
	return len(chars)
}

// decodeQuantum decodes the next four characters, whatever their form, into b.decoded.
func (b *body) decodeQuantum() error {
	var chars [4]byte
	for n := 0; n < len(chars); {
		c, err := b.char()
		switch {
		case err == io.EOF && n == 0:
			return fmt.Errorf("body ends %d bytes before its BodySize: %w", b.left, io.ErrUnexpectedEOF)
		case err == io.EOF:
			return errBodyBase64
		case err != nil:
			return err
		case c == '\n' || c == '\r': // as encoding/base64
		case b.padded && c != '=':
			return errBodyBase64
		default:
			b.padded = c == '='
			chars[n] = c
			n++
		}
	}
	n, err := base64.StdEncoding.Decode(b.quantum[:], chars[:])
	if err != nil {
		return errBodyBase64
	}
	if int64(n) > b.left {
		return errBodyLong
	}
	b.decoded = b.quantum[:n]
	b.left -= int64(n)
	if b.padded && b.left > 0 {
		return fmt.Errorf("body ends %d bytes before its BodySize: %w", b.left, io.ErrUnexpectedEOF)
	}
	return nil
}

// finish uses up the end of a body of which nothing is owed any more, and returns io.EOF if it is as it should be.
func (b *body) finish() error {
	for {
		c, err := b.char()
		switch {
		case err != nil:
			return err
		case c == '\n' || c == '\r': // as encoding/base64
		case b.padded:
			return errBodyBase64
		default:
			return errBodyLong
		}
	}
}

// char uses up one character of the string. It returns io.EOF, once, for the closing quote.
func (b *body) char() (byte, error) {
	c, err := b.in.next()
	switch {
	case err != nil:
		return 0, noEOF(err)
	case c == '"':
		b.closed = true
		return 0, io.EOF
	case c < ' ':
		return 0, errBodyString
	case c != '\\':
		return c, nil
	}
	if c, err = b.in.next(); err != nil {
		return 0, noEOF(err)
	}
	switch c {
	case '/':
		return '/', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 'u':
		return b.unicode()
	}
	return 0, errBodyBase64 // a legal escape of something else, or an illegal one
}

// unicode uses up the digits of an escape.
func (b *body) unicode() (byte, error) {
	v := 0
	for range 4 {
		c, err := b.in.next()
		if err != nil {
			return 0, noEOF(err)
		}
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			b.in.start-- // it may be the quote
			return 0, errBodyString
		}
		v = v<<4 | int(c)
	}
	if v >= 0x80 {
		return 0, errBodyBase64
	}
	return byte(v), nil
}

// noEOF turns the end of the input into an error, for where it must not end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
