package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
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
			name: "ca_file", usage: "FILE",
			help:    "a PEM file of authorities that the remote's certificate may be from, besides those that the system trusts: an absolute path",
			set:     func(c *Config, text string) error { return setPath(&c.CAFile, text) },
			initial: fixed(""),
		},
		{
			name: "client_cert", usage: "FILE",
			help:    "a PEM file with the certificate to show the remote, if that asks for one (mTLS): an absolute path",
			set:     func(c *Config, text string) error { return setPath(&c.ClientCert, text) },
			initial: fixed(""),
		},
		{
			name: "client_key", usage: "FILE",
			help:    "a PEM file with that certificate's private key: an absolute path; in client_cert's own file by default",
			set:     func(c *Config, text string) error { return setPath(&c.ClientKey, text) },
			initial: fixed(""),
		},
		{
			name: "alike", usage: "LABEL",
			help:    "share cgo packages, test and vet results only with machines of this label; auto is the system and its version, all:LABEL shares nothing with others",
			set:     setAlike,
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

// labelBytesMax is more than anybody calls a kind of machine.
const labelBytesMax = 200

func setAlike(c *Config, text string) error {
	switch {
	case len(text) > labelBytesMax:
		return fmt.Errorf("longer than %d bytes", labelBytesMax)
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return errors.New("not a word")
	}
	c.Alike = strings.ToLower(strings.TrimSpace(text)) // so that Auto and auto are one
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
