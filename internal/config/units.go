package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

var errSize = errors.New("not a size such as 500MB or 20GiB")

// ParseSize reads a number of bytes: digits, perhaps with a fraction, then
// nothing or B, a decimal unit (K, KB … T, TB: powers of 1000) or a binary one
// (KiB … TiB: powers of 1024). Case does not matter.
func ParseSize(text string) (bytes int64, err error) {
	s := strings.ToUpper(strings.TrimSpace(text))
	i := strings.LastIndexAny(s, "0123456789.") + 1
	number, unit := s[:i], strings.TrimSpace(s[i:])
	base := 1000.0
	if strings.HasSuffix(unit, "IB") && len(unit) == 3 {
		base, unit = 1024, unit[:1]
	} else {
		unit = strings.TrimSuffix(unit, "B")
	}
	power := strings.Index("KMGT", unit) + 1
	if unit == "" {
		power = 0
	} else if len(unit) != 1 || power == 0 {
		return 0, errSize
	}
	for _, c := range number {
		if c != '.' && (c < '0' || c > '9') {
			return 0, errSize
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, errSize
	}
	n *= math.Pow(base, float64(power))
	if n >= math.MaxInt64 {
		return 0, errors.New("more than a disk can hold")
	}
	return int64(n), nil
}

// FormatSize writes bytes for a person: three digits and a decimal unit.
func FormatSize(bytes int64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d B", bytes)
	}
	n, unit := float64(bytes), -1
	for n >= 999.5 && unit < 3 {
		n /= 1000
		unit++
	}
	digits := 2
	if n >= 99.95 {
		digits = 0
	} else if n >= 9.995 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %cB", digits, n, "kMGT"[unit])
}

// ParseAge reads a duration as time.ParseDuration does, or a number of days: 14d.
func ParseAge(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err == nil && n >= 0 && n < 36500 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, errors.New("not a duration such as 36h or 14d")
}
