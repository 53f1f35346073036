package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	bodies "github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/entrytest"
	"github.com/larder-build/larder/internal/server/disk"
)

// keeper is a store as entrytest sees it.
type keeper struct {
	store *disk.Store
	codec *bodies.Codec
}

func (k keeper) Put(h entry.Header, plain []byte) error {
	stored := k.codec.Pack(&h, plain, nil)
	b := k.store.NewBatch("")
	defer b.Close()
	if err := b.Add(&h, bytes.NewReader(stored)); err != nil {
		return err
	}
	return b.Commit()
}

func (k keeper) Get(id entry.ActionID) (entry.Header, []byte, error) {
	i, err := k.store.Get("", id)
	if errors.Is(err, disk.ErrNotFound) {
		err = fmt.Errorf("%w: %w", entrytest.ErrMiss, err)
	}
	if err != nil {
		return entry.Header{}, nil, err
	}
	defer i.Close()
	stored, err := io.ReadAll(i.Checked())
	if err != nil {
		return entry.Header{}, nil, err
	}
	plain, err := k.codec.Unpack(&i.Header, stored, nil)
	return i.Header, plain, err
}

func TestSuite(t *testing.T) {
	o := disk.Options{Dir: t.TempDir(), Reserve: 1}
	entrytest.Run(t, func(t *testing.T) (entrytest.Keeper, func()) {
		s, err := disk.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		return keeper{s, bodies.NewCodec()}, func() {
			check(t, s)
			s.Close()
		}
	}, entrytest.Options{Trusting: true})
}

// What goes wrong with the files of bodies costs the puts in question, and no more.
func TestSuiteFaults(t *testing.T) {
	o := disk.Options{Dir: t.TempDir(), Reserve: 1}
	var fault atomic.Pointer[func(errorfs.Op) error]
	fs := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f := fault.Load(); f != nil && strings.Contains(op.Path, string(filepath.Separator)+"bodies"+string(filepath.Separator)) {
			return (*f)(op)
		}
		return nil
	}))
	var faults []entrytest.Fault
	for name, kind := range map[string]errorfs.OpKind{
		"create": errorfs.OpCreate, "write": errorfs.OpFileWrite, "sync": errorfs.OpFileSync, "sync of a directory": errorfs.OpOpenDir,
		"open": errorfs.OpOpen,
	} {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EACCES, syscall.EMFILE} {
			fail := func(op errorfs.Op) error {
				if op.Kind == kind {
					return errno
				}
				return nil
			}
			faults = append(faults, entrytest.Fault{
				Name: name + " " + errno.Error(),
				On:   func() { fault.Store(&fail) },
				Off:  func() { fault.Store(nil) },
			})
		}
	}
	entrytest.RunFaults(t, func(t *testing.T) (entrytest.Keeper, func()) {
		s, err := disk.OpenOn(fs, o)
		if err != nil {
			t.Fatal(err)
		}
		return keeper{s, bodies.NewCodec()}, func() {
			if err := s.Check(true); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}, faults, func(name string) bool { return strings.Contains(name, syscall.ENOSPC.Error()) }) // room is made

}
