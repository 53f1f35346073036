// Package config holds Larder's settings: one table gives each setting its
// flag, its environment variable, its key in the TOML file, its default and
// its help, so that they cannot disagree.
//
// A setting's value is, in this order, the flag's (-max-size), the environment
// variable's (LARDER_MAX_SIZE), the file's (max_size), the default. The file is
// the one that LARDER_CONFIG names, else larder/config.toml in the user's
// configuration directory (os.UserConfigDir); it need not exist.
//
// Load never fails: a value that cannot be used is reported as a Problem, and
// the default stands in for it, so that a typing error cannot break a build.
package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Config is every setting, ready for use.
type Config struct {
	Dir     string        // absolute path of the local store
	MaxSize int64         // bytes that the local store may hold; 0: no limit
	MaxAge  time.Duration // unused for longer: trimmed
	Stats   bool          // record sessions for "larder stats"
	Report  bool          // tell the remote what sessions did

	Remote    string // URL of a team server; "": there is none
	Mode      Mode
	TokenFile string // absolute path; "": no token
	Larderd   string // absolute path of larderd; "": to be found

	// Values holds each setting as text with its source, in the table's order.
	Values []Value
	// File is the configuration file that was looked for, "" if there is no place for one.
	File string
}

// A Mode says what the remote is used for.
type Mode string

const (
	ReadWrite Mode = "readwrite" // entries come from it and go to it
	ReadOnly  Mode = "readonly"  // entries only come from it
	Off       Mode = "off"       // it is not used
)

// A Value is one setting as "larder config" prints it.
type Value struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // "flag -dir", "LARDER_DIR", "/…/config.toml", "GOCACHE" or "default"
	Help   string `json:"help"`
}

// A Problem is a setting that could not be used. Its text names the setting,
// where it came from, what is wrong and what Larder does instead.
type Problem struct {
	Setting string // as its source spells it
	Source  string // what is wrong is found here: "the environment", "flag" or a file's path
	What    string // what is wrong
	Instead string // what Larder does instead
}

