package dashboard

import "testing"

func TestFormats(t *testing.T) {
	for s, want := range map[float64]string{
		0: "0 s", 0.0001: "< 1 ms", 0.0123: "12 ms", 0.9999: "1.0 s", 5.25: "5.2 s", 42.4: "42 s", 59.7: "1 min", 61: "1 min 1 s",
		119.6: "2 min", 3599.9: "1 h", 3700: "1 h 2 min", 86400: "24 h", 360001: "4 d 4 h", 1e9: "11,574 d 2 h",
	} {
		if got := formatSeconds(s); got != want {
			t.Errorf("%v s is %q, want %q", s, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := formatCount(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for part, want := range map[float64]string{0: "0%", 1: "100%", 0.99999: "99.9%", 0.00001: "< 0.1%", 0.5: "50.0%", 0.9237: "92.4%"} {
		if got := formatPercent(part); got != want {
			t.Errorf("%v is %q, want %q", part, got, want)
		}
	}
	for part, want := range map[float64]string{0: "0.0%", 0.5: "50.0%", 2: "100.0%", -1: "0.0%"} {
		if got := width(part); got != want {
			t.Errorf("a bar of %v is %q wide", part, got)
		}
	}
}
