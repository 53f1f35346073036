package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/stats"
)

// A Stream is a stream that a server sends. It must be closed.
type Stream struct {
	*entry.StreamReader
	body io.Closer
}

// Close ends the stream, wherever it is.
func (s *Stream) Close() error { return s.body.Close() }

func (c *Client) stream(ctx context.Context, r call) (*Stream, http.Header, error) {
	r.method, r.start, r.busy = http.MethodPost, c.limits.start, c.limits.busyForBuild
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	return &Stream{entry.NewStreamReader(resp.Body), resp.Body}, resp.Header, nil
}

// bandwidth is the header that lets the server withhold what is not worth sending.
func (c *Client) bandwidth() http.Header {
	h := make(http.Header)
	if b := c.Speed.Bandwidth(); b > 0 {
		h.Set("Larder-Bandwidth", strconv.FormatInt(b, 10))
	}
	return h
}

// Get asks for entries. The stream has a frame for each, in their order.
func (c *Client) Get(ctx context.Context, ids []entry.ActionID) (*Stream, error) {
	s, _, err := c.stream(ctx, call{path: "v1/get", header: c.bandwidth(), body: join(ids), typical: true})
	return s, err
}

// Probe asks for an entry that is not there, as a build would.
func (c *Client) Probe(ctx context.Context) error {
	var id entry.ActionID
	rand.Read(id[:])
	s, err := c.Get(ctx, []entry.ActionID{id})
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		if f, err := s.Next(); err != nil || f.Kind == entry.End {
			return err
		}
	}
}

func join(ids []entry.ActionID) []byte {
	b := make([]byte, 0, len(ids)*entry.HashSize)
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

// A Prefetch is what a server is about to send for a manifest.
type Prefetch struct {
	Plan   manifest.Plan
	Filter *manifest.Filter // nil: the one of the given tag is current, or it is too large
	Tag    string           // of the current filter; "" is unknown
	*Stream
}

// Prefetch asks for the entries of a manifest, but not for those in have. tag is
// that of the filter that the caller has. A manifest that is not there has no
// entries.
func (c *Client) Prefetch(ctx context.Context, key [32]byte, have *manifest.Filter, tag string) (*Prefetch, error) {
	header := c.bandwidth()
	header.Set("Larder-Filter", tag)
	s, answered, err := c.stream(ctx, call{path: "v1/prefetch/" + hex.EncodeToString(key[:]), header: header, body: have.Append(nil)})
	if err != nil {
		return nil, err
	}
	p := &Prefetch{Tag: answered.Get("Larder-Filter"), Stream: s}
	if err := p.readHead(); err != nil {
		s.Close()
		return nil, fmt.Errorf("prefetch: %w", err)
	}
	return p, nil
}

// readHead reads the two blobs that come first.
func (p *Prefetch) readHead() error {
	var blobs [2][]byte
	for i := range blobs {
		f, err := p.Next()
		if err != nil {
			return err
		}
		if f.Kind != entry.Blob {
			return fmt.Errorf("%w: frame %q instead of a blob", entry.ErrFormat, f.Kind)
		}
		blobs[i] = f.Blob
	}
	var err error
	if p.Plan, err = manifest.ParsePlan(blobs[0]); err == nil && len(blobs[1]) > 0 {
		p.Filter, err = manifest.ParseFilter(blobs[1])
	}
	return err
}

// Filter asks for the miss filter. tag is that of the one that the caller has; if
// it is current, the answer is nil and tag.
func (c *Client) Filter(ctx context.Context, tag string) (*manifest.Filter, string, error) {
	header := make(http.Header)
	if tag != "" {
		header.Set("If-None-Match", `"`+tag+`"`)
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "v1/filter", header: header, start: c.limits.start, busy: c.limits.busyForBuild})
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return nil, tag, nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, filterBytesMax))
	if err != nil {
		return nil, "", fmt.Errorf("read the filter: %w", err)
	}
	filter, err := manifest.ParseFilter(data)
	return filter, strings.Trim(resp.Header.Get("ETag"), `"`), err
}

// Put sends entries: write writes them to the stream, and may be stopped in the
// middle. refused are those that the server found to be wrong.
func (c *Client) Put(ctx context.Context, write func(*entry.StreamWriter) error) (stored int, refused []string, err error) {
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		w := entry.NewStreamWriter(pw)
		err := write(w)
		if err == nil {
			err = w.End()
		}
		pw.CloseWithError(err)
		written <- err
	}()
	resp, err := c.do(ctx, call{method: http.MethodPost, path: "v1/put", pipe: pr, start: c.limits.put})
	pr.CloseWithError(io.ErrClosedPipe) // whatever happened, the writer is to end
	writeErr := <-written
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if writeErr != nil {
		return 0, nil, writeErr
	}
	var answer struct {
		Stored  int
		Refused []string
	}
	if err := decode(resp, &answer); err != nil {
		return 0, nil, fmt.Errorf("put entries: %w", err)
	}
	return answer.Stored, answer.Refused, nil
}

func decode(resp *http.Response, v any) error {
	return json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(v)
}

// MergeManifest adds a session's actions to a manifest.
func (c *Client) MergeManifest(ctx context.Context, key [32]byte, used []entry.ActionID) error {
	resp, err := c.do(ctx, call{method: http.MethodPost, path: "v1/manifest/" + hex.EncodeToString(key[:]), body: join(used), start: c.limits.put, busy: c.limits.busyElse})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") { // somebody else's page, a portal's
		return fmt.Errorf("merge a manifest: %w", &StatusError{Status: resp.StatusCode})
	}
	return nil
}

// Report tells what sessions did.
func (c *Client) Report(ctx context.Context, reports []stats.Report) error {
	body, err := json.Marshal(map[string]any{"version": stats.ReportVersion, "sessions": reports})
	if err != nil {
		return fmt.Errorf("encode reports: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	resp, err := c.do(ctx, call{method: http.MethodPost, path: "v1/sessions", header: header, body: body, start: c.limits.put, busy: c.limits.busyElse})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ Stored int }
	if err := decode(resp, &answer); err != nil {
		return fmt.Errorf("report sessions: %w", err)
	}
	return nil
}

// Capabilities are what the server says of itself and of the client.
type Capabilities struct {
	Version string   `json:"version"`
	Name    string   `json:"name"` // of the token
	Read    []string `json:"read"`
	Write   string   `json:"write"` // "" if it may not

	Time time.Time `json:"-"` // the server's clock, in whole seconds; zero: unknown
}

// Capabilities asks for them. It is what the breaker probes with.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	var answer Capabilities
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "v1/capabilities", start: c.limits.start, busy: c.limits.busyForBuild})
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	if err := decode(resp, &answer); err != nil {
		return answer, fmt.Errorf("ask for capabilities: %w", err)
	}
	if token, ok := TokenOf(ctx); ok {
		c.writers.note(token, Writer{answer.Name, answer.Write}) // of a server that does not say it with each answer
	}
	answer.Time, _ = http.ParseTime(resp.Header.Get("Date"))
	return answer, nil
}
