package main

import "testing"

func TestBar(t *testing.T) {
	for _, tt := range []struct {
		rate   float64
		colour bool
		want   string
	}{
		{0, false, "░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ 0.0% hits"},
		{0.5, false, "████████████████████░░░░░░░░░░░░░░░░░░░░ 50.0% hits"},
		{1, true, "\x1b[32m████████████████████████████████████████\x1b[90m\x1b[0m 100.0% hits"},
	} {
		if got := bar(tt.rate, tt.colour); got != tt.want {
			t.Errorf("%v: %q", tt.rate, got)
		}
	}
}
