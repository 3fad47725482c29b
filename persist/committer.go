package persist

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"backchannel/broker"

	"github.com/dgraph-io/badger/v4"
)

const (
	// A group is split beyond these. Badger takes 2.4 MiB and some 20,000 entries in a transaction with our tables of
	// 16 MiB; a request alone may be larger than the soft bounds, up to maxRequestBytes.
	groupEntries    = 6000
	groupBytes      = 1 << 20
	maxRequestBytes = 2 << 20
	// chorePeriod is how often the committer looks for what has expired or grown too much.
	chorePeriod = time.Second
)

// committer is the one writer. All its fields belong to the goroutine of run.
type committer struct {
	s       *Store
	state   *state
	inDoubt bool
}

// run answers requests until ctx ends, then those already in the inbox.
func (c *committer) run(ctx context.Context) error {
	timer := time.NewTicker(chorePeriod)
	defer timer.Stop()
	c.attempt(ctx, "finish purges", c.finishPurges)
	var spare []*request
	for {
		select {
		case <-ctx.Done():
			c.s.inbox.close()
			c.serve(ctx, c.s.inbox.take(nil))
			return nil
		case <-timer.C:
			c.chores(ctx)
		case <-c.s.inbox.wake:
			// Those whom the last group has answered are about to ask again: let them, so that they share a sync.
			runtime.Gosched()
			taken := c.s.inbox.take(spare)
			c.serve(ctx, taken)
			clear(taken)
			spare = taken
			c.attempt(ctx, "keep the total", c.trimTotal)
			c.attempt(ctx, "keep the bounds of the queue", c.keepBounds)
		}
	}
}

// chores does what nobody waits for.
func (c *committer) chores(ctx context.Context) {
	if c.inDoubt {
		c.attempt(ctx, "read the counters again", c.resolve)
	}
	c.attempt(ctx, "apply limits", c.applyLimits)
	c.attempt(ctx, "keep the total", c.trimTotal)
	c.attempt(ctx, "remove ended deliveries", c.sweepEnded)
}

// attempt logs what a chore met: it is tried again in a second.
func (c *committer) attempt(ctx context.Context, what string, chore func() error) {
	if err := chore(); err != nil && broker.CodeOf(err) != broker.CodeStoreFull {
		c.s.log.LogAttrs(ctx, slog.LevelWarn, "store chore put off", slog.String("chore", what), slog.Any("error", err))
	}
}

func (c *committer) serve(ctx context.Context, requests []*request) {
	for len(requests) > 0 {
		if chore := requests[0].chore; chore != nil {
			requests[0].finish(c.wireError(ctx, chore(c)))
			requests = requests[1:]
			continue
		}
		requests = requests[c.commitSome(ctx, requests):]
	}
}

// commitSome puts the first of the requests into one transaction and answers them; it returns how many there were.
func (c *committer) commitSome(ctx context.Context, requests []*request) int {
	staged := make([]*request, 0, min(len(requests), 512))
	n := 0
	err := c.transact(func(g *group) error {
		for n < len(requests) && requests[n].chore == nil && (n == 0 || g.fits(requests[n])) {
			r := requests[n]
			n++
			err := r.stage(g)
			if refused, ok := errors.AsType[*broker.Error](err); ok {
				r.finish(refused)
				continue
			}
			staged = append(staged, r)
			if err != nil {
				return err
			}
		}
		return nil
	})
	err = c.wireError(ctx, err)
	for _, r := range staged {
		r.finish(err)
	}
	if n == 0 { // the store could not even be read
		requests[0].finish(err)
		return 1
	}
	return n
}

// transact runs fn on a new group and commits it, synced, before it returns. After an error that is not a refusal of
// fn's own the store is in doubt, and nothing is numbered before its counters have been read again.
func (c *committer) transact(fn func(g *group) error) error {
	if c.inDoubt {
		if err := c.resolve(); err != nil {
			return err
		}
	}
	g := newGroup(c)
	defer g.txn.Discard()
	err := fn(g)
	if err == nil {
		err = g.commit()
	}
	if err != nil {
		c.inDoubt = true
		c.s.doubt.Store(true)
		return err
	}
	g.publish()
	return nil
}

// resolve reads everything that was changed in memory again, after a commit that may or may not have happened.
func (c *committer) resolve() error {
	// A failed sync may have left readable what is not yet durable; it must be before it can be repeated to anybody.
	if err := c.s.db.Sync(); err != nil {
		return err
	}
	st, err := loadState(c.s.db)
	if err != nil {
		return err
	}
	c.state = st
	c.s.ring.reset(st.last.seq)
	c.s.publishView(st)
	c.inDoubt = false
	c.s.doubt.Store(false)
	return nil
}

// wireError keeps Badger's words from the wire: they go to the log, the caller learns what to do.
func (c *committer) wireError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*broker.Error](err); ok {
		return refused
	}
	c.s.stats.failed.Add(1)
	c.s.log.LogAttrs(ctx, slog.LevelError, "commit failed, the store is in doubt", slog.Any("error", err))
	if errors.Is(err, badger.ErrTxnTooBig) {
		return broker.Errorf(broker.CodeTooLarge, "the request does not fit one commit; send fewer or smaller events at once")
	}
	return broker.Errorf(broker.CodeUnavailable, "the store could not write and is in doubt; repeat with the same id")
}
