package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/BurntSushi/toml"
)

// file is the form of the tokens file.
type file struct {
	Token []Token `toml:"token"`
}

// ReadFile reads a tokens file. One that does not exist has no tokens.
func ReadFile(path string) ([]Token, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parse(path, data)
}

func parse(path string, data []byte) ([]Token, error) {
	var f file
	meta, err := toml.Decode(string(data), &f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	// A misspelt key could be a forgotten expiry.
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("read %s: no such key: %v", path, unknown[0])
	}
	names := make(map[string]bool)
	bearers := make(map[string]string) // names by hash
	for i := range f.Token {
		t := &f.Token[i]
		if err := t.Check(); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if names[t.Name] {
			return nil, fmt.Errorf("read %s: two tokens are named %s", path, t.Name)
		}
		names[t.Name] = true
		t.SHA256 = strings.ToLower(t.SHA256) // as Hash writes it
		if other, ok := bearers[t.SHA256]; ok {
			return nil, fmt.Errorf("read %s: %s and %s are one token, with one sha256", path, other, t.Name)
		}
		bearers[t.SHA256] = t.Name
	}
	return f.Token, nil
}

// WriteFile replaces a tokens file, readable by its owner only. A server that
// reads it at that moment sees the old one or the new.
func WriteFile(path string, tokens []Token) error {
	var b bytes.Buffer
	b.WriteString("# Tokens of a Larder server; \"larderd token\" writes this file. A server that uses it\n# notices changes within seconds. It holds no secrets, but says who may do what.\n\n")
	if err := toml.NewEncoder(&b).Encode(file{tokens}); err != nil {
		return fmt.Errorf("encode tokens: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".tokens-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(b.Bytes())
	if err == nil {
		err = temporary.Sync()
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

// recheck is how often a File looks whether it has changed, at most.
const recheck = time.Second

// A File is a tokens file in use. It is safe for concurrent use.
type File struct {
	path string
	now  func() time.Time
	log  func(error)

	mu      sync.Mutex
	checked time.Time
	seen    fs.FileInfo
	grants  map[string]granted // by hash
}

type granted struct {
	grant   Grant
	expires time.Time
}

// OpenFile reads a tokens file, which must exist, and follows its changes from
// then on. A change that cannot be read or does not parse changes nothing, and
// is told to log. now is the clock; nil is time.Now.
func OpenFile(path string, now func() time.Time, log func(error)) (*File, error) {
	if now == nil {
		now = time.Now
	}
	f := &File{path: path, now: now, log: log}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f, f.reload()
}

// reload reads the file if it is not the one that was read last.
func (f *File) reload() error {
	f.checked = f.now()
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if f.seen != nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime()) && info.Size() == f.seen.Size() {
		return nil
	}
	tokens, err := ReadFile(f.path)
	if err != nil {
		return err
	}
	f.seen = info
	f.grants = make(map[string]granted, len(tokens))
	for _, t := range tokens {
		f.grants[t.SHA256] = granted{t.grant(), t.Expires}
	}
	return nil
}

// Authenticate returns what the bearer of a token may do. Its errors are
// ErrNoToken, ErrUnknown and ErrExpired.
func (f *File) Authenticate(secret string) (Grant, error) {
	if secret == "" {
		return Grant{}, ErrNoToken
	}
	return f.Find(Hash(secret)) // so the time that takes says nothing of a secret
}

// Find is Authenticate for a token of which only the hash is known: it has been
// authenticated before.
func (f *File) Find(hash string) (Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if d := now.Sub(f.checked); d >= recheck || d < 0 {
		if err := f.reload(); err != nil {
			f.log(err)
		}
	}
	g, ok := f.grants[hash]
	switch {
	case !ok:
		return Grant{}, ErrUnknown
	case !g.expires.IsZero() && now.After(g.expires):
		return Grant{}, ErrExpired
	}
	return g.grant, nil
}
