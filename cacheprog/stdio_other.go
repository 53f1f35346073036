//go:build !windows && (!unix || solaris)

package cacheprog

import "os"

func takeStdout() (*os.File, error) {
	out := os.Stdout
	os.Stdout = os.Stderr
	return out, nil
}
