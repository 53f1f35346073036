package cacheprog_test

import (
	"slices"
	"testing"

	"github.com/larder-build/larder/cacheprog"
)

func TestSplitCommand(t *testing.T) {
	for _, row := range []struct {
		command string
		want    []string // nil for an error, unless the command is blank
	}{
		{"", nil},
		{" \t\r\n", nil},
		{"larder", []string{"larder"}},
		{" larder  -v\tx\n", []string{"larder", "-v", "x"}},
		{`'C:\Program Files\larder.exe' "-a b" ''`, []string{`C:\Program Files\larder.exe`, "-a b", ""}},
		{`a"b c'd`, []string{`a"b`, "c'd"}},
		{`"a"b`, []string{"a", "b"}},
		{`"a'b" 'c"d'`, []string{"a'b", `c"d`}},
		{`\"a`, []string{`\"a`}},
		{`"a`, nil},
		{`a 'b"`, nil},
	} {
		got, err := cacheprog.SplitCommand(row.command)
		if wantErr := row.want == nil && len(row.command) > 1 && row.command[0] != ' '; (err != nil) != wantErr || !slices.Equal(got, row.want) {
			t.Errorf("%q: %q, %v, want %q", row.command, got, err, row.want)
		}
	}
}

func TestJoinCommand(t *testing.T) {
	for _, row := range []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{"larder", "-v"}, "larder -v"},
		{[]string{"a b", "c'd", `e"f`, ""}, `'a b' "c'd" 'e"f' ''`},
		{[]string{`C:\Program Files\larder.exe`, `C:\it's\larder.exe`, `C:\go\larder.exe`}, `'C:\Program Files\larder.exe' "C:\it's\larder.exe" C:\go\larder.exe`},
		{[]string{`/a"b'c/larder`}, `/a"b'c/larder`}, // no space: not split, not quoted
	} {
		got, err := cacheprog.JoinCommand(row.args)
		if err != nil || got != row.want {
			t.Errorf("%q: %s, %v, want %s", row.args, got, err, row.want)
		}
	}
	for _, arg := range []string{`both ' and "`, `'"`, `"'`} {
		if got, err := cacheprog.JoinCommand([]string{arg}); err == nil {
			t.Errorf("both quotes: %s", got)
		}
	}
}

func FuzzCommand(f *testing.F) {
	f.Add("larder", "a b", `c"d`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		command, err := cacheprog.JoinCommand([]string{a, b, c})
		if err != nil {
			return
		}
		if got, err := cacheprog.SplitCommand(command); err != nil || !slices.Equal(got, []string{a, b, c}) {
			t.Errorf("%q, %v, want %q", got, err, []string{a, b, c})
		}
	})
}
