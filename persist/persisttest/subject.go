package persisttest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// Settings are what a store is opened with. Zero fields mean no bound.
type Settings struct {
	Age        time.Duration
	PerChannel int
	Total      int64
	Bounds     webhooks.Bounds
	// Now is the store's only clock.
	Now func() time.Time
}

// Subject is an open store under test.
type Subject struct {
	Log   broker.Log
	Queue webhooks.Queue
	// Reopen stops the store and opens its data again, giving a new Log and Queue. It is nil for a store that keeps
	// nothing.
	Reopen func()
	// Close ends it. The suite calls it once.
	Close func()
}

// Open makes an empty store. It fails t rather than return an error.
type Open func(t testing.TB, s Settings) *Subject

// Clock is a clock that stands still until it is moved. It starts at the real time, because a store may have a timer
// of its own for what it has hidden already.
type Clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

// NewClock makes a clock that shows the present, in whole microseconds.
func NewClock() *Clock { return &Clock{now: time.Now().Truncate(time.Microsecond)} }

// Now reads the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Move moves the clock, back too.
func (c *Clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is one test's store with the words to talk to it.
type bench struct {
	*Subject
	t     testing.TB
	ctx   context.Context
	clock *Clock
}

func start(t testing.TB, open Open, s Settings) *bench {
	t.Helper()
	clock := NewClock()
	s.Now = clock.Now
	b := &bench{Subject: open(t, s), t: t, ctx: t.Context(), clock: clock}
	t.Cleanup(b.Close)
	return b
}

func channel(id string) broker.Channel {
	return broker.Channel{Site: "moodle", ID: broker.ChannelID(id)}
}

func draft(id, data string) broker.Draft {
	return broker.Draft{Channel: channel(id), Data: []byte(data)}
}

// append stores drafts one call each and returns their positions.
func (b *bench) append(drafts ...broker.Draft) []uint64 {
	b.t.Helper()
	out := make([]uint64, len(drafts))
	for i := range drafts {
		got, err := b.Log.Append(b.ctx, drafts[i:i+1])
		if err != nil {
			b.t.Fatalf("append draft %d: %v", i, err)
		}
		out[i] = got[0].Cursor.Seq
	}
	return out
}

// fill stores n events of a channel in calls of a hundred.
func (b *bench) fill(id string, n int, data string) {
	b.t.Helper()
	drafts := make([]broker.Draft, 100)
	for i := range drafts {
		drafts[i] = draft(id, data)
	}
	for n > 0 {
		k := min(n, len(drafts))
		if _, err := b.Log.Append(b.ctx, drafts[:k]); err != nil {
			b.t.Fatalf("append %d: %v", k, err)
		}
		n -= k
	}
}

func (b *bench) position() uint64 {
	b.t.Helper()
	c, err := b.Log.Position(b.ctx)
	if err != nil {
		b.t.Fatalf("position: %v", err)
	}
	return c.Seq
}

func (b *bench) page(id string, after uint64, limit broker.PageLimit) broker.Page {
	b.t.Helper()
	p, err := b.Log.Range(b.ctx, channel(id), after, limit)
	if err != nil {
		b.t.Fatalf("range %s after %d: %v", id, after, err)
	}
	return p
}

func (b *bench) at(t time.Time) (uint64, bool) {
	b.t.Helper()
	seq, known, err := b.Log.At(b.ctx, t)
	if err != nil {
		b.t.Fatalf("at %s: %v", t, err)
	}
	return seq, known
}

// scan collects every kept event of the site.
func (b *bench) scan() []broker.Event {
	b.t.Helper()
	var out []broker.Event
	for after := uint64(0); ; {
		p, err := b.Log.Scan(b.ctx, "moodle", after, broker.PageLimit{})
		if err != nil {
			b.t.Fatalf("scan after %d: %v", after, err)
		}
		out = append(out, p.Events...)
		if !p.More {
			return out
		}
		after = p.Through
	}
}

// tail collects what Tail gives after a position up to the log's present one.
func (b *bench) tail(after uint64) []broker.Event {
	b.t.Helper()
	end := b.position()
	if after >= end {
		return nil
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	// The last record may be gone, so a marker says when everything before it has come.
	marker := b.append(draft("tail-marker", `0`))[0]
	var out []broker.Event
	err := b.Log.Tail(ctx, after, func(events []broker.Event) {
		for _, e := range events {
			if e.Seq <= end {
				out = append(out, e)
			}
			if e.Seq >= marker {
				cancel()
			}
		}
	})
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		b.t.Fatalf("tail after %d did not reach %d within a minute: %v", after, marker, err)
	}
	return out
}

func seqs(events []broker.Event) []uint64 {
	out := make([]uint64, len(events))
	for i := range events {
		out[i] = events[i].Seq
	}
	return out
}
