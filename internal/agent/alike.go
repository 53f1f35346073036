package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"strings"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
)

// An alike has machines share with their like only what may depend on more than its
// action ID holds: on headers and libraries, where cgo is used. Machines are alike if
// their settings have the same label.
//
// On the server such entries have another ID than in the local store: the action ID
// XOR a mask that is a hash of the label. What shows that it depends on nothing else
// (content.Portable) keeps its action ID, and so is shared by all. The body says which,
// at both ends: an entry that comes under an ID that is not for its body is of a
// machine that is not alike, and is refused. As XOR undoes itself, what comes ahead
// of any get, under an ID that may be either, needs no more than its body to say
// whose it is; and no server and no message needs to know of all this.
//
// Without a label all keep their action IDs. A label that begins with "all:" gives
// all of them another one.
type alike struct {
	on, all bool
	mask    entry.ActionID
}

// allPrefix begins the labels of machines that share nothing with others, such as
// those with a patched toolchain that has the version of another.
const allPrefix = "all:"

func newAlike(label string) (a alike) {
	if label == "" {
		return a
	}
	a.on, a.all = true, strings.HasPrefix(label, allPrefix)
	a.mask = sha256.Sum256([]byte("larder alike\x00" + label))
	// A filter holds the first 4 bytes of IDs, as distances from each to the next
	// (package manifest). What a store has is named there under both IDs, and if these
	// differ in 7 bits only, the second takes 1 byte instead of 3. If two labels' masks
	// are the same there, their machines ask for some entries in vain.
	a.mask[0], a.mask[1], a.mask[2], a.mask[3] = 0, 0, 0, 1+a.mask[3]%127
	return a
}

// form is an entry's ID on the server, by its action; and its action, by its ID on
// the server.
func (a alike) form(id entry.ActionID, portable bool) entry.ActionID {
	if !a.on || portable && !a.all {
		return id
	}
	for i := range id {
		id[i] ^= a.mask[i]
	}
	return id
}

// forms are the IDs that an entry may have on the server if its body is not known,
// the likelier last; or the actions that it may be of, by its ID there.
func (a alike) forms(id entry.ActionID) []entry.ActionID {
	if !a.on || a.all {
		return []entry.ActionID{a.form(id, false)}
	}
	return []entry.ActionID{a.form(id, false), id}
}

// under are the IDs under which an action may be on a server with such a filter; nil is
// not known.
func (a alike) under(id entry.ActionID, filter *manifest.Filter) (ids []entry.ActionID) {
	for _, form := range a.forms(id) {
		if filter == nil || filter.Has(form) {
			ids = append(ids, form)
		}
	}
	return ids
}

// key is that of a manifest on the server. It names IDs that like machines alone can
// use, so they have their own.
func (a alike) key(key [32]byte) [32]byte { return a.form(key, false) }

// actions is a filter of actions, from the server's, which is of IDs there.
func (a alike) actions(filter *manifest.Filter) *manifest.Filter {
	switch {
	case !a.on:
		return filter
	case a.all:
		return filter.Moved(a.mask)
	}
	return filter.Or(filter.Moved(a.mask))
}

// errUnlike is that of an entry that a machine not alike has put.
var errUnlike = errors.New("it may depend on the machine, and is of one that is not alike")

// isPortable is content.Portable of what has come. An empty body shows nothing, but its
// cost does: half of all entries say that a compiler has printed nothing, and those
// cost nothing by themselves.
func isPortable(h *entry.Header, body []byte) bool {
	if len(body) == 0 {
		return h.Cost == entry.CostNothing
	}
	return content.Portable(body)
}

// dress gives each of a job's puts its ID on the server, and returns those of what the
// job's session has used.
//
// An empty body is portable if it is what was printed while something portable was
// compiled. Its cost says so on its way.
func (a alike) dress(ctx context.Context, s *store.Store, j *session.Job) (used []entry.ActionID) {
	if !a.on {
		for i, p := range j.Puts {
			j.Puts[i].Under = p.Action
		}
		return j.Used
	}
	portable, empty := make(map[entry.ActionID]bool, len(j.Used)), make(map[entry.ActionID]bool)
	note := func(id entry.ActionID) {
		if _, seen := portable[id]; !seen && ctx.Err() == nil {
			portable[id], empty[id] = look(s, id)
		}
	}
	for _, id := range j.Used {
		note(id)
	}
	for _, p := range j.Puts {
		note(p.Action)
	}
	for id, is := range portable {
		if printed := content.Subkey(id, "stdout"); is && empty[printed] {
			portable[printed] = true
		}
	}
	for i, p := range j.Puts {
		j.Puts[i].Under = a.form(p.Action, portable[p.Action])
		if empty[p.Action] && portable[p.Action] {
			j.Puts[i].Cost = entry.CostNothing
		} else if empty[p.Action] && p.Cost == entry.CostNothing {
			j.Puts[i].Cost = 0
		}
	}
	for _, id := range j.Used {
		used = append(used, a.form(id, portable[id]))
	}
	return used
}

// look reports whether what is in a store under an action is portable, or is empty.
func look(s *store.Store, id entry.ActionID) (portable, empty bool) {
	o, err := s.Peek(id)
	if err != nil || o.Size == 0 {
		return false, err == nil
	}
	f, err := os.Open(o.DiskPath)
	if err != nil {
		return false, false
	}
	defer f.Close()
	portable, _ = content.PortableFile(f, o.Size)
	return portable, false
}
