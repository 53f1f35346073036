package dashboard_test

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/server/dashboard"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/server/history"
	"github.com/larder-build/larder/internal/stats"
)

// BenchmarkOverview renders the overview of a server that is as busy as its history
// can remember for a day: five namespaces, a session in each of them every minute.
func BenchmarkOverview(b *testing.B) {
	storage, err := disk.Open(disk.Options{Dir: b.TempDir(), Reserve: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer storage.Close()
	h := history.Open(storage, nil, slog.New(slog.DiscardHandler))
	now := time.Now()
	for ns := range 5 {
		var reports []stats.Report
		for minute := range 24 * 60 {
			at := now.Add(-time.Duration(minute) * time.Minute)
			r := stats.Report{ID: stats.NewID(), Start: at.Add(-time.Second), Seconds: 1, Machine: fmt.Sprint("machine-", minute%50), Project: "example.com/m", Command: "go build ./..."}
			r.Gets, r.Hits, r.Misses.Absent = 1000, 900, 100
			reports = append(reports, r)
			h.Add(at, fmt.Sprint("ns", ns), history.Point{Requests: 10, Hits: 1000, SentBytes: 1 << 20, Bytes: 1 << 30, Entries: 1000})
		}
		if _, _, err := h.AddSessions(fmt.Sprint("ns", ns), "token", reports); err != nil {
			b.Fatal(err)
		}
	}
	if err := h.Flush(); err != nil {
		b.Fatal(err)
	}
	d := dashboard.New(dashboard.Options{Storage: storage, History: h, Record: func() {}, Log: slog.New(slog.DiscardHandler)})
	for _, period := range []string{"1h", "24h", "7d", "1y"} {
		b.Run(period, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				d.ServeHTTP(w, httptest.NewRequest("GET", "/?period="+period, nil))
				if w.Code != 200 {
					b.Fatal(w.Body)
				}
				b.ReportMetric(float64(w.Body.Len()), "bytes")
			}
		})
	}
}
