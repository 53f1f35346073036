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
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
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
	// Absolute paths of PEM files; "": none.
	CAFile, ClientCert, ClientKey string

	Larderd string // absolute path of larderd; "": to be found
	Alike   string // label of machines that share cgo packages with each other; "": of those without one

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
	Source  string // what is wrong is found here: "the environment", FlagSource or a file's path
	What    string // what is wrong
	Instead string // what Larder does instead
}

// FlagSource is the source of what is wrong with a flag.
const FlagSource = "flag"

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
