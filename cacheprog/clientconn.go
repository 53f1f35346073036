package cacheprog

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// bodyChunkBytes is how much of a body is encoded and written at once: a Linux pipe's content, in base64.
const bodyChunkBytes = 48 << 10 // a multiple of 3

// send sends a request and waits for its answer.
func (c *Client) send(ctx context.Context, r *Request) (Response, error) {
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return Response{}, context.Cause(ctx)
	case <-c.done:
		return Response{}, c.failure()
	}
	answered := make(chan Response, 1)
	err := c.register(r, answered)
	if err == nil {
		err = c.write(ctx, r)
	}
	<-c.writing
	if err != nil {
		return Response{}, err
	}
	select {
	case res, ok := <-answered:
		switch {
		case !ok:
			return Response{}, c.failure()
		case res.Err != "":
			return Response{}, errors.New(res.Err)
		}
		return res, nil
	case <-ctx.Done(): // the answer, when it comes, goes to a channel that nobody reads
		return Response{}, context.Cause(ctx)
	}
}

// register gives a request its ID.
func (c *Client) register(r *Request, answered chan<- Response) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.lastID++
	r.ID = c.lastID
	c.pending[r.ID] = answered
	return nil
}

// write writes a request with its body. If the body cannot be had, or ctx ends, it closes the body's string early, so that the
// stream stays in step and the program sees that the body is short. An error of the connection ends the session.
func (c *Client) write(ctx context.Context, r *Request) error {
	c.buf = appendRequest(c.buf[:0], r)
	if r.BodySize == 0 {
		return c.flush()
	}
	c.buf = append(c.buf, '"')
	raw := make([]byte, min(r.BodySize, bodyChunkBytes))
	for left := r.BodySize; left > 0; {
		n, err := io.ReadFull(r.Body, raw[:min(left, int64(len(raw)))])
		if err != nil {
			err = fmt.Errorf("read body: %w", noEOF(err))
		} else {
			err = context.Cause(ctx)
		}
		if err != nil {
			c.buf = append(c.buf, "\"\n"...)
			return errors.Join(err, c.flush())
		}
		left -= int64(n)
		c.buf = base64.StdEncoding.AppendEncode(c.buf, raw[:n])
		if left > 0 {
			if err := c.flush(); err != nil {
				return err
			}
			c.buf = c.buf[:0]
		}
	}
	c.buf = append(c.buf, "\"\n"...)
	return c.flush()
}

// flush writes the writer's buffer.
func (c *Client) flush() error {
	if _, err := c.w.Write(c.buf); err != nil {
		c.mu.Lock()
		closing := c.closing
		c.mu.Unlock()
		if closing {
			return errEnded
		}
		c.fail(fmt.Errorf("write to cache program: %w", err))
		return c.failure() // which may be older, and the reason
	}
	return nil
}

// readAnswers hands out the answers until there are no more.
func (c *Client) readAnswers() {
	defer close(c.done)
	defer c.r.Close() // a program that still writes is not to wait for a reader
	in := newInput(c.r)
	for {
		var res Response
		if err := readResponse(in, &res); err != nil {
			c.fail(c.readError(err))
			return
		}
		c.mu.Lock()
		answered, ok := c.pending[res.ID]
		delete(c.pending, res.ID)
		c.mu.Unlock()
		if !ok {
			c.fail(fmt.Errorf("cache program answered unknown request %d", res.ID))
			return
		}
		answered <- res
	}
}

// readError says what the end of the answers means.
func (c *Client) readError(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing: // the go command does not look at what comes now either
		return errEnded
	case err == io.EOF:
		return fmt.Errorf("cache program ended before close, %d requests unanswered: %w", len(c.pending), io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read from cache program: %w", err)
}

// fail ends the session with an error, unless it has ended before, and with it all calls that wait.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	for _, answered := range c.pending {
		close(answered)
	}
	c.pending = nil
}

// failure returns why the session has ended.
func (c *Client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// abort ends the session at once.
func (c *Client) abort(err error) {
	c.fail(err)
	if c.process != nil {
		c.process.kill()
	}
	c.w.Close()
	c.r.Close()
}

// readResponse reads one JSON object. Like the go command's decoder it needs no line ends, and does not wait for them.
func readResponse(in *input, r *Response) error {
	if _, err := in.peek(); err != nil {
		return err
	}
	rest := in.buf[in.start:in.end]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i+1]
	}
	if scanResponse(rest, r) {
		in.start += len(rest)
		return nil
	}
	return decodeResponse(in, r)
}

// decodeResponse is the slow and general half of readResponse. It knows what is missing of an object as soon as encoding/json does.
func decodeResponse(in *input, r *Response) error {
	buffered := bytes.NewReader(bytes.Clone(in.buf[in.start:in.end]))
	more := &io.LimitedReader{R: in.r, N: lineBytesMax}
	d := json.NewDecoder(io.MultiReader(buffered, more))
	*r = Response{}
	if err := d.Decode(r); err != nil {
		if more.N == 0 {
			return errLineTooLong
		}
		return noEOF(err)
	}
	var left bytes.Buffer
	left.ReadFrom(d.Buffered()) // from memory, as is the next
	left.ReadFrom(buffered)
	in.buf = left.Bytes()
	in.start, in.end = 0, left.Len()
	if len(in.buf) < readBufferBytes {
		in.buf = append(in.buf, make([]byte, readBufferBytes-len(in.buf))...)
	}
	return nil
}
