// Package manifest holds what a build uses and what a namespace has, in forms
// small enough to be sent at the start of every build: a Manifest is the actions
// that sessions of one kind have used, in the order of their first use; a Plan is
// what of it a server is about to send; a Filter says of any action whether it is
// there at all.
//
// Nothing here is trusted with more than speed: a wrong one costs hits or
// transfers, never a wrong body. All decoders refuse lengths that lie before they
// allocate for them.
package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// ErrFormat is what errors about bytes that do not parse wrap.
var ErrFormat = errors.New("not a manifest")

const (
	// ItemsMax is the most actions of a manifest: some ten builds of 1,000 packages.
	ItemsMax = 100_000
	// AgeMax is for how many sessions a manifest keeps what they did not use.
	// Branches that take turns find their own in it.
	AgeMax = 4

	version = 1
)

// A Manifest is the actions that sessions under one key have used.
type Manifest []Item

// An Item is one of them.
type Item struct {
	Action entry.ActionID
	Age    uint8 // sessions since it was used last
}

const itemBytes = entry.HashSize + 1

// Append appends the encoded manifest: the version, then items of 33 bytes, the
// action ID and the age.
func (m Manifest) Append(b []byte) []byte {
	b = append(b, version)
	for _, item := range m {
		b = append(append(b, item.Action[:]...), item.Age)
	}
	return b
}

// Parse reads a manifest. Its errors wrap ErrFormat.
func Parse(b []byte) (Manifest, error) {
	if len(b) == 0 || b[0] != version {
		return nil, fmt.Errorf("%w of version %d", ErrFormat, version)
	}
	b = b[1:]
	if len(b)%itemBytes != 0 || len(b)/itemBytes > ItemsMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrFormat, len(b))
	}
	m := make(Manifest, 0, len(b)/itemBytes)
	for ; len(b) > 0; b = b[itemBytes:] {
		m = append(m, Item{entry.ActionID(b), b[entry.HashSize]})
	}
	return m, nil
}

// Merge is m after a session that has used the given actions: those first, in
// their order, then what other sessions have used, the younger first.
//
// A session that used less than half of what the last one did tells little about
// the rest (it failed early, say), so nothing ages by it.
func (m Manifest) Merge(used []entry.ActionID) Manifest {
	merged := make(Manifest, 0, len(used)+len(m))
	seen := make(map[entry.ActionID]bool, len(used))
	for _, action := range used {
		if !seen[action] && len(merged) < ItemsMax {
			seen[action] = true
			merged = append(merged, Item{Action: action})
		}
	}
	last, again := 0, 0
	for _, item := range m {
		if item.Age == 0 {
			last++
			if seen[item.Action] {
				again++
			}
		}
	}
	var older uint8 = 1
	if len(merged) < last/2 && again < last/2 {
		older = 0
	}
	for age := range uint8(AgeMax + 1) {
		for _, item := range m {
			if item.Age == age && item.Age+older <= AgeMax && !seen[item.Action] && len(merged) < ItemsMax {
				seen[item.Action] = true
				merged = append(merged, Item{item.Action, item.Age + older})
			}
		}
	}
	return merged
}

// A Plan is what of a manifest a client lacks and a server has, in order. Those of
// age 0 the server is about to send. The others are likely not to be needed, but
// where one is, so are more of them: then the client asks for them all.
type Plan []Planned

// A Planned is one of a plan's entries.
type Planned struct {
	Action entry.ActionID
	Stored int64         // bytes of its stored body
	Cost   time.Duration // of building it; 0 is unknown
	Age    uint8         // as in the manifest
}

const (
	plannedBytes = entry.HashSize + 8 + 4 + 1
	costUnit     = time.Millisecond
)

// Append appends the encoded plan: the version, then items of 45 bytes, the
// action ID, the stored size, the cost in milliseconds, the age, big-endian.
func (p Plan) Append(b []byte) []byte {
	b = append(b, version)
	for _, planned := range p {
		b = append(b, planned.Action[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(planned.Stored))
		b = binary.BigEndian.AppendUint32(b, uint32(min(planned.Cost/costUnit, 1<<32-1)))
		b = append(b, planned.Age)
	}
	return b
}

// ParsePlan reads a plan. Its errors wrap ErrFormat.
func ParsePlan(b []byte) (Plan, error) {
	if len(b) == 0 || b[0] != version {
		return nil, fmt.Errorf("%w: no plan of version %d", ErrFormat, version)
	}
	b = b[1:]
	if len(b)%plannedBytes != 0 || len(b)/plannedBytes > ItemsMax {
		return nil, fmt.Errorf("%w: plan of %d bytes", ErrFormat, len(b))
	}
	p := make(Plan, 0, len(b)/plannedBytes)
	for ; len(b) > 0; b = b[plannedBytes:] {
		stored := int64(binary.BigEndian.Uint64(b[entry.HashSize:]))
		if stored < 0 || stored > entry.MaxSize {
			return nil, fmt.Errorf("%w: planned body of %d bytes", ErrFormat, stored)
		}
		cost := time.Duration(binary.BigEndian.Uint32(b[entry.HashSize+8:])) * costUnit
		p = append(p, Planned{entry.ActionID(b), stored, cost, b[plannedBytes-1]})
	}
	return p, nil
}
