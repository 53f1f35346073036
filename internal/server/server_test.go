package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/server"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/tracing"
)

// A testServer is a server on a directory, with tokens that are their roles' names.
type testServer struct {
	*httptest.Server
	t       *testing.T
	storage *disk.Store
}

func start(t *testing.T, o disk.Options) *testServer {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Reserve = 1 // 64 MiB for each test would be slow
	storage, err := disk.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	tracer := tracing.Open("larder-server", "v1.2.3", slog.New(slog.DiscardHandler)) // nil, but where a test says otherwise
	api := server.New(server.Options{
		Storage: storage, Version: "v1.2.3", Log: slog.New(slog.DiscardHandler), Tracer: tracer,
		Authenticate: func(token string) (auth.Grant, error) {
			switch token {
			case "":
				return auth.Grant{}, auth.ErrNoToken
			case "main":
				return auth.Grant{Name: "main", Read: []string{"trusted"}, Write: "trusted"}, nil
			case "pr":
				return auth.Grant{Name: "pr", Read: []string{"pr", "trusted"}, Write: "pr"}, nil
			case "reader":
				return auth.Grant{Name: "reader", Read: []string{"trusted"}}, nil
			case "ops":
				return auth.Grant{Name: "ops", Read: []string{"trusted"}, Write: "trusted", Admin: true}, nil
			case "late":
				return auth.Grant{}, auth.ErrExpired
			}
			return auth.Grant{}, auth.ErrUnknown
		},
	})
	s := &testServer{httptest.NewServer(api), t, storage}
	t.Cleanup(func() {
		s.Close()
		tracer.Close()
		storage.Close()
	})
	return s
}

// do makes a request and returns the status and the body.
func (s *testServer) do(token, method, path string, header http.Header, in []byte) (int, http.Header, []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, s.URL+path, bytes.NewReader(in))
	if err != nil {
		s.t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, resp.Header, out
}

func action(n int) entry.ActionID { return sha256.Sum256(fmt.Append(nil, "action", n)) }

// packed is an encoded entry.
func packed(t testing.TB, id entry.ActionID, plain []byte, change func(*entry.Header)) []byte {
	t.Helper()
	h := entry.Header{ActionID: id, OutputID: sha256.Sum256(plain), Time: time.Unix(1700000000, 5), Cost: time.Second, Writer: "a liar"}
	stored := body.NewCodec().Pack(&h, plain, nil)
	if change != nil {
		change(&h)
	}
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, stored...)
}

var (
	small = []byte(strings.Repeat("small body ", 30))
	large = bytes.Repeat([]byte("a body that goes to a file of its own. "), 500_000) // 19 MB
)

