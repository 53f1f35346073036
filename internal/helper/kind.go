package helper

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Kind says what a session is for, as far as the helper can see: enough for
// the sessions that need the same actions to be of one kind, on every machine and
// branch, without a setting.
type Kind struct {
	Module  string   // path of the main module, "" outside of one
	Dir     string   // the working directory below the module's root, with slashes
	Args    []string // of the go command, with its name's last element first; nil is not known
	Environ func(string) string
}

// FindKind looks at this process's parent, directory and environment.
func FindKind() Kind {
	k := Kind{Args: parentArgs(), Environ: os.Getenv}
	if dir, err := os.Getwd(); err == nil {
		k.Module, k.Dir = findModule(dir)
	}
	return k
}

// KindOf is the kind of the session that a go command with these arguments, its
// name first, has if it is run in dir with a helper. variable is what "go env"
// says of KindVariables.
func KindOf(args []string, dir string, variable func(string) string) Kind {
	k := Kind{Environ: variable}
	if knowsParent && len(args) > 0 {
		k.Args = append([]string{"go"}, args[1:]...) // which go1.25.0 starts, too
	}
	k.Module, k.Dir = findModule(dir)
	return k
}

// relevant are the variables that decide about actions. The go command sets them
// all for its children, as "go env" prints them (cmd/go/main.go, invoke).
var relevant = [...]string{"GOVERSION", "GOOS", "GOARCH", "GOFLAGS", "GOEXPERIMENT", "CGO_ENABLED", "GOAMD64", "GOARM", "GOARM64"}

// KindVariables are the names of the variables that decide about a Kind's key.
func KindVariables() []string { return slices.Clone(relevant[:]) }

