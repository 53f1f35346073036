package fresh_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/fresh"
)

// A value follows its files, and stays what it was while they are not right.
func TestValue(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	loads := 0
	v := fresh.New(func() (string, error) {
		loads++
		a, err := os.ReadFile(one)
		if err != nil {
			return "", err
		}
		b, err := os.ReadFile(two)
		if err == nil && len(a) != len(b) {
			err = errors.New("they do not belong together")
		}
		return string(a) + string(b), err
	}, one, two)
	v.Check = 0
	var complaints []string
	v.Complain = func(err error) { complaints = append(complaints, err.Error()) }

	if _, err := v.Get(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without files: %v", err)
	}
	write(one, "a")
	write(two, "b")
	get := func(want string) {
		t.Helper()
		if got, err := v.Get(); err != nil || got != want {
			t.Errorf("%q, %v, not %q", got, err, want)
		}
	}
	get("ab")
	was := loads
	get("ab")
	if loads != was {
		t.Error("loaded again what has not changed")
	}
	write(one, "aa") // half renewed
	get("ab")
	get("ab")
	write(two, "bb")
	get("aabb")
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	get("aabb")
	if len(complaints) != 2 || complaints[0] != "they do not belong together" {
		t.Errorf("complaints: %q", complaints)
	}
	v.Check = time.Hour
	write(one, "AA")
	get("aabb")
}
