package touch_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/touch"
)

// A repo is a checkout for one test. Its git reads no settings of the machine's.
type repo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T) repo {
	t.Helper()
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1",
		"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com",
	} {
		t.Setenv(name, value)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := repo{t, dir}
	r.git("init", "-q")
	return r
}

func (r repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (r repo) write(path, content string) {
	r.t.Helper()
	name := filepath.Join(r.dir, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
		r.t.Fatal(err)
	}
}

func (r repo) commit() {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "all")
}

func (r repo) touch(dryRun bool) touch.Report {
	r.t.Helper()
	root, tracked, err := touch.Find(context.Background(), r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	report, err := touch.Checkout(context.Background(), root, tracked, dryRun)
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

// times are all modification times below a directory, by path.
func times(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	all := make(map[string]time.Time)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(dir, path)
		all[rel] = info.ModTime()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTimesAreOfPathAndContent(t *testing.T) {
	a := newRepo(t)
	a.write("a.txt", "one")
	a.write("b.txt", "one")
	a.write("dir/deep/c.txt", "two")
	os.Symlink("a.txt", filepath.Join(a.dir, "link"))
	a.commit()
	b := newRepo(t)
	b.git("pull", "-q", a.dir)
	before := times(t, b.dir)
	if got := b.touch(true); len(got.Set) == 0 || !equal(before, times(t, b.dir)) {
		t.Errorf("a dry run would set %d, or has set some", len(got.Set))
	}
	report := a.touch(false)
	b.touch(false)
	at, bt := times(t, a.dir), times(t, b.dir)
	if runtime.GOOS == "windows" {
		delete(at, "link")
		delete(bt, "link")
	}
	if !equal(at, bt) {
		t.Errorf("two checkouts differ:\n%v\n%v", at, bt)
	}
	seen := make(map[time.Time]string)
	for path, mtime := range at {
		if other, ok := seen[mtime]; ok {
			t.Errorf("%s and %s have the same time", path, other)
		}
		seen[mtime] = path
		if mtime.Year() < 1981 || mtime.Year() > 2020 || mtime.Nanosecond()%1000 != 0 {
			t.Errorf("%s has %v", path, mtime)
		}
	}
	if again := a.touch(false); len(again.Set) != 0 || again.Right != len(report.Set) {
		t.Errorf("the second time %d were set, %d right; the first %d were set", len(again.Set), again.Right, len(report.Set))
	}
}

func equal(a, b map[string]time.Time) bool {
	if len(a) != len(b) {
		return false
	}
	for path, mtime := range a {
		if !mtime.Equal(b[path]) {
			return false
		}
	}
	return true
}

// What is in the checkout counts, whatever git makes of it.
func TestTimesTellWhatIsThere(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(r repo)
		edit    func(r repo)
		changed []string // paths whose times differ after the edit
	}{
		{"edited, same size", nil, func(r repo) { r.write("dir/f", "TWO") }, []string{"dir/f"}},
		{"edited and staged", nil, func(r repo) { r.write("dir/f", "TWO"); r.git("add", "-A") }, []string{"dir/f"}},
		{"assumed to be unchanged", func(r repo) { r.git("update-index", "--assume-unchanged", "dir/f") }, func(r repo) { r.write("dir/f", "TWO") }, []string{"dir/f"}},
		{"skip-worktree", func(r repo) { r.git("update-index", "--skip-worktree", "dir/f") }, func(r repo) { r.write("dir/f", "TWO") }, []string{"dir/f"}},
		{"intended to be added", func(r repo) { r.write("dir/g", "one"); r.git("add", "-N", "dir/g") }, func(r repo) { r.write("dir/g", "ONE") }, []string{"dir/g"}},
		{"line endings", nil, func(r repo) {
			r.git("config", "core.autocrlf", "true")
			os.Remove(filepath.Join(r.dir, "lines"))
			r.git("checkout", "lines")
		}, []string{"lines"}},
		{"a filter", nil, func(r repo) {
			r.git("config", "filter.caps.smudge", "tr a-z A-Z")
			r.git("config", "filter.caps.clean", "tr A-Z a-z")
			r.write(".git/info/attributes", "dir/f filter=caps\n")
			os.Remove(filepath.Join(r.dir, "dir/f"))
			r.git("checkout", "dir/f")
		}, []string{"dir/f"}},
		{"executable", nil, func(r repo) { os.Chmod(filepath.Join(r.dir, "dir/f"), 0o755) }, nil},
		{"untracked file", nil, func(r repo) { r.write("dir/new", "x") }, []string{"dir", "dir/new"}},
		{"ignored file", func(r repo) { r.write(".gitignore", "*.o\n"); r.git("add", "-A") }, func(r repo) { r.write("x.o", "x") }, []string{".", "x.o"}},
		{"deleted", nil, func(r repo) { os.Remove(filepath.Join(r.dir, "dir/f")) }, []string{"dir", "dir/f"}},
		{"directory instead of a file", nil, func(r repo) {
			os.Remove(filepath.Join(r.dir, "dir/f"))
			r.write("dir/f/g", "x")
		}, []string{"dir", "dir/f", "dir/f/g"}},
		{"branch", nil, func(r repo) {
			r.git("checkout", "-q", "-b", "other")
			r.write("dir/f", "TWO")
			r.commit()
			r.git("checkout", "-q", "-")
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t)
			r.write("dir/f", "two")
			r.write("dir/same", "same")
			r.write("lines", "1\n2\n")
			r.commit()
			if tt.prepare != nil {
				tt.prepare(r)
			}
			r.touch(false)
			before := times(t, r.dir)
			tt.edit(r)
			if report := r.touch(false); len(report.Failed) > 0 {
				t.Error(report.Failed)
			}
			after := times(t, r.dir)
			var changed []string
			for path := range union(before, after) {
				if !before[path].Equal(after[path]) {
					changed = append(changed, filepath.ToSlash(path))
				}
			}
			slices.Sort(changed)
			if !slices.Equal(changed, tt.changed) {
				t.Errorf("times differ of %q, want %q", changed, tt.changed)
			}
		})
	}
}

func union(a, b map[string]time.Time) map[string]bool {
	all := make(map[string]bool)
	for _, m := range []map[string]time.Time{a, b} {
		for path := range m {
			all[path] = true
		}
	}
	return all
}

// Untracked files, other repositories and what lies beyond links are not touched.
func TestOnlyWhatIsTracked(t *testing.T) {
	sub := newRepo(t)
	sub.write("s.txt", "s")
	sub.commit()
	outside := t.TempDir()
	r := newRepo(t)
	r.write("gone/f", "f")
	r.write("dir/f", "f")
	r.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", sub.dir, "sub")
	r.commit()
	// A directory that git tracks gives way to a link out of the checkout.
	os.RemoveAll(filepath.Join(r.dir, "gone"))
	os.WriteFile(filepath.Join(outside, "f"), []byte("f"), 0o666)
	if err := os.Symlink(outside, filepath.Join(r.dir, "gone")); err != nil {
		t.Skip(err)
	}
	r.write("dir/untracked", "x")
	r.write("empty/untracked", "x")
	before, beforeOutside := times(t, r.dir), times(t, outside)
	report := r.touch(false)
	after := times(t, r.dir)
	if len(report.Failed) > 0 || report.Absent != 2 { // gone/f and sub
		t.Errorf("failed: %q; %d absent, want 2", report.Failed, report.Absent)
	}
	if !equal(beforeOutside, times(t, outside)) {
		t.Error("something outside was touched")
	}
	for _, path := range []string{"gone", "dir/untracked", "empty", "empty/untracked", "sub", "sub/s.txt"} {
		if path = filepath.FromSlash(path); !before[path].Equal(after[path]) {
			t.Errorf("%s was touched", path)
		}
	}
	for _, path := range []string{".", "dir", "dir/f", ".gitmodules"} {
		if path = filepath.FromSlash(path); before[path].Equal(after[path]) {
			t.Errorf("%s was not touched", path)
		}
	}
}

// git is asked, so its repositories may be of any form.
func TestFormsOfRepositories(t *testing.T) {
	for _, tt := range []struct {
		name string
		form func(r repo)
	}{
		{"index version 2", func(r repo) { r.git("update-index", "--index-version=2") }},
		{"index version 4", func(r repo) { r.git("update-index", "--index-version=4") }},
		{"split index", func(r repo) { r.git("update-index", "--split-index") }},
		{"sha256", func(r repo) {
			os.RemoveAll(filepath.Join(r.dir, ".git"))
			r.git("init", "-q", "--object-format=sha256")
			r.commit()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t)
			r.write("a", "a")
			r.write("dir/näme\twith\nall", "b")
			r.commit()
			tt.form(r)
			if report := r.touch(false); report.Count(touch.File) != 2 || len(report.Failed) > 0 {
				t.Errorf("%+v", report)
			}
			if err := touch.Refresh(context.Background(), r.dir); err != nil {
				t.Error(err)
			}
			// With what it has noted, git need not read the files.
			if out := r.git("diff-files"); out != "" {
				t.Errorf("git diff-files: %s", out)
			}
		})
	}
	t.Run("worktree and sparse checkout", func(t *testing.T) {
		r := newRepo(t)
		r.write("a", "a")
		r.write("dir/b", "b")
		r.commit()
		r.touch(false)
		want := times(t, r.dir)
		w := repo{t, filepath.Join(t.TempDir(), "w")}
		r.git("worktree", "add", "-q", w.dir)
		w.touch(false)
		if got := times(t, w.dir); !equal(got, want) {
			t.Errorf("in a worktree %v, want %v", got, want)
		}
		if err := touch.Refresh(context.Background(), w.dir); err != nil {
			t.Error(err) // and git would leave what it takes for modified
		}
		w.git("sparse-checkout", "set", "--no-cone", "/a")
		if report := w.touch(false); report.Absent != 1 || len(report.Failed) > 0 {
			t.Errorf("%+v", report)
		}
		if got := times(t, w.dir); !got["a"].Equal(want["a"]) {
			t.Errorf("in a sparse checkout %v, want %v", got["a"], want["a"])
		}
	})
}

