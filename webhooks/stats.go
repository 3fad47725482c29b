package webhooks

import (
	"cmp"
	"slices"
	"time"

	"backchannel/broker"
)

// Stats is a snapshot of the dispatcher, free of any metrics library.
type Stats struct {
	Components []ComponentStats // by site, then component
}

// ComponentStats tells of one component.
type ComponentStats struct {
	Site      broker.SiteID
	Component broker.ComponentID
	// Waiting counts deliveries between attempts or before the first, Parked those of them that lost the order of
	// their key, InFlight the attempts under way.
	Waiting, Parked, InFlight int
	// Oldest is when the oldest delivery that has not ended was accepted; zero if there is none.
	Oldest time.Time
	// Attempts counts what attempts came to since the start.
	Attempts Results
}

// Results counts attempts by what they proved.
type Results struct {
	// Delivered and Rejected were answered for good; Failed are those of jobs that are tried again; Unsent certainly
	// did not run; Unsure may have.
	Delivered, Rejected, Failed, Unsent, Unsure uint64
}

func (r *Results) count(v verdict) {
	switch v {
	case delivered:
		r.Delivered++
	case rejected:
		r.Rejected++
	case failed:
		r.Failed++
	case unsent, forbidden:
		r.Unsent++
	case unsure:
		r.Unsure++
	}
}

// Stats gives a snapshot; its cost depends on the number of components alone.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := Stats{Components: make([]ComponentStats, 0, len(d.s.comps))}
	for key, c := range d.s.comps {
		cs := ComponentStats{
			Site: key.site, Component: key.id, Parked: c.parked,
			InFlight: c.inflight, Waiting: max(c.count-c.inflight, 0), Attempts: c.results,
		}
		if c.oldest != nil {
			cs.Oldest = time.UnixMicro(c.oldest.accepted)
		}
		out.Components = append(out.Components, cs)
	}
	slices.SortFunc(out.Components, func(a, b ComponentStats) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Component, b.Component))
	})
	return out
}
