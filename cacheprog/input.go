package cacheprog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	// readBufferBytes is the size of the read buffer: what a Linux pipe holds unless told otherwise.
	readBufferBytes = 64 << 10

	// lineBytesMax bounds one line of JSON. The go command's longest has about 180 bytes; the rest is room for commands to come.
	lineBytesMax = 1 << 20

	// emptyReadsMax is how many reads in a row may return nothing, as in bufio.
	emptyReadsMax = 100
)

var errLineTooLong = fmt.Errorf("line of more than %d bytes", lineBytesMax)

// An input is a buffered reader that hands out its buffer: a line is parsed, and a body decoded, where it was read to.
type input struct {
	r          io.Reader
	buf        []byte
	start, end int    // of what has been read and not yet used
	err        error  // of r; nothing more comes
	beforeRead func() // called before each read that may block; may be nil
}

func newInput(r io.Reader) *input {
	return &input{r: r, buf: make([]byte, readBufferBytes)}
}

// fill reads at least one more byte. It may move what is buffered, and grows the buffer if that is full.
func (in *input) fill() error {
	if in.err != nil {
		return in.err
	}
	if in.start > 0 {
		in.end = copy(in.buf, in.buf[in.start:in.end])
		in.start = 0
	}
	if in.end == len(in.buf) {
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
	if in.beforeRead != nil {
		in.beforeRead()
	}
	for range emptyReadsMax {
		n, err := in.r.Read(in.buf[in.end:])
		in.end += n
		in.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	in.err = io.ErrNoProgress
	return in.err
}

// line returns the next line that is not blank, without its end, valid until the next call of any method. The last line need not
// have an end.
func (in *input) line() ([]byte, error) {
	scanned := 0
	for {
		if scanned == 0 {
			in.skipSpace()
		}
		rest := in.buf[in.start:in.end]
		if i := bytes.IndexByte(rest[scanned:], '\n'); i >= 0 {
			in.start += scanned + i + 1
			return rest[:scanned+i], nil
		}
		scanned = len(rest)
		if scanned > lineBytesMax {
			return nil, errLineTooLong
		}
		if err := in.fill(); err != nil {
			if errors.Is(err, io.EOF) && scanned > 0 {
				rest = in.buf[in.start:in.end] // fill may have moved it
				in.start = in.end
				return rest, nil
			}
			return nil, err
		}
	}
}

// skipSpace drops the white space at the start of what is buffered.
func (in *input) skipSpace() {
	for in.start < in.end && isSpace(in.buf[in.start]) {
		in.start++
	}
}

// peek returns the next byte that is not white space without using it up.
func (in *input) peek() (byte, error) {
	for {
		in.skipSpace()
		if in.start < in.end {
			return in.buf[in.start], nil
		}
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
}

// next uses up one byte.
func (in *input) next() (byte, error) {
	if in.start == in.end {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	c := in.buf[in.start]
	in.start++
	return c, nil
}

// skipString uses up the rest of a JSON string, with its closing quote.
func (in *input) skipString() error {
	for {
		rest := in.buf[in.start:in.end]
		quote := bytes.IndexByte(rest, '"')
		if quote >= 0 {
			rest = rest[:quote]
		}
		if i := bytes.IndexByte(rest, '\\'); i >= 0 { // the escape's second byte may be a quote, or not have been read yet
			in.start += i + 1
			if _, err := in.next(); err != nil {
				return err
			}
			continue
		}
		in.start += len(rest)
		if quote >= 0 {
			in.start++
			return nil
		}
		if err := in.fill(); err != nil {
			return err
		}
	}
}

// isSpace reports whether c is white space in JSON and in a command.
func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\t' || c == '\r'
}