// What is modified stays so for git, and a conflict is none for touch.
func TestRefreshHidesNothing(t *testing.T) {
	r := newRepo(t)
	r.write("f", "one")
	r.write("g", "one")
	r.commit()
	r.git("checkout", "-q", "-b", "other")
	r.write("f", "two")
	r.commit()
	r.git("checkout", "-q", "-")
	r.write("f", "six")
	r.commit()
	cmd := exec.Command("git", "merge", "-q", "other")
	cmd.Dir = r.dir
	if cmd.Run() == nil {
		t.Fatal("no conflict")
	}
	r.write("g", "ONE")
	if report := r.touch(false); report.Count(touch.File) != 2 || len(report.Failed) > 0 {
		t.Errorf("%+v", report)
	}
	if err := touch.Refresh(context.Background(), r.dir); err != nil {
		t.Error(err)
	}
	if status := r.git("status", "--porcelain"); status != "UU f\n M g\n" {
		t.Errorf("git status: %q", status)
	}
}

func TestWhatCannotBeReadIsLeftAlone(t *testing.T) {
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("everything can be read here")
	}
	r := newRepo(t)
	r.write("f", "one")
	r.commit()
	if err := os.Chmod(filepath.Join(r.dir, "f"), 0); err != nil {
		t.Fatal(err)
	}
	if report := r.touch(false); len(report.Failed) != 1 || !strings.Contains(report.Failed[0], "permission denied") {
		t.Errorf("%q", report.Failed)
	}
}

func TestFindOutsideOfACheckout(t *testing.T) {
	t.Setenv("GIT_CEILING_DIRECTORIES", os.TempDir())
	if _, _, err := touch.Find(context.Background(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a git repository") {
		t.Error(err)
	}
}
