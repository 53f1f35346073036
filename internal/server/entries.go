package server

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/tracing"
)

// Content types of what is not JSON.
const (
	entryType  = "application/vnd.larder.entry"
	streamType = "application/vnd.larder.stream"
)

// lookup finds an action in the first namespace that has it.
func (s *Server) lookup(g auth.Grant, id entry.ActionID) (*disk.Item, error) {
	for _, ns := range g.Read {
		item, err := s.storage.Get(ns, id)
		if !errors.Is(err, disk.ErrNotFound) {
			return item, err
		}
	}
	return nil, disk.ErrNotFound
}

// stat is lookup without the body.
func (s *Server) stat(g auth.Grant, id entry.ActionID) (entry.Header, error) {
	for _, ns := range g.Read {
		h, err := s.storage.Stat(ns, id)
		if !errors.Is(err, disk.ErrNotFound) {
			return h, err
		}
	}
	return entry.Header{}, disk.ErrNotFound
}

// withBody passes an entry with its verified body to send. An entry that turns
// out to be damaged is deleted, and not found.
func (s *Server) withBody(g auth.Grant, id entry.ActionID, send func(h *entry.Header, stored io.Reader) error) error {
	item, err := s.lookup(g, id)
	if err != nil {
		return err
	}
	defer item.Close()
	h := &item.Header
	if h.Stored > body.InRAM {
		if err := item.Verify(); err != nil {
			return s.damaged(g, id, err)
		}
		return send(h, item.Body())
	}
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	if int64(cap(*buf)) < h.Stored {
		*buf = make([]byte, h.Stored)
	}
	stored := (*buf)[:h.Stored]
	if _, err := io.ReadFull(item.Body(), stored); err != nil {
		return s.damaged(g, id, err)
	}
	if entry.Checksum(stored) != h.Sum {
		return s.damaged(g, id, errors.New("checksum differs"))
	}
	return send(h, bytes.NewReader(stored))
}

// damaged deletes an entry whose body is not what it was.
func (s *Server) damaged(g auth.Grant, id entry.ActionID, why error) error {
	s.metrics.damaged.Inc()
	s.log.Error("a stored body is damaged; the entry is deleted", "action", id, "error", why)
	for _, ns := range g.Read {
		if _, err := s.storage.Stat(ns, id); err == nil {
			if err := s.storage.Delete(ns, id); err != nil {
				return err
			}
			break
		}
	}
	return disk.ErrNotFound
}