func TestPutAndGet(t *testing.T) {
	s := start(t, disk.Options{})
	for i, plain := range [][]byte{{}, small, large} {
		path := "/v1/entry/" + action(i).String()
		if code, _, out := s.do("main", "PUT", path, nil, packed(t, action(i), plain, nil)); code != http.StatusNoContent {
			t.Fatalf("put %d: %d %s", i, code, out)
		}
		code, header, out := s.do("reader", "GET", path, nil, nil)
		if code != http.StatusOK || header.Get("Content-Type") != "application/vnd.larder.entry" {
			t.Fatalf("get %d: %d %v", i, code, header)
		}
		h, stored, err := entry.ParseHeader(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := body.NewCodec().Verify(&h, stored, nil); err != nil {
			t.Error(err)
		}
		if h.Writer != "main" || h.Cost != time.Second || !h.Time.Equal(time.Unix(1700000000, 5)) || h.Size != int64(len(plain)) {
			t.Errorf("header %+v", h)
		}
	}
}

// errorOf is the code in an error's answer.
func errorOf(t *testing.T, out []byte) string {
	t.Helper()
	var answer struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(out, &answer); err != nil || answer.Error.Message == "" || len(out) > 1000 {
		t.Errorf("error %q: %v", out, err)
	}
	return answer.Error.Code
}

func TestErrors(t *testing.T) {
	s := start(t, disk.Options{})
	id := action(1)
	path := "/v1/entry/" + id.String()
	good := packed(t, id, small, nil)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	key := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		token, method, path string
		body                []byte
		status              int
		code                string
	}{
		{"", "GET", path, nil, 401, "no_token"},
		{"guess", "GET", path, nil, 401, "unknown_token"},
		{"late", "GET", path, nil, 401, "expired_token"},
		{"main", "GET", path, nil, 404, "not_found"},
		{"main", "GET", "/v1/entry/xyz", nil, 400, "bad_request"},
		{"main", "GET", "/v1/nothing", nil, 404, "no_such_path"},
		{"reader", "PUT", path, good, 403, "read_only"},
		{"reader", "POST", "/v1/put", nil, 403, "read_only"},
		{"reader", "POST", "/v1/manifest/" + key, nil, 403, "read_only"},
		{"main", "GET", "/metrics", nil, 403, "not_admin"},
		{"main", "PUT", path, nil, 400, "bad_request"},
		{"main", "PUT", path, good[:50], 400, "bad_request"},
		{"main", "PUT", path, good[:len(good)-1], 400, "bad_request"},
		{"main", "PUT", path, flipped, 400, "bad_request"},
		{"main", "PUT", path, packed(t, id, small, func(h *entry.Header) { h.OutputID[0]++ }), 400, "bad_request"},
		{"main", "PUT", path, packed(t, id, large, func(h *entry.Header) { h.OutputID[0]++ }), 400, "bad_request"},
		{"main", "PUT", path, packed(t, action(2), small, nil), 400, "bad_request"},
		{"main", "PUT", path, packed(t, id, small, func(h *entry.Header) { h.Encoding, h.Size, h.Stored = entry.Raw, 3<<30, 3<<30 }), 413, "too_large"},
		{"main", "POST", "/v1/get", []byte("short"), 400, "bad_request"},
		{"main", "POST", "/v1/get", make([]byte, 32*100_001), 400, "bad_request"},
		{"main", "POST", "/v1/put", []byte("Z"), 400, "bad_request"},
		{"main", "GET", "/v1/manifest/" + key, nil, 404, "not_found"},
		{"main", "GET", "/v1/manifest/abc", nil, 400, "bad_request"},
		{"main", "POST", "/v1/prefetch/" + key, []byte{9}, 400, "bad_request"},
		{"main", "POST", "/v1/prefetch/" + key, make([]byte, 17<<20), 413, "too_large"},
	} {
		status, _, out := s.do(tt.token, tt.method, tt.path, nil, tt.body)
		if code := errorOf(t, out); status != tt.status || code != tt.code {
			t.Errorf("%s %s %s with %d bytes: %d %s, want %d %s", tt.token, tt.method, tt.path, len(tt.body), status, out, tt.status, tt.code)
		}
	}
	if _, err := s.storage.Stat("trusted", id); !errors.Is(err, disk.ErrNotFound) {
		t.Errorf("something was stored: %v", err)
	}
}

// frames reads a stream to its end: a letter for each frame, and the bodies.
func frames(t *testing.T, out []byte) (kinds string, blobs [][]byte, entries map[entry.ActionID][]byte) {
	t.Helper()
	entries = make(map[entry.ActionID][]byte)
	r := entry.NewStreamReader(bytes.NewReader(out))
	codec := body.NewCodec()
	for {
		f, err := r.Next()
		if err != nil {
			t.Fatalf("after %s: %v", kinds, err)
		}
		kinds += string(f.Kind)
		switch f.Kind {
		case entry.Blob:
			blobs = append(blobs, f.Blob)
		case entry.Entry:
			stored, err := io.ReadAll(r.Body())
			if err != nil {
				t.Fatal(err)
			}
			plain, err := codec.Unpack(&f.Header, stored, nil)
			if err != nil {
				t.Fatal(err)
			}
			entries[f.ActionID] = bytes.Clone(plain)
		case entry.End:
			return kinds, blobs, entries
		}
	}
}

