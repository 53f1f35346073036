package cacheprog

import "io"

// ScanRequest and DecodeRequest are the two halves of parseRequest, for comparison.
func ScanRequest(line []byte) (r Request, ok bool) {
	var q request
	ok = scanRequest(line, &q)
	return q.export(), ok
}

func DecodeRequest(line []byte) (Request, error) {
	var q request
	err := decodeRequest(line, &q)
	return q.export(), err
}

func (q *request) export() Request {
	r := Request{ID: q.id, Command: q.cmd, BodySize: q.bodySize}
	if q.action.length > 0 {
		r.ActionID = q.action.id[:]
	}
	if q.output.length > 0 {
		r.OutputID = q.output.id[:]
	}
	return r
}

// A Parser parses requests into itself, as Serve does.
type Parser struct{ r request }

func (p *Parser) Parse(line []byte) error { return parseRequest(line, &p.r) }

func ScanResponse(line []byte) (r Response, ok bool) {
	ok = scanResponse(line, &r)
	return r, ok
}

var AppendRequest = appendRequest

func AppendHit(b []byte, id int64, e *Entry) []byte {
	return appendAnswer(b, &answer{id: id, hit: true, entry: *e})
}

func AppendAnswer(b []byte, id int64, errText string, miss bool, path string) []byte {
	return appendAnswer(b, &answer{id: id, err: errText, miss: miss, entry: Entry{DiskPath: path}})
}

// ReadBody reads a body's frame through a body of the given size, in reads of at most chunk bytes. It returns what is left of r.
func ReadBody(r io.Reader, size int64, chunk int) (data []byte, err error, rest []byte, skipErr error) {
	in := newInput(r)
	b := newBody(in, size)
	data, err = readChunks(b, chunk)
	b.release()
	if skipErr = b.skip(); skipErr == nil {
		rest, _ = io.ReadAll(in.r)
		rest = append(in.buf[in.start:in.end:in.end], rest...)
	}
	return data, err, rest, skipErr
}

func readChunks(r io.Reader, chunk int) (data []byte, err error) {
	p := make([]byte, chunk)
	for {
		n, err := r.Read(p)
		data = append(data, p[:n]...)
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return data, err
		}
	}
}
