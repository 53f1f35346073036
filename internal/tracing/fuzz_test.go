package tracing_test

import (
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/larder-build/larder/internal/tracing"
)

// Whatever is taken for headers can be sent.
func FuzzHeaders(f *testing.F) {
	for _, text := range []string{"", "a=b", "a=b,c=d", " api-key = x%20y , b=", "a=b=c", "a", "=b", "a=%zz", "a=%0d%0a", "ä=b", "a:b=c"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := tracing.ParseHeaders(text)
		if err != nil {
			return
		}
		for name, values := range headers {
			if !httpguts.ValidHeaderFieldName(name) || len(values) != 1 || !httpguts.ValidHeaderFieldValue(values[0]) {
				t.Errorf("%q gives %q: %q", text, name, values)
			}
		}
	})
}
