package cacheprog

import (
	"encoding/base64"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// An answer is a Response without pointers.
type answer struct {
	id    int64
	err   string
	miss  bool
	hit   bool // entry is a get's; otherwise only its DiskPath counts
	entry Entry
}

// appendAnswer appends an answer as a line of JSON. Decoded with encoding/json it is what encoding/json would have encoded.
func appendAnswer(b []byte, a *answer) []byte {
	b = append(b, `{"ID":`...)
	b = strconv.AppendInt(b, a.id, 10)
	if a.err != "" {
		b = append(b, `,"Err":`...)
		b = appendString(b, a.err)
	}
	if a.miss {
		b = append(b, `,"Miss":true`...)
	}
	if a.hit {
		b = append(b, `,"OutputID":"`...)
		b = base64.StdEncoding.AppendEncode(b, a.entry.OutputID[:])
		b = append(b, '"')
		if a.entry.Size != 0 {
			b = append(b, `,"Size":`...)
			b = strconv.AppendInt(b, a.entry.Size, 10)
		}
		b = appendTime(b, a.entry.Time)
	}
	if a.entry.DiskPath != "" {
		b = append(b, `,"DiskPath":`...)
		b = appendString(b, a.entry.DiskPath)
	}
	return append(b, "}\n"...)
}

// appendTime appends the Time field, in UTC: then no zone can be one that JSON's times cannot have. A zero time, and a year that
// JSON's times cannot have, are left out, and the go command takes them for now.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return b
	}
	b = append(b, `,"Time":"`...)
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// appendRequest appends a request as the go command frames it: a line of JSON and an empty one. The body is the caller's.
func appendRequest(b []byte, r *Request) []byte {
	b = append(b, `{"ID":`...)
	b = strconv.AppendInt(b, r.ID, 10)
	b = append(b, `,"Command":`...)
	b = appendString(b, string(r.Command))
	b = appendBytes(b, `,"ActionID":"`, r.ActionID)
	b = appendBytes(b, `,"OutputID":"`, r.OutputID)
	b = appendBytes(b, `,"ObjectID":"`, r.ObjectID)
	if r.BodySize != 0 {
		b = append(b, `,"BodySize":`...)
		b = strconv.AppendInt(b, r.BodySize, 10)
	}
	return append(b, "}\n\n"...)
}

// appendBytes appends a field of base64, unless it is empty. The field's name comes with the opening quote.
func appendBytes(b []byte, name string, value []byte) []byte {
	if len(value) == 0 {
		return b
	}
	b = append(b, name...)
	b = base64.StdEncoding.AppendEncode(b, value)
	return append(b, '"')
}

// appendString appends a JSON string. What is not UTF-8 becomes U+FFFD, as in encoding/json.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(slices.Grow(b, len(s)+2), '"')
	done := 0 // s[:done] has been appended
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				b = append(b, s[done:i]...)
				if c < ' ' {
					b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
				} else {
					b = append(b, '\\', c)
				}
				done = i + 1
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[done:i]...)
			b = append(b, `\ufffd`...)
			done = i + 1
		}
		i += size
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}
