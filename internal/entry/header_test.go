package entry_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

func header(change func(*entry.Header)) entry.Header {
	h := entry.Header{
		ActionID: entry.ActionID{1, 2}, OutputID: entry.OutputID{3, 4}, Size: 10, Stored: 10,
		Time: time.Unix(1700000000, 123), Cost: 1500 * time.Millisecond, Sum: 0xdeadbeef,
	}
	if change != nil {
		change(&h)
	}
	return h
}

func TestHeaderRoundTrip(t *testing.T) {
	for name, change := range map[string]func(*entry.Header){
		"plain":      nil,
		"empty":      func(h *entry.Header) { h.Size, h.Stored = 0, 0 },
		"compressed": func(h *entry.Header) { h.Encoding, h.Size = entry.Zstd, 100000 },
		"signed":     func(h *entry.Header) { h.Writer, h.Signature = "ci main", bytes.Repeat([]byte{7}, 64) },
		"longest": func(h *entry.Header) {
			h.Writer, h.Signature = strings.Repeat("w", entry.MaxText), make([]byte, entry.MaxText)
		},
		"executable":  func(h *entry.Header) { h.Alone, h.Encoding, h.Size = true, entry.Zstd, 100000 },
		"before 1970": func(h *entry.Header) { h.Time = time.Unix(-5, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			want := header(change)
			b, err := want.Append([]byte("before"))
			if err != nil {
				t.Fatal(err)
			}
			b = append(b[len("before"):], "after"...)
			if len(b)-len("after") > entry.MaxHeader {
				t.Errorf("header of %d bytes", len(b))
			}
			got, rest, err := entry.ParseHeader(b)
			if err != nil || string(rest) != "after" {
				t.Fatalf("rest %q, %v", rest, err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("parsed\n%+v, want\n%+v", got, want)
			}
			r := bytes.NewReader(b)
			if got, err = entry.ReadHeader(r); err != nil || !reflect.DeepEqual(got, want) || r.Len() != len("after") {
				t.Errorf("read\n%+v, %v, %d bytes left", got, err, r.Len())
			}
		})
	}
}

// What cannot be true is neither written nor read.
func TestHeaderRefusesLies(t *testing.T) {
	for name, change := range map[string]func(*entry.Header){
		"negative size":         func(h *entry.Header) { h.Size, h.Stored = -1, -1 },
		"huge":                  func(h *entry.Header) { h.Size, h.Stored = entry.MaxSize+1, entry.MaxSize+1 },
		"raw, sizes differ":     func(h *entry.Header) { h.Stored = 9 },
		"grew":                  func(h *entry.Header) { h.Encoding, h.Stored = entry.Zstd, 11 },
		"bomb":                  func(h *entry.Header) { h.Encoding, h.Size, h.Stored = entry.Zstd, 1<<30, 1000 },
		"unknown encoding":      func(h *entry.Header) { h.Encoding = 2 },
		"negative cost":         func(h *entry.Header) { h.Cost = -1 },
		"writer too long":       func(h *entry.Header) { h.Writer = strings.Repeat("w", entry.MaxText+1) },
		"control in the writer": func(h *entry.Header) { h.Writer = "a\x1b[2J" },
		"writer not UTF-8":      func(h *entry.Header) { h.Writer = "\xff" },
	} {
		h := header(change)
		if _, err := h.Append(nil); !errors.Is(err, entry.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No damage to a header passes.
func TestHeaderDamage(t *testing.T) {
	h := header(func(h *entry.Header) { h.Writer = "w" })
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, _, err := entry.ParseHeader(b); !errors.Is(err, entry.ErrFormat) {
				t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
			}
			b[i] ^= 1 << bit
		}
		if _, _, err := entry.ParseHeader(b[:i]); !errors.Is(err, entry.ErrFormat) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, change := range []func(*entry.Header){nil, func(h *entry.Header) { h.Writer, h.Signature = "ci", []byte("sig") }} {
		h := header(change)
		b, _ := h.Append(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := entry.ParseHeader(b)
		if err != nil {
			return
		}
		again, err := h.Append(nil)
		if err != nil || !bytes.Equal(append(again, rest...), b) {
			t.Errorf("%+v: appends to %x, %v; was %x", h, again, err, b)
		}
	})
}
