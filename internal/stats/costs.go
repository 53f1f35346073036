package stats

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/folder"
)

// The cost table says what actions cost to build, so that a hit can say what it
// saved, and what kind of entry they are. Go's action file has no room for it, and a file that grows with every
// action would have to be trimmed and searched. So it is a hash table of fixed
// size, in which a new action may push out an old one: bounded by its make, two
// system calls a session, and what is pushed out is only "unknown".
//
// A record is 8 bytes, little-endian: the low 24 bits are milliseconds (at most
// 4.6 hours; all ones are "unknown"), the next 4 the kind, the high 36 a tag from
// the action ID. An action's record is in one of the four places of its bucket.
const (
	bucketBits  = 15 // 32,768 buckets of 4 records: 131,072 actions, some 50 builds of 1,000 packages, 1 MiB
	bucketWays  = 4
	recordBytes = 8
	bucketBytes = bucketWays * recordBytes
	costBits    = 24
	costNone    = 1<<costBits - 1
	costMax     = costNone - 1
	kindBits    = 4
	kindMask    = 1<<kindBits - 1
	tagAt       = costBits + kindBits
)

// A Fact is what is known of an action.
type Fact struct {
	Cost time.Duration // of building it; NoCost is unknown
	Kind content.Kind
}

// NoCost is a cost that is not known.
const NoCost = time.Duration(-1)

// A Key is what the cost table knows of an action.
type Key uint64

// KeyOf returns the key of an action. Action IDs are hashes, so any of their
// bits are as good as others.
func KeyOf(id entry.ActionID) Key { return Key(binary.LittleEndian.Uint64(id[:])) }

func (k Key) bucket() int64 { return int64(k & (1<<bucketBits - 1)) }

// tag is never 0, so that 0 is an empty place.
func (k Key) tag() uint64 { return uint64(k)>>tagAt | 1 }

// Costs is the cost table of one store.
type Costs struct{ store string }

// OpenCosts returns the cost table of the store in dir. It does no I/O.
func OpenCosts(dir string) Costs { return Costs{dir} }

func (c Costs) path() string { return filepath.Join(folder.Of(c.store), "actions") }

// chunkBytes is how much of the table Sum reads at a time. Reading it whole took
// six times as long, most of it for fresh memory (BenchmarkCostsSum).
const (
	chunkBytes   = 32 << 10
	chunkBuckets = chunkBytes / bucketBytes
	chunks       = 1 << bucketBits / chunkBuckets
)

// A Sum is what is known of some actions together.
type Sum struct {
	Cost    time.Duration        // of those whose cost is known
	Unknown int64                // how many have no known cost
	Kinds   [content.Kinds]int64 // how many are of each kind
	NoKind  []Key                // those of Unknown kind
}

// Sum sums up what the table knows of actions. It is run while the go command waits.
func (c Costs) Sum(keys []Key) (sum Sum) {
	if len(keys) == 0 {
		return sum
	}
	nothing := Sum{Unknown: int64(len(keys)), NoKind: keys}
	nothing.Kinds[content.Unknown] = nothing.Unknown
	f, err := os.Open(c.path())
	if err != nil {
		return nothing
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
			fact := lookup(buf[:n], k)
			if fact.Cost == NoCost {
				sum.Unknown++
			} else {
				sum.Cost += fact.Cost
			}
			sum.Kinds[fact.Kind]++
			if fact.Kind == content.Unknown {
				sum.NoKind = append(sum.NoKind, k)
			}
		}
	}
	return sum
}

// lookup finds a key in its chunk of the table.
func lookup(chunk []byte, k Key) Fact {
	at := k.bucket() % chunkBuckets * bucketBytes
	for i := int64(0); i < bucketWays && at+recordBytes <= int64(len(chunk)); i++ {
		record := binary.LittleEndian.Uint64(chunk[at:])
		if record>>tagAt == k.tag() {
			return parseRecord(record)
		}
		at += recordBytes
	}
	return Fact{Cost: NoCost}
}

func parseRecord(record uint64) Fact {
	fact := Fact{Cost: NoCost, Kind: content.Kind(record >> costBits & kindMask)}
	if cost := record & costNone; cost != costNone {
		fact.Cost = time.Duration(cost) * time.Millisecond
	}
	if fact.Kind >= content.Kinds {
		fact.Kind = content.Unknown // a later Larder's
	}
	return fact
}

func (f Fact) record(k Key) uint64 {
	cost := uint64(costNone)
	if f.Cost >= 0 {
		cost = uint64(min(f.Cost.Milliseconds(), costMax))
	}
	return k.tag()<<tagAt | uint64(f.Kind)<<costBits | cost
}

// Add records what is known of actions. What is not known of one leaves standing
// what is recorded. Concurrent processes may overwrite one another's records, never
// parts of them.
//
// It makes the table if there is none, even if there is nothing to record; the store
// must be there.
func (c Costs) Add(facts map[Key]Fact) error {
	err := c.add(facts, os.O_CREATE)
	if errors.Is(err, fs.ErrNotExist) {
		if err := folder.Mkdir(folder.Of(c.store)); err != nil {
			return err
		}
		err = c.add(facts, os.O_CREATE)
	}
	return err
}

// AddLate is Add once the go command may have gone, and somebody may be removing the
// store: it makes no table.
func (c Costs) AddLate(facts map[Key]Fact) error {
	if len(facts) == 0 {
		return nil
	}
	return c.add(facts, 0)
}

func (c Costs) add(facts map[Key]Fact, flag int) error {
	f, err := folder.OpenFile(c.path(), os.O_RDWR|flag)
	if err != nil {
		return err
	}
	defer f.Close()
	for k, fact := range facts {
		if err := put(f, k, fact); err != nil {
			return err
		}
	}
	return nil
}

func put(f *os.File, k Key, fact Fact) error {
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
		if record>>tagAt == k.tag() {
			place = i
			was := parseRecord(record)
			if fact.Cost < 0 {
				fact.Cost = was.Cost
			}
			if fact.Kind == content.Unknown {
				fact.Kind = was.Kind
			}
			break
		}
	}
	var record [recordBytes]byte
	binary.LittleEndian.PutUint64(record[:], fact.record(k))
	_, err := f.WriteAt(record[:], start+place*recordBytes)
	return err
}
