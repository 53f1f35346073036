package native_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/native"
	"github.com/larder-build/larder/internal/session"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// marks are the marks as of so many minutes after noon.
func marks(place session.Place, minutes int) native.Marks {
	return native.OpenMarks(place, "/gocache", session.Remote{URL: "https://x"}, at(minutes))
}

func at(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

func mark(minutes int) native.Mark {
	return native.Mark{Begun: at(minutes), Known: true, Dir: "/m", Args: []string{"go", "build"}}
}

func set(t *testing.T, m native.Marks, key string, mark native.Mark, came map[entry.ActionID]time.Time) {
	t.Helper()
	if err := m.Set(key, mark, came); err != nil {
		t.Fatal(err)
	}
}

// What was put here since the last pull is new; what a pull has brought is not,
// whatever its time says.
func TestNew(t *testing.T) {
	place := session.Place{Base: t.TempDir()}
	ahead, other, old := entry.ActionID{1}, entry.ActionID{2}, entry.ActionID{3}
	if marks(place, 0).New("build")(entry.ActionID{9}, at(1)) {
		t.Error("something is new though nothing was pulled")
	}
	set(t, marks(place, 0), "build", mark(0), map[entry.ActionID]time.Time{
		ahead: at(30),  // by a clock that is ahead
		old:   at(-60), // as all normally are
	})
	// Another kind is pulled later, and brings what has just been made elsewhere.
	set(t, marks(place, 10), "test", mark(10), map[entry.ActionID]time.Time{other: at(5)})
	for _, tt := range []struct {
		key  string
		id   entry.ActionID
		put  time.Time
		want bool
	}{
		{"build", entry.ActionID{9}, at(1), true},
		{"build", entry.ActionID{9}, at(0), true},
		{"build", entry.ActionID{9}, at(-1), false},
		{"build", ahead, at(30), false},
		{"build", ahead, at(31), true}, // put again, here
		{"build", other, at(5), false},
		{"build", old, at(-60), false},
		{"test", entry.ActionID{9}, at(5), false},
		{"test", entry.ActionID{9}, at(15), true},
		{"test", ahead, at(30), false},
		{"vet", entry.ActionID{9}, at(15), false},
	} {
		if got := marks(place, 20).New(tt.key)(tt.id, tt.put); got != tt.want {
			t.Errorf("%s: %v put at %v is new: %v", tt.key, tt.id, tt.put, got)
		}
	}
	// A push begins anew. What the pulls before it have brought is still known.
	set(t, marks(place, 40), "build", mark(15), nil)
	for put, want := range map[int]bool{14: false, 16: true, 30: false} {
		if got := marks(place, 50).New("build")(ahead, at(put)); got != want {
			t.Errorf("after a push, put at %d is new: %v", put, got)
		}
	}
	// Where the server could not be asked, nobody knows what is new for it.
	unknown := mark(60)
	unknown.Known = false
	set(t, marks(place, 60), "build", unknown, nil)
	if marks(place, 61).New("build")(entry.ActionID{9}, at(61)) {
		t.Error("something is new though the server could not be asked")
	}
}

// Marks are of one store and one remote, and do not stay for ever.
func TestMarks(t *testing.T) {
	place := session.Place{Base: t.TempDir()}
	want := mark(0)
	set(t, marks(place, 0), "build", want, map[entry.ActionID]time.Time{{1}: at(-1)})
	set(t, marks(place, 0), "elsewhere", native.Mark{Begun: at(0), Dir: "/other"}, nil)
	got, ok := marks(place, 1).Of("build")
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("the mark is %+v, %v; want %+v", got, ok, want)
	}
	if in := marks(place, 1).In("/m"); len(in) != 1 || in["build"].Dir != "/m" {
		t.Errorf("in the directory are %+v", in)
	}
	for name, m := range map[string]native.Marks{
		"another store":  native.OpenMarks(place, "/other", session.Remote{URL: "https://x"}, at(1)),
		"another remote": native.OpenMarks(place, "/gocache", session.Remote{URL: "https://y"}, at(1)),
		"six days later": marks(place, 6*24*60),
	} {
		if mark, ok := m.Of("build"); ok {
			t.Errorf("%s has %+v", name, mark)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(place.Base, "native", "*", "*")); len(files) > 0 {
		t.Errorf("old marks stay: %q", files)
	}
}

// A damaged mark is none, and is replaced.
func TestDamagedMark(t *testing.T) {
	place := session.Place{Base: t.TempDir()}
	set(t, marks(place, 0), "build", mark(0), nil)
	files, _ := filepath.Glob(filepath.Join(place.Base, "native", "*", "build.json"))
	if len(files) != 1 {
		t.Fatalf("%q", files)
	}
	if err := os.WriteFile(files[0], []byte(`{"begun": "yester`), 0o600); err != nil {
		t.Fatal(err)
	}
	if mark, ok := marks(place, 1).Of("build"); ok {
		t.Errorf("it is read as %+v", mark)
	}
	set(t, marks(place, 1), "build", mark(1), nil)
	if _, ok := marks(place, 1).Of("build"); !ok {
		t.Error("it is not replaced")
	}
}
