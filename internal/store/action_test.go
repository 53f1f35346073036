package store_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/store"
)

// line is an action file as the go command writes it (cmd/go/internal/cache/cache.go, putIndexEntry).
func line(size, time int64) string {
	return fmt.Sprintf("v1 %x %x %20d %20d\n", [32]byte{1, 2, 0xff}, [32]byte{3, 4, 0xee}, size, time)
}

func TestParseAction(t *testing.T) {
	valid := line(4096, 1_700_000_000_123_456_789)
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"as written", valid, true},
		{"zero", line(0, 0), true},
		{"largest", line(1<<63-1, 1<<63-1), true},
		{"upper case", strings.Replace(valid, "ff", "FF", 1), true},
		{"empty", "", false},
		{"short", valid[:len(valid)-1], false},
		{"long", valid + "\n", false},
		{"version 2", "v2" + valid[2:], false},
		{"no end of line", valid[:len(valid)-1] + " ", false},
		{"not hexadecimal", strings.Replace(valid, "ff", "fg", 1), false},
		{"negative size", line(-1, 1), false},
		{"negative time", line(1, -1), false},
		{"too large", strings.Replace(line(1, 1), "                   1", "99999999999999999999", 1), false},
		{"no number", strings.Replace(line(1, 1), "1 ", "  ", 1), false},
		{"digits, then a space", strings.Replace(line(1, 10), "10\n", "1 \n", 1), false},
	} {
		again, id, out, size, err := store.ParseAction([]byte(tt.text))
		if ok := err == nil; ok != tt.ok {
			t.Errorf("%s: error %v", tt.name, err)
		} else if ok && string(again) != strings.ToLower(tt.text) {
			t.Errorf("%s: comes back as %q", tt.name, again)
		} else if tt.text == valid && (id[2] != 0xff || out[2] != 0xee || size != 4096) {
			t.Errorf("%s: %v %v %d", tt.name, id, out, size)
		}
	}
}

// reference reads an action file as the go command does (cmd/go/internal/cache/cache.go, get).
func reference(data []byte) (ok bool) {
	m := regexp.MustCompile(`(?s)^v1 ([0-9a-fA-F]{64}) ([0-9a-fA-F]{64}) (.{20}) (.{20})\n$`).FindSubmatch(data)
	if m == nil || len(data) != 175 {
		return false
	}
	for _, column := range m[3:] {
		n, err := strconv.ParseInt(strings.TrimLeft(string(column), " "), 10, 64)
		if err != nil || n < 0 {
			return false
		}
	}
	return true
}

// What the go command takes is taken, and nothing else. It comes back the same,
// but for case and the padding of numbers.
func FuzzParseAction(f *testing.F) {
	valid := line(4096, 1_700_000_000_123_456_789)
	f.Add([]byte(valid))
	f.Add([]byte(line(0, 0)))
	f.Add([]byte(strings.Replace(valid, "                4096", "               +4096", 1)))
	f.Add([]byte(strings.Replace(valid, "                4096", "              -0x096", 1)))
	f.Add([]byte(strings.Replace(valid, "                4096", "                  -0", 1)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		again, _, _, _, err := store.ParseAction(data)
		if ascii := !bytes.ContainsFunc(data, func(r rune) bool { return r >= 0x80 }); ascii && (err == nil) != reference(data) {
			t.Errorf("%q: %v, but the go command takes it: %v", data, err, reference(data))
		}
		if err != nil {
			return
		}
		third, _, _, _, err := store.ParseAction(again)
		if err != nil || !bytes.Equal(again, third) || len(again) != len(data) {
			t.Errorf("%q comes back as %q, then %q, %v", data, again, third, err)
		}
	})
}
