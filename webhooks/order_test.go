package webhooks_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"backchannel/broker"
	"backchannel/webhooks"
)

// model checks the rule of order at the receiver, request by request.
type model struct {
	mu       sync.Mutex
	accepted map[string][]string // guarded by mu; ids by key, in the order of acceptance
	fails    map[string]int      // how often an id fails; fixed
	tried    map[string]int      // guarded by mu; attempts that were answered
	ended    map[string]bool     // guarded by mu; answered with success
	inflight map[string]int      // guarded by mu; by component
	most     map[string]int      // guarded by mu
	wrong    []string            // guarded by mu
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, c := r.Header.Get("webhook-id"), r.Header.Get("Backchannel-Component")
	m.begin(id, c)
	time.Sleep(time.Duration(len(id)*7+m.fails[id]) * time.Millisecond) //nolint:forbidigo // fake time
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inflight[c]--
	m.inflight[""]--
	m.tried[id]++
	if m.tried[id] <= m.fails[id] {
		w.Header().Set("Backchannel-Ran", "no")
		w.WriteHeader(503)
		return
	}
	m.ended[id] = true
}

func (m *model) begin(id, c string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range []string{c, ""} {
		m.inflight[name]++
		m.most[name] = max(m.most[name], m.inflight[name])
	}
	key := id[:strings.LastIndexByte(id, '-')]
	for _, before := range m.accepted[key] {
		if before == id {
			return
		}
		if !m.ended[before] && (strings.HasPrefix(id, "call") || m.tried[before] < 5) {
			m.wrong = append(m.wrong, fmt.Sprintf("%s was sent before %s had ended (%d tries)", id, before, m.tried[before]))
		}
	}
}

func TestOrderHoldsPerKeyAndConcurrencyPerURL(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(rt, "concurrency")
		keys := rapid.IntRange(1, 6).Draw(rt, "keys")
		m := &model{
			accepted: map[string][]string{}, fails: map[string]int{}, tried: map[string]int{}, ended: map[string]bool{},
			inflight: map[string]int{}, most: map[string]int{},
		}
		plan := map[string][]webhooks.Message{}
		for k := range keys {
			for n := range rapid.IntRange(1, 6).Draw(rt, "messages") {
				kind := rapid.SampledFrom([]string{"call", "job"}).Draw(rt, "kind")
				key := fmt.Sprintf("%s-%d", kind, k)
				id := fmt.Sprintf("%s-%d", key, n)
				msg := job(id)
				if kind == "call" {
					msg = call(id, time.Minute)
				}
				msg.Component, msg.Order = broker.ComponentID(fmt.Sprintf("c%d", k%3)), fmt.Sprint(k)
				m.fails[id] = rapid.SampledFrom([]int{0, 0, 0, 1, 3, 5, 7}).Draw(rt, "fails")
				plan[key] = append(plan[key], msg)
			}
		}
		synctest.Test(t, func(t *testing.T) { m.play(t, plan, limit) })
		if len(m.wrong) > 0 {
			rt.Fatal(strings.Join(m.wrong, "\n"))
		}
	})
}

func (m *model) send(t *testing.T, d *webhooks.Dispatcher, key string, msg webhooks.Message) {
	msg.Accepted = time.Now()
	if msg.Kind == webhooks.KindCall {
		msg.Deadline = msg.Accepted.Add(time.Minute)
	}
	m.mu.Lock()
	m.accepted[key] = append(m.accepted[key], string(msg.ID))
	m.mu.Unlock()
	if _, err := d.Send(context.Background(), msg); err != nil {
		t.Errorf("send: %v", err)
	}
}

// play sends each key's messages one after the other, the keys in turn, and waits for all to end.
func (m *model) play(t *testing.T, plan map[string][]webhooks.Message, limit int) {
	p, server := newPipes(m)
	defer func() { _ = server.Close() }()
	endpoints := new(table)
	e := endpoint(t, "http://school.example/")
	e.Concurrency = limit
	for _, c := range []broker.ComponentID{"c0", "c1", "c2"} {
		endpoints.set(c, e)
	}
	store := newStore()
	cfg := config(store, endpoints.find)
	cfg.DialWith(p.dial)
	d, stop := start(t, cfg)
	defer stop()
	var wg sync.WaitGroup
	for round := range 6 {
		for key, messages := range plan {
			if round < len(messages) {
				wg.Go(func() { m.send(t, d, key, messages[round]) })
				synctest.Wait() // accepted, and perhaps sent
			}
		}
	}
	wg.Wait()
	time.Sleep(23 * time.Hour) //nolint:forbidigo // fake time
	for _, messages := range plan {
		for _, msg := range messages {
			rec, err := store.Get(context.Background(), msg.Ref)
			if err != nil || rec.Outcome != webhooks.OutcomeDelivered {
				m.wrong = append(m.wrong, fmt.Sprintf("%s: %v %s", msg.ID, err, rec.Reason))
			}
		}
	}
	if m.most[""] > limit {
		m.wrong = append(m.wrong, fmt.Sprintf("%d attempts at once, the limit is %d", m.most[""], limit))
	}
}

