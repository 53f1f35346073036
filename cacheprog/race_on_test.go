//go:build race

package cacheprog_test

// raceEnabled says that all is some ten times slower.
const raceEnabled = true
