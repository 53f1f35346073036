package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/server/history"
)

// metrics are the server's numbers, under the names in docs/operations.md.
type metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	seconds  *prometheus.HistogramVec
	requests *prometheus.CounterVec
	hits     *prometheus.CounterVec
	misses   *prometheus.CounterVec
	hitBytes prometheus.Histogram
	putBytes prometheus.Histogram
	refused  *prometheus.CounterVec
	damaged  prometheus.Counter
	sessions sessionMetrics

	mu      sync.Mutex
	traffic map[string]*traffic // by namespace
}

// sessionMetrics sum up the sessions that are reported.
type sessionMetrics struct {
	count, gets, hits, misses, saved, waited, errors, broken *prometheus.CounterVec
	queued                                                   *prometheus.HistogramVec
}

// labelsMax bounds the namespaces that are labels. Tokens name them, so there are
// few; those beyond it are counted together.
const labelsMax = 100

func newMetrics(s *Server) *metrics {
	sizes := prometheus.ExponentialBuckets(256, 8, 8) // to 512 MiB
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "larder_" + name, Help: help}, labels)
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "larder_" + name, Help: help, Buckets: sizes})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "larder_request_seconds", Help: "Duration of requests, by operation and HTTP status.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9), // to 33 s
		}, []string{"operation", "status"}),
		requests: counter("requests_total", "Requests, by operation, HTTP status and the namespace of the token.", "operation", "status", "namespace"),
		hits:     counter("entry_hits_total", "Actions asked for and sent, by the namespace of the token.", "namespace"),
		misses:   counter("entry_misses_total", "Actions asked for that are not there, by the namespace of the token.", "namespace"),
		hitBytes: histogram("entry_sent_bytes", "Stored sizes of the bodies sent."),
		putBytes: histogram("entry_received_bytes", "Stored sizes of the bodies received."),
		refused:  counter("refused_total", "Requests and logins refused for their token, by reason.", "reason"),
		damaged:  prometheus.NewCounter(prometheus.CounterOpts{Name: "larder_damaged_total", Help: "Stored bodies that turned out to be damaged; their entries were deleted."}),
		sessions: sessionMetrics{
			count:  counter("sessions_total", "Sessions reported.", "namespace"),
			gets:   counter("session_gets_total", "Gets of the sessions reported.", "namespace"),
			hits:   counter("session_hits_total", "Hits of the sessions reported, by where they were from: local, prefetched, remote.", "namespace", "source"),
			misses: counter("session_misses_total", "Misses of the sessions reported.", "namespace"),
			saved:  counter("session_saved_seconds_total", "What the hits of the sessions reported cost when they were built, as far as known.", "namespace"),
			waited: counter("session_waited_seconds_total", "What requests of the sessions reported spent in Larder.", "namespace"),
			errors: counter("session_remote_errors_total", "Requests to this server that failed as the sessions reported saw it.", "namespace"),
			broken: counter("sessions_broken_total", "Sessions reported that ended with this server given up.", "namespace"),
			queued: prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Name: "larder_session_queued_entries", Help: "Entries that waited on a machine to be uploaded when it reported a session.",
				Buckets: []float64{0, 10, 100, 1000, 10_000, 100_000}, // a clean build of 1,000 packages has 2,400
			}, []string{"namespace"}),
		},
		traffic: make(map[string]*traffic),
	}
	sm := m.sessions
	m.registry.MustRegister(m.seconds, m.requests, m.hits, m.misses, m.hitBytes, m.putBytes, m.refused, m.damaged,
		sm.count, sm.gets, sm.hits, sm.misses, sm.saved, sm.waited, sm.errors, sm.broken, sm.queued,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "larder_requests_in_flight", Help: "Requests being served."},
			func() float64 { return float64(s.inFlight.Load()) }),
		storageCollector{s})
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

// A traffic is what a namespace's clients do.
type traffic struct {
	label        string
	hits, misses prometheus.Counter

	mu    sync.Mutex
	fresh history.Point // what the history does not know yet
}

// of is the traffic of the namespace that a grant is for.
func (m *metrics) of(g auth.Grant) *traffic {
	ns := g.Home()
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.traffic[ns]; t != nil {
		return t
	}
	if len(m.traffic) >= labelsMax {
		ns = history.Others
		if t := m.traffic[ns]; t != nil {
			return t
		}
	}
	t := &traffic{label: ns, hits: m.hits.WithLabelValues(ns), misses: m.misses.WithLabelValues(ns)}
	m.traffic[ns] = t
	return t
}

