package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/store"
)

// asNobody runs f as a user whom permission bits bind, as they do not bind root.
// Only one thread becomes that user, and it ends with f.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: nobody else gets this thread
		const nobody = 65534
		syscall.RawSyscall(syscall.SYS_SETFSGID, nobody, 0, 0)
		syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0)
		f()
	}()
	<-done
}

// shared is a directory in a place that everybody can reach.
func shared(t *testing.T, perm os.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, perm); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Who may only read the store gets hits from it, however old, and puts elsewhere.
func TestStoreThatMayOnlyBeRead(t *testing.T) {
	dir, parent := shared(t, 0o755), shared(t, 0o777)
	root := store.Open(store.Options{Dir: dir})
	for i := range 3 {
		put(t, root, actionID(i), body(byte(i), 1000))
	}
	root.Close()
	secret := store.FileName(dir, actionID(2), 'a')
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return time.Now().Add(5 * time.Hour) } // uses would be noted
	asNobody(t, func() {
		s := store.Open(store.Options{Dir: dir, FallbackParent: parent, Now: later})
		defer s.Close()
		hit := func(n int) bool {
			o, err := s.Get(actionID(n))
			if err != nil {
				return false
			}
			data, err := os.ReadFile(o.DiskPath)
			return err == nil && bytes.Equal(data, body(byte(n), 1000))
		}
		if !hit(0) || !hit(1) {
			t.Error("not found: what may be read")
		}
		if _, err := s.Get(actionID(2)); store.MissReason(err) != store.Unreadable {
			t.Errorf("what may not be read: %v", err)
		}
		data := body(3, 1000)
		path, err := s.Put(actionID(3), sum(data), 1000, bytes.NewReader(data))
		if err != nil || !strings.HasPrefix(path, parent) || !hit(3) {
			t.Errorf("put: %s, %v, found %v", path, err, hit(3))
		}
		if _, err := store.TrimIfDue(t.Context(), store.Options{Dir: dir, FallbackParent: parent}, store.Limits{MaxSize: 1}, 1); err == nil {
			t.Error("trim: no error")
		}
	})
	wantSound(t, dir)
}

// On a file system that fills up every put still answers a path with the body,
// and what could not be stored is not there in part.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	s := store.Open(store.Options{Dir: dir, FallbackParent: t.TempDir()})
	defer s.Close()
	const puts = 60
	for i := range puts {
		path := put(t, s, actionID(i), body(byte(i), 30_000))
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, body(byte(i), 30_000)) {
			t.Fatalf("put %d: %s does not have the body: %v", i, path, err)
		}
	}
	if fallback, why := s.Fallback(); fallback == "" || fmt.Sprint(why) == "" {
		t.Error("1.8 MB fitted into 512 KiB")
	}
	for i := range puts {
		wantHit(t, s, actionID(i), body(byte(i), 30_000))
	}
	wantSound(t, dir)
	wantNoTemporary(t, dir)
}
