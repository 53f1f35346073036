package explain

import (
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// An input is one line of what an action ID is a hash of: a key that says what it
// is, and its value. Lines of two actions with the same key are compared.
type input struct {
	key   string
	value string
	dep   ref // of another action's output
}

// A ref names actions by kind and package.
type ref struct{ kind, pkg string }

// inputsOf takes an action's lines apart (buildActionID, linkActionID and
// printLinkerConfig in cmd/go/internal/work/exec.go; vet there too; tryCacheWithID
// and computeTestInputsID in cmd/go/internal/test/test.go). A line of a form that
// is not known is its own key: it is compared, and shown, as it is.
func inputsOf(a *Action) []input {
	list := make([]input, 0, len(a.Inputs)+1)
	for _, line := range a.Inputs {
		first, rest, more := strings.Cut(line, " ")
		switch {
		case line == "" || line == "compile" || line == "link":
		case a.Kind == Test:
			list = append(list, testInput(a, first, rest))
		case first == "file" || first == "pgofile":
			name, hash := cutLast(line, " ")
			list = append(list, input{key: name, value: hash})
		case first == "import" && strings.HasPrefix(rest, `"`):
			// the action's own path
		case first == "import":
			path, hash := cutLast(rest, " ")
			list = append(list, input{"import " + path, hash, ref{Build, path}})
		case first == "packagefile" || first == "packageshlib":
			path, hash, _ := strings.Cut(rest, "=")
			list = append(list, input{first + " " + path, hash, ref{Build, path}})
		case first == "packagemain" || first == "pkg":
			list = append(list, input{first, rest, ref{Build, a.Package}})
		case first == "vetout":
			path, hash := cutLast(rest, " ")
			path = strings.Trim(path, `"`)
			list = append(list, input{"vetout " + path, hash, ref{Vet, path}})
		case (first == "compile" || first == "asm" || first == "link") && more:
			tool, flags, _ := strings.Cut(rest, " [")
			list = append(list, input{key: first + " tool", value: tool}, input{key: first + " flags", value: "[" + flags})
		case first == "modinfo":
			list = append(list, modinfo(rest)...)
		case first == "magic":
			name, value, _ := strings.Cut(rest, "=")
			list = append(list, input{key: "env " + name, value: value})
		case assigns(line):
			name, value, _ := strings.Cut(line, "=")
			list = append(list, input{key: "env " + name, value: value})
		case !more:
			list = append(list, input{key: line, value: "set"}) // trimpath, forcelibrary
		default:
			list = append(list, input{key: first, value: rest})
		}
	}
	return list
}

func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i+len(sep):]
}

// assigns reports whether a line is NAME=value; NAME may be of two words (CC ID).
func assigns(line string) bool {
	name, _, ok := strings.Cut(line, "=")
	return ok && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ") == ""
}

// modinfo takes the description of the program apart that goes into it, as "go
// version -m" shows it.
func modinfo(quoted string) (list []input) {
	text, err := strconv.Unquote(quoted)
	if err != nil {
		return []input{{key: "modinfo", value: quoted}}
	}
	module := ""
	for _, line := range strings.Split(text, "\n") {
		fields := strings.SplitN(line, "\t", 3)
		switch {
		case len(fields) == 2 && fields[0] == "build":
			name, value, _ := strings.Cut(fields[1], "=")
			list = append(list, input{key: "setting " + name, value: value})
		case len(fields) == 3 && (fields[0] == "dep" || fields[0] == "mod"):
			module = fields[1]
			list = append(list, input{key: "version of " + module, value: fields[2]})
		case len(fields) == 3 && fields[0] == "=>":
			list = append(list, input{key: "replacement of " + module, value: fields[1] + " " + fields[2]})
		}
	}
	return list
}

func testInput(a *Action, first, rest string) input {
	switch first {
	case "binary":
		return input{first, rest, ref{Link, a.Package + ".test"}}
	case "env", "stat", "open", "chdir":
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			name, _ := strconv.Unquote(quoted)
			return input{key: first + " " + name, value: strings.TrimSpace(rest[len(quoted):])}
		}
	}
	return input{key: first, value: rest}
}

