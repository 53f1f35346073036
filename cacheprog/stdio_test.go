package cacheprog_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/larder-build/larder/cacheprog"
)

func init() {
	// chatty prints by all means that it has, and leaves a child behind that has what it can have of the protocol's streams.
	programs["chatty"] = func() error {
		in, out, err := cacheprog.Stdio()
		if err != nil {
			return err
		}
		fmt.Println("printed")
		println("printed to standard error")
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		child := exec.Command(exe)
		child.Env = append(os.Environ(), programEnv+"=child")
		child.Stdout = os.Stdout
		childIn, err := child.StdinPipe() // never closed: the child stays until this program has ended
		if err != nil {
			return err
		}
		if err := child.Start(); err != nil {
			return err
		}
		defer childIn.Close()
		return cacheprog.Serve(context.Background(), in, out, memory(), nil)
	}
	// lingering goes on after its session, until descriptor 3 ends.
	programs["lingering"] = func() error {
		in, out, err := cacheprog.Stdio()
		if err != nil {
			return err
		}
		if err := cacheprog.Serve(context.Background(), in, out, memory(), nil); err != nil {
			return err
		}
		out.Close()
		if err := cacheprog.Detach(); err != nil {
			return err
		}
		fmt.Println("not to be seen")
		fmt.Fprintln(os.Stderr, "not to be seen")
		_, err = io.Copy(io.Discard, os.NewFile(3, "until"))
		return err
	}
	programs["child"] = func() error {
		fmt.Println("printed by a child")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
}

// TestStdio has a program's stray output go to its standard error, and its stream end with the session.
func TestStdio(t *testing.T) {
	var stderr strings.Builder
	c, err := start(t, "chatty", cacheprog.StartOptions{Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	testClient(t, c)
	for _, want := range []string{"printed\n", "printed to standard error\n"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("standard error is %q, want %q in it", &stderr, want)
		}
	}
}

// TestDetach has a program that goes on after its session hold up nobody who waits for the end of its output.
func TestDetach(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no inherited descriptors")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	until, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer release.Close()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), programEnv+"=lingering")
	cmd.ExtraFiles = []*os.File{until}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until.Close()
	text, err := io.ReadAll(output)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "not to be seen") {
		t.Errorf("the program printed %q", text)
	}
	release.Close() // it is still there
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
