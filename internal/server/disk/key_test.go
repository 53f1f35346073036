package disk

import (
	"bytes"
	"errors"
	"testing"

	"github.com/larder-build/larder/internal/entry"
)

// FuzzRecords reads anything as a key and a value of the index.
func FuzzRecords(f *testing.F) {
	id := entry.ActionID{1, 2, 3}
	action, err := actionIdent("ns", id)
	if err != nil {
		f.Fatal(err)
	}
	blob, err := identOf(blobKind, "ns", "manifest")
	if err != nil {
		f.Fatal(err)
	}
	body := []byte("body")
	header := entry.Header{ActionID: id, Size: 4, Stored: 4, Sum: entry.Checksum(body)}
	head, err := header.Append(make([]byte, 8))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(useKey(7, action), append(head, body...))
	f.Add(useKey(7, blob), append(append(make([]byte, 8), blobHead(body)...), body...))
	f.Add(useKey(0, blob), append(append(make([]byte, 7), 1), blobHead(body)...))
	f.Add(useKey(1<<32-1, action), meta{7, 8, 9}.value())
	f.Add([]byte("u\x00\x00\x00\x00\x00\x00"), Usage{1, 2, 3}.value())
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if m, ok := parseMeta(value); ok && !bytes.Equal(m.value(), value) {
			t.Errorf("meta %x became %x", value, m.value())
		}
		if u, ok := parseUsage(value); ok && !bytes.Equal(u.value(), value) {
			t.Errorf("usage %x became %x", value, u.value())
		}
		minute, ident, ok := parseUseKey(key)
		if !ok {
			return
		}
		if key[0] == usePrefix && !bytes.Equal(useKey(minute, ident), key) {
			t.Errorf("key %x became %x", key, useKey(minute, ident))
		}
		if ns := namespaceOf(ident); len(ns) > len(ident)-2 {
			t.Errorf("namespace %q of %q", ns, ident)
		}
		r, err := parseRecord(ident, value)
		switch {
		case err != nil && !errors.Is(err, entry.ErrFormat):
			t.Errorf("an error of its own: %v", err)
		case err != nil:
		case r.size < 0 || r.size > entry.MaxSize && r.number != 0:
			t.Errorf("a body of %d bytes", r.size)
		case r.number == 0 && (int64(len(r.inline)) != r.size || entry.Checksum(r.inline) != r.sum):
			t.Error("a body that is not what its head says")
		case r.number != 0 && len(r.inline) != 0:
			t.Error("a body in two places")
		}
	})
}
