package cacheprogtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/larder-build/larder/cacheprog"
)

// valueBytesMax is more than any answer needs, whose longest part is a path.
const valueBytesMax = 1 << 20

// An incoming is one thing that the program has written: an answer or junk.
type incoming struct {
	answer cacheprog.Response
	junk   string // not empty: what was no answer
}

// next reads the next JSON value, or up to the end of the line what is none. It reads like the go command's decoder, which needs no
// line ends (cmd/go/internal/cache/prog.go, readLoop), but goes on where that gives up. An object that is no [cacheprog.Response] is
// junk that has, if it can be told, an ID.
func next(r *bufio.Reader) (incoming, error) {
	c, err := skipSpace(r)
	if err != nil {
		return incoming{}, err
	}
	if c != '{' {
		return incoming{junk: excerpt(readLine(r))}, nil // the next call finds an error again
	}
	value, err := readObject(r)
	if err != nil {
		return incoming{junk: excerpt(value)}, err
	}
	var in incoming
	if err := json.Unmarshal(value, &in.answer); err != nil {
		in.junk = fmt.Sprintf("%s (%v)", excerpt(value), err)
	}
	return in, nil
}

// skipSpace returns the next character that is no white space, without using it up.
func skipSpace(r *bufio.Reader) (byte, error) {
	for {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c, r.UnreadByte()
		}
	}
}

// readLine uses up a line of any length, and returns its beginning, without white space around it.
func readLine(r *bufio.Reader) []byte {
	line, err := r.ReadSlice('\n')
	line = bytes.TrimSpace(bytes.Clone(line))
	for err == bufio.ErrBufferFull {
		_, err = r.ReadSlice('\n')
	}
	return line
}

// readObject reads from an opening brace to the one that closes it.
func readObject(r *bufio.Reader) ([]byte, error) {
	var value []byte
	depth, inString, escaped := 0, false, false
	for {
		c, err := r.ReadByte()
		if err != nil {
			return value, err
		}
		if value = append(value, c); len(value) > valueBytesMax {
			return value, fmt.Errorf("answer of more than %d bytes", valueBytesMax)
		}
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = c == '\\', c != '"'
		case c == '"':
			inString = true
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return value, nil
			}
		}
	}
}

// excerpt is the beginning of what the program has written, for a message.
func excerpt(b []byte) string {
	const most = 120
	if len(b) > most {
		return fmt.Sprintf("%q…", b[:most])
	}
	return fmt.Sprintf("%q", b)
}
