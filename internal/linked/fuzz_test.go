package linked_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/linked"
)

// A section is one of a small ELF file.
type section struct {
	name  string
	flags elf.SectionFlag
	data  []byte
}

// elfFile is an ELF file of 64 bits that has nothing but sections.
func elfFile(sections ...section) []byte {
	const headBytes, sectionBytes = 64, 64
	names := []byte{0}
	var content bytes.Buffer
	heads := []elf.Section64{{}}
	add := func(s section, kind elf.SectionType) {
		heads = append(heads, elf.Section64{
			Name: uint32(len(names)), Type: uint32(kind), Flags: uint64(s.flags), Off: uint64(headBytes + content.Len()), Size: uint64(len(s.data)), Addralign: 1,
		})
		names = append(append(names, s.name...), 0)
		content.Write(s.data)
	}
	for _, s := range sections {
		add(s, elf.SHT_PROGBITS)
	}
	add(section{name: ".shstrtab"}, elf.SHT_STRTAB)
	heads[len(heads)-1].Size = uint64(len(names))
	content.Write(names)

	var out bytes.Buffer
	head := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: headBytes, Shentsize: sectionBytes,
		Shoff: uint64(headBytes + content.Len()), Shnum: uint16(len(heads)), Shstrndx: uint16(len(heads) - 1),
	}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	for _, v := range []any{head, content.Bytes(), heads} {
		binary.Write(&out, binary.LittleEndian, v) // to memory
	}
	return out.Bytes()
}

// goNote is a Go build ID's note.
func goNote(id string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 4)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(id)))
	b = binary.LittleEndian.AppendUint32(b, 4)
	return append(append(b, "Go\x00\x00"...), id...)
}

// contentID is the last part of a build ID by other means than the package's.
func contentID(data []byte, id string, gnuFrom, gnuTo int64) string {
	data = bytes.Clone(data)
	if gnuFrom, gnuTo = max(gnuFrom, 0), min(gnuTo, int64(len(data))); gnuFrom < gnuTo {
		clear(data[gnuFrom:gnuTo])
	}
	sum := sha256.Sum256(bytes.ReplaceAll(data, []byte(id), make([]byte, len(id))))
	return base64.URLEncoding.EncodeToString(sum[:15])
}

// linkedFile is a file that passes, if the sections allow it.
func linkedFile(sections ...section) []byte {
	const action, zeros = "aaaaaaaaaaaaaaaaaaaa/bbbb/cccc/", "00000000000000000000"
	file := func(id string) []byte {
		return elfFile(append(sections, section{name: ".note.go.buildid", data: goNote(id)}, section{name: ".text", data: []byte("code, and again " + id)})...)
	}
	return file(action + contentID(file(action+zeros), action+zeros, 0, 0))
}

// compressed is a section's content as it is compressed, of which its head says that it has size bytes.
func compressed(data []byte, size uint64) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: size, Addralign: 1})
	w := zlib.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// FuzzInspect has nothing pass but what says of itself what it is.
func FuzzInspect(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	plain := linkedFile()
	f.Add(plain)
	f.Add(linkedFile(section{name: ".interp", data: []byte("/lib64/ld-linux-x86-64.so.2\x00")}))
	f.Add(linkedFile(section{name: ".interp", data: []byte("/lib/ld-musl-x86_64.so.1\x00")}))
	f.Add(linkedFile(section{name: ".init"}))
	f.Add(linkedFile(section{name: ".note.gnu.build-id", data: make([]byte, 36)}))
	for _, size := range []uint64{0, 3, 13, 40, 1 << 40} {
		f.Add(elfFile(section{".note.go.buildid", elf.SHF_COMPRESSED, compressed(goNote("a/b/c/d")[:min(size, 23)], size)}))
		f.Add(elfFile(section{".interp", elf.SHF_COMPRESSED, compressed(make([]byte, 1000), size)}, section{name: ".note.go.buildid", data: goNote("a/b/c/d")}))
	}
	path := filepath.Join(f.TempDir(), "exe")
	if err := os.WriteFile(path, plain, 0o777); err != nil {
		f.Fatal(err)
	}
	if file, err := os.Open(path); err != nil {
		f.Fatal(err)
	} else if _, err := linked.Inspect(file); err != nil {
		f.Fatalf("what should pass does not: %v", err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o777); err != nil {
			t.Fatal(err)
		}
		e, err := inspect(t, path)
		if err != nil {
			if !errors.Is(err, linked.ErrOther) {
				t.Errorf("an error of its own: %v", err)
			}
			return
		}
		if e.Size != int64(len(data)) || e.OutputID != sha256.Sum256(data) {
			t.Errorf("%+v of %d bytes", e, len(data))
		}
		file, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		note, err := file.Section(".note.go.buildid").Data()
		if err != nil {
			t.Fatal(err)
		}
		id := string(note[16:][:file.ByteOrder.Uint32(note[4:])])
		var from, to int64
		if s := file.Section(".note.gnu.build-id"); s != nil {
			from, to = int64(s.Offset)+16, int64(s.Offset+s.FileSize)
		}
		if part := strings.Split(id, "/"); part[len(part)-1] != contentID(data, id, from, to) {
			t.Errorf("%q passes, its content is %s", id, contentID(data, id, from, to))
		}
	})
}
