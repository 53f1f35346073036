package remote_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/remote"
)

// FuzzAnswers has a server answer anything to each request: it costs an error at most, and yields no more than was sent.
func FuzzAnswers(f *testing.F) {
	var status int
	var tag string
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", tag)
		w.Header().Set("Larder-Filter", tag)
		w.WriteHeader(status)
		w.Write(body)
	}))
	f.Cleanup(server.Close)
	id := entry.ActionID{1}
	blob := func(b []byte, blobs ...[]byte) []byte {
		for _, data := range blobs {
			b = append(append(b, 'B', 0, 0, 0, byte(len(data))), data...)
		}
		return b
	}
	f.Add(200, "tag", []byte(`{"stored":1,"refused":["00"],"version":"v1","read":["trusted"]}`))
	f.Add(200, `"tag"`, (*manifest.Filter)(nil).With([]entry.ActionID{id}).Append(nil))
	f.Add(200, "", blob(nil, manifest.Plan{{Action: id, Stored: 5}}.Append(nil), nil))
	f.Add(200, "", []byte("X\x00\x00\x00\x00"))
	f.Add(403, "", []byte(`{"error":{"code":"read_only","message":"no writing"}}`))
	f.Add(304, "tag", []byte(nil))
	f.Add(503, "\x00", []byte("<html>"))
	f.Fuzz(func(t *testing.T, code int, header string, answer []byte) {
		if code < 200 || code > 599 {
			return
		}
		status, tag, body = code, header, answer
		c, err := remote.New(remote.Options{URL: server.URL, Version: "v1"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx := context.Background()
		drain := func(s *remote.Stream) {
			defer s.Close()
			for {
				frame, err := s.Next()
				if err != nil {
					return
				}
				if len(frame.Blob) > len(answer) {
					t.Errorf("a blob of %d bytes in %d", len(frame.Blob), len(answer))
				}
				if frame.Kind == entry.Entry {
					if n, _ := io.Copy(io.Discard, s.Body()); n > int64(len(answer)) {
						t.Errorf("a body of %d bytes in %d", n, len(answer))
					}
				}
				if frame.Kind == entry.End {
					return
				}
			}
		}
		if s, err := c.Get(ctx, []entry.ActionID{id}); err == nil {
			drain(s)
		}
		if p, err := c.Prefetch(ctx, [32]byte{1}, nil, "old"); err == nil {
			if p.Filter.Len()+len(p.Plan) > len(answer) {
				t.Errorf("%d and %d actions in %d bytes", p.Filter.Len(), len(p.Plan), len(answer))
			}
			drain(p.Stream)
		}
		if filter, _, err := c.Filter(ctx, "old"); err == nil && filter.Len() > len(answer) {
			t.Errorf("%d fingerprints in %d bytes", filter.Len(), len(answer))
		}
		if _, err := c.Capabilities(ctx); err == nil && code >= 300 {
			t.Errorf("capabilities of status %d", code)
		}
		if n, _, err := c.Put(ctx, func(*entry.StreamWriter) error { return nil }); err == nil && n < 0 {
			t.Errorf("%d were stored of none", n)
		}
		if err := c.MergeManifest(ctx, [32]byte{1}, []entry.ActionID{id}); err == nil && code >= 300 {
			t.Errorf("a manifest was taken with status %d", code)
		}
	})
}
