package persist

import (
	"context"
	"fmt"
	"slices"

	"backchannel/broker"

	"github.com/dgraph-io/badger/v4"
)

const (
	// trimAtOnce bounds what one group removes of a channel. In steady state each event removes one; more is due only
	// after the configured count has shrunk.
	trimAtOnce = 1024
	// refillEntries is how many of a channel's oldest entries are read at once.
	refillEntries = 256
	purgeAtOnce   = 1000
)

// trimChannel removes what the count leaves behind. It runs once for each channel and group, so its reads are shared.
func (g *group) trimChannel(h *head) error {
	keep := uint64(max(g.c.s.limits().PerChannel, 0))
	if keep == 0 || h.ordinal <= keep {
		return nil
	}
	due := h.ordinal - keep
	for n := 0; h.lowOrd < due && n < trimAtOnce; n++ {
		if len(h.oldest) == 0 {
			if err := g.refill(h); err != nil {
				return err
			}
		}
		if len(h.oldest) == 0 || h.oldest[0].ordinal > due {
			h.lowOrd = due // the rest has expired
			return nil
		}
		en := h.oldest[0]
		h.oldest = h.oldest[1:]
		if err := g.remove(h.hash, &en); err != nil {
			return err
		}
		h.low, h.lowOrd = en.seq, en.ordinal
	}
	return nil
}

// refill reads the oldest entries of a channel, those of this group included.
func (g *group) refill(h *head) (err error) {
	h.oldest, err = readEntries(g.txn, h.hash, max(h.low, g.c.state.floor.seq), refillEntries)
	return err
}

// remove deletes an event and its index.
func (g *group) remove(h hash, en *entry) error {
	g.count(en.seq, -en.cost, en.short, en.expires)
	if err := g.delete(keyChannel(h, en.seq)); err != nil {
		return err
	}
	return g.delete(keySeq(kindEvent, en.seq))
}

// readEntries reads at most n entries of a channel after a position, the expired ones included.
func readEntries(txn *badger.Txn, h hash, after uint64, n int) ([]entry, error) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: keyHash(kindChannel, h)})
	defer it.Close()
	var out []entry
	for it.Seek(keyChannel(h, after+1)); it.Valid() && len(out) < n; it.Next() {
		en, err := entryOf(it.Item())
		if err != nil {
			return nil, err
		}
		out = append(out, en)
	}
	return out, nil
}

func entryOf(item *badger.Item) (en entry, err error) {
	seq := seqOf(item.Key())
	err = item.Value(func(b []byte) error {
		en, err = decodeEntry(seq, b)
		return err
	})
	return en, err
}

// Purge implements broker.Log. It goes on below the floor of free space: it makes room.
func (s *Store) Purge(ctx context.Context, ch broker.Channel) (int, error) {
	n := 0
	err := s.submit(ctx, &request{chore: func(c *committer) (err error) {
		n, err = c.purge(ch)
		return err
	}})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// purge hides a channel's events in one commit, with a note of what is to be deleted, and then deletes them.
func (c *committer) purge(ch broker.Channel) (n int, err error) {
	var h *head
	var low uint64
	err = c.transact(func(g *group) error {
		var made bool
		if h, made, err = g.head(ch); made || err != nil {
			return err
		}
		low = max(h.low, c.state.floor.seq)
		entries, err := readEntries(g.txn, h.hash, low, int(h.ordinal)) //nolint:gosec // a count of stored records
		if err != nil || len(entries) == 0 {
			return err
		}
		n = countKept(entries, g.now)
		h.low, h.lowOrd, h.oldest = h.seq, h.ordinal, nil
		g.touch(h)
		return g.set(keyHash(kindPurge, h.hash), encodePosition(position{h.seq, int64(low)}), never) //nolint:gosec // a position
	})
	if err != nil || h == nil || h.low == low {
		return n, err
	}
	return n, c.finishPurge(h.hash, low, h.low)
}

func countKept(entries []entry, now int64) int {
	n := 0
	for i := range entries {
		if entries[i].expires > now {
			n++
		}
	}
	return n
}

func (c *committer) finishPurge(h hash, low, through uint64) error {
	for more := true; more; {
		err := c.transact(func(g *group) error {
			entries, err := readEntries(g.txn, h, low, purgeAtOnce)
			if err != nil {
				return err
			}
			more = len(entries) == purgeAtOnce
			for i := range entries {
				en := &entries[i]
				if en.seq > through {
					more = false
					break
				}
				if err := g.remove(h, en); err != nil {
					return err
				}
				low = en.seq
			}
			if more {
				return nil
			}
			return g.delete(keyHash(kindPurge, h))
		})
		if err != nil {
			return fmt.Errorf("purge: %w", err)
		}
	}
	return nil
}

// finishPurges completes what a crash has interrupted.
func (c *committer) finishPurges() error {
	type purge struct {
		hash         hash
		low, through uint64
	}
	var open []purge
	err := c.s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindPurge}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			p := purge{hash: hash(it.Item().Key()[1:])}
			err := it.Item().Value(func(b []byte) error {
				at, err := decodePosition(b)
				p.low, p.through = uint64(at.time), at.seq //nolint:gosec // a position
				return err
			})
			if err != nil {
				return err
			}
			open = append(open, p)
		}
		return nil
	})
	for _, p := range open {
		if err == nil {
			err = c.finishPurge(p.hash, p.low, p.through)
		}
	}
	return err
}

