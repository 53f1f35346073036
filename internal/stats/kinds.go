package stats

import (
	"encoding/json"
	"strconv"

	"github.com/larder-build/larder/internal/content"
)

// Kinds are gets by the kind of entry that they were for. A hit's kind is what its
// body shows, a miss's that of what was put then. Of kind Unknown are hits on what
// was built without Larder and has not been looked at yet, and misses after which
// nothing was put: of programs, as a rule, which the go command asks for but does
// not put (updateBuildID in cmd/go/internal/work/buildid.go).
//
// In JSON it is an object with a member for each kind that was asked for.
type Kinds [content.Kinds]KindCounts

// KindCounts are the gets of one kind.
type KindCounts struct {
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
}

// Gets is hits and misses.
func (c KindCounts) Gets() int64 { return c.Hits + c.Misses }

// Plus is the sum of c and d.
func (c KindCounts) Plus(d KindCounts) KindCounts {
	return KindCounts{c.Hits + d.Hits, c.Misses + d.Misses}
}

// Hits are the hits of all kinds.
func (k *Kinds) Hits() (n int64) {
	for _, c := range k {
		n += c.Hits
	}
	return n
}

func (k *Kinds) add(d Kinds) {
	for i := range k {
		k[i] = k[i].Plus(d[i])
	}
}

// A KindGroup is what some kinds are together to a person.
type KindGroup struct {
	Name string
	KindCounts
}

// Groups are the groups of which anything was asked for. Each kind is in one.
func (k Kinds) Groups() (list []KindGroup) {
	for _, g := range [...]struct {
		name  string
		kinds []content.Kind
	}{
		{"packages", []content.Kind{content.Package}},
		{"vet", []content.Kind{content.Vet}},
		{"tests", []content.Kind{content.TestInputs, content.TestResult}},
		{"module indexes", []content.Kind{content.Index}},
		{"others", []content.Kind{content.Message, content.Source, content.Program, content.Tool, content.Other}},
		{"of unknown kind", []content.Kind{content.Unknown}},
	} {
		group := KindGroup{Name: g.name}
		for _, kind := range g.kinds {
			group.KindCounts = group.Plus(k[kind])
		}
		if group.Gets() > 0 {
			list = append(list, group)
		}
	}
	return list
}

// Rest makes Unknown what is left of a session's hits and misses.
func (k *Kinds) Rest(hits, misses int64) {
	k[content.Unknown] = KindCounts{}
	for _, c := range k {
		hits, misses = hits-c.Hits, misses-c.Misses
	}
	k[content.Unknown] = KindCounts{max(hits, 0), max(misses, 0)}
}

func (k *Kinds) numbers() (list []int64) {
	for _, c := range k {
		list = append(list, c.Hits, c.Misses)
	}
	return list
}

// MarshalJSON writes the kinds that were asked for. Each session does it while its
// go command waits.
func (k Kinds) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for kind, c := range k {
		if c == (KindCounts{}) {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = strconv.AppendQuote(b, content.Kind(kind).String())
		b = strconv.AppendInt(append(b, `:{"hits":`...), c.Hits, 10)
		b = strconv.AppendInt(append(b, `,"misses":`...), c.Misses, 10)
		b = append(b, '}')
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON has written. Kinds that are not known, of a
// later Larder, count as Unknown.
func (k *Kinds) UnmarshalJSON(data []byte) error {
	var byName map[string]KindCounts
	if err := json.Unmarshal(data, &byName); err != nil {
		return err
	}
	*k = Kinds{}
	for name, c := range byName {
		kind := content.Parse(name)
		k[kind] = k[kind].Plus(c)
	}
	return nil
}
