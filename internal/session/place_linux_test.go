package session_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/session"
)

const placeVariable = "LARDER_TEST_PLACE"

// TestMain also is a process that says where its agent would be, and shows that one
// could: the base, the world and the socket.
func TestMain(m *testing.M) {
	if os.Getenv(placeVariable) == "" {
		os.Exit(m.Run())
	}
	p, err := session.FindPlace()
	if err == nil {
		err = p.Make()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, run := range p.Runs() {
		if run.Make() != nil {
			continue
		}
		l, err := net.Listen("unix", run.Socket())
		if err != nil {
			continue
		}
		fmt.Println(p.Base, p.World, run.Socket())
		l.Close()
		run.Clean(p)
		return
	}
	fmt.Println("no run")
	os.Exit(1)
}

// A found is where another process finds its agent's place.
type found struct{ base, world, socket string }

// A finder finds places as another user, in another home.
type finder struct {
	t    *testing.T
	dir  string // that everybody can reach
	exe  string
	user int
}

// newFinder has a user that nobody else is.
func newFinder(t *testing.T) *finder {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	f := &finder{t: t, dir: t.TempDir(), user: 1_000_000 + os.Getpid()%1_000_000}
	for dir := f.dir; dir != filepath.Dir(os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f.exe = filepath.Join(f.dir, "exe")
	data, err := os.ReadFile(own)
	if err == nil {
		err = os.WriteFile(f.exe, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, dir := range f.shared() {
			os.RemoveAll(dir)
		}
	})
	return f
}

// shared are the user's directories outside of a home, in their order.
func (f *finder) shared() (dirs []string) {
	for _, parent := range []string{"/var/tmp", "/tmp", "/dev/shm"} {
		dirs = append(dirs, filepath.Join(parent, "larder-"+strconv.Itoa(f.user)))
	}
	return dirs
}

// home makes a home that belongs to a user.
func (f *finder) home(user int, perm os.FileMode) string {
	f.t.Helper()
	home, err := os.MkdirTemp(f.dir, "home")
	if err = errors.Join(err, os.Chown(home, user, -1), os.Chmod(home, perm)); err != nil {
		f.t.Fatal(err)
	}
	return home
}

// find starts a process of a user with nothing but env in its environment.
func (f *finder) find(user int, env ...string) found {
	f.t.Helper()
	return f.run(exec.Command(f.exe), user, env...)
}

func (f *finder) run(cmd *exec.Cmd, user int, env ...string) found {
	f.t.Helper()
	cmd.Env = append(env, placeVariable+"=1")
	cmd.Dir = "/"
	if user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: 0}}
	}
	out, err := cmd.Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) != 3 {
		f.t.Fatalf("with %q: %v, %s", env, err, out)
	}
	return found{fields[0], fields[1], fields[2]}
}

// There is a private place for every user, whatever home it has or has not, and two of
// its processes find the same one.
func TestPlaceOfAnyUser(t *testing.T) {
	f := newFinder(t)
	own, readOnly, others := f.home(f.user, 0o755), f.home(f.user, 0o555), f.home(0, 0o777)
	long := filepath.Join(own, strings.Repeat("long/", 30))
	for _, tt := range []struct {
		name string
		env  []string
		want string
	}{
		{"a home", []string{"HOME=" + own}, own + "/.cache/larder"},
		{"a cache directory", []string{"HOME=/", "XDG_CACHE_HOME=" + own + "/x"}, own + "/x/larder"},
		{"a relative cache directory", []string{"HOME=" + own, "XDG_CACHE_HOME=x"}, f.shared()[0]},
		{"HOME=/", []string{"HOME=/"}, f.shared()[0]},
		{"no HOME", nil, f.shared()[0]},
		{"a home that is not there", []string{"HOME=/nonexistent"}, f.shared()[0]},
		{"a home that is a file", []string{"HOME=/etc/passwd"}, f.shared()[0]},
		{"a read-only home", []string{"HOME=" + readOnly}, f.shared()[0]},
		{"everybody's home", []string{"HOME=" + others}, f.shared()[0]},
		{"a path longer than a socket's", []string{"HOME=" + own, "XDG_CACHE_HOME=" + long}, long + "/larder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			got := f.find(f.user, append(tt.env, "TMPDIR="+own)...)
			if filepath.Clean(got.base) != filepath.Clean(tt.want) {
				t.Errorf("the place is in %s, want %s", got.base, tt.want)
			}
			if other := f.find(f.user, append(tt.env, "TMPDIR="+f.home(f.user, 0o755))...); other != got {
				t.Errorf("%+v, and with another TMPDIR %+v", got, other)
			}
		})
	}
}

// What somebody else has made where a place would be is passed by.
func TestPlaceIsTaken(t *testing.T) {
	f := newFinder(t)
	const another = 54321
	for i, dir := range f.shared()[:2] {
		if got := f.find(f.user); got.base != f.shared()[i] {
			t.Fatalf("the place is in %s", got.base)
		}
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o777), os.Chown(dir, another, -1)); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.find(f.user); got.base != f.shared()[2] {
		t.Errorf("the place is in %s", got.base)
	}
}

// Root leaves nothing in the home of somebody else, whom it would shut out.
func TestPlaceOfRootInAHome(t *testing.T) {
	f := newFinder(t)
	home := f.home(f.user, 0o755)
	if got := f.find(0, "HOME="+home); strings.HasPrefix(got.base, home) {
		t.Errorf("root's place is %s", got.base)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("root leaves %v, %v", left, err)
	}
	if got := f.find(f.user, "HOME="+home); got.base != home+"/.cache/larder" {
		t.Errorf("the user's place is %s", got.base)
	}
}