func pathAction(r *http.Request) (id entry.ActionID, err error) {
	text := r.PathValue("action")
	if len(text) != 2*len(id) {
		return id, badRequest("an action ID has 64 hexadecimal digits")
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil {
		return id, badRequest("an action ID has 64 hexadecimal digits")
	}
	return id, nil
}

func (s *Server) getEntry(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	id, err := pathAction(r)
	if err != nil {
		return err
	}
	span := tracing.SpanOf(r.Context())
	err = s.withBody(g, id, func(h *entry.Header, stored io.Reader) error {
		head, err := h.Append(nil)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", entryType)
		w.Header().Set("Content-Length", strconv.FormatInt(int64(len(head))+h.Stored, 10))
		s.metrics.hit(g, h.Stored)
		count(span, entry.Entry)
		if _, err := w.Write(head); err != nil {
			return err
		}
		_, err = io.CopyN(w, stored, h.Stored)
		return err
	})
	if errors.Is(err, disk.ErrNotFound) {
		s.metrics.miss(g)
		count(span, entry.Miss)
		return notFound("entry")
	}
	return err
}

func mayWrite(g auth.Grant) error {
	if g.Write == "" {
		return &apiError{status: http.StatusForbidden, code: "read_only", message: "the token " + g.Name + " may not write"}
	}
	return nil
}

func (s *Server) putEntry(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	id, err := pathAction(r)
	if err != nil {
		return err
	}
	if err := mayWrite(g); err != nil {
		return err
	}
	h, err := entry.ReadHeader(r.Body)
	if err != nil {
		return badEntry(err)
	}
	if h.ActionID != id {
		return badRequest("the entry is another action's")
	}
	b := s.storage.NewBatch(g.Write)
	defer b.Close()
	if err := s.add(b, g, &h, r.Body); err != nil {
		return err
	}
	if err := b.Commit(); err != nil {
		return err
	}
	s.filters.add(g.Write, id)
	s.stored(g, h)
	tracing.SpanOf(r.Context()).Add(spanStored, 1)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// badEntry is the answer to an entry that is none, or whose sending failed.
func badEntry(err error) error {
	if refused(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return &apiError{status: http.StatusBadRequest, code: "bad_request", message: err.Error(), cause: err}
	}
	return err
}

var errTooLarge = errors.New("too large")

// refused tells an entry that is not what it should be from one that did not come.
func refused(err error) bool {
	var mismatch *entry.MismatchError
	return errors.Is(err, entry.ErrFormat) || errors.As(err, &mismatch) || errors.Is(err, errTooLarge)
}

// add verifies a body that comes from r and adds its entry to a batch. The writer
// is who the server knows it is, whatever the entry says.
func (s *Server) add(b *disk.Batch, g auth.Grant, h *entry.Header, r io.Reader) error {
	if h.Stored > entryBytesMax {
		return &apiError{
			status: http.StatusRequestEntityTooLarge, code: "too_large", cause: errTooLarge,
			message: fmt.Sprintf("a body of %d bytes; the limit is %d", h.Stored, int64(entryBytesMax)),
		}
	}
	h.Writer = g.Name
	s.metrics.putBytes.Observe(float64(h.Stored))
	if h.Stored > body.InRAM || h.Size > body.InRAM {
		v := body.Verifying(h, r)
		defer v.Close()
		return badEntry(b.Add(h, v))
	}
	stored, plain := s.buffers.Get().(*[]byte), s.buffers.Get().(*[]byte)
	defer s.buffers.Put(stored)
	defer s.buffers.Put(plain)
	if int64(cap(*stored)) < h.Stored {
		*stored = make([]byte, h.Stored)
	}
	if int64(cap(*plain)) < h.Size {
		*plain = make([]byte, h.Size)
	}
	bytesIn := (*stored)[:h.Stored]
	if _, err := io.ReadFull(r, bytesIn); err != nil {
		return badEntry(err)
	}
	if err := s.codec.Verify(h, bytesIn, *plain); err != nil {
		return badEntry(err)
	}
	return b.Add(h, bytes.NewReader(bytesIn))
}

// stored notes entries that were stored.
func (s *Server) stored(g auth.Grant, headers ...entry.Header) {
	s.history.NotePuts(g.Write, headers)
	s.metrics.puts(g, headers)
}

// Limits of one commit of a batch put: large enough that its syncs are few, small
// enough that a slow client does not lose much when it is cut off.
const (
	commitEntries = 500
	commitBytes   = 64 << 20
)

// batchPut takes a stream of entries. What was committed stays, even if the rest
// fails: the client sends it again, or does not.
func (s *Server) batchPut(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	if err := mayWrite(g); err != nil {
		return err
	}
	in, span := entry.NewStreamReader(r.Body), tracing.SpanOf(r.Context())
	var answer struct {
		Stored  int      `json:"stored"`
		Refused []string `json:"refused,omitempty"` // action IDs whose bodies were wrong
	}
	for more := true; more; {
		b := s.storage.NewBatch(g.Write)
		var ids []entry.ActionID
		var headers []entry.Header
		var size int64
		for len(ids) < commitEntries && size < commitBytes {
			f, err := in.Next()
			if err != nil {
				b.Close()
				return badEntry(err)
			}
			if f.Kind == entry.End {
				more = false
				break
			}
			if f.Kind != entry.Entry {
				b.Close()
				return badRequest("a stream of puts has entries only")
			}
			err = s.add(b, g, &f.Header, in.Body())
			if refused(err) {
				answer.Refused = append(answer.Refused, f.ActionID.String())
				continue
			}
			if err != nil {
				b.Close()
				return err
			}
			ids, headers = append(ids, f.ActionID), append(headers, f.Header)
			size += f.Header.Stored
		}
		err := b.Commit()
		b.Close()
		if err != nil {
			return err
		}
		answer.Stored += len(ids)
		s.filters.add(g.Write, ids...)
		s.stored(g, headers...)
		span.Add(spanStored, int64(len(ids)))
	}
	span.Number("larder.refused", int64(len(answer.Refused)))
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// readActions reads a body of action IDs, 32 bytes each.
func readActions(r *http.Request) ([]entry.ActionID, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, getsMax*entry.HashSize+1))
	if err != nil {
		return nil, badRequest("read the request: " + err.Error())
	}
	if len(data)%entry.HashSize != 0 || len(data) > getsMax*entry.HashSize {
		return nil, badRequest(fmt.Sprintf("a list of action IDs has a multiple of %d bytes, %d at most", entry.HashSize, getsMax*entry.HashSize))
	}
	ids := make([]entry.ActionID, 0, len(data)/entry.HashSize)
	for ; len(data) > 0; data = data[entry.HashSize:] {
		ids = append(ids, entry.ActionID(data))
	}
	return ids, nil
}

// bandwidthHeader is what a client measured, in bytes a second. With it, entries
// that would take longer to send than they took to build are withheld.
const bandwidthHeader = "Larder-Bandwidth"

// dear returns whether an entry costs more to send than to build.
func dear(r *http.Request) func(h *entry.Header) bool {
	bandwidth, err := strconv.ParseInt(r.Header.Get(bandwidthHeader), 10, 64)
	if err != nil || bandwidth <= 0 {
		return func(*entry.Header) bool { return false }
	}
	return func(h *entry.Header) bool {
		return h.Cost >= entry.CostLeast && time.Duration(float64(h.Stored)/float64(bandwidth)*float64(time.Second)) > h.Cost
	}
}

func (s *Server) batchGet(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	ids, err := readActions(r)
	if err != nil {
		return err
	}
	beginStream(w)
	out := entry.NewStreamWriter(w)
	tooDear, span := dear(r), tracing.SpanOf(r.Context())
	for _, id := range ids {
		sent, err := s.send(out, g, id, tooDear)
		if err != nil {
			return err
		}
		count(span, sent)
	}
	return out.End()
}

// send sends one frame for an action, and returns which.
func (s *Server) send(out *entry.StreamWriter, g auth.Grant, id entry.ActionID, tooDear func(*entry.Header) bool) (sent entry.Kind, err error) {
	sent = entry.Entry
	err = s.withBody(g, id, func(h *entry.Header, stored io.Reader) error {
		if tooDear(h) {
			sent = entry.Withheld
			return out.Action(entry.Withheld, id)
		}
		s.metrics.hit(g, h.Stored)
		return out.Entry(h, stored)
	})
	if errors.Is(err, disk.ErrNotFound) {
		s.metrics.miss(g)
		return entry.Miss, out.Action(entry.Miss, id)
	}
	return sent, err
}