// note notes something for the history.
func (t *traffic) note(change func(p *history.Point)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.fresh)
}

// observe notes a request; one that was refused is nobody's.
func (m *metrics) observe(operation string, status int, g auth.Grant, took time.Duration) {
	code, label := strconv.Itoa(status), ""
	if g.Name != "" {
		t := m.of(g)
		label = t.label
		t.note(func(p *history.Point) {
			p.Requests++
			if status >= http.StatusInternalServerError {
				p.Failed++
			}
		})
	}
	m.seconds.WithLabelValues(operation, code).Observe(took.Seconds())
	m.requests.WithLabelValues(operation, code, label).Inc()
}

func (m *metrics) hit(g auth.Grant, stored int64) {
	m.hitBytes.Observe(float64(stored))
	t := m.of(g)
	t.hits.Inc()
	t.note(func(p *history.Point) {
		p.Hits++
		p.SentBytes += stored
	})
}

func (m *metrics) miss(g auth.Grant) {
	t := m.of(g)
	t.misses.Inc()
	t.note(func(p *history.Point) { p.Misses++ })
}

func (m *metrics) puts(g auth.Grant, headers []entry.Header) {
	m.of(g).note(func(p *history.Point) {
		for i := range headers {
			p.Puts++
			p.PutBytes += headers[i].Stored
		}
	})
}

// reported notes sessions.
func (m *metrics) reported(g auth.Grant, sessions []history.Session) {
	ns, sm := m.of(g).label, m.sessions
	for i := range sessions {
		s := &sessions[i]
		sm.count.WithLabelValues(ns).Inc()
		sm.gets.WithLabelValues(ns).Add(float64(s.Gets))
		sm.hits.WithLabelValues(ns, "local").Add(float64(s.Hits - s.HitsPrefetched - s.HitsRemote))
		sm.hits.WithLabelValues(ns, "prefetched").Add(float64(s.HitsPrefetched))
		sm.hits.WithLabelValues(ns, "remote").Add(float64(s.HitsRemote))
		sm.misses.WithLabelValues(ns).Add(float64(s.Misses.Total()))
		sm.saved.WithLabelValues(ns).Add(s.SavedSeconds)
		sm.waited.WithLabelValues(ns).Add(s.WaitSeconds)
		sm.errors.WithLabelValues(ns).Add(float64(s.RemoteErrors))
		sm.queued.WithLabelValues(ns).Observe(float64(s.Queued))
		broken := sm.broken.WithLabelValues(ns) // is there from the first session on
		if s.Breaker != "" {
			broken.Inc()
		}
	}
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
	counter := func(value float64, d *prometheus.Desc) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value)
	}
	gauge(float64(stats.Limit), describe("limit_bytes", "What the storage may take; 0 is no limit."))
	for name, ns := range stats.Namespaces {
		gauge(float64(ns.Bytes), describe("bytes", "What a namespace takes.", "namespace"), name)
		gauge(float64(ns.Entries), describe("entries", "A namespace's entries.", "namespace"), name)
	}
	full := 0.0
	if stats.Full {
		full = 1
	}
	gauge(full, describe("full", "1 while the disk has no room, so that puts are refused."))
	failed := 0.0
	if c.s.storage.Err() != nil {
		failed = 1
	}
	gauge(failed, describe("failed", "1 if the storage cannot be written any more, until the server is started anew."))
	gauge(float64(stats.Waiting), describe("waiting_changes", "Changes of the index that are not on the disk yet."))
	counter(float64(stats.Damaged), describe("damaged_total", "Records found damaged; their entries were deleted."))
	counter(float64(stats.EvictedEntries), describe("evicted_total", "Entries evicted."))
	counter(float64(stats.EvictedBytes), describe("evicted_bytes_total", "Bytes evicted."))
	gauge(stats.EvictedAge.Seconds(), describe("evicted_age_seconds", "How long the entry that was evicted last had not been used."))
	buckets := make(map[float64]uint64)
	var count uint64
	for i, bound := range disk.AgeBounds() {
		count += uint64(stats.EvictedAges[i])
		buckets[bound.Seconds()] = count
	}
	ch <- prometheus.MustNewConstHistogram(describe("evicted_unused_seconds", "How long what was evicted had not been used."),
		uint64(stats.EvictedEntries), stats.EvictedAgeSum, buckets)
}
