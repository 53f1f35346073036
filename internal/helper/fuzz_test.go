package helper_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/larder-build/larder/internal/helper"
)

// FuzzModulePath compares what we read in a go.mod with what the go command's own reader reads, where that is a path.
func FuzzModulePath(f *testing.F) {
	for _, s := range []string{
		"module example.com/m\n\ngo 1.24\n", "// a comment\nmodule \"example.com/quoted\" // why not\n", "module `raw` //x", "\tmodule\texample.com/m//x\r\n",
		"module \"a\\u0062c\"", "modulex y\nmodule a b\nmodule \"unended\n", "module\nmodule (\n\tx\n)\n", "module \"a b\"", "/* module x */ module y", "module x/* no */",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsFunc(strings.ReplaceAll(text, "\r\n", "\n"), func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r > '~' }) {
			return // nobody's go.mod
		}
		ours := helper.ModulePath(text)
		if file, err := modfile.ParseLax("go.mod", []byte(text), nil); err == nil && file.Module != nil && module.CheckImportPath(file.Module.Mod.Path) == nil && file.Module.Mod.Path != ours {
			t.Errorf("%q: %q, the go command reads %q", text, ours, file.Module.Mod.Path)
		}
	})
}

// FuzzKind makes kinds of any arguments: the key is one that names a manifest, and flags that only say where results go do not count.
func FuzzKind(f *testing.F) {
	f.Add("go\x00build\x00-o\x00x\x00./...", "example.com/m", ".")
	f.Add("go\x00test\x00-run=X\x00-args\x00-o", "", "")
	f.Add("go\x00install\x00-C\x00", "m", "..")
	f.Add("", "\xff", "a/../b")
	f.Fuzz(func(t *testing.T, args, path, dir string) {
		k := helper.Kind{Module: path, Dir: dir, Args: strings.Split(args, "\x00"), Environ: func(string) string { return path }}
		key := k.Key()
		if len(key) != 64 || strings.Trim(key, "0123456789abcdef") != "" {
			t.Errorf("key %q", key)
		}
		if n := len(k.Command()); n > 200 {
			t.Errorf("a command of %d bytes", n)
		}
		k.Environ = func(string) string { return "/x" }
		for _, out := range k.Outputs() {
			if !filepath.IsAbs(out) {
				t.Errorf("%q puts something into %q", k.Args, out)
			}
		}
		k.Environ = func(string) string { return path }
		if len(k.Args) >= 2 && k.Args[1] == "build" && !strings.HasPrefix(k.Args[1], "-") {
			k.Args = slices.Insert(k.Args, 2, "-o", "/somewhere/else")
			if k.Key() != key {
				t.Errorf("%q is of another kind than without -o", k.Args)
			}
		}
	})
}
