// Package bench times whole commands side by side.
//
// Machines are noisy and their speed drifts, so nothing here is compared across
// runs: the arms of a comparison run in turn, round by round, and what is
// reported of two arms is the median of their ratios within the rounds, in
// which the drift cancels.
package bench

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// An Arm is one of the things that are compared.
type Arm struct {
	Name string
	// Prepare is run before each round's run, outside the measured time. It may be nil.
	Prepare func() error
	// Command makes the command to time. It is run to its end and must succeed.
	Command func(ctx context.Context) *exec.Cmd
}

// A Result is the seconds that each arm took in each round.
type Result struct {
	Name    string    `json:"name"`
	Seconds []float64 `json:"seconds"`
}

// Compare runs the arms in turn, rounds times, after warmUp rounds that do not
// count. Which arm goes first is turned round by round, so that none always
// finds things as a certain other one left them. done, if not nil, is told how
// many of all runs are done.
func Compare(ctx context.Context, warmUp, rounds int, arms []Arm, done func(done, total int)) ([]Result, error) {
	results := make([]Result, len(arms))
	for i, a := range arms {
		results[i].Name = a.Name
	}
	for round := range warmUp + rounds {
		for k := range arms {
			i := (k + round) % len(arms)
			took, err := runOnce(ctx, arms[i])
			if err != nil {
				return nil, err
			}
			if round >= warmUp {
				results[i].Seconds = append(results[i].Seconds, took.Seconds())
			}
			if done != nil {
				done(round*len(arms)+k+1, (warmUp+rounds)*len(arms))
			}
		}
	}
	return results, nil
}

func runOnce(ctx context.Context, a Arm) (time.Duration, error) {
	if a.Prepare != nil {
		if err := a.Prepare(); err != nil {
			return 0, fmt.Errorf("prepare %s: %w", a.Name, err)
		}
	}
	cmd := a.Command(ctx)
	var output tail
	if cmd.Stdout == nil {
		cmd.Stdout = &output
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &output
	}
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("run %s: %v: %w\n%s", a.Name, cmd.Args, err, output)
	}
	return took, nil
}

// tail keeps the end of what a command prints, for an error's message.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	const tailBytesMax = 2000
	*t = append(*t, p...)
	if extra := len(*t) - tailBytesMax; extra > 0 {
		*t = (*t)[extra:]
	}
	return len(p), nil
}

// Median of s; 0 of none.
func Median(s []float64) float64 {
	if len(s) == 0 {
		return 0
	}
	s = slices.Sorted(slices.Values(s))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Ratio is the median over the rounds of r's time over base's.
func Ratio(r, base Result) float64 {
	var ratios []float64
	for i := range min(len(r.Seconds), len(base.Seconds)) {
		ratios = append(ratios, r.Seconds[i]/base.Seconds[i])
	}
	return Median(ratios)
}
