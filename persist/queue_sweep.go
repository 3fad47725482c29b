package persist

import (
	"fmt"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"

	"github.com/dgraph-io/badger/v4"
)

const (
	// replyLife is how long a reply is safe from the bound on replies.
	replyLife = 10 * time.Minute
	// sweepAtOnce bounds one commit of a sweep.
	sweepAtOnce = 200
)

// sweep says what is removed of the deliveries in one index of the ended ones.
type sweep struct {
	index  class
	sites  []broker.SiteID // whose; "" for an index without sites
	until  int64           // nothing that ended later
	going  func() bool     // asked before each; nil for always
	remove func(*group, hash, *deliveryRecord) error
}

// sweepEnded removes ended deliveries whose time has come, and then what the bounds have no room for.
func (c *committer) sweepEnded() error {
	now := c.s.clock(c.state.last.time)
	for _, w := range []sweep{
		{index: classDone, sites: []broker.SiteID{""}, until: now - webhooks.OutcomeLife.Microseconds()},
		{index: classDead, sites: c.state.sitesWith(classDead), until: now - webhooks.DeadLife.Microseconds()},
	} {
		w.remove = (*group).drop
		if err := c.sweep(w); err != nil {
			return fmt.Errorf("remove ended deliveries: %w", err)
		}
	}
	return c.keepBounds()
}

// keepBounds removes the oldest dead letters, and the bodies of the oldest outcomes, beyond the bounds: first what is
// too much for its own site, then what is too much for all.
func (c *committer) keepBounds() error {
	bounds := c.s.limits().bounds
	for site, b := range bounds.Sites {
		bytes := func(cl class) int64 { return c.state.siteBytes(site, cl) }
		if err := c.keep(b, bytes, func(class) []broker.SiteID { return []broker.SiteID{site} }); err != nil {
			return fmt.Errorf("keep the bounds of site %s: %w", site, err)
		}
	}
	if err := c.keep(bounds, func(cl class) int64 { return c.state.usage.bytes[cl] }, c.state.sitesWith); err != nil {
		return fmt.Errorf("keep the bounds of the queue: %w", err)
	}
	return nil
}

// keep holds what bytes counts within bounds, taking the oldest of sites.
func (c *committer) keep(b webhooks.Bounds, bytes func(class) int64, sites func(class) []broker.SiteID) error {
	for _, k := range []struct {
		counted class
		bound   int64
		sweep
	}{
		{classDead, b.Dead, sweep{index: classDead, until: never, remove: (*group).drop}},
		{classDone, b.Replies, sweep{index: classBody, until: c.s.clock(c.state.last.time) - replyLife.Microseconds(), remove: eraser(parts{replies: true})}},
		{classLog, b.DeliveryLog, sweep{index: classLog, until: never, remove: eraser(parts{log: true})}},
	} {
		k.going = func() bool { return k.bound > 0 && bytes(k.counted) > k.bound }
		if !k.going() {
			continue
		}
		k.sites = sites(k.counted)
		if err := c.sweep(k.sweep); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes from the oldest on, some in each commit, until nothing is left to remove.
func (c *committer) sweep(w sweep) error {
	for w.going == nil || w.going() {
		names, err := c.s.endedNames(w)
		if err != nil || len(names) == 0 {
			return err
		}
		done := 0
		err = c.transact(func(g *group) (err error) {
			done, err = g.removeSome(names, w)
			return err
		})
		if err != nil || done == len(names) && done < sweepAtOnce {
			return err
		}
	}
	return nil
}

// removeSome removes as much as there is to remove and one commit takes; done is how many it has looked at.
func (g *group) removeSome(names []hash, w sweep) (done int, err error) {
	for _, name := range names {
		if g.bytes > groupBytes || w.going != nil && !w.going() {
			break
		}
		done++
		r, err := g.delivery(name)
		if err != nil {
			return done, err
		}
		if r == nil {
			continue
		}
		if err := w.remove(g, name, r); err != nil {
			return done, err
		}
	}
	return done, nil
}

// sitesWith lists the sites that have bytes of a class.
func (st *state) sitesWith(c class) []broker.SiteID {
	var out []broker.SiteID
	for site, u := range st.sites {
		if u.bytes[c] > 0 {
			out = append(out, site)
		}
	}
	return out
}

// nameOf reads the delivery that an index points to.
func nameOf(item *badger.Item) (name hash, err error) {
	err = item.Value(func(b []byte) error {
		if len(b) != len(name) {
			return fmt.Errorf("decode index of deliveries: %w", errRecord)
		}
		copy(name[:], b)
		return nil
	})
	return name, err
}
