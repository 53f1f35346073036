package cacheprog

import (
	"encoding/base64"
	"encoding/json"
	"time"
)

// idChars is the length of a 32-byte ID in base64.
const idChars = 44

// A request is a decoded Request that holds no pointers into the line, and no slices for the go command's three commands.
type request struct {
	id       int64
	cmd      Cmd
	bodySize int64
	action   idField[ActionID]
	output   idField[OutputID]
}

// An idField is an ID as it came: of use only if it was as long as IDs are.
type idField[T ~[32]byte] struct {
	id     T
	length int // as sent; 0 if absent
}

func (f *idField[T]) ok() bool { return f.length == len(f.id) }

func (f *idField[T]) set(b []byte) {
	f.length = len(b)
	if f.ok() {
		copy(f.id[:], b)
	}
}

// parseRequest decodes one line into r.
func parseRequest(line []byte, r *request) error {
	if scanRequest(line, r) {
		return nil
	}
	return decodeRequest(line, r)
}

// decodeRequest is the slow and general half of parseRequest.
func decodeRequest(line []byte, r *request) error {
	var req Request
	if err := json.Unmarshal(line, &req); err != nil {
		return err
	}
	*r = request{id: req.ID, cmd: req.Command, bodySize: req.BodySize}
	r.action.set(req.ActionID)
	r.output.set(req.OutputID)
	return nil
}

// scanRequest is the fast half of parseRequest: it knows the lines that go commands write, fields after Command in any order, and
// leaves all others alone.
func scanRequest(line []byte, r *request) bool {
	*r = request{}
	s := scanner{rest: line}
	if !s.lit(`{"ID":`) || !s.integer(&r.id) || !s.lit(`,"Command":"`) {
		return false
	}
	switch {
	case s.lit(`get"`):
		r.cmd = CmdGet
	case s.lit(`put"`):
		r.cmd = CmdPut
	case s.lit(`close"`):
		r.cmd = CmdClose
	default:
		return false
	}
	var object idField[OutputID]
	for s.lit(`,"`) {
		var ok bool
		switch { // a name that comes twice is none of the go command's
		case s.lit(`ActionID":`):
			ok = r.action.length == 0 && scanID(&s, &r.action)
		case s.lit(`OutputID":`):
			ok = r.output.length == 0 && scanID(&s, &r.output)
		case s.lit(`ObjectID":`):
			ok = object.length == 0 && scanID(&s, &object)
		case s.lit(`BodySize":`):
			ok = r.bodySize == 0 && s.integer(&r.bodySize)
		}
		if !ok {
			return false
		}
	}
	if r.output.length == 0 {
		r.output = object
	}
	return s.lit(`}`) && s.blank()
}

// scanResponse decodes what is usual, and reports whether it was that: answers to get, put and close, fields after ID in any order.
func scanResponse(line []byte, r *Response) bool {
	*r = Response{}
	s := scanner{rest: line}
	if !s.lit(`{"ID":`) || !s.integer(&r.ID) {
		return false
	}
	for s.lit(`,"`) {
		var ok bool
		switch { // a name that comes twice is left to encoding/json
		case s.lit(`Miss":true`):
			ok, r.Miss = !r.Miss, true
		case s.lit(`OutputID":`):
			var id idField[OutputID]
			ok = r.OutputID == nil && scanID(&s, &id)
			r.OutputID = id.id[:]
		case s.lit(`Size":`):
			ok = r.Size == 0 && s.integer(&r.Size)
		case s.lit(`Time":`):
			text, good := s.plainString()
			t := new(time.Time)
			ok = good && r.Time == nil && t.UnmarshalText(text) == nil
			r.Time = t
		case s.lit(`DiskPath":`):
			text, good := s.plainString()
			ok = good && r.DiskPath == ""
			r.DiskPath = string(text)
		}
		if !ok {
			return false
		}
	}
	return s.lit(`}`) && s.blank()
}

// A scanner uses up what it recognises from the front of a line.
type scanner struct{ rest []byte }

// lit uses up a literal text.
func (s *scanner) lit(text string) bool {
	if len(s.rest) < len(text) || string(s.rest[:len(text)]) != text {
		return false
	}
	s.rest = s.rest[len(text):]
	return true
}

// integer uses up a JSON integer that surely fits: no sign, no leading zero, at most 18 digits.
func (s *scanner) integer(v *int64) bool {
	n, i := int64(0), 0
	for i < len(s.rest) && i <= 18 && s.rest[i]-'0' <= 9 {
		n = n*10 + int64(s.rest[i]-'0')
		i++
	}
	if i == 0 || i > 18 || i > 1 && s.rest[0] == '0' {
		return false
	}
	s.rest = s.rest[i:]
	*v = n
	return true // a fraction or an exponent is no literal that may follow
}

// plainString uses up a JSON string of printable ASCII without escapes and returns what is between its quotes.
func (s *scanner) plainString() ([]byte, bool) {
	if !s.lit(`"`) {
		return nil, false
	}
	for i, c := range s.rest {
		switch {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text, true
		case c < ' ' || c > '~' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

// blank reports whether only white space is left.
func (s *scanner) blank() bool {
	for _, c := range s.rest {
		if !isSpace(c) {
			return false
		}
	}
	return true
}

// scanID uses up a JSON string that is 32 bytes in base64.
func scanID[T ~[32]byte](s *scanner, f *idField[T]) bool {
	if len(s.rest) < idChars+2 || s.rest[0] != '"' || s.rest[idChars+1] != '"' {
		return false
	}
	var raw [36]byte // Decode wants room for three bytes in each four, and eight at a time to be fast
	n, err := base64.StdEncoding.Decode(raw[:], s.rest[1:idChars+1])
	if err != nil || n != len(f.id) { // a raw line break, which Decode skips, makes n less
		return false
	}
	copy(f.id[:], raw[:])
	f.length = n
	s.rest = s.rest[idChars+2:]
	return true
}
