package webhooks_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backchannel/broker"
	"backchannel/persist/memory"
	"backchannel/webhooks"
)

// bubble is a dispatcher and a receiver in fake time.
type bubble struct {
	t     *testing.T
	store *memory.Store
	d     *webhooks.Dispatcher
	stop  func()
	table *table

	mu   sync.Mutex
	hits []hit // guarded by mu
}

type hit struct {
	at      time.Time
	id      string
	attempt string
}

// inBubble runs fn with a receiver whose handler is h; every request is noted first.
func inBubble(t *testing.T, change func(*webhooks.Config, *webhooks.Endpoint), h http.HandlerFunc, fn func(*bubble)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, store: newStore(), table: new(table)}
		p, server := newPipes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.mu.Lock()
			b.hits = append(b.hits, hit{time.Now(), r.Header.Get("webhook-id"), r.Header.Get("Backchannel-Attempt")})
			b.mu.Unlock()
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that a client has gone
			h(w, r)
		}))
		defer func() { _ = server.Close() }()
		e := endpoint(t, "http://school.example/")
		cfg := config(b.store, b.table.find)
		cfg.Random = func() float64 { return 0.5 }
		cfg.DialWith(p.dial)
		if change != nil {
			change(&cfg, &e)
		}
		b.table.set(component, e)
		b.d, b.stop = start(t, cfg)
		fn(b)
		b.stop()
	})
}

func (b *bubble) seen() []hit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]hit(nil), b.hits...)
}

func (b *bubble) get(id string) webhooks.Delivery {
	b.t.Helper()
	rec, err := b.store.Get(context.Background(), webhooks.Ref{Site: site, ID: webhooks.ID(id)})
	if err != nil {
		b.t.Fatal(err)
	}
	return rec
}

func (b *bubble) ask(id string, settle bool) (webhooks.Delivery, error) {
	return b.d.Ask(context.Background(), webhooks.Ref{Site: site, ID: webhooks.ID(id)}, "s1", settle)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// slow answers after d, or gives up with the request.
func slow(d time.Duration, code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			w.WriteHeader(code)
		case <-r.Context().Done():
		}
	}
}

func TestCallIsUnknownAtItsDeadlineAndItsLateAnswerIsKept(t *testing.T) {
	inBubble(t, nil, slow(40*time.Second, 204), func(b *bubble) {
		begun := time.Now()
		wantOutcome(t, mustSend(t, b.d, call("m1", 10*time.Second)), webhooks.OutcomeUnknown)
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("told after %v, want 10 s", took)
		}
		if rec := b.get("m1"); rec.State != webhooks.StateSending || rec.Outcome != webhooks.OutcomeUnknown {
			t.Errorf("stored %s/%s before it was told", rec.State, rec.Outcome)
		}
		if rec, err := b.ask("m1", true); err != nil || rec.Outcome != webhooks.OutcomeUnknown {
			t.Errorf("asked with settle: %v, %v", rec.Outcome, err)
		}
		time.Sleep(31 * time.Second) //nolint:forbidigo // fake time
		rec, err := b.ask("m1", false)
		if err != nil || rec.Outcome != webhooks.OutcomeDelivered || string(rec.Reply) != "null" {
			t.Errorf("after the answer: %v, %v", rec.Outcome, err)
		}
	})
}

func TestCallThatIsNeverAnsweredStaysUnknown(t *testing.T) {
	inBubble(t, nil, slow(time.Hour, 200), func(b *bubble) {
		wantOutcome(t, mustSend(t, b.d, call("m1", 10*time.Second)), webhooks.OutcomeUnknown)
		time.Sleep(61 * time.Second) //nolint:forbidigo // fake time
		if rec := b.get("m1"); rec.State != webhooks.StateDone || rec.Outcome != webhooks.OutcomeUnknown {
			t.Errorf("got %s/%s", rec.State, rec.Outcome)
		}
		if s := b.d.Stats().Components[0]; s.InFlight != 0 || s.Waiting != 0 {
			t.Errorf("left over: %+v", s)
		}
	})
}

