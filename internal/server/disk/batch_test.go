package disk_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/disk"
)

// Nothing is left of a body that could not be read, or is not what its sum says,
// or was not committed.
func TestBadBodies(t *testing.T) {
	cause := errors.New("cause")
	for _, n := range []int{1000, 100 << 10} {
		s := open(t, disk.Options{})
		p := body(1, n)
		tests := []struct {
			name string
			body io.Reader
			want error
		}{
			{"short", bytes.NewReader(p[:n-1]), io.ErrUnexpectedEOF},
			{"fails", io.MultiReader(bytes.NewReader(p[:n-1]), failing{cause}), cause},
			{"fails with the last byte", &lastByte{p, cause}, cause},
			{"other sum", bytes.NewReader(append([]byte{p[0] ^ 1}, p[1:]...)), entry.ErrFormat},
		}
		for _, test := range tests {
			b := s.NewBatch("")
			if err := b.Add(header(action(1), p), test.body); !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", test.name, err, test.want)
			}
			if err := b.Commit(); err != nil {
				t.Errorf("%s: commit what is left: %v", test.name, err)
			}
			b.Close()
			wantNone(t, s, "", action(1))
			check(t, s)
		}
		b := s.NewBatch("")
		if err := b.Add(header(action(1), p), bytes.NewReader(p)); err != nil {
			t.Fatal(err)
		}
		b.Close()
		wantNone(t, s, "", action(1))
		check(t, s)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type lastByte struct {
	p   []byte
	err error
}

func (l *lastByte) Read(p []byte) (int, error) {
	n := copy(p, l.p)
	if l.p = l.p[n:]; len(l.p) == 0 {
		return n, l.err
	}
	return n, nil
}

func TestAddReadsNoMore(t *testing.T) {
	s := open(t, disk.Options{})
	for _, n := range []int{0, 1000, 100 << 10} {
		r := bytes.NewReader(append(body(1, n), "rest"...))
		b := s.NewBatch("")
		if err := b.Add(header(action(1), body(1, n)), r); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if r.Len() != 4 {
			t.Errorf("%d bytes left after a body of %d, want 4", r.Len(), n)
		}
	}
}
