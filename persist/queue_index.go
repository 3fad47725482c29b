package persist

import (
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// recordWeight is what a delivery takes beside its bodies and names.
const recordWeight = 256

func (r *deliveryRecord) class() class {
	switch r.State {
	case webhooks.StateDone:
		return classDone
	case webhooks.StateDead:
		return classDead
	default:
		return classQueue
	}
}

// measure notes the sizes of what is written beside the record.
func (r *deliveryRecord) measure(body bodies) { r.bodyBytes, r.logBytes = int64(len(body.b)), body.log }

// weight is what r counts against the bound of its class. Of a done delivery that is only what can go while its outcome
// stays. The log of an ended one counts for itself.
func (r *deliveryRecord) weight() int64 {
	n := r.dataBytes + r.bodyBytes - r.endedLog()
	if r.class() != classDone {
		n += recordWeight + int64(len(r.ID)+len(r.Caller)+len(r.Order)+len(r.User)+len(r.Session)+len(r.Seal)+
			len(r.ChannelRef)+len(r.Reason))
	}
	return n
}

// endedLog is what r counts against the bound on logs.
func (r *deliveryRecord) endedLog() int64 {
	if r.class() == classQueue {
		return 0
	}
	return r.logBytes
}

// pending tells whether r has to be known at the start.
func (r *deliveryRecord) pending() bool {
	return r.class() == classQueue || r.Kind == webhooks.KindCall && r.Outcome == webhooks.OutcomeUnknown
}

// life is how long r is kept after it has ended, 0 if it has not.
func (r *deliveryRecord) life() time.Duration {
	switch r.class() {
	case classDone:
		return webhooks.OutcomeLife
	case classDead:
		return webhooks.DeadLife
	default:
		return 0
	}
}

// over tells whether r is to be seen no more.
func (r *deliveryRecord) over(now int64) bool {
	life := r.life()
	return life > 0 && r.Ended.Add(life).UnixMicro() <= now
}

// settle gives an ended delivery what it must have, and takes what it must not keep and what is written apart.
func (r *deliveryRecord) settle(now int64) {
	if r.class() == classQueue {
		return
	}
	r.Seal = ""
	if r.Ended.IsZero() {
		r.Ended = time.UnixMicro(now)
	}
}

// put writes a record in the place of an older one, with its indexes and counters.
func (g *group) put(name hash, old, r *deliveryRecord, body bodies) error {
	if old != nil {
		if err := g.unindex(old); err != nil {
			return err
		}
	}
	if len(body.b) > 0 {
		if err := g.set(keyHash(kindBody, name), body.b, never); err != nil {
			return err
		}
	} else if old != nil && old.bodyBytes > 0 {
		if err := g.delete(keyHash(kindBody, name)); err != nil {
			return err
		}
	}
	if err := g.index(name, r); err != nil {
		return err
	}
	return g.set(keyHash(kindDelivery, name), encodeDelivery(r), never)
}

// index adds r to what finds and counts it; unindex takes it away again.
func (g *group) index(name hash, r *deliveryRecord) error {
	g.tally(r, 1)
	if r.pending() {
		if err := g.set(keySeq(kindPending, r.number), name[:], never); err != nil {
			return err
		}
	}
	for _, key := range r.endedKeys() {
		if err := g.set(key, name[:], never); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) unindex(r *deliveryRecord) error {
	g.tally(r, -1)
	if r.pending() {
		if err := g.delete(keySeq(kindPending, r.number)); err != nil {
			return err
		}
	}
	for _, key := range r.endedKeys() {
		if err := g.delete(key); err != nil {
			return err
		}
	}
	return nil
}

func (r *deliveryRecord) endedKeys() [][]byte {
	if r.class() == classQueue {
		return nil
	}
	at := r.Ended.UnixMicro()
	keys := make([][]byte, 0, 3)
	switch {
	case r.class() == classDead:
		keys = append(keys, keyEnded(classDead, r.Site, at, r.number))
	case r.weight() > 0:
		keys = append(keys, keyEnded(classDone, "", at, r.number), keyEnded(classBody, r.Site, at, r.number))
	default:
		keys = append(keys, keyEnded(classDone, "", at, r.number))
	}
	if r.logBytes > 0 {
		keys = append(keys, keyEnded(classLog, r.Site, at, r.number))
	}
	return keys
}

func (g *group) tally(r *deliveryRecord, n int64) {
	u := &g.c.state.usage
	switch r.State {
	case webhooks.StateDone:
		u.done += n
	case webhooks.StateDead:
		u.dead += n
	case webhooks.StateSending:
		u.sending += n
	default:
		u.waiting += n
	}
	own := g.siteUsage(r.Site)
	for _, bytes := range []*[classes]int64{&u.bytes, &own.bytes} {
		bytes[r.class()] += n * r.weight()
		bytes[classLog] += n * r.endedLog()
	}
	g.usage = true
}

// siteUsage gives the counters of a site to be changed.
func (g *group) siteUsage(site broker.SiteID) *siteUsage {
	u := g.c.state.sites[site]
	if u == nil {
		u = &siteUsage{site: site}
		g.c.state.sites[site] = u
	}
	if !u.dirty {
		u.dirty = true
		g.sites = append(g.sites, u)
	}
	return u
}

// drop removes a delivery and everything about it.
func (g *group) drop(name hash, r *deliveryRecord) error {
	if err := g.unindex(r); err != nil {
		return err
	}
	for _, key := range [][]byte{
		keyHash(kindDelivery, name), keyHash(kindData, name), keyHash(kindBody, name), keyNewest(r.Site, r.number),
	} {
		if err := g.delete(key); err != nil {
			return err
		}
	}
	return nil
}
