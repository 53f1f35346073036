package config_test

import (
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/config"
)

// load runs Load with the given file contents, environment and flags.
func load(t *testing.T, file string, env []string, args ...string) (config.Config, []config.Problem) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(file), 0o666); err != nil {
		t.Fatal(err)
	}
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	flags := config.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return config.Load(flags, append([]string{"GOCACHE=/go/cache", "LARDER_CONFIG=" + path}, env...))
}

func TestPrecedence(t *testing.T) {
	file := "max_size = \"1GB\"\n"
	env := []string{"LARDER_MAX_SIZE=2GB"}
	for _, tt := range []struct {
		name   string
		file   string
		env    []string
		args   []string
		want   int64
		source string
	}{
		{"nothing", "", nil, nil, 0, "default"},
		{"file", file, nil, nil, 1e9, "config.toml"},
		{"file as number", "max_size = 1000", nil, nil, 1000, "config.toml"},
		{"variable over file", file, env, nil, 2e9, "LARDER_MAX_SIZE"},
		{"flag over variable", file, env, []string{"-max-size=3GB"}, 3e9, "flag -max-size"},
		{"empty variable is unset", file, []string{"LARDER_MAX_SIZE="}, nil, 1e9, "config.toml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, problems := load(t, tt.file, tt.env, tt.args...)
			if len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
			if c.MaxSize != tt.want {
				t.Errorf("MaxSize = %d, want %d", c.MaxSize, tt.want)
			}
			if got := source(c, "max_size"); !strings.HasSuffix(got, tt.source) {
				t.Errorf("source = %q, want %q", got, tt.source)
			}
		})
	}
}

func source(c config.Config, name string) string {
	for _, v := range c.Values {
		if v.Name == name {
			return v.Source
		}
	}
	return "no such setting"
}

func TestDefaults(t *testing.T) {
	c, problems := load(t, "", nil)
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	if c.Dir != filepath.Clean("/go/cache") || c.MaxSize != 0 || c.MaxAge != 5*24*time.Hour || !c.Stats {
		t.Errorf("defaults: %+v", c)
	}
	c, _ = config.Load(nil, []string{"LARDER_DIR=/elsewhere"})
	if c.Dir != filepath.Clean("/elsewhere") {
		t.Errorf("Dir = %q", c.Dir)
	}
}

// A setting that is no good is one line that names it, its source and what is
// done instead, and the default stands.
func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		name string
		file string
		env  string
		args []string
		want []string // each in the one problem's text
	}{
		{"unparsable size", "", "LARDER_MAX_SIZE=12Q", nil, []string{"LARDER_MAX_SIZE=12Q", "the environment", "not a size", "using the default, 0"}},
		{"unparsable size in file", "max_size = \"big\"", "", nil, []string{"max_size=big", "config.toml", "not a size"}},
		{"unparsable size as flag", "", "", []string{"-max-size=-1"}, []string{"-max-size=-1", "(flag)", "not a size"}},
		{"relative directory", "", "LARDER_DIR=cache", nil, []string{"LARDER_DIR=cache", "not an absolute path", "/go/cache"}},
		{"age too short", "", "LARDER_MAX_AGE=5m", nil, []string{"LARDER_MAX_AGE=5m", "shorter than 2h"}},
		{"age no duration", "", "LARDER_MAX_AGE=week", nil, []string{"not a duration"}},
		{"not a bool", "stats = 3", "", nil, []string{"stats=3", "neither true nor false"}},
		{"unknown key", "max-size = 3", "", nil, []string{"max-size", "config.toml", "no such setting", "did you mean max_size?"}},
		{"unknown variable", "", "LARDER_MAXSIZE=3", nil, []string{"LARDER_MAXSIZE", "no such setting", "did you mean LARDER_MAX_SIZE?"}},
		{"broken file", "max_size = = 3", "", nil, []string{"configuration file", "config.toml", "going on without it"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, problems := load(t, tt.file, []string{tt.env}, tt.args...)
			if len(problems) != 1 {
				t.Fatalf("problems: %v, want one", problems)
			}
			text := problems[0].String()
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not say %q", text, want)
				}
			}
			if strings.Contains(text, "\n") {
				t.Errorf("%q is more than a line", text)
			}
			if c.Dir != filepath.Clean("/go/cache") || c.MaxSize != 0 || c.MaxAge != 5*24*time.Hour || !c.Stats {
				t.Errorf("the default does not stand: %+v", c)
			}
		})
	}
}

