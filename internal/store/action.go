package store

import (
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// An action file is a line of fixed size (cmd/go/internal/cache/cache.go, entrySize):
//
//	v1 <action ID, hex> <output ID, hex> <size, 20 columns> <time of the put, Unix ns, 20 columns>\n
const (
	hexSize    = 2 * entry.HashSize
	actionAt   = len("v1 ")
	outputAt   = actionAt + hexSize + 1
	sizeAt     = outputAt + hexSize + 1
	timeAt     = sizeAt + 20 + 1
	actionSize = timeAt + 20 + 1
)

// An action is what an action file says.
type action struct {
	id     entry.ActionID
	output entry.OutputID
	size   int64 // bytes of the output
	time   int64 // of the put, Unix nanoseconds
}

var errAction = errors.New("not an action file of Go's cache, version 1")

// parseAction reads an action file. It takes what the go command takes.
func parseAction(data []byte) (a action, err error) {
	if len(data) != actionSize || data[0] != 'v' || data[1] != '1' || data[2] != ' ' ||
		data[outputAt-1] != ' ' || data[sizeAt-1] != ' ' || data[timeAt-1] != ' ' || data[actionSize-1] != '\n' {
		return action{}, errAction
	}
	if _, err := hex.Decode(a.id[:], data[actionAt:actionAt+hexSize]); err != nil {
		return action{}, errAction
	}
	if _, err := hex.Decode(a.output[:], data[outputAt:outputAt+hexSize]); err != nil {
		return action{}, errAction
	}
	var okSize, okTime bool
	a.size, okSize = parseColumn(data[sizeAt : sizeAt+20])
	a.time, okTime = parseColumn(data[timeAt : timeAt+20])
	if !okSize || !okTime {
		return action{}, errAction
	}
	return a, nil
}

// parseColumn reads a number that is not negative, after spaces.
func parseColumn(column []byte) (n int64, ok bool) {
	i := 0
	for i < len(column) && column[i] == ' ' {
		i++
	}
	n, err := strconv.ParseInt(string(column[i:]), 10, 64)
	return n, err == nil && n >= 0
}

// appendTo appends the action file to b.
func (a action) appendTo(b []byte) []byte {
	b = append(b, "v1 "...)
	b = hex.AppendEncode(b, a.id[:])
	b = append(b, ' ')
	b = hex.AppendEncode(b, a.output[:])
	b = appendColumn(append(b, ' '), a.size)
	b = appendColumn(append(b, ' '), a.time)
	return append(b, '\n')
}

func appendColumn(b []byte, n int64) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	for range 20 - len(text) {
		b = append(b, ' ')
	}
	return append(b, text...)
}

// object is the action's output as a file at path.
func (a action) object(path string) entry.Object {
	return entry.Object{OutputID: a.output, Size: a.size, Time: time.Unix(0, a.time), DiskPath: path}
}