// String is one line, whatever is in the values that it names.
func (p Problem) String() string {
	var b strings.Builder
	for _, r := range fmt.Sprintf("%s (%s): %s; %s", p.Setting, p.Source, p.What, p.Instead) {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// Variables that are not settings, but Larder's own: the place of the file, the
// file in which "larder run" gathers its sessions, and those in which "larder
// explain" gathers what was asked for, and finds the trace of a command that is run
// for it only.
const (
	FileVariable      = "LARDER_CONFIG"
	RunLogVariable    = "LARDER_RUN_LOG"
	AccessLogVariable = "LARDER_ACCESS_LOG"
	TraceVariable     = "LARDER_TRACE"
	PretendVariable   = "LARDER_PRETEND" // and the helper is to claim that it has all tests' results
)

// A setting is one row of the table.
type setting struct {
	name  string // as in the TOML file; the flag and the variable follow from it
	usage string
	help  string
	// set parses text into c, or says what is wrong with it.
	set func(c *Config, text string) error
	// initial is the default as text, and where it comes from.
	initial func(env func(string) string) (text, source string)
}

func (s setting) flag() string     { return strings.ReplaceAll(s.name, "_", "-") }
func (s setting) variable() string { return "LARDER_" + strings.ToUpper(s.name) }

func fixed(text string) func(func(string) string) (string, string) {
	return func(func(string) string) (string, string) { return text, "default" }
}

// table returns every setting. It is a function, not a variable, so that
// nothing is built before it is needed.
func table() []setting {
	return []setting{
		{
			name: "dir", usage: "DIR",
			help:    "the local store: an absolute path; the go command's own cache by default",
			set:     setDir,
			initial: defaultDir,
		},
		{
			name: "max_size", usage: "SIZE",
			help: "trim the local store to this size (500MB, 20GiB; KB is 1000 bytes, KiB 1024); 0 is no limit",
			set: func(c *Config, text string) (err error) {
				c.MaxSize, err = ParseSize(text)
				return err
			},
			initial: fixed("0"),
		},
		{
			name: "max_age", usage: "DURATION",
			help:    "trim what has not been used for so long (36h, 14d); the go command's is 5d",
			set:     setMaxAge,
			initial: fixed("5d"),
		},
		{
			name: "remote", usage: "URL",
			help:    "the team's server, such as https://larder.example.com",
			set:     setRemote,
			initial: fixed(""),
		},
		{
			name: "mode", usage: "MODE",
			help: "what the remote is used for: readwrite, readonly or off",
			set: func(c *Config, text string) error {
				switch c.Mode = Mode(strings.ToLower(text)); c.Mode {
				case ReadWrite, ReadOnly, Off:
					return nil
				}
				return errors.New("none of readwrite, readonly, off")
			},
			initial: fixed(string(ReadWrite)),
		},
		{
			name: "token_file", usage: "FILE",
			help:    "a file with the token for the remote: an absolute path",
			set:     func(c *Config, text string) error { return setPath(&c.TokenFile, text) },
			initial: fixed(""),
		},
		{
			name: "larderd", usage: "FILE",
			help:    "the larderd program: an absolute path; beside larder or on the PATH by default",
			set:     func(c *Config, text string) error { return setPath(&c.Larderd, text) },
			initial: fixed(""),
		},
		{
			name: "stats", usage: "BOOL",
			help:    "record sessions for larder stats (true or false)",
			set:     func(c *Config, text string) error { return setBool(&c.Stats, text) },
			initial: fixed("true"),
		},
		{
			name: "report", usage: "BOOL",
			help:    "tell the team's server what sessions did, for its dashboard (true or false)",
			set:     func(c *Config, text string) error { return setBool(&c.Report, text) },
			initial: fixed("true"),
		},
	}
}

func setBool(b *bool, text string) error {
	switch strings.ToLower(text) {
	case "true", "1", "on", "yes":
		*b = true
	case "false", "0", "off", "no":
		*b = false
	default:
		return errors.New("neither true nor false")
	}
	return nil
}

func setDir(c *Config, text string) error {
	if !filepath.IsAbs(text) {
		return errors.New("not an absolute path")
	}
	c.Dir = filepath.Clean(text)
	return nil
}

// setPath sets an absolute path, or none.
func setPath(path *string, text string) error {
	if text != "" && !filepath.IsAbs(text) {
		return errors.New("not an absolute path")
	}
	*path = text
	return nil
}

func setRemote(c *Config, text string) error {
	c.Remote = strings.TrimRight(text, "/")
	if text == "" {
		return nil
	}
	scheme, host, ok := strings.Cut(text, "://")
	if !ok || host == "" || scheme != "http" && scheme != "https" {
		return errors.New("not an http or https URL")
	}
	if strings.Contains(host, "@") {
		return errors.New("a secret does not belong into the URL, where every test sees it; use token_file")
	}
	return nil
}

func setMaxAge(c *Config, text string) error {
	age, err := ParseAge(text)
	if err != nil {
		return err
	}
	// Trimming spares what was used in the last hour, and mtimes are up to an
	// hour late, so a shorter age could not be kept.
	if age < 2*time.Hour {
		return errors.New("shorter than 2h, the least that trimming can tell apart")
	}
	c.MaxAge = age
	return nil
}

// defaultDir is the go command's own rule (cmd/go/internal/cache/default.go).
// The go command sets GOCACHE in its children's environment, so under it the
// variable always holds what "go env GOCACHE" prints.
func defaultDir(env func(string) string) (text, source string) {
	if dir := env("GOCACHE"); filepath.IsAbs(dir) {
		return dir, "GOCACHE"
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "go-build"), "default"
	}
	return filepath.Join(os.TempDir(), "larder-go-build"), "default (no home directory)"
}

// Flags are the settings' flags on one flag set.
type Flags struct{ given map[string]string }

// AddFlags adds a flag for each setting to fs and returns where they are kept.
func AddFlags(fs *flag.FlagSet) *Flags {
	f := &Flags{given: make(map[string]string)}
	for _, s := range table() {
		name := s.name
		fs.Func(s.flag(), "`"+s.usage+"`: "+s.help, func(text string) error {
			f.given[name] = text
			return nil
		})
	}
	return f
}

// Args are the flags that were given, as a command line that says the same.
func (f *Flags) Args() (args []string) {
	for _, s := range table() {
		if text, ok := f.given[s.name]; ok {
			args = append(args, "-"+s.flag()+"="+text)
		}
	}
	return args
}

// Load reads the settings. flags may be nil. env is os.Getenv's shape, and
// environ os.Environ's result, which is searched for misspelt variables.
func Load(flags *Flags, environ []string) (Config, []Problem) {
	l := loader{env: environment(environ)}
	if flags != nil {
		l.flags = flags.given
	}
	l.readFile()
	var c Config
	c.File = l.path
	for _, s := range table() {
		c.Values = append(c.Values, l.apply(&c, s))
	}
	l.findUnknown()
	return c, l.problems
}

func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	return env
}

