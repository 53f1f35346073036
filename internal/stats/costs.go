package stats

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// The cost table says what actions cost to build, so that a hit can say what it
// saved. Go's action file has no room for it, and a file that grows with every
// action would have to be trimmed and searched. So it is a hash table of fixed
// size, in which a new action may push out an old one: bounded by its make, two
// system calls a session, and what is pushed out is only "unknown".
//
// A record is 8 bytes, little-endian: the low 24 bits are milliseconds (at most
// 4.6 hours), the high 40 a tag from the action ID. An action's record is in
// one of the four places of its bucket.
const (
	bucketBits  = 15 // 32,768 buckets of 4 records: 131,072 actions, some 50 builds of 1,000 packages, 1 MiB
	bucketWays  = 4
	recordBytes = 8
	bucketBytes = bucketWays * recordBytes
	costBits    = 24
	costMax     = 1<<costBits - 1
)

// A Key is what the cost table knows of an action.
type Key uint64

// KeyOf returns the key of an action. Action IDs are hashes, so any of their
// bits are as good as others.
func KeyOf(id entry.ActionID) Key { return Key(binary.LittleEndian.Uint64(id[:])) }

func (k Key) bucket() int64 { return int64(k & (1<<bucketBits - 1)) }

// tag is never 0, so that 0 is an empty place.
func (k Key) tag() uint64 { return uint64(k)>>costBits | 1 }

// Costs is the cost table of one store.
type Costs struct{ path string }

// OpenCosts returns the cost table of the store in dir. It does no I/O.
func OpenCosts(dir string) Costs { return Costs{filepath.Join(dir, "larder", "costs")} }

// chunkBytes is how much of the table Sum reads at a time. Reading it whole took
// six times as long, most of it for fresh memory (BenchmarkCostsSum).
const (
	chunkBytes   = 32 << 10
	chunkBuckets = chunkBytes / bucketBytes
	chunks       = 1 << bucketBits / chunkBuckets
)

// Sum returns what the actions cost to build together, and how many of them
// the table does not know. It is run while the go command waits.
func (c Costs) Sum(keys []Key) (total time.Duration, unknown int64) {
	if len(keys) == 0 {
		return 0, 0
	}
	f, err := os.Open(c.path)
	if err != nil {
		return 0, int64(len(keys))
	}
	defer f.Close()
	var byChunk [chunks][]Key
	for _, k := range keys {
		i := k.bucket() / chunkBuckets
		byChunk[i] = append(byChunk[i], k)
	}
	buf := make([]byte, chunkBytes)
	for i, keys := range byChunk {
		if len(keys) == 0 {
			continue
		}
		n, _ := f.ReadAt(buf, int64(i)*chunkBytes) // past the end, nothing is known
		for _, k := range keys {
			cost, ok := lookup(buf[:n], k)
			if !ok {
				unknown++
			}
			total += cost
		}
	}
	return total, unknown
}

// lookup finds a key in its chunk of the table.
func lookup(chunk []byte, k Key) (time.Duration, bool) {
	at := k.bucket() % chunkBuckets * bucketBytes
	for i := int64(0); i < bucketWays && at+recordBytes <= int64(len(chunk)); i++ {
		record := binary.LittleEndian.Uint64(chunk[at:])
		if record>>costBits == k.tag() {
			return time.Duration(record&costMax) * time.Millisecond, true
		}
		at += recordBytes
	}
	return 0, false
}

// Add records what actions cost. Concurrent processes may overwrite one
// another's records, never parts of them.
func (c Costs) Add(costs map[Key]time.Duration) error {
	if len(costs) == 0 {
		return nil
	}
	f, err := os.OpenFile(c.path, os.O_RDWR|os.O_CREATE, 0o666)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(c.path), 0o777); err != nil {
			return err
		}
		f, err = os.OpenFile(c.path, os.O_RDWR|os.O_CREATE, 0o666)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for k, cost := range costs {
		if err := put(f, k, cost); err != nil {
			return err
		}
	}
	return nil
}

func put(f *os.File, k Key, cost time.Duration) error {
	var bucket [bucketBytes]byte
	start := k.bucket() * bucketBytes
	f.ReadAt(bucket[:], start) // past the end of the file, places are empty
	// Without a better place the newcomer takes one that its tag picks.
	place := int64(k.tag()>>1) % bucketWays
	for i := int64(bucketWays) - 1; i >= 0; i-- {
		record := binary.LittleEndian.Uint64(bucket[i*recordBytes:])
		if record == 0 {
			place = i
		}
		if record>>costBits == k.tag() {
			place = i
			break
		}
	}
	millis := min(max(cost.Milliseconds(), 0), costMax)
	var record [recordBytes]byte
	binary.LittleEndian.PutUint64(record[:], k.tag()<<costBits|uint64(millis))
	_, err := f.WriteAt(record[:], start+place*recordBytes)
	return err
}