func TestCallStillRunningAfterTwentySecondsIsPendingAndAskedFor(t *testing.T) {
	inBubble(t, nil, slow(30*time.Second, 200), func(b *bubble) {
		begun := time.Now()
		wantOutcome(t, mustSend(t, b.d, call("m1", 50*time.Second)), webhooks.OutcomePending)
		if took := time.Since(begun); took != 20*time.Second {
			t.Errorf("pending after %v, want 20 s", took)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				rec, err := b.ask("m1", true)
				if err != nil || rec.Outcome != webhooks.OutcomeDelivered {
					t.Errorf("asked: %v, %v", rec.Outcome, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took != 30*time.Second {
			t.Errorf("told after %v, want 30 s", took)
		}
		if n := len(b.seen()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

func TestCallWaitsForItsPredecessorAndDiesAtItsDeadline(t *testing.T) {
	inBubble(t, nil, slow(6*time.Second, 200), func(b *bubble) {
		begun := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { wantOutcomeAsync(t, b.d, call("m1", 10*time.Second), webhooks.OutcomeDelivered) })
		synctest.Wait()
		wg.Go(func() {
			wantOutcomeAsync(t, b.d, call("m2", 5*time.Second), webhooks.OutcomeNotDelivered)
			if took := time.Since(begun); took != 5*time.Second {
				t.Errorf("m2 was told after %v, want 5 s", took)
			}
		})
		synctest.Wait()
		wg.Go(func() { wantOutcomeAsync(t, b.d, call("m3", 20*time.Second), webhooks.OutcomeDelivered) })
		wg.Wait()
		if took := time.Since(begun); took != 12*time.Second {
			t.Errorf("m3 was answered after %v, want 12 s", took)
		}
		for _, h := range b.seen() {
			if h.id == "m2" {
				t.Error("m2 was sent although it was told not_delivered")
			}
		}
	})
}

func wantOutcomeAsync(t *testing.T, d *webhooks.Dispatcher, m webhooks.Message, want webhooks.Outcome) {
	t.Helper()
	rec, err := d.Send(context.Background(), m)
	if err != nil || rec.Outcome != want {
		t.Errorf("%s: %v (%s), %v; want %s", m.ID, rec.Outcome, rec.Reason, err, want)
	}
}

func TestNextCallStartsWhenTheOneBeforeIsToldUnknown(t *testing.T) {
	inBubble(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-id") == "m1" {
			slow(50*time.Second, 200)(w, r)
		}
	}, func(b *bubble) {
		begun := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { wantOutcomeAsync(t, b.d, call("m1", 3*time.Second), webhooks.OutcomeUnknown) })
		synctest.Wait()
		wantOutcomeAsync(t, b.d, call("m2", 10*time.Second), webhooks.OutcomeDelivered)
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("m2 was answered after %v, want 3 s", took)
		}
		wg.Wait()
	})
}

func TestDeadlineDuringConnectIsNotDelivered(t *testing.T) {
	inBubble(t, func(c *webhooks.Config, _ *webhooks.Endpoint) {
		c.DialWith((&pipes{}).dial) // nobody ever accepts
	}, status(200), func(b *bubble) {
		begun := time.Now()
		rec := mustSend(t, b.d, call("m1", 4*time.Second))
		wantOutcome(t, rec, webhooks.OutcomeNotDelivered)
		if took := time.Since(begun); took != 4*time.Second {
			t.Errorf("told after %v, want 4 s", took)
		}
	})
}

func TestSettledIDIsNeverRun(t *testing.T) {
	inBubble(t, nil, status(200), func(b *bubble) {
		rec, err := b.ask("m1", true)
		if err != nil || rec.Outcome != webhooks.OutcomeNotDelivered || !rec.Settled {
			t.Fatalf("settle of an unknown id: %+v, %v", rec.Outcome, err)
		}
		wantOutcome(t, mustSend(t, b.d, call("m1", 5*time.Second)), webhooks.OutcomeNotDelivered)
		wantOutcome(t, mustSend(t, b.d, job("m1")), webhooks.OutcomeNotDelivered)
		if n := len(b.seen()); n != 0 {
			t.Errorf("%d requests, want none", n)
		}
	})
}

func TestSettleEndsWhatWaitsAndLeavesWhatWasSent(t *testing.T) {
	inBubble(t, nil, slow(5*time.Second, 200), func(b *bubble) {
		var wg sync.WaitGroup
		for _, m := range []webhooks.Message{call("m1", 10*time.Second), call("m2", 10*time.Second)} {
			want := webhooks.OutcomeDelivered
			if m.ID == "m2" {
				want = webhooks.OutcomeNotDelivered
			}
			wg.Go(func() { wantOutcomeAsync(t, b.d, m, want) })
			synctest.Wait()
		}
		mustSend(t, b.d, job("j1"))
		mustSend(t, b.d, job("j2"))
		synctest.Wait()
		for id, want := range map[string]webhooks.Outcome{
			"m1": webhooks.OutcomeDelivered, "m2": webhooks.OutcomeNotDelivered,
			"j1": webhooks.OutcomeDelivered, "j2": webhooks.OutcomeNotDelivered,
		} {
			wg.Go(func() {
				if rec, err := b.ask(id, true); err != nil || rec.Outcome != want {
					t.Errorf("settle %s: %v, %v; want %v", id, rec.Outcome, err, want)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Minute) //nolint:forbidigo // fake time
		for _, h := range b.seen() {
			if strings.HasSuffix(h.id, "2") {
				t.Errorf("%s was sent after it was settled", h.id)
			}
		}
	})
}

func TestIDsOfOthersAreNeitherToldNorReused(t *testing.T) {
	inBubble(t, nil, status(200), func(b *bubble) {
		wantOutcome(t, mustSend(t, b.d, call("m1", 5*time.Second)), webhooks.OutcomeDelivered)
		ref := webhooks.Ref{Site: site, ID: "m1"}
		if _, err := b.d.Ask(context.Background(), ref, "s2", false); broker.CodeOf(err) != broker.CodeNotFound {
			t.Errorf("asked by another: %v", err)
		}
		if _, err := b.d.Ask(context.Background(), ref, "s2", true); broker.CodeOf(err) != broker.CodeIDTaken {
			t.Errorf("settled by another: %v", err)
		}
		m := call("m1", 5*time.Second)
		m.Caller = "s2"
		if _, err := b.d.Send(context.Background(), m); broker.CodeOf(err) != broker.CodeIDTaken {
			t.Errorf("sent by another: %v", err)
		}
		if _, err := b.ask("m2", false); broker.CodeOf(err) != broker.CodeNotFound {
			t.Errorf("asked of an unknown id: %v", err)
		}
		elsewhere := webhooks.Ref{Site: "other", ID: "m1"}
		if _, err := b.d.Ask(context.Background(), elsewhere, "s1", false); broker.CodeOf(err) != broker.CodeNotFound {
			t.Errorf("asked on another site: %v", err)
		}
	})
}

func TestStopEndsUnsentCallsAndWaitsForWhatIsOnTheWire(t *testing.T) {
	inBubble(t, nil, slow(3*time.Second, 200), func(b *bubble) {
		var wg sync.WaitGroup
		wg.Go(func() { wantOutcomeAsync(t, b.d, call("m1", 10*time.Second), webhooks.OutcomeDelivered) })
		synctest.Wait()
		wg.Go(func() { wantOutcomeAsync(t, b.d, call("m2", 10*time.Second), webhooks.OutcomeNotDelivered) })
		synctest.Wait()
		b.stop()
		wg.Wait()
		if _, err := b.d.Send(context.Background(), call("m3", time.Second)); broker.CodeOf(err) != broker.CodeUnavailable {
			t.Errorf("sent after the stop: %v", err)
		}
	})
}

func TestStopLeavesAHangingAttemptToTheNextStart(t *testing.T) {
	inBubble(t, nil, slow(time.Hour, 200), func(b *bubble) {
		var wg sync.WaitGroup
		wg.Go(func() { wantOutcomeAsync(t, b.d, call("m1", 15*time.Second), webhooks.OutcomePending) })
		synctest.Wait()
		mustSend(t, b.d, job("j1"))
		synctest.Wait()
		begun := time.Now()
		b.stop()
		wg.Wait()
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("stopped after %v, want 5 s", took)
		}
		if m, j := b.get("m1").State, b.get("j1").State; m != webhooks.StateSending || j != webhooks.StateWaiting {
			t.Errorf("left %s and %s, want sending and waiting", m, j)
		}
	})
}

func TestEndedContextEndsOnlyTheWaiting(t *testing.T) {
	inBubble(t, nil, slow(2*time.Second, 200), func(b *bubble) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := b.d.Send(ctx, call("m1", 10*time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		rec, err := b.ask("m1", false)
		if err != nil || rec.Outcome != webhooks.OutcomeDelivered {
			t.Errorf("asked: %v, %v", rec.Outcome, err)
		}
	})
}
