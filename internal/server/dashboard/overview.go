package dashboard

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/server/history"
)

const (
	recentSessions = 15 // on the overview
	listedSessions = 50 // on a page of the list
	listedEntries  = 10
	listedClients  = 20
	listedWriters  = 10 // of a namespace
	// clientsSeen is how many of the last sessions tell of the clients.
	clientsSeen = 1000
	clientsAge  = 7 * 24 * time.Hour
)

// A period is what the overview is about.
type period struct {
	Key, Name string
	age, step time.Duration
}

func periods() []period {
	const day = 24 * time.Hour
	return []period{
		{"1h", "Hour", time.Hour, time.Minute}, {"24h", "Day", day, 15 * time.Minute}, {"7d", "Week", 7 * day, 2 * time.Hour},
		{"30d", "Month", 30 * day, 6 * time.Hour}, {"1y", "Year", 365 * day, 7 * day},
	}
}

type overviewPage struct {
	Periods    []period
	Period     period
	Total      history.Point
	HitRate    string
	Net        float64 // saved less waited, seconds
	Storage    storageView
	Charts     []chart
	Evicted    []ageView
	Dearest    []history.Entry
	Largest    []history.Entry
	Sessions   []sessionRow
	Namespaces []namespaceView
	Clients    []clientView
	Troubled   int // of the clients
	Admin      bool
	Home       string
}

type storageView struct {
	Bytes, Entries, Limit int64
	Part                  float64 // of the limit
	Full, Failed          bool
	EvictedBytes          int64
}

type ageView struct {
	Age     string
	Entries int64
	Part    float64 // of the most frequent age
}

type namespaceView struct {
	Name    string
	Usage   disk.Usage
	Writers []history.Writer
	More    int // writers that are not listed
	Trusted bool
}

// A clientView is a machine, as its last sessions tell.
type clientView struct {
	Machine   string
	Last      *history.Session
	Sessions  int
	Errors    int64
	State     string // "", "errors", "gave up", "cannot store"
	Why       string
	Namespace string
}

type sessionRow struct {
	*history.Session
	Part float64 // hit rate
}

func (d *Dashboard) overview(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	all := periods()
	chosen := all[1]
	for _, p := range all {
		if p.Key == r.FormValue("period") {
			chosen = p
		}
	}
	d.Record()
	v, now := viewOf(g), time.Now()
	points, err := d.History.Series(v, now.Add(-chosen.age), now, chosen.step)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	body := overviewPage{Periods: all, Period: chosen, Total: history.Total(points), Admin: g.Admin, Home: g.Home()}
	body.HitRate = "–"
	if rate, ok := body.Total.Sessions.HitRate(); ok {
		body.HitRate = formatPercent(rate)
	}
	body.Net = body.Total.Sessions.SavedSeconds - body.Total.Sessions.WaitSeconds
	stored := d.Storage.Stats()
	body.storage(stored, v)
	body.Storage.Failed = g.Admin && d.Storage.Err() != nil
	limit := int64(0)
	if g.Admin {
		limit = stored.Limit
	}
	body.Charts = charts(points, body.Total, limit)
	body.Evicted = ageViews(body.Total.EvictedAges)
	there := func(ns string, id entry.ActionID) bool {
		_, err := d.Storage.Stat(ns, id)
		return err == nil
	}
	body.Dearest = d.History.Dearest(v, listedEntries, there)
	body.Largest = d.History.Largest(v, listedEntries, there)
	body.Namespaces = namespaceViews(stored, v, d.History.Writers(v))
	if err := d.recent(&body, v, now); err != nil {
		d.fail(w, r, err)
		return
	}
	p := d.newPage(g, "Overview", "/", body)
	p.Live = true
	d.show(w, r, http.StatusOK, "overview", p)
}

// storage fills in what is stored, as far as it may be seen.
func (o *overviewPage) storage(s disk.Stats, v history.View) {
	o.Storage.EvictedBytes = o.Total.EvictedBytes
	if v != nil {
		for _, ns := range v {
			o.Storage.Bytes += s.Namespaces[ns].Bytes
			o.Storage.Entries += s.Namespaces[ns].Entries
		}
		return
	}
	o.Storage.Bytes, o.Storage.Entries, o.Storage.Limit, o.Storage.Full = s.Bytes, s.Entries, s.Limit, s.Full
	if s.Limit > 0 {
		o.Storage.Part = min(1, float64(s.Bytes)/float64(s.Limit))
	}
}

