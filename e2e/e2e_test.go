// Package e2e holds no code, only tests: scripts that drive the real go command
// through the real larder program, in testdata/script. A script has a home, a
// module cache shared with the machine's, and a GOCACHE of its own, with what go
// commands have made natively of the commonest packages of the standard library
// in it; or nothing, where the script has a file named cold.
package e2e_test

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// moduleCacheFlag has toolchains and modules unpacked just before scripts use them.
var moduleCacheFlag = flag.String("modcache", "", "scripts have the module cache in this `directory`, which may be an empty one; by default the machine's")

func TestMain(m *testing.M) {
	if from, ok := os.LookupEnv(fillFrom); ok {
		if err := fill(from); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testscript.Main(testMain{m}, map[string]func(){
		"badprog":  badprog,
		"toolexec": toolexec,
	})
}

// testMain builds larder before the tests are run, and only then: the test
// program is also the commands that scripts call.
type testMain struct{ m *testing.M }

func (t testMain) Run() int {
	dir, err := os.MkdirTemp("", "larder-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = errors.Join(buildLarder(dir), buildBase(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("LARDER_E2E_BIN", dir)
	// Scripts wait for processes half of their time.
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	}
	return t.m.Run()
}

func buildLarder(dir string) error {
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "github.com/larder-build/larder/cmd/larder", "github.com/larder-build/larder/cmd/larderd")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build larder and larderd: %w\n%s", err, out)
	}
	// Another version of the helper, for the script about that.
	cmd = exec.Command("go", "build", "-ldflags", "-X github.com/larder-build/larder/internal/cli.release=v99.0.0", "-o", filepath.Join(dir, "v99", "larder"), "github.com/larder-build/larder/cmd/larder")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build another larder: %w\n%s", err, out)
	}
	return nil
}

// goEnv asks the go command of the machine, in whose module cache scripts work.
func goEnv(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("the scripts build the standard library again and again")
	}
	t.Parallel() // with the tests beside it, not only its scripts with each other
	moduleCache, proxy, sumdb, goroot := cmp.Or(*moduleCacheFlag, goEnv(t, "GOMODCACHE")), goEnv(t, "GOPROXY"), goEnv(t, "GOSUMDB"), goEnv(t, "GOROOT")
	deploy, err := filepath.Abs("../deploy")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", os.Getenv("LARDER_E2E_BIN")+string(filepath.ListSeparator)+
				filepath.Join(goroot, "bin")+string(filepath.ListSeparator)+env.Getenv("PATH"))
			for name, value := range map[string]string{
				"HOME": filepath.Join(env.WorkDir, "home"), "GOCACHE": filepath.Join(env.WorkDir, "cache"),
				"TMPDIR": filepath.Join(env.WorkDir, ".tmp"), "GOMODCACHE": moduleCache, "GOPROXY": proxy, "GOSUMDB": sumdb,
				"GOENV": "off", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local", "GOTELEMETRY": "off",
				"GOCACHEPROG": "larder", "GORACE": "", "E2E_BIN": os.Getenv("LARDER_E2E_BIN"), "DEPLOY": deploy,
			} {
				env.Setenv(name, value)
			}
			env.Values[collectorKey{}] = new(scriptCollector)
			if err := os.MkdirAll(filepath.Join(env.WorkDir, "home"), 0o777); err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(env.WorkDir, "cold")); err == nil {
				env.Setenv("COLD", "1")
			} else if err := linkBase(env.Getenv("GOCACHE")); err != nil {
				return err
			}
			return makeOlder(env.WorkDir, time.Hour)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "cgo":
				_, err := exec.LookPath("gcc")
				return err == nil, nil
			case "nginx":
				return hasNginx()
			case "root":
				return os.Geteuid() == 0, nil
			}
			if toolchain, ok := strings.CutPrefix(cond, "toolchain:"); ok {
				cmd := exec.Command("go", "version")
				cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+toolchain, "GOMODCACHE="+moduleCache)
				return cmd.Run() == nil, nil // fetched through the module proxy if need be
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: commands(),
	})
}

