package handlers

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"backchannel/broker"
	"backchannel/webhooks"
)

// usageTimeout bounds how long a scrape waits for the store.
const usageTimeout = 2 * time.Second

// hubMeter, dispatcherMeter and queueMeter give the snapshots that are read at each scrape.
type (
	hubMeter interface{ Stats() broker.HubStats }

	dispatcherMeter interface{ Stats() webhooks.Stats }

	queueMeter interface {
		Usage(ctx context.Context) (webhooks.Usage, error)
	}
)

// Metric is a figure of a part that this package does not know, such as the store. Names begin with backchannel_; a
// counter's ends with _total.
type Metric struct {
	Name, Help string
	Counter    bool
	// Value is called at each scrape and must not wait.
	Value func() float64
}

// metrics has a registry of its own: nothing of another library gets in unasked. No label has values that come from
// users.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "backchannel_http_requests_total",
			Help: "Requests answered with JSON, by method, route and status. Streams are counted by backchannel_streams_opened_total.",
		}, []string{"method", "route", "status"}),
	}
	m.registry.MustRegister(m.requests, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newSnapshots(s))
	for _, x := range s.cfg.Metrics {
		m.registry.MustRegister(x.collector())
	}
	return m
}

func (x Metric) collector() prometheus.Collector {
	if x.Counter {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: x.Name, Help: x.Help}, x.Value)
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: x.Name, Help: x.Help}, x.Value)
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// figure describes one metric and how it is read from the hub.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(broker.HubStats) float64
}

// snapshots turns the snapshots of the parts into metrics.
type snapshots struct {
	s                                         *Server
	hub                                       []figure
	build, sites                              *prometheus.Desc
	deliveries, queueBytes, attempts          *prometheus.Desc
	waiting, parked, inFlight, oldestDelivery *prometheus.Desc
}

func newSnapshots(s *Server) *snapshots {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("backchannel_"+name, help, labels, nil)
	}
	counter := func(name, help string, of func(broker.HubStats) float64) figure {
		return figure{desc(name, help), prometheus.CounterValue, of}
	}
	gauge := func(name, help string, of func(broker.HubStats) float64) figure {
		return figure{desc(name, help), prometheus.GaugeValue, of}
	}
	return &snapshots{
		s: s,
		hub: []figure{
			gauge("streams", "Open streams and polls.", func(h broker.HubStats) float64 { return float64(h.Streams) }),
			gauge("log_position", "Position up to which events were handed to streams.", func(h broker.HubStats) float64 { return float64(h.Head) }),
			counter("streams_opened_total", "Streams and polls ever opened.", func(h broker.HubStats) float64 { return float64(h.Opened) }),
			counter("events_dispatched_total", "Events handed to a shard of the hub.", func(h broker.HubStats) float64 { return float64(h.Dispatched) }),
			counter("frames_written_total", "Frames written to streams.", func(h broker.HubStats) float64 { return float64(h.Frames) }),
			counter("stream_bytes_total", "Bytes written to streams.", func(h broker.HubStats) float64 { return float64(h.Bytes) }),
			counter("frames_replayed_total", "Frames read back from the log.", func(h broker.HubStats) float64 { return float64(h.Replayed) }),
			counter("gaps_total", "Times a stream was told that events were lost to it.", func(h broker.HubStats) float64 { return float64(h.Gaps) }),
			counter("slow_readers_total", "Times a reader was too slow for memory and was read for from the log.", func(h broker.HubStats) float64 { return float64(h.Stalls) }),
			counter("stuck_streams_total", "Streams closed because they took nothing.", func(h broker.HubStats) float64 { return float64(h.Stuck) }),
		},
		build:          desc("build_info", "Always 1; the version is a label.", "version"),
		sites:          desc("sites", "Configured sites."),
		deliveries:     desc("queue_deliveries", "Deliveries in the queue, by state.", "state"),
		queueBytes:     desc("queue_bytes", "Bytes held against the limits of the queue, of replies, of dead letters and of the delivery log.", "limit"),
		attempts:       desc("webhook_attempts_total", "Attempts since the start, by site and by what they proved.", "site", "result"),
		waiting:        desc("webhook_waiting", "Deliveries before or between attempts, by site.", "site"),
		parked:         desc("webhook_parked", "Waiting deliveries that were overtaken, by site.", "site"),
		inFlight:       desc("webhook_in_flight", "Attempts under way, by site.", "site"),
		oldestDelivery: desc("webhook_oldest_seconds", "Age of the oldest delivery that has not ended, by site.", "site"),
	}
}

// Describe implements prometheus.Collector.
func (c *snapshots) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.hub {
		ch <- f.desc
	}
	for _, d := range []*prometheus.Desc{
		c.build, c.sites, c.deliveries, c.queueBytes, c.attempts, c.waiting, c.parked, c.inFlight, c.oldestDelivery,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *snapshots) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	stats := c.s.cfg.Hub.Stats()
	for _, f := range c.hub {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(stats))
	}
	gauge(c.build, 1, c.s.cfg.Version)
	gauge(c.sites, float64(len(c.s.cfg.Sites.All())))
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	if u, err := c.s.cfg.Queue.Usage(ctx); err == nil {
		gauge(c.deliveries, float64(u.Waiting), "waiting")
		gauge(c.deliveries, float64(u.Sending), "sending")
		gauge(c.deliveries, float64(u.Done), "done")
		gauge(c.deliveries, float64(u.Dead), "dead")
		gauge(c.queueBytes, float64(u.QueueBytes), "queue")
		gauge(c.queueBytes, float64(u.ReplyBytes), "replies")
		gauge(c.queueBytes, float64(u.LogBytes), "delivery_log")
		gauge(c.queueBytes, float64(u.DeadBytes), "dead")
	}
	for site, t := range siteTotals(c.s.cfg.Messages.Stats(), c.s.cfg.Now()) {
		name := string(site)
		gauge(c.waiting, float64(t.waiting), name)
		gauge(c.parked, float64(t.parked), name)
		gauge(c.inFlight, float64(t.inFlight), name)
		gauge(c.oldestDelivery, t.oldest.Seconds(), name)
		for result, n := range t.results {
			ch <- prometheus.MustNewConstMetric(c.attempts, prometheus.CounterValue, float64(n), name, result)
		}
	}
}

// siteTotal adds up a site's components, whose names come from grants and so are no labels.
type siteTotal struct {
	waiting, parked, inFlight int
	oldest                    time.Duration
	results                   map[string]uint64
}

func siteTotals(stats webhooks.Stats, now time.Time) map[broker.SiteID]*siteTotal {
	out := make(map[broker.SiteID]*siteTotal)
	for _, c := range stats.Components {
		t := out[c.Site]
		if t == nil {
			t = &siteTotal{results: make(map[string]uint64)}
			out[c.Site] = t
		}
		t.waiting += c.Waiting
		t.parked += c.Parked
		t.inFlight += c.InFlight
		if !c.Oldest.IsZero() {
			t.oldest = max(t.oldest, now.Sub(c.Oldest))
		}
		t.results["delivered"] += c.Attempts.Delivered
		t.results["rejected"] += c.Attempts.Rejected
		t.results["failed"] += c.Attempts.Failed
		t.results["unsent"] += c.Attempts.Unsent
		t.results["unsure"] += c.Attempts.Unsure
	}
	return out
}
