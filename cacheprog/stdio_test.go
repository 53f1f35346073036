package cacheprog_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
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
