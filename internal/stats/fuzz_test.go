package stats_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/stats"
)

// FuzzLog has anything lie where the log's files are: it can be read, what is recorded after that is seen, and folding, whose
// totals may be anything as well, loses no more than the damage.
func FuzzLog(f *testing.F) {
	f.Add([]byte(`{"start":"2026-01-01T00:00:00Z","gets":3,"hits":2}`+"\n"), []byte(`{"through":0,"total":{"sessions":5}}`))
	f.Add([]byte(`{"start":"2026-01-01T00:00:00Z","gets":3`), []byte(`{"through":1000000000}`))
	f.Add([]byte("\n\n\x00{}\n[]\nnull\n"), []byte(`null`))
	f.Add([]byte(`{"start":"2026-01-01T00:00:00Z","gets":-9223372036854775808,"wait_seconds":1.7e308}`+"\n"+`{"start":"2026-01-01T00:00:00Z","wait_seconds":1.7e308}`+"\n"), []byte(`{"through":-1,"total":{"gets":9223372036854775807}}`))
	f.Fuzz(func(t *testing.T, lines, totals []byte) {
		dir := t.TempDir()
		logs := filepath.Join(dir, "larder", "sessions")
		if err := os.MkdirAll(logs, 0o777); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"000001.jsonl": lines, "000002.jsonl": lines, "000003.jsonl": append(lines[:len(lines):len(lines)], '\n'), "totals.json": totals} {
			if err := os.WriteFile(filepath.Join(logs, name), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		l := stats.OpenLog(dir)
		mark := stats.Session{Start: time.Unix(1e9, 0).UTC(), Dir: "/the one that is looked for"}
		if err := l.Add(mark); err != nil {
			t.Fatal(err)
		}
		seen := func() bool {
			_, sessions, err := l.Read()
			if err != nil {
				t.Fatal(err)
			}
			return slices.Contains(sessions, mark)
		}
		if !seen() {
			t.Error("what was recorded is not seen")
		}
		if err := l.Fold(); err != nil {
			t.Fatal(err)
		}
		if !seen() {
			t.Error("what was recorded is not seen after folding")
		}
	})
}