// commands are those that scripts can use beside testscript's own.
func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	cmds := map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"module":  cmdModule,
		"install": cmdInstall,
		"replace": cmdReplace,
		"age":     cmdAge,
		"spawn8":  cmdSpawn8,
		"tinyfs":  cmdTinyFS,
		"served":  cmdServed,
	}
	maps.Copy(cmds, remoteCmds)
	return cmds
}

// cmdModule: module PATH DIR copies a module that this one requires, as it came
// from the module proxy, to DIR.
func cmdModule(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: module PATH DIR")
	}
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", args[0])
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	ts.Check(err)
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(strings.TrimSpace(string(out)))))
	ts.Check(makeOlder(ts.MkAbs(args[1]), time.Hour))
}

// cmdInstall: install PATH@VERSION installs a program from the module proxy in
// $WORK/bin, with the machine's own cache: it takes long, and is not what is tested.
func cmdInstall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: install PATH@VERSION")
	}
	ts.Check(install(ts.MkAbs(filepath.Join(ts.Getenv("WORK"), "bin")), args...))
}

// install installs programs in a directory.
func install(dir string, programs ...string) error {
	cmd := exec.Command("go", append([]string{"install"}, programs...)...)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "GOCACHEPROG=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install %q: %w\n%s", programs, err, out)
	}
	return nil
}

// cmdReplace: replace OLD NEW DIR replaces text of the same length in every file
// under DIR that has it, keeping sizes and times: silent damage.
func cmdReplace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 || len(args[0]) != len(args[1]) {
		ts.Fatalf("usage: replace OLD NEW DIR, with texts of one length")
	}
	replaced := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[2]), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), args[0]) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		replaced++
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), args[0], args[1])), 0o666); err != nil {
			return err
		}
		return os.Chtimes(path, info.ModTime(), info.ModTime())
	}))
	if replaced == 0 {
		ts.Fatalf("no file under %s has %q", args[2], args[0])
	}
}

// cmdAge: age DURATION DIR makes every file under DIR older.
func cmdAge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: age DURATION DIR")
	}
	age, err := time.ParseDuration(args[0])
	ts.Check(err)
	ts.Check(makeOlder(ts.MkAbs(args[1]), age))
}

// makeOlder moves the times of every file under dir back. Files younger than
// two seconds make for honest misses: the go command does not cache the module
// index of such (cmd/go/internal/modindex/read.go, modTimeCutoff).
func makeOlder(dir string, age time.Duration) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode()&os.ModeSymlink != 0 {
			return err
		}
		then := info.ModTime().Add(-age)
		return os.Chtimes(path, then, then)
	})
}

// cmdSpawn8: spawn8 CMD ARG... runs a command eight times at once; all must succeed.
func cmdSpawn8(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: spawn8 CMD ARG...")
	}
	type ended struct {
		out []byte
		err error
	}
	results := make(chan ended)
	const processes = 8
	for range processes {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = ts.MkAbs(".")
		for _, name := range []string{"PATH", "HOME", "XDG_CACHE_HOME", "LARDER_REMOTE", "GOCACHE", "GOCACHEPROG", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GOENV", "GOFLAGS", "GOTOOLCHAIN", "TMPDIR"} {
			cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
		}
		go func() {
			out, err := cmd.CombinedOutput()
			results <- ended{out, err}
		}()
	}
	for range processes {
		if r := <-results; r.err != nil {
			ts.Fatalf("%v: %v\n%s", args, r.err, r.out)
		}
	}
}

// cmdTinyFS: tinyfs DIR SIZE mounts a file system in RAM of that size on DIR,
// which it makes. Only root can.
func cmdTinyFS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tinyfs DIR SIZE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o777))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+args[1], "tmpfs", dir).CombinedOutput(); err != nil {
		ts.Fatalf("mount: %v\n%s", err, out)
	}
	ts.Defer(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			ts.Logf("umount: %v\n%s", err, out)
		}
	})
}
