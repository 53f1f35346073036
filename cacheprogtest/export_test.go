package cacheprogtest

import "time"

// Small is o with large bodies that are not as large, and shorter waits.
func Small(o Options) Options {
	o.sizes = sizes{big: 600_000, large: 12_000_000, memory: 90_000_000, clock: 300 * time.Millisecond}
	return o
}
