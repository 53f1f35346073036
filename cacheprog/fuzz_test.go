package cacheprog_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// What go1.23, go1.24 and go1.26 commands have sent, and what programs have answered.
const (
	id1 = "IBKzNkRGLWrSwUDp9zXOHUSbGKUvsXWUqjhxWJ1vYGg="
	id2 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
)

var requestSeeds = []string{
	`{"ID":1,"Command":"get","ActionID":"` + id1 + `"}`,
	`{"ID":2,"Command":"put","ActionID":"` + id1 + `","OutputID":"` + id2 + `","BodySize":4}`,
	`{"ID":2,"Command":"put","ActionID":"` + id1 + `","OutputID":"` + id2 + `","BodySize":4,"ObjectID":"` + id2 + `"}`,
	`{"ID":2,"Command":"put","ActionID":"` + id1 + `","ObjectID":"` + id2 + `"}`,
	`{"ID":2466,"Command":"close"}`,
	`{"id":1,"COMMAND":"get", "actionid":"` + id1 + `", "New":{"a":[1]}}`,
	`{"ID":1,"Command":"g\u0065t","ActionID":"AAAA"}`,
	`{"ID":-1,"Command":"put2","BodySize":1e3}`,
	`{"ID":1,"Command":"get","ActionID":"` + id1 + `","ActionID":"` + id2 + `"}`,
	`{"ID":1,"Command":"put","OutputID":"","ObjectID":"` + id2 + `"}`,
	`{"ID":01,"Command":"close"}`,
	`{"ID":9223372036854775808,"Command":"close"}`,
	"{\"ID\":1,\"Command\":\"get\",\"ActionID\":\"" + id1[:40] + "\r\r\r\r\"}",
	`null`, `{}`, `{`, `[]`, `{"ID":1}x`,
}

// FuzzParseRequest holds the hand scanner to encoding/json.
func FuzzParseRequest(f *testing.F) {
	for _, s := range requestSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		fast, ok := cacheprog.ScanRequest(line)
		if !ok {
			return // left to encoding/json
		}
		slow, err := cacheprog.DecodeRequest(line)
		if err != nil || !reflect.DeepEqual(fast, slow) {
			t.Errorf("scanned %+v, decoded %+v, %v", fast, slow, err)
		}
	})
}