// recent fills in what the last sessions say of themselves and of their machines.
func (d *Dashboard) recent(o *overviewPage, v history.View, now time.Time) error {
	byMachine := make(map[string]*clientView)
	seen := 0
	err := d.History.Sessions(v, "", func(s *history.Session) bool {
		if seen++; len(o.Sessions) < recentSessions {
			o.Sessions = append(o.Sessions, newSessionRow(s))
		} else if now.Sub(s.End()) > clientsAge {
			return false
		}
		c := byMachine[s.Machine]
		if c == nil {
			c = &clientView{Machine: s.Machine, Last: s, Namespace: s.Namespace}
			switch {
			case s.Breaker != "":
				c.State, c.Why = "gave up", s.Breaker
			case s.Fallback != "":
				c.State, c.Why = "cannot store", s.Fallback
			}
			byMachine[s.Machine] = c
		}
		c.Sessions++
		c.Errors += s.RemoteErrors
		return seen < clientsSeen
	})
	if err != nil {
		return err
	}
	for _, c := range byMachine {
		if c.State == "" && c.Last.RemoteErrors > 0 {
			c.State, c.Why = "errors", plural(c.Last.RemoteErrors, "request failed", "requests failed")
		}
		if c.State != "" {
			o.Troubled++
		}
		o.Clients = append(o.Clients, *c)
	}
	slices.SortFunc(o.Clients, func(a, b clientView) int {
		return cmp.Or(cmp.Compare(severity(b.State), severity(a.State)), b.Last.End().Compare(a.Last.End()), cmp.Compare(a.Machine, b.Machine))
	})
	o.Clients = o.Clients[:min(len(o.Clients), listedClients)]
	return nil
}

func severity(state string) int {
	return slices.Index([]string{"", "errors", "gave up", "cannot store"}, state)
}

func newSessionRow(s *history.Session) sessionRow { return sessionRow{s, s.HitRate()} }

// ageViews is how long what was evicted had not been used; nil if nothing was.
func ageViews(ages []int64) (views []ageView) {
	most := int64(0)
	for _, n := range ages {
		most = max(most, n)
	}
	if most == 0 {
		return nil
	}
	bounds := disk.AgeBounds()
	for i, n := range ages {
		v := ageView{Entries: n, Part: float64(n) / float64(most)}
		switch {
		case i < len(bounds):
			v.Age = "up to " + formatSeconds(bounds[i].Seconds())
			if days := int64(bounds[i] / (24 * time.Hour)); days > 0 {
				v.Age = "up to " + plural(days, "day", "days")
			}
		default:
			v.Age = "longer"
		}
		views = append(views, v)
	}
	return views
}

func namespaceViews(s disk.Stats, v history.View, writers map[string][]history.Writer) (views []namespaceView) {
	names := make(map[string]bool)
	for ns := range writers {
		names[ns] = true
	}
	for ns := range s.Namespaces {
		if v == nil || slices.Contains(v, ns) {
			names[ns] = true
		}
	}
	for ns := range names {
		view := namespaceView{Name: ns, Usage: s.Namespaces[ns], Writers: writers[ns], Trusted: ns == auth.Trusted}
		if more := len(view.Writers) - listedWriters; more > 0 {
			view.Writers, view.More = view.Writers[:listedWriters], more
		}
		views = append(views, view)
	}
	slices.SortFunc(views, func(a, b namespaceView) int {
		return cmp.Or(cmp.Compare(b.Usage.Bytes, a.Usage.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return views
}

type sessionsPage struct {
	Sessions []sessionRow
	After    string // what this page begins after; "" is the beginning
	Next     string // what the next one begins after; "" is none
}

func (d *Dashboard) sessions(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	body := sessionsPage{After: r.FormValue("after")}
	if len(body.After) > history.KeyLen {
		body.After = ""
	}
	err := d.History.Sessions(viewOf(g), body.After, func(s *history.Session) bool {
		if len(body.Sessions) == listedSessions {
			body.Next = body.Sessions[listedSessions-1].Key()
			return false
		}
		body.Sessions = append(body.Sessions, newSessionRow(s))
		return true
	})
	if err != nil {
		d.fail(w, r, err)
		return
	}
	p := d.newPage(g, "Sessions", "/sessions", body)
	p.Live = body.After == ""
	d.show(w, r, http.StatusOK, "sessions", p)
}

func (d *Dashboard) session(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	key := r.PathValue("key")
	if len(key) != history.KeyLen {
		key = ""
	}
	s, err := d.History.Session(viewOf(g), key)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if s == nil {
		d.showProblem(w, r, http.StatusNotFound, problem{"There is no such session.", "It may have been so long ago that it is forgotten, or it is not yours to see."})
		return
	}
	d.show(w, r, http.StatusOK, "session", d.newPage(g, "Session", "/sessions", newSessionRow(s)))
}
