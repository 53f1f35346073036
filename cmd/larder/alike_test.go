package main

import (
	"os"
	"runtime"
	"testing"
)

// auto tells systems and their versions apart; where nothing is known, machines.
func TestAlikeLabel(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	unknown := runtime.GOOS + " of " + host
	for _, tt := range []struct{ file, text, want string }{
		{"/etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n", "debian-12"},
		{"/usr/lib/os-release", "ID='alpine'\nVERSION_ID=3.20.1", "alpine-3.20.1"},
		{"/etc/os-release", "ID=arch\nBUILD_ID=rolling\n", "arch-rolling"},
		{"/etc/os-release", "ID=other\n", unknown},
		{"/System/Library/CoreServices/SystemVersion.plist", "<dict>\n\t<key>ProductVersion</key>\n\t<string>15.1</string>\n</dict>\n", "macos-15.1"},
		{"/System/Library/CoreServices/SystemVersion.plist", "<dict>", unknown},
		{"/none", "", unknown},
	} {
		got := systemLabel(func(name string) ([]byte, error) {
			if name == tt.file {
				return []byte(tt.text), nil
			}
			return nil, os.ErrNotExist
		})
		if got != tt.want {
			t.Errorf("%s with %q: %q, want %q", tt.file, tt.text, got, tt.want)
		}
	}
	here := systemLabel(os.ReadFile)
	for setting, want := range map[string]string{"": "", "ci": "ci", "all:ci": "all:ci", "auto": here, "all:auto": "all:" + here, "automatic": "automatic"} {
		if got := alikeLabel(setting); got != want {
			t.Errorf("%q is %q, want %q", setting, got, want)
		}
	}
}