// A change is one input that is not what it was, in words.
type change struct {
	what    string
	own     bool // it concerns this package alone
	version bool // it is the version of the package's module
	hint    string
	input   input
	was     string
	had     bool // it was there
	has     bool // it is there
}

// put says in words what a change is, of a package's action of the kind given.
func (c *change) put(kind, pkg string) {
	class, name, _ := strings.Cut(c.input.key, " ")
	switch {
	case kind == Test && (class == "open" || class == "stat" || class == "chdir"):
		c.fileRead(name)
	case kind == Test && class == "env":
		c.what = "environment variable " + name + ", which the test reads, " + c.verb("was set", "was unset", "changed", unset)
	case kind == Test && class == "args":
		c.flags("flags of the test")
	case class == "file":
		c.what, c.own = "file "+name+" "+c.verb("is new", "is gone", "changed", ""), true
	case class == "dir":
		c.directory(pkg)
	case class == "trimpath":
		c.what = "-trimpath is " + c.verb("given, and was not", "not given, and was", "given", "")
	case class == "go":
		c.what = c.became("the go line of go.mod")
	case class == "goos" || class == "buildmode":
		c.what = c.became("platform or build mode")
	case class == "setting":
		c.what = c.became("build setting " + name)
		if strings.HasPrefix(name, "vcs") {
			c.hint = "-buildvcs=false keeps the commit out of programs, so that they need not be linked anew with each"
		}
	case class == "version" || class == "replacement":
		c.what = c.became("module " + strings.TrimPrefix(name, "of "))
	case class == "env":
		c.what = c.became(name)
		if strings.HasSuffix(name, " ID") {
			c.hint = "another C compiler: use the same image on all machines, or CGO_ENABLED=0"
		}
	case c.input.key == "compile flags":
		c.flags("flags of the compiler (-gcflags, -race and the like)")
	case c.input.key == "asm flags":
		c.flags("flags of the assembler")
	case c.input.key == "link flags" || class == "linkflags":
		c.flags("flags of the linker (-ldflags, -buildmode)")
	case class == "module": // with -trimpath, instead of the directory
		c.what, c.version = c.became("module"), true
	case class == "vetflags":
		c.flags("flags of vet")
	case c.input.dep != ref{}:
		c.what, c.own = "the output of "+c.input.dep.pkg+" "+c.verb("is new to it", "is not needed any more", "is another, though it was not made here", ""), true
	default:
		c.what = c.became(c.input.key)
	}
}

// verb picks a word for something that came, went, or changed. none is a value
// that stands for absence.
func (c *change) verb(came, went, changed, none string) string {
	switch {
	case !c.had || none != "" && c.was == none:
		return came
	case !c.has || none != "" && c.input.value == none:
		return went
	}
	return changed
}

// flags says how lists of flags differ, without the brackets and quotes in which
// they are hashed.
func (c *change) flags(what string) {
	plain := strings.NewReplacer("[", "", "]", "", `"`, "", "-test.", "-")
	c.was, c.input.value = strings.TrimSpace(plain.Replace(c.was)), strings.TrimSpace(plain.Replace(c.input.value))
	c.had, c.has = c.was != "", c.input.value != ""
	c.what = c.became(what)
}

// valueMax bounds what is shown of a value.
const valueMax = 300

func (c *change) became(what string) string {
	show := func(value string, there bool) string {
		if !there {
			return "nothing"
		}
		if len(value) > valueMax {
			value = value[:valueMax] + "…"
		}
		return strings.TrimSpace(value)
	}
	old, now := strings.TrimPrefix(show(c.was, c.had), "sha256:"), strings.TrimPrefix(show(c.input.value, c.has), "sha256:")
	if old == "" {
		old = `""`
	}
	if now == "" {
		now = `""`
	}
	return fmt.Sprintf("%s: %s became %s", what, old, now)
}