// Key is the manifest's key: sessions of one key use nearly the same actions.
func (k Kind) Key() string {
	h := sha256.New()
	add := func(s string) {
		h.Write(strconv.AppendInt(nil, int64(len(s)), 10))
		h.Write([]byte(":" + s))
	}
	add("larder manifest 1")
	add(k.Module)
	add(k.Dir)
	for _, name := range relevant {
		add(k.Environ(name))
	}
	for _, arg := range essential(k.Args) {
		add(arg)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Values of flags that say nothing but how it was built or tested. Those of all
// others may be secret (-ldflags "-X main.key=…"), or name files of the machine.
const plainValue = " tags mod buildmode count cpu p parallel timeout covermode race cover msan asan trimpath short failfast v x a n m u json deps test export compiled e "

// Command is the command for people, without what could be secret or is about the
// machine: values of flags, arguments of the program that is run or of tests, and
// directories are left out.
func (k Kind) Command() string {
	const commandBytesMax = 200
	text := k.command()
	if len(text) <= commandBytesMax {
		return text
	}
	return strings.ToValidUTF8(text[:commandBytesMax-len("…")], "") + "…"
}

func (k Kind) command() string {
	const name, hidden = 1, "…"
	var words []string
	for i := 0; i < len(k.Args); i++ {
		arg := k.Args[i]
		if i <= name || !strings.HasPrefix(arg, "-") {
			words = append(words, withoutDir(arg))
			if i > name && (k.Args[name] == "run" || k.Args[name] == "tool") && i+1 < len(k.Args) {
				return strings.Join(append(words, hidden), " ") // the rest is the program's
			}
			continue
		}
		flag, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		bare := strings.TrimPrefix(flag, "test.")
		known := " " + bare + " "
		switch {
		case bare == "args":
			return strings.Join(append(words, "-args", hidden), " ")
		case strings.Contains(plainValue, known):
			words = append(words, arg)
			if !hasValue && takesValue(bare) && i+1 < len(k.Args) {
				i++
				words = append(words, k.Args[i])
			}
		case hasValue:
			words = append(words, "-"+flag+"="+hidden)
		default:
			words = append(words, "-"+flag)
			if takesValue(bare) && i+1 < len(k.Args) {
				i++
				words = append(words, hidden)
			}
		}
	}
	return strings.Join(words, " ")
}

// takesValue reports whether a flag's value may be the next argument. A flag that
// is not known is taken for one of those, so that no value is shown.
func takesValue(flag string) bool {
	const alone = " a n v x m u e c work race msan asan cover modcacherw trimpath linkshared json failfast short benchmem fullpath deps test export compiled find versions "
	return !strings.Contains(alone, " "+flag+" ")
}

// withoutDir is an argument without the directories of an absolute path.
func withoutDir(arg string) string {
	if filepath.IsAbs(arg) {
		return "…" + string(filepath.Separator) + filepath.Base(arg)
	}
	return arg
}

// Outputs are where the session may put executables that it links: what -o names,
// or the directory where they go without. Only builds and installations link what
// another machine may want.
func (k Kind) Outputs() []string {
	const name = 1
	if len(k.Args) <= name || k.Args[name] != "build" && k.Args[name] != "install" {
		return nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil
	}
	if k.Args[name] == "install" {
		if bin := k.Environ("GOBIN"); bin != "" {
			return []string{bin}
		}
		first, _, _ := strings.Cut(k.Environ("GOPATH"), string(filepath.ListSeparator))
		return []string{filepath.Join(first, "bin")}
	}
	for i, arg := range k.Args {
		flag, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "-") || flag != "o" {
			continue
		}
		if !hasValue && i+1 < len(k.Args) {
			value = k.Args[i+1]
		}
		if !filepath.IsAbs(value) {
			value = filepath.Join(dir, value)
		}
		return []string{value}
	}
	return []string{dir}
}

// Flags of the go command that do not change which actions a session needs, only
// where the results go or what is done with them: those with a value, those without.
const (
	idleWithValue = " C o p exec coverprofile cpuprofile memprofile blockprofile mutexprofile trace outputdir bench benchtime blockprofilerate count cpu fuzz fuzztime fuzzminimizetime list memprofilerate mutexprofilefraction parallel run skip shuffle timeout v f "
	idleAlone     = " a n v x work json failfast short benchmem fullpath e "
)

// essential are the arguments that decide which actions a session needs.
func essential(args []string) (kept []string) {
	const name = 1
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if i <= name || !strings.HasPrefix(arg, "-") {
			kept = append(kept, arg)
			if i > name && args[name] == "run" {
				return kept // the rest is the program's
			}
			continue
		}
		flag, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		flag = strings.TrimPrefix(flag, "test.")
		switch {
		case flag == "args":
			return kept // the rest is the tests'
		case strings.Contains(idleAlone, " "+flag+" "):
		case strings.Contains(idleWithValue, " "+flag+" "):
			if !hasValue {
				i++
			}
		default:
			kept = append(kept, arg)
		}
	}
	return kept
}

// findModule finds the module that a directory is in, by its go.mod, as the go
// command does.
func findModule(dir string) (module, below string) {
	for at := dir; ; at = filepath.Dir(at) {
		data, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil {
			rel, _ := filepath.Rel(at, dir)
			return modulePath(string(data)), filepath.ToSlash(rel)
		}
		if at == filepath.Dir(at) {
			return "", ""
		}
	}
}

// modulePath is the path in a go.mod's module line, or block.
func modulePath(text string) string {
	inBlock := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !inBlock {
			rest, ok := strings.CutPrefix(line, "module")
			if !ok || rest == "" || !strings.ContainsRune(" \t\"`(", rune(rest[0])) {
				continue
			}
			line = strings.TrimSpace(rest)
			if block, ok := strings.CutPrefix(line, "("); ok {
				line, inBlock = strings.TrimSpace(block), true
			}
		}
		if quoted, err := strconv.QuotedPrefix(line); err == nil {
			path, _ := strconv.Unquote(quoted) // it is what QuotedPrefix has found
			return path
		}
		if path, _, _ := strings.Cut(line, "//"); len(strings.Fields(path)) == 1 {
			return strings.TrimSpace(path)
		}
	}
	return ""
}
