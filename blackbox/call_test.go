package blackbox_test

import (
	"net/http"
	"testing"
	"time"
)

// hanging answers calls whose data is "hang" after a while and others at once.
func hanging(t *testing.T, d time.Duration) (does func(http.ResponseWriter, call), entered chan string) {
	t.Helper()
	entered = make(chan string, 64)
	return func(w http.ResponseWriter, c call) {
		entered <- c.id
		if string(c.body.Data) == `"hang"` {
			pause(t.Context(), d)
		}
		answerJSON(w, 200, c.attempt)
	}, entered
}

func TestACallThatWaitsPastItsDeadlineIsNeverSent(t *testing.T) {
	does, entered := hanging(t, 3*time.Second)
	c, r := withReceiver(t, does)
	p, first, second := c.sender("mod_test"), newUUID(), newUUID()
	done := make(chan outcome, 1)
	go func() {
		_, o, _ := p.try(t.Context(), "/v1/messages", p.message(first, "mod_test", "call", "hang", 10))
		done <- o
	}()
	<-entered
	begun := time.Now()
	a, o := p.post(t, p.message(second, "mod_test", "call", "quick", 1))
	if d := time.Since(begun); o.Outcome != "not_delivered" || d > 2*time.Second || d < 900*time.Millisecond {
		t.Errorf("behind a call that hangs, after %s: %s; want not_delivered at its deadline", d, a)
	}
	if o := <-done; o.Outcome != "delivered" {
		t.Errorf("the first: %+v", o)
	}
	third := newUUID()
	if _, o := p.post(t, p.message(third, "mod_test", "call", "quick", 5)); o.Outcome != "delivered" {
		t.Errorf("the third: %+v", o)
	}
	if n := len(r.received(second)); n > 0 {
		t.Errorf("the second ran %d times", n)
	}
}

func TestCallsUnderWayAtAKillAreToldTruthfullyAfterIt(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "idempotent"}[idempotent], func(t *testing.T) {
			does, entered := hanging(t, time.Second)
			c, r := withReceiver(t, does, func(conf *config) {
				conf.sites[0].components = []component{{name: "mod_test", idempotent: idempotent}}
			})
			p, sent, waiting := c.sender("mod_test"), newUUID(), newUUID()
			for _, id := range []string{sent, waiting} {
				go p.try(t.Context(), "/v1/messages", p.message(id, "mod_test", "call", "hang", 8)) //nolint:errcheck // the kill cuts it
				if id == sent {
					<-entered
				}
			}
			eventually(t, waitLimit, "the second is accepted", func() bool {
				a, err := c.as(t.Context(), http.MethodGet, "/v1/deliveries/"+waiting, nil)
				return err == nil && a.ok()
			})
			c.b.kill()
			c.b.start()
			begun := time.Now()
			_, o := p.ask(t, sent, false)
			if idempotent && (o.Outcome != "delivered" || len(r.received(sent)) != 2) {
				t.Errorf("sent: %+v after %d tries, want delivered at the second", o, len(r.received(sent)))
			}
			if d := time.Since(begun); !idempotent && (o.Outcome != "unknown" || d > time.Second || len(r.received(sent)) != 1) {
				t.Errorf("sent: %+v after %s and %d tries, want unknown at once", o, d, len(r.received(sent)))
			}
			if _, o = p.ask(t, waiting, false); o.Outcome != "not_delivered" || len(r.received(waiting)) > 0 {
				t.Errorf("waiting: %+v, ran %d times; want not_delivered", o, len(r.received(waiting)))
			}
		})
	}
}

func TestACallIsTriedAgainInsideItsDeadlineWhereItCertainlyDidNotRun(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, c call) {
		if c.attempt == 1 {
			w.Header().Set("Backchannel-Ran", "no")
			answerJSON(w, 503, "maintenance")
			return
		}
		answerJSON(w, 200, c.attempt)
	})
	p, id := c.sender("mod_test"), newUUID()
	if a, o := p.post(t, p.message(id, "mod_test", "call", 1, 8)); o.Outcome != "delivered" || len(r.received(id)) != 2 {
		t.Errorf("got %s after %d tries", a, len(r.received(id)))
	}
	r.stop()
	id = newUUID()
	done := make(chan outcome, 1)
	go func() {
		_, o, _ := p.try(t.Context(), "/v1/messages", p.message(id, "mod_test", "call", 1, 15))
		done <- o
	}()
	pause(t.Context(), 500*time.Millisecond) // it finds the port closed
	r.restart(0)
	if o := <-done; o.Outcome != "delivered" {
		t.Errorf("a component that came back inside the deadline: %+v", o)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, c call) {
		if c.attempt == 1 {
			w.Header().Set("Retry-After", "3")
			answerJSON(w, 503, "later")
			return
		}
		answerJSON(w, 200, c.attempt)
	})
	p, id := c.sender("mod_test"), newUUID()
	p.post(t, p.message(id, "mod_test", "job", 1, 0))
	eventually(t, waitLimit, "the second try", func() bool { return len(r.received(id)) == 2 })
	calls := r.received(id)
	if gap := calls[1].at.Sub(calls[0].at); gap < 2900*time.Millisecond || gap > 5*time.Second {
		t.Errorf("the second try came after %s, want 3 s", gap)
	}
}
