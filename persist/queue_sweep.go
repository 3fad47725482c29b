package persist

import (
	"fmt"
	"time"

	"backchannel/webhooks"

	"github.com/dgraph-io/badger/v4"
)

const (
	// replyLife is how long a reply is safe from the bound on replies.
	replyLife = 10 * time.Minute
	// sweepAtOnce bounds one commit of a sweep.
	sweepAtOnce = 200
)

// sweepEnded removes ended deliveries whose time has come, and then what the bounds have no room for.
func (c *committer) sweepEnded() error {
	now := c.s.clock(c.state.last.time)
	for _, sweep := range []struct {
		class class
		life  time.Duration
	}{{classDone, webhooks.OutcomeLife}, {classDead, webhooks.DeadLife}} {
		for more := true; more; {
			var err error
			if more, err = c.sweepSome(sweep.class, now-sweep.life.Microseconds(), (*group).drop, nil); err != nil {
				return fmt.Errorf("remove ended deliveries: %w", err)
			}
		}
	}
	return c.keepBounds()
}

// keepBounds removes the oldest dead letters, and the bodies of the oldest outcomes, beyond the bounds.
func (c *committer) keepBounds() error {
	bounds := c.s.limits().bounds
	now := c.s.clock(c.state.last.time)
	for _, keep := range []struct {
		class, index class
		bound        int64
		until        int64
		remove       func(*group, hash, *deliveryRecord) error
	}{
		{classDead, classDead, bounds.Dead, never, (*group).drop},
		{classDone, classBody, bounds.Replies, now - replyLife.Microseconds(), (*group).erase},
	} {
		over := func() bool { return keep.bound > 0 && c.state.usage.bytes[keep.class] > keep.bound }
		for more := true; more && over(); {
			var err error
			if more, err = c.sweepSome(keep.index, keep.until, keep.remove, over); err != nil {
				return fmt.Errorf("keep the bounds of the queue: %w", err)
			}
		}
	}
	return nil
}

// sweepSome removes the oldest ended deliveries of a class up to a time, in one commit, while going says so. more is
// false when there were no others.
func (c *committer) sweepSome(cl class, until int64, remove func(*group, hash, *deliveryRecord) error, going func() bool) (more bool, err error) {
	names, err := c.s.endedNames(cl, until)
	if err != nil || len(names) == 0 {
		return false, err
	}
	err = c.transact(func(g *group) error {
		for _, name := range names {
			if going != nil && !going() {
				return nil
			}
			r, err := g.delivery(name)
			if err != nil {
				return err
			}
			if r == nil {
				continue
			}
			if err := remove(g, name, r); err != nil {
				return err
			}
		}
		return nil
	})
	return len(names) == sweepAtOnce, err
}

// endedNames lists the oldest ended deliveries of a class up to a time.
func (s *Store) endedNames(cl class, until int64) (names []hash, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindEnded, byte(cl)}})
		defer it.Close()
		last := keyEnded(cl, until, ^uint64(0))
		for it.Rewind(); it.Valid() && len(names) < sweepAtOnce && string(it.Item().Key()) <= string(last); it.Next() {
			name, err := nameOf(it.Item())
			if err != nil {
				return err
			}
			names = append(names, name)
		}
		return nil
	})
	return names, err
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
