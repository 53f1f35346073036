package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// A Token is a token as it was read at some time. The zero Token is none.
type Token struct{ secret string }

// String keeps the secret out of logs.
func (t Token) String() string { return "token " + t.Hash() }

// GoString is String, for %#v.
func (t Token) GoString() string { return t.String() }

// hashBytes is how much of a token's hash is kept: enough to tell tokens apart, and of
// no use to who looks for one.
const hashBytes = 8

// Hash tells tokens apart without telling them; "" is none.
func (t Token) Hash() string {
	if t.secret == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("larder: whose queue it is\x00" + t.secret))
	return hex.EncodeToString(sum[:hashBytes])
}

// A TokenError is a token file that cannot be used.
type TokenError struct{ Err error }

func (e *TokenError) Error() string { return "read the token: " + e.Err.Error() }

func (e *TokenError) Unwrap() error { return e.Err }

// Token reads the token. That is done anew for each request whose context has none
// (WithToken): tokens are renewed, and it is one small file.
func (c *Client) Token() (Token, error) {
	if c.tokenFile == "" {
		return Token{}, nil
	}
	f, err := os.Open(c.tokenFile)
	if err != nil {
		return Token{}, &TokenError{err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, tokenBytesMax))
	if err != nil {
		return Token{}, &TokenError{err}
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Token{}, &TokenError{fmt.Errorf("%s has something else than one word of ASCII in it", c.tokenFile)}
	}
	return Token{token}, nil
}

type tokenKey struct{}

// WithToken has requests made with a token, whatever the file holds meanwhile.
func WithToken(ctx context.Context, t Token) context.Context {
	return context.WithValue(ctx, tokenKey{}, t)
}

// TokenOf is what WithToken has set.
func TokenOf(ctx context.Context) (t Token, ok bool) {
	t, ok = ctx.Value(tokenKey{}).(Token)
	return t, ok
}

// tokenOf is the token for a request, and whether its context has it.
func (c *Client) tokenOf(ctx context.Context) (t Token, set bool, err error) {
	if t, set = TokenOf(ctx); set {
		return t, true, nil
	}
	t, err = c.Token()
	return t, false, err
}

// A Writer is who a server takes a token for.
type Writer struct {
	Name      string // of the token
	Namespace string // that it writes; "" if it may not
}

// Headers of answers that say so.
const (
	nameHeader      = "Larder-Name"
	namespaceHeader = "Larder-Namespace"
)

// writers are whom a server took tokens for, by the tokens' hashes, as of its last
// answer to each.
type writers struct {
	mu     sync.Mutex
	byHash map[string]Writer
	last   string // the hash of the token used last
	any    bool   // one has been
}

// writersMax is how many tokens are remembered: those that are renewed go by.
const writersMax = 100

func (w *writers) note(t Token, is Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byHash == nil || len(w.byHash) >= writersMax {
		w.byHash = make(map[string]Writer)
	}
	w.byHash[t.Hash()] = is
}

// use notes that a token is about to be used, and reports whether another one, or none
// at all, was used before.
func (w *writers) use(t Token) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	hash := t.Hash()
	changed = !w.any || hash != w.last
	w.last, w.any = hash, true
	return changed
}

// Writer is whom the server takes a token for, as far as it has said. It does no I/O.
func (c *Client) Writer(hash string) (w Writer, known bool) {
	c.writers.mu.Lock()
	defer c.writers.mu.Unlock()
	w, known = c.writers.byHash[hash]
	return w, known
}
