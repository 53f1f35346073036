package server

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/server/disk"
)

// filterAge is how old a namespace's filter may get before it is made anew from
// the storage. Until then what is evicted stays in it, which costs clients a
// round trip; what is put is in it at once.
const filterAge = 10 * time.Minute

// filters are the miss filters of namespaces, made when they are first asked for.
type filters struct {
	storage *disk.Store
	boot    string // makes tags differ from those of the last run

	mu     sync.Mutex
	byName map[string]*namespaceFilter
	sent   map[string]encodedFilter // by the names of what they unite
}

type namespaceFilter struct {
	filter  *manifest.Filter
	added   []entry.ActionID // not in filter yet
	made    time.Time
	version int
}

type encodedFilter struct {
	tag  string
	data []byte
}

func (f *filters) init(storage *disk.Store) {
	f.storage, f.boot = storage, rand.Text()
	f.byName = make(map[string]*namespaceFilter)
	f.sent = make(map[string]encodedFilter)
}

// add notes that actions have been put.
func (f *filters) add(ns string, ids ...entry.ActionID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.byName[ns]; n != nil { // else it is made from the storage
		n.added = append(n.added, ids...)
	}
}

// get returns the encoded filter of what is in any of the namespaces, and its tag.
func (f *filters) get(namespaces []string) (data []byte, tag string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var parts []*namespaceFilter
	tag = f.boot
	for _, ns := range namespaces {
		n, err := f.current(ns)
		if err != nil {
			return nil, "", err
		}
		parts = append(parts, n)
		tag += fmt.Sprintf(".%d", n.version)
	}
	name := strings.Join(namespaces, "\x00")
	if sent := f.sent[name]; sent.tag == tag {
		return sent.data, tag, nil
	}
	var union *manifest.Filter
	for _, n := range parts {
		union = union.Or(n.filter)
	}
	data = union.Append(nil)
	f.sent[name] = encodedFilter{tag, data}
	return data, tag, nil
}

// current is a namespace's filter with all that has been put so far. What is put
// while it is made from the storage waits for the lock, and is in it then.
func (f *filters) current(ns string) (*namespaceFilter, error) {
	n := f.byName[ns]
	if n == nil {
		n = new(namespaceFilter)
		f.byName[ns] = n
	}
	if time.Since(n.made) > filterAge {
		var err error
		made := manifest.NewFilter(func(yield func(entry.ActionID) bool) { err = f.storage.Actions(ns, yield) })
		if err != nil {
			return nil, err
		}
		n.filter, n.made = made, time.Now()
		n.version++
	}
	if len(n.added) > 0 {
		n.filter, n.added = n.filter.With(n.added), nil
		n.version++
	}
	return n, nil
}
