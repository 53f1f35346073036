package dashboard

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// What is vendored is what it is said to be.
func TestVendored(t *testing.T) {
	readme, err := files.ReadFile("assets/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"uplot.min.js", "uplot.min.css", "uplot.LICENSE"} {
		data, err := files.ReadFile("assets/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if line := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name); !strings.Contains(string(readme), line) {
			t.Errorf("assets/README.md lacks %s", line)
		}
	}
}
