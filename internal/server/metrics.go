package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/larder-build/larder/internal/server/auth"
)

// metrics are the server's numbers, under the names in docs/operations.md.
type metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	requests *prometheus.HistogramVec
	hits     prometheus.Counter
	misses   prometheus.Counter
	hitBytes prometheus.Histogram
	putBytes prometheus.Histogram
	refused  *prometheus.CounterVec
	damaged  prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	sizes := prometheus.ExponentialBuckets(256, 8, 8) // to 512 MiB
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "larder_" + name, Help: help})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "larder_" + name, Help: help, Buckets: sizes})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "larder_request_seconds", Help: "Requests and their duration, by operation and HTTP status.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9), // to 33 s
		}, []string{"operation", "status"}),
		hits:     counter("entry_hits_total", "Actions asked for and sent."),
		misses:   counter("entry_misses_total", "Actions asked for that are not there."),
		hitBytes: histogram("entry_sent_bytes", "Stored sizes of the bodies sent."),
		putBytes: histogram("entry_received_bytes", "Stored sizes of the bodies received."),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "larder_refused_total", Help: "Requests refused for their token, by reason."}, []string{"reason"}),
		damaged:  counter("damaged_total", "Stored bodies that turned out to be damaged; their entries were deleted."),
	}
	m.registry.MustRegister(m.requests, m.hits, m.misses, m.hitBytes, m.putBytes, m.refused, m.damaged,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "larder_requests_in_flight", Help: "Requests being served."},
			func() float64 { return float64(s.inFlight.Load()) }),
		storageCollector{s})
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

func (m *metrics) observe(operation string, status int, took time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *metrics) hit(stored int64) {
	m.hits.Inc()
	m.hitBytes.Observe(float64(stored))
}

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	if !g.Admin {
		return &apiError{status: http.StatusForbidden, code: "not_admin", message: "metrics need a token of role admin"}
	}
	s.metrics.handler.ServeHTTP(w, r)
	return nil
}

// A storageCollector asks the storage for its numbers when Prometheus does.
type storageCollector struct{ s *Server }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("larder_storage_"+name, help, labels, nil)
}

func (c storageCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c storageCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.s.storage.Stats()
	gauge := func(value float64, d *prometheus.Desc, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(float64(stats.Limit), describe("limit_bytes", "What the storage may take; 0 is no limit."))
	for name, ns := range stats.Namespaces {
		gauge(float64(ns.Bytes), describe("bytes", "What a namespace takes.", "namespace"), name)
		gauge(float64(ns.Entries), describe("entries", "A namespace's entries.", "namespace"), name)
	}
	ch <- prometheus.MustNewConstMetric(describe("evicted_total", "Entries evicted."), prometheus.CounterValue, float64(stats.EvictedEntries))
	ch <- prometheus.MustNewConstMetric(describe("evicted_bytes_total", "Bytes evicted."), prometheus.CounterValue, float64(stats.EvictedBytes))
	gauge(stats.EvictedAge.Seconds(), describe("evicted_age_seconds", "How long the entry that was evicted last had not been used."))
}