// FuzzParseResponse holds the hand scanner to encoding/json.
func FuzzParseResponse(f *testing.F) {
	for _, s := range []string{
		`{"ID":0,"KnownCommands":["get","put","close"]}`,
		`{"ID":1,"Miss":true}`,
		`{"ID":2,"OutputID":"` + id2 + `","Size":5,"Time":"2024-11-12T10:11:12.123456789Z","DiskPath":"/tmp/a-d"}`,
		`{"ID":2,"OutputID":"` + id2 + `","Time":"2024-11-12T10:11:12+01:00","DiskPath":"C:\\tmp\\a-d"}`,
		`{"ID":3,"DiskPath":"/tmp/é"}`,
		`{"ID":3,"Err":"disk full"}`,
		`{"ID":4}`, `{"ID":4,"Miss":false}`, `{"ID":4,"Time":null}`, `{"ID":4,"Size":1.0}`, `{"ID":4,"Time":"2024-11-12t10:11:12Z"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		fast, ok := cacheprog.ScanResponse(line)
		if !ok {
			return
		}
		var slow cacheprog.Response
		if err := json.Unmarshal(line, &slow); err != nil || !reflect.DeepEqual(fast, slow) {
			t.Errorf("scanned %+v, decoded %+v, %v", fast, slow, err)
		}
	})
}

// FuzzAppendRequest holds our requests to what encoding/json reads in them.
func FuzzAppendRequest(f *testing.F) {
	f.Add(int64(1), "get", []byte("key"), []byte(nil), []byte(nil), int64(0))
	f.Add(int64(2), "put\x00\"\xff", []byte("key"), []byte("out"), []byte("out"), int64(-5))
	f.Fuzz(func(t *testing.T, id int64, cmd string, action, output, object []byte, size int64) {
		r := cacheprog.Request{ID: id, Command: cacheprog.Cmd(cmd), ActionID: action, OutputID: output, ObjectID: object, BodySize: size}
		line := cacheprog.AppendRequest(nil, &r)
		if bytes.IndexByte(line, '\n') != len(line)-2 {
			t.Errorf("%q is not one line and an empty one", line)
		}
		std, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		var got, want cacheprog.Request
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if err := json.Unmarshal(std, &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("ours reads as %+v, encoding/json's as %+v", got, want)
		}
	})
}

// FuzzAppendResponse holds our answers to what encoding/json reads in its own.
func FuzzAppendResponse(f *testing.F) {
	f.Add(int64(1), "", true, "", []byte(nil), int64(0), int64(0), int64(0), 0)
	f.Add(int64(2), "", false, "/tmp/\x01\"\\\xffé\u2028<&>", []byte("output"), int64(7), int64(1700000000), int64(120), 3600)
	f.Add(int64(3), "disk\nfull", false, "", []byte("x"), int64(-7), int64(-62135596800), int64(1), -1)
	f.Fuzz(func(t *testing.T, id int64, errText string, miss bool, path string, output []byte, size, sec, nsec int64, zone int) {
		check := func(line []byte, want cacheprog.Response) {
			t.Helper()
			std, err := json.Marshal(want)
			if err != nil {
				t.Skip(err) // a time that JSON does not have
			}
			want = cacheprog.Response{}
			if err := json.Unmarshal(std, &want); err != nil {
				t.Fatal(err)
			}
			var got cacheprog.Response
			if err := json.Unmarshal(line, &got); err != nil || bytes.IndexByte(line, '\n') != len(line)-1 {
				t.Fatalf("%q: %v", line, err)
			}
			if (got.Time == nil) != (want.Time == nil) || got.Time != nil && !got.Time.Equal(*want.Time) {
				t.Errorf("time %v, want %v", got.Time, want.Time)
			}
			got.Time, want.Time = nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("ours reads as %+v, encoding/json's as %+v", got, want)
			}
		}
		check(cacheprog.AppendAnswer(nil, id, errText, miss, path), cacheprog.Response{ID: id, Err: errText, Miss: miss, DiskPath: path})

		e := cacheprog.Entry{Size: size, Time: time.Unix(sec, nsec).In(time.FixedZone("", zone)), DiskPath: path}
		copy(e.OutputID[:], output)
		want := cacheprog.Response{ID: id, OutputID: e.OutputID[:], Size: size, DiskPath: path}
		if y := e.Time.UTC().Year(); !e.Time.IsZero() && 0 <= y && y <= 9999 {
			utc := e.Time.UTC()
			want.Time = &utc
		}
		check(cacheprog.AppendHit(nil, id, &e), want)
	})
}

// FuzzBody holds the body's decoder to encoding/json and encoding/base64, and to leaving the stream in step.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`"aGVsbG8="`, `"aGVsbG8h"`, `""`, `"aGVs\nbG8="`, `"aG\/sbG8h"`, `"aGVs\u002b\u002B8="`, `"aGVsbG8=="`, `"aGVsbG8=A"`, `"aGVsbG8"`, `"aGVsbG9="`,
		`"a\"b"`, `"aGVs\q"`, `"aGVs\u00"`, "\"aGVs\nbG8=\"", `"aGVsbG8=\r\n"`, ` "aGVsbG8h"`, `nobody`, `"unended`, `"\ud83d\ude00aa"`, `"aGV="`, `"===="`,
		`"` + strings.Repeat("aGVs", 40) + `\/` + `aGV` + strings.Repeat("bG8h", 30) + `"`,
	} {
		f.Add([]byte(s), 0, 512)
		f.Add([]byte(s), 1, 1)
		f.Add([]byte(s), -1, 5)
	}
	f.Fuzz(func(t *testing.T, frame []byte, off, chunk int) {
		if chunk < 1 || chunk > 1<<16 {
			return
		}
		var text string
		d := json.NewDecoder(bytes.NewReader(frame))
		want, wantErr := []byte(nil), d.Decode(&text)
		if trimmed := bytes.TrimLeft(frame, " \t\r\n"); wantErr == nil && trimmed[0] != '"' {
			return // null
		}
		after, isString := "", wantErr == nil
		if isString {
			after = string(frame[d.InputOffset():]) + "\nnext\n"
		}
		if wantErr == nil {
			want, wantErr = base64.StdEncoding.DecodeString(text)
		}
		size := int64(len(want)) + int64(off%8)
		if size <= 0 {
			return
		}
		for _, one := range []bool{false, true} {
			r := bytes.NewReader(append(frame[:len(frame):len(frame)], "\nnext\n"...))
			var got, rest []byte
			var err, skipErr error
			if one {
				got, err, rest, skipErr = cacheprog.ReadBody(iotest.OneByteReader(r), size, chunk)
			} else {
				got, err, rest, skipErr = cacheprog.ReadBody(r, size, chunk)
			}
			switch {
			case wantErr == nil && size == int64(len(want)):
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			case err == nil:
				t.Errorf("got %q without an error, want one for %v, size %d", got, wantErr, size)
			case int64(len(got)) >= size:
				t.Errorf("got all of a bad body: %q, %v", got, err)
			}
			if isString && (skipErr != nil || string(rest) != after) {
				t.Errorf("left %q, %v", rest, skipErr)
			}
		}
	})
}
