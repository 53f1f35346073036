package entry

import (
	"bufio"
	"encoding/binary"
	"io"
)

// A Kind says what a frame of a stream is. A stream is any number of frames and
// a last one of kind End; where that is missing the stream was cut off.
type Kind byte

const (
	Entry    Kind = 'E' // a header and its stored body
	Miss     Kind = 'M' // an action that is not there
	Withheld Kind = 'W' // an action that is there, but costs more to fetch than to build
	Blob     Kind = 'B' // other bytes, such as a manifest
	End      Kind = 'X' // the end, with the number of frames before it
)

// MaxBlob is the largest blob, in bytes: a manifest of some 100,000 actions.
const MaxBlob = 8 << 20

// A Frame is one frame of a stream.
type Frame struct {
	Kind     Kind
	Header   Header   // of an Entry
	ActionID ActionID // of an Entry, a Miss, a Withheld
	Blob     []byte
}

// A StreamWriter writes a stream. It is for one goroutine.
type StreamWriter struct {
	w      *bufio.Writer
	frames uint32
	space  []byte
}

// NewStreamWriter returns a StreamWriter to w, which it buffers.
func NewStreamWriter(w io.Writer) *StreamWriter {
	return &StreamWriter{w: bufio.NewWriterSize(w, 64<<10)}
}

// Entry writes an entry. The body must have h.Stored bytes; an error leaves the
// stream cut off.
func (s *StreamWriter) Entry(h *Header, body io.Reader) error {
	b, err := h.Append(append(s.space[:0], byte(Entry)))
	if err != nil {
		return err
	}
	s.space = b
	s.frames++
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	_, err = io.CopyN(s.w, body, h.Stored)
	return unexpected(err)
}

// Action writes a frame of kind Miss or Withheld.
func (s *StreamWriter) Action(k Kind, id ActionID) error {
	s.frames++
	s.space = append(append(s.space[:0], byte(k)), id[:]...)
	_, err := s.w.Write(s.space)
	return err
}

// Blob writes a blob of at most MaxBlob bytes.
func (s *StreamWriter) Blob(blob []byte) error {
	if len(blob) > MaxBlob {
		return formatError("blob of %d bytes", len(blob))
	}
	s.frames++
	s.space = binary.BigEndian.AppendUint32(append(s.space[:0], byte(Blob)), uint32(len(blob)))
	if _, err := s.w.Write(s.space); err != nil {
		return err
	}
	_, err := s.w.Write(blob)
	return err
}

// Flush sends what has been written so far on its way.
func (s *StreamWriter) Flush() error { return s.w.Flush() }

// End ends the stream.
func (s *StreamWriter) End() error {
	s.space = binary.BigEndian.AppendUint32(append(s.space[:0], byte(End)), s.frames)
	if _, err := s.w.Write(s.space); err != nil {
		return err
	}
	return s.w.Flush()
}

// A StreamReader reads a stream. It is for one goroutine.
type StreamReader struct {
	r      *bufio.Reader
	body   io.LimitedReader
	frames uint32
	ended  bool
}

// NewStreamReader returns a StreamReader from r, which it buffers.
func NewStreamReader(r io.Reader) *StreamReader {
	s := &StreamReader{r: bufio.NewReaderSize(r, 64<<10)}
	s.body.R = s.r
	return s
}

// Next reads up to the next frame, past what is left of the last one's body.
// After the End frame it answers io.EOF; a stream without one ends in
// io.ErrUnexpectedEOF. Errors about the bytes themselves wrap ErrFormat.
func (s *StreamReader) Next() (Frame, error) {
	if s.ended {
		return Frame{}, io.EOF
	}
	if s.body.N > 0 {
		if _, err := io.Copy(io.Discard, &s.body); err != nil {
			return Frame{}, err
		}
		if s.body.N > 0 {
			return Frame{}, io.ErrUnexpectedEOF
		}
	}
	kind, err := s.r.ReadByte()
	if err != nil {
		return Frame{}, unexpected(err)
	}
	f := Frame{Kind: Kind(kind)}
	switch f.Kind {
	case Entry:
		f.Header, err = ReadHeader(s.r)
		f.ActionID = f.Header.ActionID
		s.body.N = f.Header.Stored
	case Miss, Withheld:
		_, err = io.ReadFull(s.r, f.ActionID[:])
	case Blob:
		f.Blob, err = s.blob()
	case End:
		var n uint32
		if n, err = s.number(); err == nil && n != s.frames {
			err = formatError("stream of %d frames, %d came", n, s.frames)
		}
		s.ended = err == nil
	default:
		err = formatError("frame of kind %q", kind)
	}
	if err != nil {
		return Frame{}, unexpected(err)
	}
	s.frames++
	return f, nil
}

// Body reads the stored body of the entry that Next returned last. It ends in
// io.ErrUnexpectedEOF where the stream does.
func (s *StreamReader) Body() io.Reader { return (*streamBody)(s) }

type streamBody StreamReader

func (b *streamBody) Read(p []byte) (int, error) {
	if b.body.N == 0 {
		return 0, io.EOF
	}
	n, err := b.body.Read(p)
	if b.body.N > 0 {
		err = unexpected(err)
	}
	return n, err
}

func (s *StreamReader) number() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(s.r, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}

// blob reads a blob. It allocates as bytes come, not as they are promised.
func (s *StreamReader) blob() ([]byte, error) {
	n, err := s.number()
	if err != nil {
		return nil, err
	}
	if n > MaxBlob {
		return nil, formatError("blob of %d bytes", n)
	}
	blob, err := io.ReadAll(io.LimitReader(s.r, int64(n)))
	if err == nil && len(blob) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return blob, err
}
