package bench_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/bench"
)

// TestMain lets the test program be the command that is timed.
func TestMain(m *testing.M) {
	switch os.Getenv("BENCH_TEST_CHILD") {
	case "ok":
		os.Exit(0)
	case "fail":
		os.Stdout.WriteString("what went wrong\n")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func arm(name, child string, order *[]string) bench.Arm {
	return bench.Arm{
		Name:    name,
		Prepare: func() error { *order = append(*order, name); return nil },
		Command: func(ctx context.Context) *exec.Cmd {
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), "BENCH_TEST_CHILD="+child)
			return cmd
		},
	}
}

func TestCompareTakesTurns(t *testing.T) {
	var order []string
	var told int
	results, err := bench.Compare(context.Background(), 1, 2,
		[]bench.Arm{arm("a", "ok", &order), arm("b", "ok", &order)},
		func(done, total int) {
			if told++; done != told || total != 6 {
				t.Errorf("done(%d, %d) as call %d", done, total, told)
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abbaab" {
		t.Errorf("order %q", got)
	}
	for _, r := range results {
		if len(r.Seconds) != 2 || slices.Min(r.Seconds) <= 0 {
			t.Errorf("%s took %v, want 2 counted rounds", r.Name, r.Seconds)
		}
	}
}

func TestCompareReportsFailure(t *testing.T) {
	var order []string
	_, err := bench.Compare(context.Background(), 0, 1, []bench.Arm{arm("a", "fail", &order)}, nil)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "what went wrong") {
		t.Errorf("error %v", err)
	}
}

func TestMedianAndRatio(t *testing.T) {
	for _, tt := range []struct {
		s    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := bench.Median(tt.s); got != tt.want {
			t.Errorf("Median(%v) = %v, want %v", tt.s, got, tt.want)
		}
	}
	base := bench.Result{Seconds: []float64{1, 10, 2}}
	if got := bench.Ratio(bench.Result{Seconds: []float64{2, 30, 2}}, base); got != 2 {
		t.Errorf("Ratio = %v, want 2, the median of 2, 3 and 1", got)
	}
}
