package entry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Header is all of an entry but its body. Entries are sent, stored and packed
// in one form: the header, then the body as it was first compressed.
type Header struct {
	ActionID  ActionID
	OutputID  OutputID      // SHA-256 of the body before compression
	Size      int64         // bytes of the body before compression
	Time      time.Time     // of the original put
	Cost      time.Duration // from the miss to the put, where it was built; 0 is unknown, so what is known to have cost nothing has CostNothing
	Writer    string        // who put it: printable, at most MaxText bytes; "" is unknown
	Signature []byte        // at most MaxText bytes; nil is unsigned
	Encoding  Encoding      // of the stored body
	Alone     bool          // an executable: large and seldom needed again, so it is sent only when it is asked for
	Stored    int64         // bytes of the stored body
	Sum       uint32        // CRC-32C of the stored body: damage shows without decoding
}

// An Encoding is how a body is stored.
type Encoding uint8

const (
	Raw  Encoding = iota // as it is; Stored is Size
	Zstd                 // one zstd frame or several (RFC 8878)
)

const (
	// CostNothing is the cost of an entry that came with another one, and cost
	// nothing by itself.
	CostNothing = time.Nanosecond
	// CostLeast is the least cost that says whether an entry is worth fetching. What
	// cost less came with another one, which is of no use without it, or with any
	// delay would have cost more.
	CostLeast = time.Millisecond
	// MaxText is the longest Writer and the longest Signature, in bytes.
	MaxText = 255
	// MaxSize is the largest body, in bytes, that a header may promise. The
	// largest output seen in a build is an archive of some 100 MB.
	MaxSize = 8 << 30
	// MaxHeader is the longest encoded header, in bytes.
	MaxHeader = headerFixed + 2*MaxText + headerSum

	// maxRatio is the most that zstd can do: a block of 128 KiB of one byte takes
	// 4 bytes. A header that promises more lies.
	maxRatio = 32 << 10

	headerVersion = 1
	aloneBit      = 0x80 // of the byte of the encoding
	headerFixed   = 104
	headerSum     = 4
)

// ErrFormat is what the errors about bytes that are no entry wrap.
var ErrFormat = errors.New("not an entry")

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C of p, for Header.Sum.
func Checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// UpdateChecksum adds p to a checksum that began as 0.
func UpdateChecksum(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// Append appends the encoded header to b, all numbers big-endian:
//
//	  0  version, 1
//	  1  encoding; the highest bit says that the entry is sent alone
//	  2  length of the writer
//	  3  length of the signature
//	  4  CRC-32C of the stored body
//	  8  action ID
//	 40  output ID
//	 72  size
//	 80  stored size
//	 88  time of the put, Unix nanoseconds
//	 96  cost, nanoseconds
//	104  writer, signature, CRC-32C of all before
//
// It fails if the header is not one that ParseHeader would take.
func (h *Header) Append(b []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return b, err
	}
	start := len(b)
	encoding := byte(h.Encoding)
	if h.Alone {
		encoding |= aloneBit
	}
	b = append(b, headerVersion, encoding, byte(len(h.Writer)), byte(len(h.Signature)))
	b = binary.BigEndian.AppendUint32(b, h.Sum)
	b = append(b, h.ActionID[:]...)
	b = append(b, h.OutputID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Stored))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Time.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Cost))
	b = append(b, h.Writer...)
	b = append(b, h.Signature...)
	return binary.BigEndian.AppendUint32(b, Checksum(b[start:])), nil
}

// check refuses what cannot be true.
func (h *Header) check() error {
	switch {
	case h.Size < 0 || h.Size > MaxSize:
		return formatError("size %d", h.Size)
	case h.Stored < 0 || h.Stored > h.Size:
		return formatError("stored size %d of %d", h.Stored, h.Size)
	case h.Encoding == Raw && h.Stored != h.Size:
		return formatError("stored size %d of %d, not compressed", h.Stored, h.Size)
	case h.Encoding == Zstd && h.Size/maxRatio > h.Stored:
		return formatError("size %d of %d compressed bytes", h.Size, h.Stored)
	case h.Encoding > Zstd:
		return formatError("encoding %d", h.Encoding)
	case h.Cost < 0:
		return formatError("cost %d", h.Cost)
	case len(h.Writer) > MaxText || len(h.Signature) > MaxText:
		return formatError("writer of %d bytes, signature of %d", len(h.Writer), len(h.Signature))
	case !printable(h.Writer):
		return formatError("writer %q", h.Writer)
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// ReadHeader reads a header, and nothing after it. Its errors are those of r, or
// wrap ErrFormat; io.EOF only if there is not one byte.
func ReadHeader(r io.Reader) (Header, error) {
	var space [MaxHeader]byte
	if _, err := io.ReadFull(r, space[:headerFixed]); err != nil {
		return Header{}, err
	}
	rest := int(space[2]) + int(space[3]) + headerSum
	if _, err := io.ReadFull(r, space[headerFixed:headerFixed+rest]); err != nil {
		return Header{}, unexpected(err)
	}
	h, _, err := ParseHeader(space[:headerFixed+rest])
	return h, err
}

// ParseHeader reads a header from the start of b, and returns what follows it.
// Its errors wrap ErrFormat.
func ParseHeader(b []byte) (h Header, rest []byte, err error) {
	if len(b) < headerFixed || b[0] != headerVersion {
		return Header{}, b, formatError("no header of version %d", headerVersion)
	}
	signatureAt := headerFixed + int(b[2])
	sumAt := signatureAt + int(b[3])
	if len(b) < sumAt+headerSum {
		return Header{}, b, formatError("header of %d bytes", len(b))
	}
	if binary.BigEndian.Uint32(b[sumAt:]) != Checksum(b[:sumAt]) {
		return Header{}, b, formatError("header is damaged")
	}
	h = Header{
		ActionID: ActionID(b[8:40]),
		OutputID: OutputID(b[40:72]),
		Size:     int64(binary.BigEndian.Uint64(b[72:])),
		Stored:   int64(binary.BigEndian.Uint64(b[80:])),
		Time:     time.Unix(0, int64(binary.BigEndian.Uint64(b[88:]))),
		Cost:     time.Duration(binary.BigEndian.Uint64(b[96:])),
		Writer:   string(b[headerFixed:signatureAt]),
		Encoding: Encoding(b[1] &^ aloneBit),
		Alone:    b[1]&aloneBit != 0,
		Sum:      binary.BigEndian.Uint32(b[4:]),
	}
	if signatureAt < sumAt {
		h.Signature = append([]byte(nil), b[signatureAt:sumAt]...)
	}
	if err := h.check(); err != nil {
		return Header{}, b, err
	}
	return h, b[sumAt+headerSum:], nil
}

// unexpected makes an end in the middle an io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
