package blackbox_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAJobIsQueuedAndRetriedUnderItsIDUntilItSucceeds(t *testing.T) {
	var tries atomic.Int32
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) {
		if tries.Add(1) == 1 {
			http.Error(w, "oops", http.StatusInternalServerError)
			return
		}
		answerJSON(w, 200, map[string]int{"n": 1})
	})
	p, id := c.sender("mod_test"), newUUID()
	a, o := p.post(t, p.message(id, "mod_test", "job", map[string]string{"do": "it"}, 0))
	if a.status != http.StatusAccepted || o.Outcome != "queued" || o.ID != id {
		t.Fatalf("got %s, want 202 queued", a)
	}
	eventually(t, waitLimit, "delivered", func() bool { _, o = p.ask(t, id, false); return o.Outcome == "delivered" })
	calls := r.received(id)
	if len(calls) != 2 || calls[0].attempt != 1 || calls[1].attempt != 2 || string(calls[0].body.Data) != string(calls[1].body.Data) {
		t.Fatalf("the component got %+v", calls)
	}
	if gap := calls[1].at.Sub(calls[0].at); gap < 700*time.Millisecond || gap > 3*time.Second {
		t.Errorf("the second try came after %s, want 1 s ± 20 %%", gap)
	}
	if calls[0].body.Type != "message.job" || string(o.Reply) != `{"n":1}` {
		t.Errorf("type %s, reply %s", calls[0].body.Type, o.Reply)
	}
}

func TestARefusedJobIsRejectedAndNotRetried(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 422, map[string]string{"why": "no"}) })
	p, id := c.sender("mod_test"), newUUID()
	p.post(t, p.message(id, "mod_test", "job", 1, 0))
	var o outcome
	eventually(t, waitLimit, "rejected", func() bool { _, o = p.ask(t, id, false); return o.Outcome == "rejected" })
	if string(o.Error) != `{"why":"no"}` || len(r.received(id)) != 1 {
		t.Errorf("got %+v after %d tries", o, len(r.received(id)))
	}
}

func TestSettlingAnUnknownIDKeepsItFromEverRunning(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, 1) })
	p, id := c.sender("mod_test"), newUUID()
	a, _ := p.ask(t, id, false)
	expectProblem(t, a, 404, "not_found")
	if a, o := p.ask(t, id, true); a.status != 200 || o.Outcome != "not_delivered" {
		t.Fatalf("settled: %s", a)
	}
	for _, kind := range []string{"call", "job"} {
		if _, o := p.post(t, p.message(id, "mod_test", kind, 1, 2)); o.Outcome != "not_delivered" {
			t.Errorf("a %s posted after it was settled: %+v", kind, o)
		}
	}
	c.b.kill()
	c.b.start()
	if _, o := p.ask(t, id, false); o.Outcome != "not_delivered" || len(r.received(id)) > 0 {
		t.Errorf("after a restart: %+v, ran %d times", o, len(r.received(id)))
	}
}

func TestAnIDBelongsToItsCaller(t *testing.T) {
	c, _ := withReceiver(t, func(w http.ResponseWriter, c call) { answerJSON(w, 200, c.body.User) })
	p, other, id := c.sender("mod_test"), c.sender("mod_test"), newUUID()
	p.post(t, p.message(id, "mod_test", "call", 1, 5))
	a, _ := other.post(t, other.message(id, "mod_test", "call", 1, 5))
	expectProblem(t, a, 409, "id_taken")
	if a, _ = other.ask(t, id, false); a.ok() {
		t.Errorf("another caller was told the outcome: %s", a)
	}
}

func TestUnknownAtTheDeadlineBecomesWhatHappened(t *testing.T) {
	c, _ := withReceiver(t, func(w http.ResponseWriter, _ call) {
		pause(t.Context(), 2500*time.Millisecond)
		answerJSON(w, 200, "late")
	})
	p, id, begun := c.sender("mod_test"), newUUID(), time.Now()
	a, o := p.post(t, p.message(id, "mod_test", "call", 1, 1))
	if d := time.Since(begun); o.Outcome != "unknown" || d > 2*time.Second || d < 900*time.Millisecond {
		t.Errorf("after %s: %s, want unknown at the deadline of 1 s", d, a)
	}
	eventually(t, waitLimit, "the late answer", func() bool { _, o = p.ask(t, id, false); return o.Outcome != "unknown" })
	if o.Outcome != "delivered" || string(o.Reply) != `"late"` {
		t.Errorf("got %+v", o)
	}
}

func TestACallThatTakesLongIsPendingAndAskedFor(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) {
		pause(t.Context(), 21500*time.Millisecond)
		answerJSON(w, 200, "slow")
	})
	p, id, begun := c.sender("mod_test"), newUUID(), time.Now()
	a, o := p.post(t, p.message(id, "mod_test", "call", 1, 40))
	if d := time.Since(begun); a.status != 202 || o.Outcome != "pending" || d < 19*time.Second || d > 21*time.Second {
		t.Fatalf("after %s: %s, want 202 pending after 20 s", d, a)
	}
	a, o = p.ask(t, id, true)
	if o.Outcome != "delivered" || string(o.Reply) != `"slow"` || len(r.received(id)) != 1 {
		t.Errorf("asked: %s; ran %d times", a, len(r.received(id)))
	}
}

func TestACallOfAnIdempotentComponentIsTriedAgain(t *testing.T) {
	var tries atomic.Int32
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) {
		if tries.Add(1) == 1 {
			http.Error(w, "oops", http.StatusServiceUnavailable)
			return
		}
		answerJSON(w, 200, "second")
	}, func(conf *config) { conf.sites[0].components = []component{{name: "mod_test", idempotent: true}} })
	p, id := c.sender("mod_test"), newUUID()
	a, o := p.post(t, p.message(id, "mod_test", "call", 1, 8))
	if o.Outcome != "delivered" || string(o.Reply) != `"second"` || len(r.received(id)) != 2 {
		t.Errorf("got %s after %d tries", a, len(r.received(id)))
	}
}