// stream encodes entries as a batch put's body.
func stream(t *testing.T, entries ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := entry.NewStreamWriter(&b)
	for _, e := range entries {
		h, stored, err := entry.ParseHeader(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Entry(&h, bytes.NewReader(stored)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func actionList(numbers ...int) (b []byte) {
	for _, n := range numbers {
		id := action(n)
		b = append(b, id[:]...)
	}
	return b
}

func TestBatches(t *testing.T) {
	s := start(t, disk.Options{})
	wrong := packed(t, action(3), small, func(h *entry.Header) { h.OutputID[0]++ })
	code, _, out := s.do("main", "POST", "/v1/put", nil, stream(t, packed(t, action(1), small, nil), wrong, packed(t, action(2), large, nil)))
	if want := `{"stored":2,"refused":["` + action(3).String() + `"]}`; code != 200 || strings.TrimSpace(string(out)) != want {
		t.Fatalf("put: %d %s, want %s", code, out, want)
	}
	_, _, out = s.do("reader", "POST", "/v1/get", nil, actionList(3, 2, 1, 4))
	kinds, _, entries := frames(t, out)
	if kinds != "MEEMX" || !bytes.Equal(entries[action(1)], small) || !bytes.Equal(entries[action(2)], large) {
		t.Errorf("get: %s", kinds)
	}
	// What takes longer to send than to build is withheld: 19 MB, packed, against a second.
	_, _, out = s.do("reader", "POST", "/v1/get", http.Header{"Larder-Bandwidth": {"100"}}, actionList(2, 1))
	if kinds, _, _ := frames(t, out); kinds != "WEX" {
		t.Errorf("over a slow line: %s", kinds)
	}
	// The whole of a batch that is cut off is refused, but for what was committed before.
	whole := stream(t, packed(t, action(5), small, nil))
	if code, _, out := s.do("main", "POST", "/v1/put", nil, whole[:len(whole)-3]); code != 400 {
		t.Errorf("cut off: %d %s", code, out)
	}
	if _, _, out = s.do("reader", "POST", "/v1/get", nil, actionList(5)); !bytes.HasPrefix(out, []byte("M")) {
		t.Error("a part of a cut off batch was stored")
	}
}

// A pull request writes nothing that main reads, and reads what main writes.
// Builds wait for streams, which nginx would keep back to send more at once.
func TestStreamsAreNotBuffered(t *testing.T) {
	s := start(t, disk.Options{})
	none := manifest.NewFilter(func(func(entry.ActionID) bool) {}).Append(nil)
	for path, in := range map[string][]byte{"/v1/get": actionList(1), "/v1/prefetch/" + strings.Repeat("ab", 32): none} {
		if status, header, _ := s.do("main", "POST", path, nil, in); status != http.StatusOK || header.Get("X-Accel-Buffering") != "no" {
			t.Errorf("%s: %d, %v", path, status, header)
		}
	}
}

func TestNamespaces(t *testing.T) {
	s := start(t, disk.Options{})
	path := "/v1/entry/" + action(1).String()
	put := func(token, text string) {
		t.Helper()
		if code, _, out := s.do(token, "PUT", path, nil, packed(t, action(1), []byte(text), nil)); code != 204 {
			t.Fatalf("put: %d %s", code, out)
		}
	}
	get := func(token, want string) {
		t.Helper()
		_, _, out := s.do(token, "POST", "/v1/get", nil, actionList(1))
		_, _, entries := frames(t, out)
		if got := string(entries[action(1)]); got != want {
			t.Errorf("%s reads %q, want %q", token, got, want)
		}
	}
	put("pr", "planted")
	get("pr", "planted")
	get("main", "")
	get("reader", "")
	put("main", "true")
	get("main", "true")
	get("pr", "planted")
	put("main", "true again")
	get("reader", "true again")
}

func TestPrefetch(t *testing.T) {
	s := start(t, disk.Options{})
	key := strings.Repeat("5a", 32)
	for i := range 6 {
		s.do("main", "PUT", "/v1/entry/"+action(i).String(), nil, packed(t, action(i), fmt.Append(nil, "body", i), nil))
	}
	merge := func(token string, numbers ...int) {
		t.Helper()
		if code, _, out := s.do(token, "POST", "/v1/manifest/"+key, nil, actionList(numbers...)); code != 204 {
			t.Fatalf("merge: %d %s", code, out)
		}
	}
	have := func(numbers ...int) []byte {
		var ids []entry.ActionID
		for _, n := range numbers {
			ids = append(ids, action(n))
		}
		return (*manifest.Filter)(nil).With(ids).Append(nil)
	}
	prefetch := func(token, tag string, have []byte) (string, manifest.Plan, *manifest.Filter, string, map[entry.ActionID][]byte) {
		t.Helper()
		code, header, out := s.do(token, "POST", "/v1/prefetch/"+key, http.Header{"Larder-Filter": {tag}}, have)
		if code != 200 {
			t.Fatalf("prefetch: %d %s", code, out)
		}
		kinds, blobs, entries := frames(t, out)
		plan, err := manifest.ParsePlan(blobs[0])
		if err != nil {
			t.Fatal(err)
		}
		var filter *manifest.Filter
		if len(blobs[1]) > 0 {
			if filter, err = manifest.ParseFilter(blobs[1]); err != nil {
				t.Fatal(err)
			}
		}
		return kinds, plan, filter, header.Get("Larder-Filter"), entries
	}

	// Without a manifest there is still the filter.
	kinds, plan, filter, tag, _ := prefetch("reader", "", have())
	if kinds != "BBX" || len(plan) != 0 || filter.Len() != 6 || !filter.Has(action(5)) || filter.Has(action(7)) || tag == "" {
		t.Errorf("first: %s, %v, %d", kinds, plan, filter.Len())
	}
	merge("main", 0, 1, 2, 9)
	merge("main", 3, 2)
	kinds, plan, filter, tag2, entries := prefetch("reader", tag, have(2))
	if kinds != "BBEX" || filter != nil || tag2 != tag {
		t.Errorf("second: %s, filter %v, tag %s after %s", kinds, filter, tag2, tag)
	}
	// 9 is not there, 2 the client has, 0 and 1 the last session did not use.
	if len(plan) != 3 || plan[0].Action != action(3) || plan[0].Age != 0 || plan[1].Action != action(0) || plan[1].Age != 1 || plan[0].Cost != time.Second || plan[0].Stored != 5 {
		t.Errorf("plan %+v", plan)
	}
	if string(entries[action(3)]) != "body3" {
		t.Errorf("entries %q", entries)
	}

	// What is put is in the filter at once.
	s.do("main", "PUT", "/v1/entry/"+action(7).String(), nil, packed(t, action(7), small, nil))
	if _, _, filter, tag2, _ = prefetch("reader", tag, have()); !filter.Has(action(7)) || filter.Len() != 7 || tag2 == tag {
		t.Errorf("after a put: %d actions, tag %s", filter.Len(), tag2)
	}

	// A namespace's manifest begins as the trusted one's, and stays its own.
	merge("pr", 4)
	if _, plan, _, _, _ = prefetch("pr", "", have()); len(plan) != 5 || plan[0].Action != action(4) {
		t.Errorf("pull request's plan %+v", plan)
	}
	if _, plan, _, _, _ = prefetch("main", "", have()); len(plan) != 4 || plan[0].Action != action(3) {
		t.Errorf("main's plan %+v", plan)
	}
	if code, _, out := s.do("main", "GET", "/v1/manifest/"+key, nil, nil); code != 200 {
		t.Errorf("manifest: %d", code)
	} else if m, err := manifest.Parse(out); err != nil || len(m) != 5 {
		t.Errorf("manifest of %d, %v", len(m), err)
	}

	// The filter alone.
	code, header, out := s.do("pr", "GET", "/v1/filter", nil, nil)
	if f, err := manifest.ParseFilter(out); code != 200 || err != nil || f.Len() != 7 {
		t.Errorf("filter: %d, %v", code, err)
	}
	if code, _, _ := s.do("pr", "GET", "/v1/filter", http.Header{"If-None-Match": {header.Get("ETag")}}, nil); code != http.StatusNotModified {
		t.Errorf("filter again: %d", code)
	}
}

func TestOperations(t *testing.T) {
	s := start(t, disk.Options{MaxBytes: 1 << 30})
	s.do("main", "PUT", "/v1/entry/"+action(1).String(), nil, packed(t, action(1), small, nil))
	s.do("main", "GET", "/v1/entry/"+action(1).String(), nil, nil)
	s.do("main", "GET", "/v1/entry/"+action(2).String(), nil, nil)
	s.do("", "GET", "/v1/filter", nil, nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, _, out := s.do("", "GET", path, nil, nil); code != 200 || string(out) != "ok\n" {
			t.Errorf("%s: %d %s", path, code, out)
		}
	}
	_, _, out := s.do("pr", "GET", "/v1/capabilities", nil, nil)
	var caps struct {
		Version, Name, Write string
		Read                 []string
		Limits               map[string]int64
	}
	if err := json.Unmarshal(out, &caps); err != nil || caps.Version != "v1.2.3" || caps.Write != "pr" || len(caps.Read) != 2 || caps.Limits["entry_bytes"] < 1<<30 {
		t.Errorf("capabilities %s: %v", out, err)
	}
	_, _, out = s.do("ops", "GET", "/metrics", nil, nil)
	for _, line := range []string{
		`larder_request_seconds_count{operation="get",status="200"} 1`,
		`larder_request_seconds_count{operation="get",status="404"} 1`,
		`larder_request_seconds_count{operation="put",status="204"} 1`,
		`larder_refused_total{reason="no_token"} 1`,
		`larder_entry_hits_total{namespace="trusted"} 1`, `larder_entry_misses_total{namespace="trusted"} 1`,
		`larder_requests_total{namespace="trusted",operation="get",status="200"} 1`,
		`larder_storage_entries{namespace="trusted"} 1`, `larder_storage_limit_bytes 1.073741824e+09`, `larder_damaged_total 0`,
	} {
		if !strings.Contains(string(out), line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
}

func TestDrain(t *testing.T) {
	storage, err := disk.Open(disk.Options{Dir: t.TempDir(), Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	api := server.New(server.Options{Storage: storage, Log: slog.New(slog.DiscardHandler)})
	api.Drain()
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/readyz", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("ready: %d", w.Code)
	}
	w = httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v1/capabilities", nil))
	if w.Code != http.StatusOK {
		t.Errorf("what comes all the same: %d", w.Code)
	}
}

// FuzzAPI sends anything to a server: it is never at fault, whoever asks, and only who may write has written.
func FuzzAPI(f *testing.F) {
	storage, err := disk.Open(disk.Options{Dir: f.TempDir(), Reserve: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { storage.Close() })
	api := server.New(server.Options{Storage: storage, Log: slog.New(slog.DiscardHandler), Authenticate: func(token string) (auth.Grant, error) {
		switch token {
		case "main":
			return auth.Grant{Name: "main", Read: []string{"trusted"}, Write: "trusted"}, nil
		case "reader":
			return auth.Grant{Name: "reader", Read: []string{"trusted"}}, nil
		}
		return auth.Grant{}, auth.ErrUnknown
	}})
	key := strings.Repeat("5a", 32)
	for _, authorization := range []string{"Bearer main", "Bearer reader", "bearer  main", "Basic bWFpbg==", ""} {
		f.Add("PUT", "entry/"+action(1).String(), authorization, "", "", packed(f, action(1), small, nil))
		f.Add("POST", "put", authorization, "", "", []byte("X\x00\x00\x00\x00"))
		f.Add("POST", "manifest/"+key, authorization, "", "", actionList(1, 2))
	}
	f.Add("POST", "get", "Bearer main", "1e9", "", actionList(1))
	f.Add("POST", "get", "Bearer reader", "-1", "", actionList(1, 2)[:50])
	f.Add("POST", "prefetch/"+key, "Bearer main", "99999999999999999999", "x", []byte{1, 0})
	f.Add("GET", "filter", "Bearer main", "", `W/"x", "y"`, []byte(nil))
	f.Add("GET", "manifest/"+key, "Bearer main", "", "", []byte(nil))
	f.Add("POST", "sessions", "Bearer reader", "", "", reports(report("one", 2, 1)))
	f.Add("GET", "capabilities", "Bearer reader", "", "", []byte(nil))
	f.Add("DELETE", "entry/../../metrics", "Bearer main", "", "*", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, authorization, bandwidth, tag string, in []byte) {
		req, err := http.NewRequest(method, "http://server/v1/"+path, bytes.NewReader(in))
		if err != nil {
			return
		}
		for name, value := range map[string]string{"Authorization": authorization, "Larder-Bandwidth": bandwidth, "Larder-Filter": tag, "If-None-Match": tag} {
			req.Header.Set(name, value)
		}
		before := storage.Stats().Namespaces
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if v := recover(); v != nil && v != http.ErrAbortHandler {
					panic(v)
				}
			}()
			api.ServeHTTP(w, req)
		}()
		if w.Code >= 500 {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		scheme, token, _ := strings.Cut(authorization, " ")
		known := strings.EqualFold(scheme, "Bearer") && (token == "main" || token == "reader")
		if !known && w.Code < 300 {
			t.Errorf("%s %s: %d for %q", method, path, w.Code, authorization)
		}
		after := storage.Stats().Namespaces
		if token != "main" && !maps.Equal(before, after) {
			t.Errorf("%s %s for %q: %+v became %+v", method, path, authorization, before, after)
		}
		if delete(after, "trusted"); len(after) > 0 {
			t.Errorf("%s %s writes what nobody may: %+v", method, path, after)
		}
	})
}
