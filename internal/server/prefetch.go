package server

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/tracing"
)

// keyBytes is the length of a manifest's key.
const keyBytes = 32

// pathKey is the manifest's key in the path, as the storage's blobs are named.
func pathKey(r *http.Request) (string, error) {
	key, err := hex.DecodeString(r.PathValue("key"))
	if err != nil || len(key) != keyBytes {
		return "", badRequest("a manifest's key has 64 hexadecimal digits")
	}
	return "manifest/" + hex.EncodeToString(key), nil
}

// findManifest returns the manifest of the first namespace that has one.
func (s *Server) findManifest(g auth.Grant, key string) (manifest.Manifest, error) {
	for _, ns := range g.Read {
		blob, err := s.storage.GetBlob(ns, key)
		if errors.Is(err, disk.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return manifest.Parse(blob)
	}
	return nil, disk.ErrNotFound
}

func (s *Server) getManifest(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	key, err := pathKey(r)
	if err != nil {
		return err
	}
	m, err := s.findManifest(g, key)
	if err != nil {
		if errors.Is(err, disk.ErrNotFound) {
			err = notFound("manifest")
		}
		return err
	}
	w.Header().Set("Content-Type", "application/vnd.larder.manifest")
	_, err = w.Write(m.Append(nil))
	return err
}

// mergeManifest adds a session to a manifest. A namespace's first manifest begins
// as the trusted one's.
func (s *Server) mergeManifest(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	key, err := pathKey(r)
	if err != nil {
		return err
	}
	if err := mayWrite(g); err != nil {
		return err
	}
	used, err := readActions(r)
	if err != nil {
		return err
	}
	s.manifests.Lock()
	defer s.manifests.Unlock()
	old, err := s.findManifest(g, key)
	if err != nil && !errors.Is(err, disk.ErrNotFound) && !errors.Is(err, manifest.ErrFormat) {
		return err
	}
	merged := old.Merge(used)
	if !slices.Equal(merged, old) {
		if err := s.storage.PutBlob(g.Write, key, merged.Append(nil)); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// filterHeader carries the tag of the filter that the client has, and of the one
// that it is given.
const filterHeader = "Larder-Filter"

// prefetch answers, in one round trip, with the plan of what it is about to send,
// the filter unless the client has it, and the entries of a manifest that the
// last session used and the client lacks. The request's body is the filter of what it has.
func (s *Server) prefetch(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	key, err := pathKey(r)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, haveBytesMax+1))
	if err != nil {
		return badRequest("read the request: " + err.Error())
	}
	if len(data) > haveBytesMax {
		return &apiError{status: http.StatusRequestEntityTooLarge, code: "too_large", message: "the filter is too large"}
	}
	have, err := manifest.ParseFilter(data)
	if err != nil {
		return badRequest(err.Error())
	}
	m, err := s.findManifest(g, key)
	if err != nil && !errors.Is(err, disk.ErrNotFound) && !errors.Is(err, manifest.ErrFormat) {
		return err
	}
	plan := s.plan(g, m, have, dear(r))

	filter, tag, err := s.filters.get(g.Read)
	if err != nil {
		return err
	}
	if len(filter) > entry.MaxBlob {
		filter, tag = nil, "" // the client asks
	} else if r.Header.Get(filterHeader) == tag {
		filter = nil
	}
	beginStream(w)
	w.Header().Set(filterHeader, tag)
	out := entry.NewStreamWriter(w)
	if err := errors.Join(out.Blob(plan.Append(nil)), out.Blob(filter), out.Flush()); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return err
	}
	span := tracing.SpanOf(r.Context())
	for _, p := range plan {
		if p.Age > 0 {
			break // the client asks for them if it needs one
		}
		sent, err := s.send(out, g, p.Action, func(*entry.Header) bool { return false })
		if err != nil {
			return err
		}
		count(span, sent)
	}
	return out.End()
}

// plan is what of a manifest is to be sent to a client.
func (s *Server) plan(g auth.Grant, m manifest.Manifest, have *manifest.Filter, tooDear func(*entry.Header) bool) manifest.Plan {
	plan := make(manifest.Plan, 0, len(m))
	for _, item := range m {
		if have.Has(item.Action) {
			continue
		}
		h, err := s.stat(g, item.Action)
		if err != nil || h.Alone || tooDear(&h) {
			continue
		}
		plan = append(plan, manifest.Planned{Action: item.Action, Stored: h.Stored, Cost: h.Cost, Age: item.Age})
	}
	return plan
}

func (s *Server) getFilter(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	filter, tag, err := s.filters.get(g.Read)
	if err != nil {
		return err
	}
	etag := `"` + tag + `"`
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", "application/vnd.larder.filter")
	_, err = io.Copy(w, bytes.NewReader(filter))
	return err
}

// capabilities says what the server can do, and what the client may.
func (s *Server) capabilities(w http.ResponseWriter, _ *http.Request, g auth.Grant) error {
	writeJSON(w, http.StatusOK, map[string]any{
		"version":   s.version,
		"api":       []string{"v1"},
		"name":      g.Name,
		"read":      g.Read,
		"write":     g.Write,
		"limits":    map[string]int64{"entry_bytes": entryBytesMax, "batch_gets": getsMax, "filter_bytes": haveBytesMax},
		"encodings": []string{"raw", "zstd"},
	})
	return nil
}