type loader struct {
	env      map[string]string
	flags    map[string]string
	path     string         // of the file
	file     map[string]any // its keys
	problems []Problem
}

func (l *loader) getenv(name string) string { return l.env[name] }

func (l *loader) report(p Problem) { l.problems = append(l.problems, p) }

// readFile reads the TOML file, if there is one.
func (l *loader) readFile() {
	l.path = l.env[FileVariable]
	if l.path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return
		}
		l.path = filepath.Join(dir, "larder", "config.toml")
	}
	data, err := os.ReadFile(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && l.env[FileVariable] == "":
		return
	case err != nil:
		l.report(Problem{"configuration file", l.path, plain(err), "going on without it"})
		return
	}
	if err := toml.Unmarshal(data, &l.file); err != nil {
		l.report(Problem{"configuration file", l.path, strings.TrimPrefix(err.Error(), "toml: "), "going on without it"})
		l.file = nil
	}
}

// plain is err without the operation and path that the message around it names.
func plain(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// apply sets s in c from the first source that has it, or, where that value is
// no good, from the default.
func (l *loader) apply(c *Config, s setting) Value {
	initial, initialSource := s.initial(l.getenv)
	v := Value{Name: s.name, Value: initial, Source: initialSource, Help: s.help}
	var spelt, where string
	if text, ok := l.flags[s.name]; ok {
		v.Value, v.Source, spelt, where = text, "flag -"+s.flag(), "-"+s.flag(), "flag"
	} else if text := l.env[s.variable()]; text != "" {
		v.Value, v.Source, spelt, where = text, s.variable(), s.variable(), "the environment"
	} else if value, ok := l.file[s.name]; ok {
		v.Value, v.Source, spelt, where = fmt.Sprint(value), l.path, s.name, l.path
	}
	err := s.set(c, v.Value)
	if err == nil {
		return v
	}
	if spelt != "" {
		l.report(Problem{spelt + "=" + v.Value, where, err.Error(), "using the default, " + initial})
	}
	v.Value, v.Source = initial, initialSource
	if err := s.set(c, initial); err != nil {
		// Only the directory's default is not a constant.
		l.report(Problem{s.name + "=" + initial, initialSource, err.Error(), "going on without it"})
	}
	return v
}

// findUnknown reports keys of the file and LARDER_ variables that no setting has.
func (l *loader) findUnknown() {
	names := map[string]bool{
		FileVariable: true, RunLogVariable: true, AccessLogVariable: true, TraceVariable: true, PretendVariable: true,
		// Those of deploy/ci, which a CI system may set for a whole job.
		"LARDER_TOKEN": true, "LARDER_VERSION": true, "LARDER_SOURCE": true, "LARDER_METRICS": true, "LARDER_FLUSH_LIMIT": true,
	}
	var keys, variables []string
	for _, s := range table() {
		names[s.name], names[s.variable()] = true, true
		keys, variables = append(keys, s.name), append(variables, s.variable())
	}
	for name := range l.file {
		if !names[name] {
			l.report(Problem{name, l.path, "no such setting" + suggest(name, keys), "ignoring it"})
		}
	}
	for name, value := range l.env {
		if value != "" && strings.HasPrefix(name, "LARDER_") && !names[name] {
			l.report(Problem{name, "the environment", "no such setting" + suggest(name, variables), "ignoring it"})
		}
	}
	sort.Slice(l.problems, func(i, j int) bool { return l.problems[i].Setting < l.problems[j].Setting })
}

// suggest names the known spelling that is the same but for case, hyphens and
// underscores, if there is one.
func suggest(name string, known []string) string {
	fold := func(s string) string {
		return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
	}
	for _, k := range known {
		if fold(k) == fold(name) {
			return fmt.Sprintf(" (did you mean %s?)", k)
		}
	}
	return ""
}
