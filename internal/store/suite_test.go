package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/entrytest"
	"github.com/larder-build/larder/internal/store"
)

// keeper is a store as entrytest sees it. What other machines have put comes in
// by Import, which keeps its time.
type keeper struct{ *store.Store }

func (k keeper) Put(h entry.Header, body []byte) error {
	return k.Import(h.ActionID, h.OutputID, h.Size, h.Time, bytes.NewReader(body))
}

func (k keeper) Get(id entry.ActionID) (entry.Header, []byte, error) {
	o, err := k.Store.Get(id)
	if errors.Is(err, store.ErrMiss) {
		err = fmt.Errorf("%w: %w", entrytest.ErrMiss, err)
	}
	if err != nil {
		return entry.Header{}, nil, err
	}
	data, err := os.ReadFile(o.DiskPath)
	return entry.Header{ActionID: id, OutputID: o.OutputID, Size: o.Size, Time: o.Time}, data, err
}

func TestSuite(t *testing.T) {
	dir := t.TempDir()
	entrytest.Run(t, func(*testing.T) (entrytest.Keeper, func()) {
		s := store.Open(store.Options{Dir: dir})
		return keeper{s}, s.Close
	}, entrytest.Options{})
}

func TestSuiteFaults(t *testing.T) {
	dir := t.TempDir()
	var fault atomic.Pointer[func(op, path string) error]
	var faults []entrytest.Fault
	for _, op := range []string{"create", "write", "rename"} {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EACCES, syscall.EMFILE} {
			fail := func(o, _ string) error {
				if o == op {
					return errno
				}
				return nil
			}
			faults = append(faults, entrytest.Fault{
				Name: op + " " + errno.Error(),
				On:   func() { fault.Store(&fail) },
				Off:  func() { fault.Store(nil) },
			})
		}
	}
	entrytest.RunFaults(t, func(*testing.T) (entrytest.Keeper, func()) {
		s := store.Open(store.Options{Dir: dir})
		s.SetFault(func(op, path string) error {
			if f := fault.Load(); f != nil {
				return (*f)(op, path)
			}
			return nil
		})
		return keeper{s}, s.Close
	}, faults, func(string) bool { return false })
}
