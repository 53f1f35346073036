package agent_test

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// TestMain has more tests run at a time than there are CPUs: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0)))
	}
	os.Exit(m.Run())
}
