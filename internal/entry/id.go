// Package entry defines what a cache entry is: an action ID, and the output
// (an OutputID, a size, the time of the original put) that it stands for; and the
// one form in which entries are sent and stored: a Header and a body, alone or in
// a stream of many.
//
// It knows nobody: the local store, the remotes and the wire all speak in its
// terms. Nothing in it does I/O on its own.
package entry

import (
	"encoding/hex"
	"fmt"
	"time"
)

// HashSize is the length in bytes of an ActionID and an OutputID: SHA-256, as
// in cmd/go/internal/cache/hash.go.
const HashSize = 32

// An ActionID is the go command's key for an action: a hash of all that the
// action depends on. Larder cannot compute one, only carry it.
type ActionID [HashSize]byte

// String returns id in lower-case hexadecimal, as in a store's file names.
func (id ActionID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is the ID as String writes it.
func (id ActionID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *ActionID) UnmarshalText(text []byte) error {
	if len(text) != 2*HashSize {
		return fmt.Errorf("%w: an action ID has %d hexadecimal digits", ErrFormat, 2*HashSize)
	}
	if _, err := hex.Decode(id[:], text); err != nil {
		return fmt.Errorf("%w: an action ID has %d hexadecimal digits", ErrFormat, 2*HashSize)
	}
	return nil
}

// An OutputID is the SHA-256 of a body.
type OutputID [HashSize]byte

// String returns id in lower-case hexadecimal, as in a store's file names.
func (id OutputID) String() string { return hex.EncodeToString(id[:]) }

// EmptyOutput is the OutputID of the empty body, which about a third of all
// actions of a build share.
var EmptyOutput = OutputID{
	0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
}

// A MismatchError reports a body that is not what its OutputID and size say.
// It is never safe to keep such a body.
type MismatchError struct {
	Want, Got         OutputID
	WantSize, GotSize int64
}

func (e *MismatchError) Error() string {
	if e.WantSize != e.GotSize {
		return fmt.Sprintf("body of output %v has %d bytes, want %d", e.Want, e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("body of output %v has SHA-256 %v", e.Want, e.Got)
}

// An Object is what a store knows of an entry that it holds as a file.
type Object struct {
	OutputID OutputID
	Size     int64     // bytes
	Time     time.Time // of the original put, wherever that was
	DiskPath string    // absolute path of the file that holds the body
}