func TestHangingComponentDelaysNoOtherOnTheSameURL(t *testing.T) {
	inBubble(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Backchannel-Component") == "mod_hangs" {
			slow(time.Hour, 200)(w, r)
		}
	}, func(b *bubble) {
		e, _ := b.table.find(site, component)
		b.table.set("mod_hangs", e)
		first := job("j0") // so that both components are known at the URL
		mustSend(t, b.d, first)
		var wg sync.WaitGroup
		for i := range 20 {
			m := call(fmt.Sprintf("h%d", i), 50*time.Second)
			if i%2 == 0 {
				m = job(string(m.ID))
			}
			m.Component, m.Order = "mod_hangs", fmt.Sprint(i)
			wg.Go(func() { _, _ = b.d.Send(context.Background(), m) })
		}
		synctest.Wait()
		begun := time.Now()
		for i := range 10 {
			m := call(fmt.Sprintf("m%d", i), 5*time.Second)
			wantOutcome(t, mustSend(t, b.d, m), webhooks.OutcomeDelivered)
			mustSend(t, b.d, job(fmt.Sprintf("j%d", i+1)))
		}
		synctest.Wait()
		wantOutcome(t, b.get("j10"), webhooks.OutcomeDelivered)
		if took := time.Since(begun); took > 0 {
			t.Errorf("the healthy component waited %v", took)
		}
		wg.Wait()
	})
}

func TestCallNeverWaitsForHangingJobs(t *testing.T) {
	inBubble(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("webhook-id"), "j") {
			slow(time.Hour, 200)(w, r)
		}
	}, func(b *bubble) {
		for i := range 30 {
			m := job(fmt.Sprintf("j%d", i))
			m.Order = fmt.Sprint(i)
			mustSend(t, b.d, m)
		}
		synctest.Wait()
		begun := time.Now()
		wantOutcome(t, mustSend(t, b.d, call("m1", 5*time.Second)), webhooks.OutcomeDelivered)
		if took := time.Since(begun); took > 0 {
			t.Errorf("the call waited %v", took)
		}
		s := b.d.Stats().Components[0]
		if s.InFlight != 6 || s.Waiting != 24 || s.Attempts.Delivered != 1 || s.Oldest.IsZero() {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestCallsGoBeforeJobsThatCameEarlier(t *testing.T) {
	inBubble(t, func(_ *webhooks.Config, e *webhooks.Endpoint) { e.Concurrency = 1 }, slow(time.Second, 200), func(b *bubble) {
		var wg sync.WaitGroup
		for i := range 3 {
			m := job(fmt.Sprintf("j%d", i))
			m.Order = fmt.Sprint(i)
			mustSend(t, b.d, m)
		}
		for i := range 3 {
			m := call(fmt.Sprintf("m%d", i), 10*time.Second)
			m.Order = fmt.Sprint(i)
			wg.Go(func() { wantOutcomeAsync(t, b.d, m, webhooks.OutcomeDelivered) })
		}
		wg.Wait()
		time.Sleep(time.Minute) //nolint:forbidigo // fake time
		var order strings.Builder
		for _, h := range b.seen() {
			order.WriteString(h.id[:1])
		}
		if order.String() != "jmmmjj" {
			t.Errorf("order %s, want jmmmjj", order.String())
		}
	})
}

func TestHangingURLDelaysNoOtherURL(t *testing.T) {
	inBubble(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hangs" {
			slow(time.Hour, 200)(w, r)
		}
	}, func(b *bubble) {
		e := endpoint(t, "http://school.example/hangs")
		b.table.set("mod_hangs", e)
		for i := range 300 {
			m := job(fmt.Sprintf("h%d", i))
			m.Component, m.Order = "mod_hangs", fmt.Sprint(i)
			mustSend(t, b.d, m)
		}
		begun := time.Now()
		for i := range 50 {
			wantOutcome(t, mustSend(t, b.d, call(fmt.Sprintf("m%d", i), 5*time.Second)), webhooks.OutcomeDelivered)
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("the healthy URL waited %v", took)
		}
	})
}
