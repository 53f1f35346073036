// Package auth says who may read and write what on a team server.
//
// Namespaces keep apart those who do not trust one another: everyone reads their
// own, then the trusted one; a writer writes its own only, and only a trusted
// writer writes the trusted one. So a pull request's build can be given a token
// with which it cannot plant anything that main's build would read.
//
// A token is a name and 32 random bytes as text. The file of tokens holds only
// their SHA-256: whoever reads the file cannot use them. (A token has more
// entropy than a hash can be searched for, so it needs no slow hash.)
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Trusted is the namespace that everyone reads and only trusted writers write.
const Trusted = "trusted"

// A Role is what a token is good for.
type Role string

const (
	Reader        Role = "reader"  // reads its namespace, if it has one, and the trusted one
	Writer        Role = "writer"  // and writes its namespace
	TrustedWriter Role = "trusted" // reads and writes the trusted namespace
	Admin         Role = "admin"   // a trusted writer that also sees metrics and manages
)

// A Grant is what a request may do.
type Grant struct {
	Name  string   // whose token it is
	Read  []string // namespaces, in the order in which they are to be looked at
	Write string   // namespace; "" is none
	Admin bool
}

// Home is the namespace that a grant is for: the one that it writes or, of a
// reader, the one that it reads first.
func (g Grant) Home() string {
	if g.Write != "" {
		return g.Write
	}
	if len(g.Read) > 0 {
		return g.Read[0]
	}
	return ""
}

// Open is the grant of everyone on a server without tokens, which listens on
// loopback only.
func Open() Grant { return Grant{Name: "anyone", Read: []string{Trusted}, Write: Trusted, Admin: true} }

// Errors of Authenticate.
var (
	ErrNoToken = errors.New("a token is needed")
	ErrUnknown = errors.New("the token is not known")
	ErrExpired = errors.New("the token has expired")
)

// A Token is one entry of the tokens file.
type Token struct {
	Name      string    `toml:"name"`
	Role      Role      `toml:"role"`
	Namespace string    `toml:"namespace,omitempty"` // of a reader or writer
	SHA256    string    `toml:"sha256"`              // of the token, hexadecimal
	Created   time.Time `toml:"created"`
	Expires   time.Time `toml:"expires,omitempty"` // zero: never
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._@/-]{0,99}$`)

// ValidNamespace reports whether a namespace, or a token's name, can be called so:
// letters, digits and . _ @ / -, up to 100 of them.
func ValidNamespace(name string) bool { return validName.MatchString(name) }

// Check reports what is wrong with a token.
func (t Token) Check() error {
	switch {
	case !ValidNamespace(t.Name):
		return fmt.Errorf("token name %q: letters, digits and . _ @ / - only", t.Name)
	case t.Role != Reader && t.Role != Writer && t.Role != TrustedWriter && t.Role != Admin:
		return fmt.Errorf("token %s: role %q is none of reader, writer, trusted, admin", t.Name, t.Role)
	case t.Namespace != "" && !ValidNamespace(t.Namespace):
		return fmt.Errorf("token %s: namespace %q: letters, digits and . _ @ / - only", t.Name, t.Namespace)
	case t.Namespace == Trusted:
		return fmt.Errorf("token %s: the namespace %s is the trusted role's", t.Name, Trusted)
	case t.Namespace != "" && (t.Role == TrustedWriter || t.Role == Admin):
		return fmt.Errorf("token %s: the role %s has no namespace of its own", t.Name, t.Role)
	case t.Role == Writer && t.Namespace == "":
		return fmt.Errorf("token %s: a writer needs a namespace to write", t.Name)
	}
	if sum, err := hex.DecodeString(t.SHA256); err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("token %s: sha256 is not 64 hexadecimal digits", t.Name)
	}
	return nil
}

func (t Token) grant() Grant {
	g := Grant{Name: t.Name}
	switch t.Role {
	case TrustedWriter, Admin:
		g.Write, g.Admin = Trusted, t.Role == Admin
	case Writer:
		g.Write = t.Namespace
	}
	if t.Namespace != "" {
		g.Read = append(g.Read, t.Namespace)
	}
	g.Read = append(g.Read, Trusted)
	return g
}

// prefix lets people and scanners for leaked secrets see what a token is.
const prefix = "larder_"

// NewSecret returns a new token's text.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// Hash is the SHA-256 of a token's text, as in the file.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
