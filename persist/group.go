package persist

import (
	"fmt"

	"backchannel/broker"

	"github.com/dgraph-io/badger/v4"
)

// group is one transaction of the committer and what it has changed in memory.
type group struct {
	c       *committer
	txn     *badger.Txn
	now     int64 // microseconds; never before the log's last time
	shift   int64 // how far the real clock is ahead of ours, for Badger's own timer
	entries int
	bytes   int
	heads   []*head      // dirty
	buckets []*bucket    // dirty
	usage   bool         // dirty
	sites   []*siteUsage // dirty
	last    bool         // dirty
	events  []broker.Event
	spare   []badger.Entry
}

func newGroup(c *committer) *group {
	now := c.s.clock(c.state.last.time)
	return &group{
		c: c, txn: c.s.db.NewTransaction(true), now: now,
		shift: max(0, c.s.wall().UnixMicro()-now),
	}
}

func (g *group) fits(r *request) bool {
	return g.entries+r.entries <= groupEntries && g.bytes+r.bytes <= groupBytes
}

// set writes a record that ends at a time. We hide it from that moment; Badger, whose timer counts seconds of the real
// clock, removes it some seconds later.
func (g *group) set(key, value []byte, expires int64) error {
	e := g.entry()
	e.Key, e.Value = key, value
	if expires != never {
		e.ExpiresAt = uint64((expires+g.shift)/1_000_000) + 2 //nolint:gosec // after 1970
	}
	g.entries++
	g.bytes += len(key) + len(value)
	return g.txn.SetEntry(e)
}

// entry gives memory for one entry, many at a time: Badger keeps a pointer to each until the commit is over.
func (g *group) entry() *badger.Entry {
	if len(g.spare) == 0 {
		g.spare = make([]badger.Entry, 128)
	}
	e := &g.spare[0]
	g.spare = g.spare[1:]
	return e
}

func (g *group) delete(key []byte) error {
	g.entries++
	g.bytes += len(key)
	return g.txn.Delete(key)
}

// head finds a channel's head; made says that it is new.
func (g *group) head(ch broker.Channel) (h *head, made bool, err error) {
	st := g.c.state
	if h = st.heads[ch]; h != nil {
		return h, h.ordinal == 0, nil
	}
	h = &head{headRecord: headRecord{channel: ch}, hash: channelHash(ch)}
	found, err := read(g.txn, keyHash(kindHead, h.hash), func(b []byte) (err error) {
		h.headRecord, err = decodeHead(b)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read head of %s: %w", ch, err)
	}
	st.spareHeads()
	st.heads[ch] = h
	return h, !found, nil
}

func (g *group) touch(h *head) {
	if !h.dirty {
		h.dirty = true
		g.heads = append(g.heads, h)
	}
}

// count adds a record to its bucket, or takes it away if cost is negative.
func (g *group) count(seq uint64, cost int64, short bool, expires int64) {
	st := g.c.state
	b := st.bucketOf(seq)
	if b == nil {
		if cost < 0 {
			return // it has expired as a whole
		}
		b = &bucket{id: seq / bucketSpan}
		st.buckets = append(st.buckets, b)
	}
	if short {
		b.shortBytes = max(0, b.shortBytes+cost)
		b.shortExpires = max(b.shortExpires, expires)
	} else {
		b.bytes = max(0, b.bytes+cost)
		b.expires = max(b.expires, expires)
	}
	if cost > 0 {
		b.newest = g.now
	}
	st.total += cost
	if !b.dirty {
		b.dirty = true
		g.buckets = append(g.buckets, b)
	}
}

// commit writes what is dirty and commits. Nothing is written if nothing was changed.
func (g *group) commit() error {
	st := g.c.state
	for _, h := range g.heads {
		if err := g.trimChannel(h); err != nil {
			return fmt.Errorf("trim %s: %w", h.channel, err)
		}
		h.dirty = false
		if err := g.set(keyHash(kindHead, h.hash), encodeHead(&h.headRecord), never); err != nil {
			return err
		}
	}
	for _, b := range g.buckets {
		b.dirty = false
		if err := g.set(keySeq(kindBucket, b.id), encodeBucket(b), never); err != nil {
			return err
		}
	}
	if err := g.writeUsage(); err != nil {
		return err
	}
	if g.last {
		if err := g.set(keyMeta(metaLast), encodeLast(st.last), never); err != nil {
			return err
		}
	}
	if g.entries == 0 {
		return nil
	}
	return g.c.s.commit(g.txn)
}

// writeUsage writes the counters of the queue. A site that has nothing left is forgotten.
func (g *group) writeUsage() error {
	if !g.usage {
		return nil
	}
	for _, u := range g.sites {
		u.dirty = false
		if u.bytes == [classes]int64{} {
			delete(g.c.state.sites, u.site)
			if err := g.delete(keyUsage(u.site)); err != nil {
				return err
			}
			continue
		}
		if err := g.set(keyUsage(u.site), encodeSiteUsage(u.bytes), never); err != nil {
			return err
		}
	}
	return g.set(keyMeta(metaUsage), encodeUsage(g.c.state.usage), never)
}

// publish tells readers and tails what is durable now.
func (g *group) publish() {
	s := g.c.s
	if g.entries > 0 {
		s.stats.commits.Add(1)
		s.stats.bytes.Add(int64(g.bytes))
		s.stats.batch(len(g.events))
		s.space.written(g.bytes)
	}
	s.publishView(g.c.state)
	s.ring.push(g.events)
}
