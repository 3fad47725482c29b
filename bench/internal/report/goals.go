package report

import (
	"fmt"
	"math"
	"slices"
)

const us = "backchannel"

// floors are what peers are compared with, not peers.
func isPeer(server string) bool {
	return !slices.Contains([]string{us, "floor", "floor-batch", "file"}, server)
}

// Goal is one line of what the product wants to reach.
type Goal struct {
	What, Want, Got string
	Met, Known      bool
}

// limit is a bound on a figure: at least, or at most with most.
func limit(what, unit string, v float64, known bool, bound float64, most bool) Goal {
	word, met := "at least", v >= bound
	if most {
		word, met = "at most", v <= bound
	}
	return Goal{What: what, Want: word + " " + fmt.Sprintf("%g%s", bound, unit), Got: figure(v) + unit, Met: met, Known: known}
}

func figure(v float64) string {
	switch {
	case math.Abs(v) >= 1e4:
		return format(v, "k")
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// bestPeer finds the largest or the smallest median.
func (d *Document) bestPeer(name, value string, smallest bool) (server string, best float64) {
	for _, s := range d.servers(name) {
		v, ok := d.Median(name, s, value)
		if ok && isPeer(s) && (server == "" || (v < best) == smallest && v != best) {
			server, best = s, v
		}
	}
	return server, best
}

// against compares us with the best peer: at least factor times it, or below it for smallest.
func (d *Document) against(what, name, value string, factor float64, smallest bool) Goal {
	v, known := d.Median(name, us, value)
	peer, best := d.bestPeer(name, value, smallest)
	g := Goal{What: what, Known: known && peer != ""}
	if smallest {
		g.Want, g.Met = "below every peer", v < best
	} else {
		g.Want, g.Met = "above every peer", v > best
		if factor != 1 {
			g.Want, g.Met = fmt.Sprintf("at least %g times every peer", factor), v >= factor*best
		}
	}
	g.Got = fmt.Sprintf("%s; %s has %s", figure(v), peer, figure(best))
	if best > 0 && factor != 1 {
		g.Got += fmt.Sprintf(" (%.1f times)", v/best)
	}
	return g
}

func (d *Document) value(what, unit, name, value string, bound float64, most bool) Goal {
	v, known := d.Median(name, us, value)
	return limit(what, unit, v, known, bound, most)
}

func (d *Document) ratio(what, name, to, value string, bound float64, most bool) Goal {
	v, known := d.Ratio(name, us, to, value)
	return limit(what, " of "+to, v, known, bound, most)
}

// Goals judges all of them.
func (d *Document) Goals() []Goal {
	goals := []Goal{
		d.value("memory of an idle stream with one entry", " bytes", "memory", "bytes_per_stream", 2500, true),
		d.value("the same with 20 entries", " bytes", "memory-20", "bytes_per_stream", 6000, true),
		d.value("all idle streams and the store, resident", " MB", "memory", "rss_mb", 64, true),
	}
	for _, size := range []string{"small", "large"} {
		n := d.Conditions.Sizes.Small
		if size == "large" {
			n = d.Conditions.Sizes.Large
		}
		full, calm := "fanout-"+size, "paced-"+size
		goals = append(goals,
			d.ratio(fmt.Sprintf("deliveries per CPU-second, saturated, %d subscribers", n), full, "floor-batch", "deliveries_per_cpu_s", 0.7, false),
			d.against("the same", full, "deliveries_per_cpu_s", 3, false),
			d.ratio(fmt.Sprintf("CPU per delivery at a fixed rate, %d subscribers", n), calm, "floor", "cpu_us_per_delivery", 1.3, true),
			d.ratio("p99 there", calm, "floor", "p99_ms", 1.3, true),
			d.against("the same", calm, "p99_ms", 1, true))
	}
	return append(goals,
		d.against("deliveries/s on many channels, 8 publishers", "channels", "deliveries_per_s", 1, false),
		d.against("the same, 64 publishers", "channels-64", "deliveries_per_s", 1, false),
		d.value("durable publishes over HTTP, 64 publishers", "/s", "publish-64", "publishes_per_s", 40000, false),
		d.ratio("durable publishes in-process, 64 publishers", "store-64", "file", "events_per_s", 0.35, false),
		d.ratio("the same, 256 publishers", "store-256", "file", "events_per_s", 0.2, false),
		d.against("all clients caught up after resuming, s", "replay", "all_s", 1, true),
		d.value("CPU of that per 1 M events", " s", "replay", "cpu_s_per_million", 1.5, true),
		d.churnGoal(),
		d.value("live heap of an idle channel", " bytes", "idle-channels", "live_bytes_per_channel", 120, true),
	)
}

// churnGoal is against Go peers: nchan is not one.
func (d *Document) churnGoal() Goal {
	goPeers := *d
	goPeers.Conditions.Servers = slices.DeleteFunc(slices.Clone(d.Conditions.Servers), func(s string) bool { return s == "nchan" })
	g := goPeers.against("connect, first frame, disconnect: cycles/s", "churn", "cycles_per_s", 1, false)
	g.Want = "above every Go peer"
	return g
}