// directory says which part of the package's directory changed: a module's
// version, or where the checkout is.
func (c *change) directory(pkg string) {
	if !c.had || !c.has {
		c.what = "the directory's name is " + c.verb("part of the result, and was not", "not part of the result, and was", "", "") + ", as with -trimpath"
		return
	}
	was, is := filepath.ToSlash(c.was), filepath.ToSlash(c.input.value)
	wasModule, wasVersion, oldOK := moduleVersion(was)
	isModule, isVersion, newOK := moduleVersion(is)
	if oldOK && newOK && wasModule == isModule {
		c.what = fmt.Sprintf("module %s: %s became %s", pathOfModule(isModule, pkg), wasVersion, isVersion)
		c.version = true
		return
	}
	// Of the elements at the end that are the same, nothing need be said.
	for {
		wasDir, wasName := cutLast(was, "/")
		isDir, isName := cutLast(is, "/")
		if wasName != isName || wasDir == "" || isDir == "" || wasDir == isDir {
			break
		}
		was, is = wasDir, isDir
	}
	c.what = fmt.Sprintf("the directory: %s became %s", was, is)
	c.hint = "-trimpath keeps directories out of what is built (GOFLAGS=-trimpath)"
}

// moduleVersion finds module@version in a directory of the module cache.
func moduleVersion(dir string) (module, version string, ok bool) {
	i := strings.LastIndex(dir, "@v")
	if i < 0 {
		return "", "", false
	}
	version, _, _ = strings.Cut(dir[i+1:], "/")
	return dir[:i], version, true
}

// pathOfModule is a module's path from its directory, wherever the module cache is,
// and that of one of its packages. In directories a capital is an exclamation mark and
// a small letter (golang.org/x/mod/module, EscapePath).
func pathOfModule(dir, pkg string) string {
	pkg, _, _ = strings.Cut(pkg, " ") // what is compiled for a test has its name behind it
	for p := pkg; p != "." && p != "/"; p = path.Dir(p) {
		if strings.HasSuffix(dir, "/"+escapeCapitals(p)) {
			return p
		}
	}
	if i := strings.Index(dir, "/pkg/mod/"); i >= 0 {
		return dir[i+len("/pkg/mod/"):]
	}
	return dir
}

func escapeCapitals(p string) string {
	var b strings.Builder
	for _, c := range p {
		if 'A' <= c && c <= 'Z' {
			b.WriteByte('!')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// fileRead says what of a file's state changed that a test has opened or looked at.
func (c *change) fileRead(name string) {
	what := name + ", which the test reads,"
	old, oldOK := parseState(c.was)
	now, nowOK := parseState(c.input.value)
	switch {
	case !c.had:
		c.what = what + " was not read before"
	case !c.has:
		c.what = what + " is not read any more"
	case !oldOK || !nowOK:
		c.what = fmt.Sprintf("%s is %s, and was %s", what, c.input.value, c.was)
	case old.size != now.size && !now.directory:
		c.what = fmt.Sprintf("%s has another size: %s, and had %s", what, now.size, old.size)
	case old.mode != now.mode:
		c.what = fmt.Sprintf("%s has another mode: %s, and had %s", what, now.mode, old.mode)
		c.hint = "modes come from the umask of who made the checkout"
	case old.time != now.time:
		c.what = fmt.Sprintf("%s has another time: %s, and had %s", what, now.time, old.time)
		c.hint = `"larder touch" after the checkout gives the same content the same time`
	default:
		c.what = what + " lists other files, or others of their times or sizes changed"
		c.hint = `"larder touch" after the checkout gives the same content the same time`
	}
}

// A state is what hashWriteStat in test.go writes: size, mode, time, directory or not.
type state struct {
	size, mode, time string
	directory        bool
}

func parseState(text string) (s state, ok bool) {
	text, _, _ = strings.Cut(text, " and sha256:")
	fields := strings.Fields(text)
	if len(fields) < 4 || fields[0] == "err" {
		return s, false
	}
	last := len(fields) - 1
	return state{fields[0], fields[1], strings.Join(fields[2:last], " "), fields[last] == "true"}, true
}