func TestMissingNamedFile(t *testing.T) {
	_, problems := config.Load(nil, []string{"LARDER_CONFIG=/no/such/file.toml"})
	if len(problems) != 1 || !strings.Contains(problems[0].String(), "/no/such/file.toml") {
		t.Errorf("problems: %v", problems)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "1k": 1000, "1kb": 1000, "1KiB": 1024, "1.5 MB": 1500000,
		"20GiB": 20 << 30, "2T": 2e12, "1TiB": 1 << 40, " 5 gb ": 5e9,
		"": -1, "GB": -1, "1PB": -1, "-1": -1, "1e3": -1, "1iB": -1, "1..5": -1, "0x10": -1, "inf": -1, "99999999T": -1, "1KMB": -1,
	} {
		got, err := config.ParseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 9994: "9.99 kB", 9996: "10.0 kB", 99960: "100 kB", 999499: "999 kB",
		999500: "1.00 MB", 744e6: "744 MB", 20e9: "20.0 GB", 5e15: "5000 TB",
	} {
		if got := config.FormatSize(bytes); got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", bytes, got, want)
		}
	}
}

// FuzzParseSize compares it with the same by other means, and reads again what FormatSize writes.
func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"20GiB", "1.5 mb", "", "kb", "9e9", "İB", "9223372036854775807", "8EiB", ".5k", "1..2", "1 2", "0TiB"} {
		f.Add(s)
	}
	form := regexp.MustCompile(`^(?i)[\s\v]*(\d+\.?\d*|\.\d+)[\s\v]*(?:([kmgt])(i?b)?|b)?[\s\v]*$`)
	f.Fuzz(func(t *testing.T, s string) {
		n, err := config.ParseSize(s)
		if err != nil {
			return
		}
		if n < 0 || isASCII(s) && !form.MatchString(s) {
			t.Errorf("ParseSize(%q) = %d", s, n)
		}
		again, err := config.ParseSize(config.FormatSize(n))
		if d := math.Abs(float64(again - n)); err != nil || d > float64(n)*0.006 {
			t.Errorf("%d is %q, and that is %d, %v", n, config.FormatSize(n), again, err)
		}
	})
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) }

func FuzzParseAge(f *testing.F) {
	for _, s := range []string{"5d", "36h", "1.5d", "-1d", "NaNd", "Infd", "1e300d", "9999999h", "", "d", "1h30m", "0x1p-2d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		age, err := config.ParseAge(s)
		if err != nil {
			return
		}
		if again, err := config.ParseAge(age.String()); age < 0 || err != nil || again != age {
			t.Errorf("%q is %v, and that is %v, %v", s, age, again, err)
		}
	})
}

// FuzzLoad has Load make settings that can be used of anything, and for each value that is no good a warning and the default.
func FuzzLoad(f *testing.F) {
	f.Add("max_size = \"1GB\"\n", "2GB", "3d", "https://x", "readonly", "-stats=false")
	f.Add("[x]\ny = 1", "", "", "", "", "")
	f.Add("mode = 7\nremote = \"s3://\\u0000\"\n", "x", "-1", "http://%zz", "maybe", "-no-such")
	f.Add("stats = true\ndir = \"relative\"", "1e9", "NaNd", "://", "off", "-max-size=\xff")
	f.Fuzz(func(t *testing.T, file, size, age, remote, mode, arg string) {
		path := filepath.Join(t.TempDir(), "c.toml")
		if err := os.WriteFile(path, []byte(file), 0o666); err != nil {
			t.Fatal(err)
		}
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		flags := config.AddFlags(fs)
		if fs.Parse([]string{arg}) != nil {
			flags = nil
		}
		c, problems := config.Load(flags, []string{"LARDER_CONFIG=" + path, "LARDER_MAX_SIZE=" + size, "LARDER_MAX_AGE=" + age, "LARDER_REMOTE=" + remote, "LARDER_MODE=" + mode, "GOCACHE=/gocache"})
		if !filepath.IsAbs(c.Dir) || c.MaxSize < 0 || c.MaxAge < 2*time.Hour {
			t.Errorf("Load made %+v", c)
		}
		for _, p := range problems {
			if text := p.String(); strings.TrimSpace(text) == "" || strings.Contains(text, "\n") {
				t.Errorf("the problem %q is no line", text)
			}
		}
	})
}

// The README's table of settings is this package's table.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := config.Load(nil, []string{"GOCACHE=/x"})
	for _, v := range c.Values {
		initial := v.Value
		if v.Name == "dir" {
			initial = "go env GOCACHE"
		}
		row := "| `" + v.Name + "` | `LARDER_" + strings.ToUpper(v.Name) + "` | `-" + strings.ReplaceAll(v.Name, "_", "-") + "` | `" + initial + "` | " + v.Help + " |"
		if !strings.Contains(string(readme), row+"\n") {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
}
