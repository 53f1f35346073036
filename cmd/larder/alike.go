package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"
)

// autoLabel stands for a label that is made of what is known of the machine. It may
// follow allPrefix, with which a label is of machines that share nothing with others.
const (
	autoLabel = "auto"
	allPrefix = "all:"
)

// alikeLabel is the label of the setting alike.
func alikeLabel(setting string) string {
	name, all := strings.CutPrefix(setting, allPrefix)
	if name != autoLabel {
		return setting
	}
	name = systemLabel(os.ReadFile)
	if all {
		name = allPrefix + name
	}
	return name
}

// systemLabel names the system and its version, as far as headers and libraries of
// its own go; what else is installed it does not tell. Where nothing is known the
// machine is like no other.
func systemLabel(readFile func(string) ([]byte, error)) string {
	// freedesktop.org/software/systemd/man/os-release: the second file is for where the
	// first is not there.
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		data, err := readFile(file)
		if err != nil {
			continue
		}
		id, version := release(data, "ID"), release(data, "VERSION_ID")
		if version == "" {
			version = release(data, "BUILD_ID") // of distributions that have no versions
		}
		if id != "" && version != "" {
			return id + "-" + version
		}
	}
	if data, err := readFile("/System/Library/CoreServices/SystemVersion.plist"); err == nil {
		_, after, _ := bytes.Cut(data, []byte("<key>ProductVersion</key>"))
		_, after, _ = bytes.Cut(after, []byte("<string>"))
		if version, _, ok := bytes.Cut(after, []byte("</string>")); ok && len(version) < 20 {
			return "macos-" + string(version)
		}
	}
	host, _ := os.Hostname()
	return runtime.GOOS + " of " + host
}

// release is a value of an os-release file.
func release(data []byte, name string) string {
	for line := range bytes.Lines(data) {
		if value, ok := bytes.CutPrefix(line, []byte(name+"=")); ok {
			return strings.Trim(string(bytes.TrimSpace(value)), "\"'")
		}
	}
	return ""
}