func TestTheKeyOfAStreamSendsMessages(t *testing.T) {
	c, _ := withReceiver(t, func(w http.ResponseWriter, c call) { answerJSON(w, 200, c.body.User) })
	g := c.s.grant([]entry{{"h": c.s.hash("a")}}, func(g claims) { g["send"], g["sub"] = []string{"mod_test"}, "77" })
	h := c.open(t, map[string]any{"grants": []string{g}}).hello()
	if h.Key == "" || len(h.Key) > 1024 {
		t.Fatalf("hello's key has %d bytes, want 1 to 1024", len(h.Key))
	}
	for _, name := range []string{"key", "resume"} {
		token := map[string]string{"key": h.Key, "resume": h.Resume}[name]
		body := map[string]any{name: token, "id": newUUID(), "component": "mod_test", "kind": "call", "data": 1, "deadline": 5}
		var o outcome
		a := c.page(t, "/v1/messages", body)
		a.decode(t, &o)
		if o.Outcome != "delivered" || string(o.Reply) != `"77"` {
			t.Errorf("by %s: %s", name, a)
		}
	}
}

func TestACallerWhoSendsTooMuchIsToldWhenToComeBack(t *testing.T) {
	c, _ := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, 1) })
	p, other := c.sender("mod_test"), c.sender("mod_test")
	limited := false
	for i := 0; i < 300 && !limited; i++ {
		a, _ := p.post(t, p.message(newUUID(), "mod_test", "job", i, 0))
		if limited = a.status == 429; limited {
			expectProblem(t, a, 429, "rate_limited")
		} else if a.status != 202 {
			t.Fatalf("got %s", a)
		}
	}
	if !limited {
		t.Error("300 messages at once were accepted; the limit is 20 a second")
	}
	if a, _ := other.post(t, other.message(newUUID(), "mod_test", "job", 1, 0)); a.status != 202 {
		t.Errorf("another caller was told %s", a)
	}
}

func TestMessagesOfWrongKindsAreRefusedAndNothingRuns(t *testing.T) {
	var ran atomic.Int32
	c, _ := withReceiver(t, func(w http.ResponseWriter, _ call) { ran.Add(1); answerJSON(w, 200, 1) })
	p := c.sender("mod_test")
	with := func(change map[string]any) map[string]any {
		m := p.message(newUUID(), "mod_test", "call", 1, 5)
		for k, v := range change {
			m[k] = v
		}
		return m
	}
	for name, w := range map[string]struct {
		body any
		want string
	}{
		"component not granted":      {with(map[string]any{"component": "mod_other"}), "403 component_denied"},
		"component with a line feed": {with(map[string]any{"component": "mod\ntest"}), "403 component_denied | 400 bad_request"},
		"id that is no UUID":         {with(map[string]any{"id": "1"}), "400 bad_request"},
		"id with a line feed":        {with(map[string]any{"id": newUUID() + "\n"}), "400 bad_request"},
		"no id":                      {with(map[string]any{"id": ""}), "400 bad_request"},
		"unknown kind":               {with(map[string]any{"kind": "shout"}), "400 bad_request"},
		"deadline too long":          {with(map[string]any{"deadline": 61}), "400 bad_request"},
		"negative deadline":          {with(map[string]any{"deadline": -1}), "400 bad_request"},
		"too much data":              {with(map[string]any{"data": strings.Repeat("x", 70<<10)}), "413 too_large"},
		"no credential":              {with(map[string]any{"grant": nil}), "401 grant_invalid | 400 bad_request"},
		"forged grant":               {with(map[string]any{"grant": p.grant[:len(p.grant)-4] + "AAAA"}), "401 grant_invalid"},
		"no JSON":                    {`{"grant":`, "400 bad_request"},
		"a list":                     {`[]`, "400 bad_request"},
		"invalid UTF-8":              {strings.Replace(string(mustJSON(with(map[string]any{"data": "@"}))), "@", "\xff", 1), "400 bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			expectOneOf(t, c.page(t, "/v1/messages", w.body), w.want)
		})
	}
	if n := ran.Load(); n > 0 {
		t.Errorf("the component ran %d times", n)
	}
}

func TestDeliveriesAreListedForTheServer(t *testing.T) {
	c, _ := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, map[string]string{"sesskey": "verysecret"}) })
	p, id := c.sender("mod_test"), newUUID()
	p.post(t, p.message(id, "mod_test", "call", map[string]string{"password": "hunter2", "seen": "yes"}, 5))
	one := c.server(t, http.MethodGet, "/v1/deliveries/"+id, nil)
	if !json.Valid(one.body) || !strings.Contains(string(one.body), id) || !strings.Contains(string(one.body), "delivered") {
		t.Errorf("one delivery: %s", one)
	}
	for _, secret := range []string{"verysecret", "hunter2"} {
		if strings.Contains(string(one.body), secret) {
			t.Errorf("%q stands in the delivery log: %s", secret, one.body)
		}
	}
	list := c.server(t, http.MethodGet, "/v1/deliveries?component=mod_test", nil)
	if !strings.Contains(string(list.body), id) {
		t.Errorf("the list has no %s: %s", id, list)
	}
	if none := c.server(t, http.MethodGet, "/v1/deliveries?component=mod_other", nil); strings.Contains(string(none.body), id) {
		t.Errorf("the list of another component has it: %s", none)
	}
}
