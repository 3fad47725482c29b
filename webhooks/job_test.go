package webhooks_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

func TestJobIsTriedOnScheduleAndThenIsADeadLetter(t *testing.T) {
	inBubble(t, nil, status(503), func(b *bubble) {
		begun := time.Now()
		wantOutcome(t, mustSend(t, b.d, job("j1")), webhooks.OutcomeQueued)
		time.Sleep(4 * 24 * time.Hour) //nolint:forbidigo // fake time
		hits, schedule := b.seen(), webhooks.DefaultSchedule()
		if len(hits) != len(schedule) {
			t.Fatalf("%d attempts, want %d", len(hits), len(schedule))
		}
		before := begun
		for i, h := range hits {
			if got := h.at.Sub(before); got < schedule[i] || got > schedule[i]+time.Second/10 {
				t.Errorf("attempt %d came %v after the one before, want %v", i+1, got, schedule[i])
			}
			before = h.at
		}
		rec := b.get("j1")
		if rec.State != webhooks.StateDead || rec.Attempts != 11 || len(rec.Log) != 11 || !strings.Contains(rec.Reason, "503") {
			t.Errorf("got %s after %d attempts: %s", rec.State, rec.Attempts, rec.Reason)
		}
		if answer, err := b.ask("j1", false); err != nil || answer.Outcome != webhooks.OutcomeUnknown {
			t.Errorf("asked of a dead letter: %v, %v", answer.Outcome, err)
		}
	})
}

func TestJitterSpreadsByAFifth(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 800 * time.Millisecond, 0.9999999: 1200 * time.Millisecond} {
		inBubble(t, func(c *webhooks.Config, _ *webhooks.Endpoint) { c.Random = func() float64 { return random } }, status(500), func(b *bubble) {
			mustSend(t, b.d, job("j1"))
			time.Sleep(2 * time.Second) //nolint:forbidigo // fake time
			hits := b.seen()
			if got := hits[1].at.Sub(hits[0].at).Round(time.Millisecond); got != want {
				t.Errorf("second attempt after %v, want %v", got, want)
			}
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"20": 20 * time.Second, "0": time.Second, "99999999999999999999": 24 * time.Hour,
		"Sat, 01 Jan 2000 00:00:30 GMT": 30 * time.Second, "soon": time.Second, "-5": time.Second,
	} {
		inBubble(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(429)
		}, func(b *bubble) {
			mustSend(t, b.d, job("j1"))
			time.Sleep(25 * time.Hour) //nolint:forbidigo // fake time
			hits := b.seen()
			if got := hits[1].at.Sub(hits[0].at).Round(time.Second); got != want {
				t.Errorf("Retry-After %q: tried again after %v, want %v", header, got, want)
			}
		})
	}
}

func TestJobIsRefusedForGoodByOther4xxAlone(t *testing.T) {
	for code, final := range map[int]bool{400: true, 401: true, 404: true, 410: true, 408: false, 425: false, 429: false, 500: false, 301: false} {
		inBubble(t, nil, status(code), func(b *bubble) {
			mustSend(t, b.d, job("j1"))
			time.Sleep(time.Second / 2) //nolint:forbidigo // fake time
			rec := b.get("j1")
			if got := rec.Outcome == webhooks.OutcomeRejected; got != final {
				t.Errorf("%d: rejected %v, want %v (%s)", code, got, final, rec.Reason)
			}
		})
	}
}

func TestDeadLetterIsRetriedWithAFreshSchedule(t *testing.T) {
	healthy := false
	inBubble(t, func(c *webhooks.Config, _ *webhooks.Endpoint) {
		c.Schedule = []time.Duration{0, time.Second, time.Second}
	}, func(w http.ResponseWriter, _ *http.Request) {
		if !healthy {
			w.WriteHeader(500)
		}
	}, func(b *bubble) {
		ref := webhooks.Ref{Site: site, ID: "j1"}
		mustSend(t, b.d, job("j1"))
		if _, err := b.d.Retry(context.Background(), ref); broker.CodeOf(err) != broker.CodeBadRequest {
			t.Errorf("retry of what has not ended: %v", err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // fake time
		for round := range 2 {
			if rec := b.get("j1"); rec.State != webhooks.StateDead || rec.Attempts != 3*(round+1) {
				t.Fatalf("round %d: %s after %d attempts", round, rec.State, rec.Attempts)
			}
			healthy = round == 1
			if rec, err := b.d.Retry(context.Background(), ref); err != nil || rec.Outcome != webhooks.OutcomeQueued {
				t.Fatalf("retry: %v, %v", rec.Outcome, err)
			}
			time.Sleep(time.Minute) //nolint:forbidigo // fake time
		}
		rec := b.get("j1")
		wantOutcome(t, rec, webhooks.OutcomeDelivered)
		if hits := b.seen(); len(hits) != 7 || hits[6].attempt != "7" {
			t.Errorf("%d attempts, the last says %s", len(hits), hits[len(hits)-1].attempt)
		}
		if _, err := b.d.Retry(context.Background(), ref); broker.CodeOf(err) != broker.CodeBadRequest {
			t.Errorf("retry of what was delivered: %v", err)
		}
		mustSend(t, b.d, call("m1", time.Second))
		_, err := b.d.Retry(context.Background(), webhooks.Ref{Site: site, ID: "m1"})
		if broker.CodeOf(err) != broker.CodeBadRequest || !strings.Contains(err.Error(), "call") {
			t.Errorf("retry of a call: %v", err)
		}
	})
}

func TestFailingHeadHoldsItsKeyForFiveTriesAndIsThenOvertaken(t *testing.T) {
	inBubble(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-id") == "bad" {
			w.WriteHeader(500)
		}
	}, func(b *bubble) {
		begun := time.Now()
		mustSend(t, b.d, job("bad"))
		mustSend(t, b.d, job("j1"))
		other := job("k1")
		other.Order = "s2"
		mustSend(t, b.d, other)
		time.Sleep(24 * time.Hour) //nolint:forbidigo // fake time
		var order []string
		for _, h := range b.seen() {
			order = append(order, h.id)
			switch {
			case h.id == "k1" && h.at.Sub(begun) > time.Second/2:
				t.Errorf("another key waited %v", h.at.Sub(begun))
			case h.id == "j1" && h.at.Sub(begun).Round(time.Second) != 156*time.Second:
				t.Errorf("j1 was sent after %v, want 156 s", h.at.Sub(begun))
			}
		}
		if got := strings.Join(order, " "); !strings.HasPrefix(strings.Replace(got, "k1 ", "", 1), "bad bad bad bad bad j1 bad") {
			t.Errorf("order %s", got)
		}
	})
}

func TestReloadSendsWhatWaitedForAnEndpoint(t *testing.T) {
	inBubble(t, nil, status(200), func(b *bubble) {
		e, _ := b.table.find(site, component)
		wrong := e
		wrong.Secrets = nil
		b.table.set(component, wrong)
		mustSend(t, b.d, job("j1"))
		time.Sleep(time.Hour) //nolint:forbidigo // fake time
		if len(b.seen()) != 0 || !strings.Contains(b.get("j1").Reason, "no key") {
			t.Fatalf("sent unsigned, or the reason is silent: %s", b.get("j1").Reason)
		}
		e.URL = endpoint(t, "http://school.example/new").URL
		b.table.set(component, e)
		b.d.Reload()
		synctest.Wait()
		wantOutcome(t, b.get("j1"), webhooks.OutcomeDelivered)
	})
}
