package session_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/session"
)

const inheritVariable = "LARDER_TEST_INHERIT"

// TestInheritChild is a helper in TestAgentInheritsNothing.
func TestInheritChild(t *testing.T) {
	larderd := os.Getenv(inheritVariable)
	if larderd == "" {
		t.Skip("only a child of TestAgentInheritsNothing")
	}
	p, err := session.FindPlace()
	if err != nil {
		t.Fatal(err)
	}
	// It lists what it has, and is no agent.
	session.Connect(context.Background(), p, &session.Starter{Place: p, Larderd: larderd}, session.Hello{}, nil)
	session.DropInherited()
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(to, "inherited") {
				t.Errorf("descriptor %s is still %s", fd.Name(), to)
			}
		}
	}
}

// An agent has none of the descriptors of whoever starts it, and a helper that goes on
// after its go command lets go of them.
func TestAgentInheritsNothing(t *testing.T) {
	p := place(t)
	dir := t.TempDir()
	inherited, err := os.Create(filepath.Join(dir, "inherited"))
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	larderd := filepath.Join(dir, "larderd")
	script := "#!/bin/sh\nls -l /proc/$$/fd >" + dir + "/list.new; mv " + dir + "/list.new " + dir + "/list; exit 1\n"
	if err := os.WriteFile(larderd, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Numbers with gaps between, as shells use.
	cmd := exec.Command("sh", "-c", `exec 3>&- 5>>"$0" 9>>"$0" && exec "$@"`, inherited.Name(), exe, "-test.run=^TestInheritChild$")
	cmd.Env = append(os.Environ(), inheritVariable+"="+larderd)
	cmd.Stdin = strings.NewReader("")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	list, err := os.ReadFile(filepath.Join(dir, "list"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(list, []byte("/inherited")) {
		t.Errorf("an agent of %s has\n%s", p.Dir, list)
	}
}
