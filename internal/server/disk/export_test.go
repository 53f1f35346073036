package disk

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/larder-build/larder/internal/entry"
)

// What the keeper does by itself, now.

func (s *Store) RenewUses() error { return s.renewUses() }
func (s *Store) EvictOver() error { return s.evictOver(context.Background()) }
func (s *Store) EvictOld() error  { return s.evictOld(context.Background()) }
func (s *Store) Sweep() error     { _, _, err := s.sweepDirs(context.Background()); return err }
func (s *Store) Stuck() bool      { return isClosed(s.guard.stuck()) }

func (s *Store) EvictTo(bytes int64) error { return s.evict(context.Background(), bytes, 0) }

// BodyPath is the file of an entry, "" if it has none.
func (s *Store) BodyPath(ns string, id entry.ActionID) string {
	ident, err := actionIdent(ns, id)
	if err != nil {
		return ""
	}
	r, _, err := s.record(ident, false)
	if err != nil || r.number == 0 {
		return ""
	}
	return s.bodyPath(r.number)
}

// Damage changes a byte of an entry's record in the index.
func (s *Store) Damage(ns string, id entry.ActionID, at func(length int) int) error {
	ident, err := actionIdent(ns, id)
	if err != nil {
		return err
	}
	value, closer, err := s.db.Get(recordKey(ident))
	if err != nil {
		return err
	}
	value = append([]byte(nil), value...)
	closer.Close()
	value[at(len(value))] ^= 1
	return s.db.Set(recordKey(ident), value, pebble.Sync)
}

// SetFault makes writes of Pebble's files fail as fault says.
func (s *Store) SetFault(fault func(name string) error) { s.guard.fault.Store(&fault) }

// Flush has Pebble write a table, and perhaps compact.
func (s *Store) Flush() error { return s.flush() }

// Check compares all there is in the index and in the directory with each other.
// Nothing may be changed meanwhile. With orphans, files that nothing refers to are
// no error.
func (s *Store) Check(orphans bool) error {
	if s.enter() != nil {
		return nil
	}
	defer s.leave()
	s.commit.Lock()
	defer s.commit.Unlock()
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	var (
		errs    []error
		report  = func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
		records = map[string]stored{}
		metas   = map[string]meta{}
		used    = map[string]meta{}
		files   = map[uint64]bool{}
		totals  = map[string]Usage{}
		want    = map[string]Usage{}
		sum     Usage
	)
	for it.First(); it.Valid(); it.Next() {
		key, value := it.Key(), append([]byte(nil), it.Value()...)
		switch key[0] {
		case recordPrefix:
			ident := string(key[1:])
			if records[ident], err = parseRecord(ident, value); err != nil {
				report("record of %x: %v", ident, err)
			}
		case metaPrefix:
			var ok bool
			if metas[string(key[1:])], ok = parseMeta(value); !ok {
				report("meta %x: %x", key, value)
			}
		case usePrefix:
			minute, ident, ok := parseUseKey(key)
			m, ok2 := parseUse(minute, value)
			if _, twice := used[ident]; twice || !ok || !ok2 {
				report("use %x: %x, twice %v", key, value, twice)
			}
			if string(key) < string(s.state.oldest) {
				report("use %x is before the oldest, %x", key, s.state.oldest)
			}
			used[ident] = m
		case filePrefix:
			n, err := strconv.ParseUint(fmt.Sprintf("%x", key[1:]), 16, 64)
			if err != nil {
				report("file %x: %v", key, err)
			}
			files[n] = true
		case totalPrefix:
			totals[string(key[1:])], _ = parseUsage(value)
		case numberKey[0], notePrefix:
		default:
			report("key %x", key)
		}
	}
	for ident, m := range metas {
		r, ok := records[ident]
		if !ok || r.number != m.number || used[ident] != m {
			report("%x: record %v (%d), meta %+v, use %+v", ident, ok, r.number, m, used[ident])
		}
		u := Usage{Bytes: m.bytes, Entries: 1}
		if ident[0] == blobKind {
			u = Usage{Bytes: m.bytes, Blobs: 1}
		}
		want[namespaceOf(ident)] = want[namespaceOf(ident)].plus(u)
		sum = sum.plus(u)
		if m.number == 0 {
			continue
		}
		if !files[m.number] {
			report("%x: file %x is not noted", ident, m.number)
		}
		delete(files, m.number)
		info, err := s.fs.Stat(s.bodyPath(m.number))
		if err != nil || info.Size() != r.size {
			report("%x: file %x of %d bytes: %v", ident, m.number, r.size, err)
		}
	}
	if len(records) != len(metas) || len(used) != len(metas) || len(files) > 0 {
		report("%d records, %d metas, %d uses, files of nobody: %v", len(records), len(metas), len(used), files)
	}
	if fmt.Sprint(want) != fmt.Sprint(totals) || fmt.Sprint(want) != fmt.Sprint(s.state.ns) || sum != s.state.total {
		report("totals %v %v %v, want %v %v", totals, s.state.ns, s.state.total, want, sum)
	}
	if !orphans {
		errs = append(errs, s.checkFiles(metas))
	}
	return errors.Join(errs...)
}

func (s *Store) checkFiles(metas map[string]meta) error {
	names := map[string]bool{}
	for _, m := range metas {
		if m.number != 0 {
			names[s.bodyPath(m.number)] = true
		}
	}
	var errs []error
	dirs, err := s.fs.List(s.path(bodiesDir))
	errs = append(errs, err)
	for _, d := range dirs {
		list, err := s.fs.List(s.path(bodiesDir, d))
		errs = append(errs, err)
		for _, f := range list {
			if name := s.path(bodiesDir, d, f); !names[name] {
				errs = append(errs, fmt.Errorf("file of nobody: %s", name))
			}
		}
	}
	return errors.Join(errs...)
}

// OpenOn opens a store on another file system than the machine's.
func OpenOn(fs vfs.FS, o Options) (*Store, error) {
	o.fs = fs
	return Open(o)
}
