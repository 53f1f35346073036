//go:build !race

package cacheprogtest_test

// raceEnabled says that all is some ten times slower.
const raceEnabled = false
