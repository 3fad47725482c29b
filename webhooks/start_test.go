package webhooks_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// put stores a record as an earlier life of the broker would have left it.
func put(t *testing.T, q webhooks.Queue, d webhooks.Delivery) {
	t.Helper()
	if _, _, err := q.Accept(context.Background(), d); err != nil {
		t.Fatal(err)
	}
}

// inBubbleWith is inBubble over records of an earlier life.
func inBubbleWith(t *testing.T, left func(q webhooks.Queue), change func(*webhooks.Endpoint), h http.HandlerFunc, fn func(*bubble)) {
	inBubble(t, func(c *webhooks.Config, e *webhooks.Endpoint) {
		left(c.Queue)
		if change != nil {
			change(e)
		}
	}, h, fn)
}

func TestStartDecidesTheCallsOfAnEarlierLife(t *testing.T) {
	for _, c := range []struct {
		name       string
		state      webhooks.State
		told       webhooks.Outcome
		attempts   int
		deadline   time.Duration
		idempotent bool
		want       webhooks.Outcome
		requests   int
	}{
		{"never sent", webhooks.StateWaiting, "", 0, time.Minute, false, webhooks.OutcomeNotDelivered, 0},
		{"never sent, idempotent", webhooks.StateWaiting, "", 0, time.Minute, true, webhooks.OutcomeNotDelivered, 0},
		{"between certain failures", webhooks.StateWaiting, "", 2, time.Minute, false, webhooks.OutcomeNotDelivered, 0},
		{"on the wire", webhooks.StateSending, "", 1, time.Minute, false, webhooks.OutcomeUnknown, 0},
		{"on the wire, idempotent", webhooks.StateSending, "", 1, time.Minute, true, webhooks.OutcomeDelivered, 1},
		{"on the wire, idempotent, too late", webhooks.StateSending, "", 1, -time.Second, true, webhooks.OutcomeUnknown, 0},
		{"told unknown", webhooks.StateSending, webhooks.OutcomeUnknown, 1, -time.Second, true, webhooks.OutcomeUnknown, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubbleWith(t, func(q webhooks.Queue) {
				put(t, q, webhooks.Delivery{Message: call("m1", c.deadline), State: c.state, Outcome: c.told, Attempts: c.attempts})
			}, func(e *webhooks.Endpoint) { e.Idempotent = c.idempotent }, status(200), func(b *bubble) {
				<-b.d.Ready()
				rec, err := b.ask("m1", true)
				if err != nil || rec.Outcome != c.want || len(b.seen()) != c.requests {
					t.Errorf("%v (%s) after %d requests, %v; want %v after %d", rec.Outcome, rec.Reason, len(b.seen()), err, c.want, c.requests)
				}
				if stored := b.get("m1"); stored.State != webhooks.StateDone || stored.Outcome != c.want {
					t.Errorf("stored %s/%s", stored.State, stored.Outcome)
				}
			})
		})
	}
}