// trimTotal removes the oldest buckets, each in a commit of its own that also moves the floor, until the rest fits.
func (c *committer) trimTotal() error {
	limit := c.s.limits().Total
	for limit > 0 && c.state.total > limit && len(c.state.buckets) > 1 {
		if err := c.transact(c.evictFirst); err != nil {
			return fmt.Errorf("evict the oldest events: %w", err)
		}
	}
	return nil
}

// evictFirst removes an expired bucket if there is one, else the first.
func (c *committer) evictFirst(g *group) error {
	st := c.state
	i := slices.IndexFunc(st.buckets[:len(st.buckets)-1], func(b *bucket) bool { return b.live(g.now) == 0 })
	b := st.buckets[max(i, 0)]
	if i < 0 {
		if err := g.evict(b); err != nil {
			return err
		}
	}
	st.buckets = slices.Delete(st.buckets, max(i, 0), max(i, 0)+1)
	st.total -= b.bytes + b.shortBytes
	return g.delete(keySeq(kindBucket, b.id))
}

// evict deletes the records of a bucket and puts the floor behind them.
func (g *group) evict(b *bucket) error {
	st := g.c.state
	keys, floor, err := g.bucketKeys(b.id)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := g.delete(k); err != nil {
			return err
		}
	}
	if floor.seq > st.floor.seq {
		st.floor = position{floor.seq, max(floor.time, st.floor.time)}
		return g.set(keyMeta(metaFloor), encodePosition(st.floor), never)
	}
	return nil
}

// bucketKeys lists what is stored of a bucket and finds the last record that readers could still see.
func (g *group) bucketKeys(id uint64) (keys [][]byte, last position, err error) {
	it := g.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindEvent}})
	defer it.Close()
	for it.Seek(keySeq(kindEvent, id*bucketSpan)); it.Valid(); it.Next() {
		seq := seqOf(it.Item().Key())
		if seq >= (id+1)*bucketSpan {
			break
		}
		err := it.Item().Value(func(b []byte) error {
			p, err := decodePointer(b)
			if err != nil {
				return err
			}
			keys = append(keys, keySeq(kindEvent, seq))
			if p.revocation == nil {
				keys = append(keys, keyChannel(p.channel, seq))
			}
			if p.expires > g.now {
				last = position{seq, p.time}
			}
			return nil
		})
		if err != nil {
			return nil, last, err
		}
	}
	return keys, last, nil
}

// applyLimits makes a changed age durable before it is used.
func (c *committer) applyLimits() error {
	age := max(c.s.limits().Age, 0)
	if c.state.age() == age && len(c.state.ages) > 0 {
		return nil
	}
	return c.transact(func(g *group) error {
		c.state.ages = changeAge(c.state.ages, g.now, age)
		return g.set(keyMeta(metaAges), encodeAges(c.state.ages), never)
	})
}
