package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

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
		v.Value, v.Source, spelt, where = text, "flag -"+s.flag(), "-"+s.flag(), FlagSource
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