func TestBacklogTakesItsPlacesAndAllSlotsOfJobs(t *testing.T) {
	inBubbleWith(t, func(q webhooks.Queue) {
		for i := range 40 {
			m := job(fmt.Sprintf("j%d", i))
			m.Order = fmt.Sprint(i % 20)
			put(t, q, webhooks.Delivery{Message: m, State: webhooks.StateWaiting, Due: m.Accepted})
		}
		late := job("later")
		late.Order = "x"
		put(t, q, webhooks.Delivery{Message: late, State: webhooks.StateWaiting, Attempts: 7, Due: time.Now().Add(time.Hour)})
		next := job("behind")
		next.Order = "x"
		put(t, q, webhooks.Delivery{Message: next, State: webhooks.StateWaiting, Due: time.Now()})
	}, nil, slow(time.Second, 200), func(b *bubble) {
		<-b.d.Ready()
		synctest.Wait()
		if s := b.d.Stats().Components[0]; s.InFlight != 6 || s.Waiting != 36 || s.Parked != 1 {
			t.Errorf("stats %+v, want 6 in flight, 36 waiting, 1 parked", s)
		}
		time.Sleep(30 * time.Minute) //nolint:forbidigo // fake time
		if n := len(b.seen()); n != 41 {
			t.Errorf("%d requests before the parked one is due, want 41", n)
		}
		time.Sleep(time.Hour) //nolint:forbidigo // fake time
		if rec := b.get("later"); rec.Outcome != webhooks.OutcomeDelivered || rec.Attempts != 8 {
			t.Errorf("the parked one: %v after %d attempts", rec.Outcome, rec.Attempts)
		}
		seen := map[string]int{}
		for n, h := range b.seen() {
			seen[h.id] = n
		}
		for i := range 20 {
			if seen[fmt.Sprintf("j%d", i)] > seen[fmt.Sprintf("j%d", i+20)] {
				t.Errorf("key %d is out of order", i)
			}
		}
	})
}

func TestWhatMayHaveRunBeforeTheStartIsNotSettled(t *testing.T) {
	inBubbleWith(t, func(q webhooks.Queue) {
		put(t, q, webhooks.Delivery{Message: job("j1"), State: webhooks.StateWaiting, Due: time.Now().Add(5 * time.Second)})
	}, nil, status(200), func(b *bubble) {
		if rec, err := b.ask("j1", true); err != nil || rec.Outcome != webhooks.OutcomeDelivered {
			t.Errorf("got %v, %v", rec.Outcome, err)
		}
	})
}

// forgetful is a store that says no to the first few acceptances, having stored them.
type forgetful struct {
	webhooks.Queue
	lies atomic.Int32
}

func (q *forgetful) Accept(ctx context.Context, d webhooks.Delivery) (webhooks.Delivery, bool, error) {
	stored, known, err := q.Queue.Accept(ctx, d)
	if q.lies.Add(-1) >= 0 {
		return webhooks.Delivery{}, false, broker.Errorf(broker.CodeUnavailable, "in doubt")
	}
	return stored, known, err
}

func TestAcceptanceInDoubtIsNeitherLostNorRunTwice(t *testing.T) {
	q := &forgetful{}
	q.lies.Store(2)
	inBubble(t, func(c *webhooks.Config, _ *webhooks.Endpoint) { q.Queue, c.Queue = c.Queue, q }, status(200), func(b *bubble) {
		wantOutcome(t, mustSend(t, b.d, job("j1")), webhooks.OutcomeQueued)
		rec := mustSend(t, b.d, call("m1", 5*time.Second))
		wantOutcome(t, rec, webhooks.OutcomeUnknown) // stored as sending, in doubt: not told as anything more
		time.Sleep(time.Minute)                      //nolint:forbidigo // fake time
		wantOutcome(t, b.get("j1"), webhooks.OutcomeDelivered)
		if n := len(b.seen()); n != 1 {
			t.Errorf("%d requests, want the job's alone", n)
		}
	})
}

// brittle is a connection whose second request cannot be written.
type brittle struct {
	net.Conn
	writes atomic.Int32
}

func (c *brittle) Write(b []byte) (int, error) {
	if c.writes.Add(1) > 1 {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func TestTransportNeverSendsAgainOnItsOwn(t *testing.T) {
	var dials atomic.Int32
	inBubble(t, func(c *webhooks.Config, _ *webhooks.Endpoint) {
		dial := c.Dial()
		c.DialWith(func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &brittle{Conn: conn}, nil
		})
	}, status(200), func(b *bubble) {
		wantOutcome(t, mustSend(t, b.d, call("m1", 5*time.Second)), webhooks.OutcomeDelivered)
		wantOutcome(t, mustSend(t, b.d, call("m2", 5*time.Second)), webhooks.OutcomeUnknown)
		if n := dials.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}