// What decides what a process can reach decides which agent is its own; what does not,
// does not.
func TestWorlds(t *testing.T) {
	f := newFinder(t)
	home := "HOME=" + f.home(0, 0o755)
	base := f.find(0, home)
	for _, env := range []string{"TMPDIR=/tmp", "GOFLAGS=-v", "TERM=x", "LARDER_REMOTE=http://x"} {
		if got := f.find(0, home, env); got != base {
			t.Errorf("with %s another agent", env)
		}
	}
	worlds := map[string]string{base.world: "nothing"}
	differs := func(what string, got found) {
		t.Helper()
		if same, ok := worlds[got.world]; ok {
			t.Errorf("with %s the agent of %s", what, same)
		}
		if got.base != base.base || got.socket == base.socket {
			t.Errorf("with %s %+v", what, got)
		}
		worlds[got.world] = what
	}
	for _, env := range []string{
		"HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:2", "HTTP_PROXY=http://127.0.0.1:3", "NO_PROXY=x", "no_proxy=x",
		"SSL_CERT_FILE=/x", "SSL_CERT_DIR=/x", "GODEBUG=netdns=go",
	} {
		differs(env, f.find(0, home, env))
	}
	for _, prefix := range [][]string{
		{"unshare", "-n"}, {"unshare", "-m"},
		{"prlimit", "--fsize=1000000"}, {"prlimit", "--cpu=1000"}, {"prlimit", "--nofile=500"}, {"prlimit", "--as=20000000000"},
	} {
		cmd := exec.Command(prefix[0], append(prefix[1:], f.exe)...)
		if probe := exec.Command(prefix[0], append(prefix[1:], "true")...); probe.Run() != nil {
			t.Logf("%v cannot be done here", prefix)
			continue
		}
		differs(strings.Join(prefix, " "), f.run(cmd, 0, home))
	}
}

// A host's name, which containers with one home differ in as well, is a part of it.
func TestWorldOfAnotherHost(t *testing.T) {
	f := newFinder(t)
	if exec.Command("unshare", "-u", "true").Run() != nil {
		t.Skip("no other host names here")
	}
	home := "HOME=" + f.home(0, 0o755)
	cmd := exec.Command("unshare", "-u", "sh", "-c", "hostname larder-other-host 2>/dev/null || echo larder-other-host >/proc/sys/kernel/hostname; exec "+f.exe)
	if own, other := f.find(0, home), f.run(cmd, 0, home); own.world == other.world || own.base != other.base {
		t.Errorf("%+v and %+v", own, other)
	}
}

// What agents have left that run no more is taken over where a server is reached in
// the same way, and removed after some days everywhere.
func TestAdopt(t *testing.T) {
	p := place(t)
	job := &session.Job{Remote: session.Remote{URL: "http://x"}, Time: time.Now()}
	kin, rest, _ := strings.Cut(p.World, "-")
	leave := func(dir string, locked bool) {
		t.Helper()
		lock, err := os.Create(filepath.Join(mkdir(t, dir), "agent.lock"))
		if err != nil {
			t.Fatal(err)
		}
		if !locked {
			lock.Close()
		} else if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Fatal(err)
		} else {
			t.Cleanup(func() { lock.Close() })
		}
		if err := job.WriteFile(filepath.Join(dir, "queue", filepath.Base(dir)+".job")); err != nil {
			t.Fatal(err)
		}
	}
	ended, running := filepath.Join(p.Base, kin+"-00000001"), filepath.Join(p.Base, kin+"-00000002")
	stranger, old := filepath.Join(p.Base, "00000000-"+rest), filepath.Join(p.Base, "00000001-"+rest)
	leave(ended, false)
	leave(running, true)
	leave(stranger, false)
	leave(old, false)
	leave(p.Base, false) // before there were worlds
	long := time.Now().Add(-6 * 24 * time.Hour)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Adopt(); n != 2 || err != nil {
		t.Errorf("%d jobs, %v", n, err)
	}
	jobs, err := p.Jobs()
	if err != nil || len(jobs) != 2 || filepath.Base(jobs[0]) != filepath.Base(ended)+".job" || filepath.Base(jobs[1]) != "larder.job" {
		t.Errorf("jobs %v, %v", jobs, err)
	}
	for _, dir := range []string{running, stranger} {
		if left, _ := filepath.Glob(filepath.Join(dir, "queue", "*.job")); len(left) != 1 {
			t.Errorf("%s has %v", dir, left)
		}
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is old: %v", err)
	}
	if n, err := p.Adopt(); n != 0 || err != nil {
		t.Errorf("then %d jobs, %v", n, err)
	}
}

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An agent that did not listen in time lets others wait until it does, not longer.
func TestSilentUntilItListens(t *testing.T) {
	p := place(t)
	listen := func() net.Listener {
		t.Helper()
		l, err := net.Listen("unix", p.Runs()[0].Socket())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := listen()
	defer l.Close()
	past := time.Now().Add(-time.Second)
	if err := errors.Join(os.Chtimes(p.Runs()[0].Socket(), past, past), os.WriteFile(filepath.Join(p.Dir, "agent.silent"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if !p.Silent() {
		t.Error("not silent, when it was a moment ago")
	}
	l.Close()
	if !p.Silent() {
		t.Error("not silent, when there is none")
	}
	now := time.Now().Add(time.Second)
	defer listen().Close()
	if err := os.Chtimes(p.Runs()[0].Socket(), now, now); err != nil {
		t.Fatal(err)
	}
	if p.Silent() {
		t.Error("silent, when it listens since")
	}
}
