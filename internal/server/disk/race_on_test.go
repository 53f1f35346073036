//go:build race

package disk_test

// raceEnabled says that all is some ten times slower.
const raceEnabled = true
