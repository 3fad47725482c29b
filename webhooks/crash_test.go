package webhooks_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"backchannel/broker"
	"backchannel/webhooks"
)

// A crash is a store that takes nothing more: what a dispatcher does afterwards is as if it had been killed. It is
// injected before or after any one operation of the queue; then another dispatcher starts over the same store.

// mortal is a queue that dies at an operation.
type mortal struct {
	webhooks.Queue
	after bool // the last operation is done, but nothing after it

	mu   sync.Mutex
	left int           // guarded by mu; operations until death; negative: it lives for ever
	dead chan struct{} // closed at death
}

var errDead = broker.Errorf(broker.CodeUnavailable, "the store is dead")

func (q *mortal) op(fn func() error) error {
	q.mu.Lock()
	select {
	case <-q.dead:
		q.mu.Unlock()
		return errDead
	default:
	}
	q.left--
	dies := q.left == 0
	if dies && !q.after {
		close(q.dead)
		q.mu.Unlock()
		return errDead
	}
	err := fn()
	if dies {
		close(q.dead)
	}
	q.mu.Unlock()
	return err
}

func (q *mortal) Accept(ctx context.Context, d webhooks.Delivery) (stored webhooks.Delivery, known bool, err error) {
	err = q.op(func() (err error) { stored, known, err = q.Queue.Accept(ctx, d); return err })
	return stored, known, err
}

func (q *mortal) Update(ctx context.Context, d webhooks.Delivery) error {
	return q.op(func() error { return q.Queue.Update(ctx, d) })
}

func (q *mortal) Get(ctx context.Context, ref webhooks.Ref) (d webhooks.Delivery, err error) {
	err = q.op(func() (err error) { d, err = q.Queue.Get(ctx, ref); return err })
	return d, err
}

// behaviours of a component. Those with an effect have it before anything else.
var behaviours = map[string]struct {
	effect, final bool
	answer        http.HandlerFunc
}{
	"answer":    {true, true, status(200)},
	"slow":      {true, true, slow(1500*time.Millisecond, 200)},
	"late":      {true, true, slow(20*time.Second, 200)},
	"hang":      {true, false, slow(time.Hour, 200)},
	"drop":      {true, false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	"error":     {true, false, status(500)},
	"untouched": {false, false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	"refuse":    {false, true, status(422)},
	"busy": {false, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Backchannel-Ran", "no")
		w.WriteHeader(503)
	}},
}

var behaviourNames = []string{"answer", "slow", "late", "hang", "drop", "error", "untouched", "refuse", "busy"}

type scenario struct {
	Messages []play
	Kills    []kill
}

type play struct {
	Start      time.Duration
	Caller     int
	Job        bool
	Idempotent bool
	Deadline   time.Duration
	Settle     bool     // the page settles half-way
	Behaviour  []string // by attempt, the last repeats
}

type kill struct {
	Op    int
	After bool
}

func drawScenario(t *rapid.T) scenario {
	ms := func(t *rapid.T, from, to int, name string) time.Duration {
		return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * time.Millisecond
	}
	messages := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) play {
		return play{
			Start: ms(t, 0, 3000, "start"), Caller: rapid.IntRange(0, 2).Draw(t, "caller"),
			Job: rapid.IntRange(0, 3).Draw(t, "job") == 0, Idempotent: rapid.Bool().Draw(t, "idempotent"),
			Deadline: ms(t, 300, 6000, "deadline"), Settle: rapid.IntRange(0, 3).Draw(t, "settle") == 0,
			Behaviour: rapid.SliceOfN(rapid.SampledFrom(behaviourNames), 1, 4).Draw(t, "behaviour"),
		}
	}), 1, 8).Draw(t, "messages")
	kills := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) kill {
		return kill{rapid.IntRange(1, 20).Draw(t, "op"), rapid.Bool().Draw(t, "after")}
	}), 0, 4).Draw(t, "kills")
	return scenario{messages, kills}
}

// world plays a scenario and remembers what happened and what was told.
type world struct {
	t *testing.T
	s scenario

	mu      sync.Mutex
	d       *webhooks.Dispatcher        // guarded by mu; the living one
	tries   map[string]int              // guarded by mu; requests by id
	effects map[string]int              // guarded by mu
	told    map[string]webhooks.Outcome // guarded by mu; final ones
	wrong   []string                    // guarded by mu
}

func (w *world) failf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("webhook-id")
	n, _ := strconv.Atoi(id[1:])
	_, _ = io.Copy(io.Discard, r.Body)
	script := w.s.Messages[n].Behaviour
	w.mu.Lock()
	b := behaviours[script[min(w.tries[id], len(script)-1)]]
	w.tries[id]++
	if b.effect {
		w.effects[id]++
	}
	w.mu.Unlock()
	b.answer(rw, r)
}

func (w *world) message(n int) webhooks.Message {
	p := w.s.Messages[n]
	m := call(fmt.Sprintf("m%d", n), p.Deadline)
	if p.Job {
		m = job(string(m.ID))
	}
	m.Component = "once"
	if p.Idempotent {
		m.Component = "idempotent"
	}
	m.Caller = fmt.Sprintf("s%d", p.Caller)
	m.Order = m.Caller
	return m
}

// page plays the part of a browser: it sends under one id until it is told something, and asks while it is pending.
func (w *world) page(n int) {
	p := w.s.Messages[n]
	time.Sleep(p.Start) //nolint:forbidigo // fake time
	m := w.message(n)
	if p.Settle {
		go func() {
			time.Sleep(p.Deadline / 2) //nolint:forbidigo // fake time
			_, _ = w.ask(m, true)
		}()
	}
	begun := time.Now()
	for {
		rec, err := w.living().Send(context.Background(), m)
		if err == nil && rec.Outcome == webhooks.OutcomePending {
			rec, err = w.ask(m, false)
		}
		if err == nil && rec.Outcome != webhooks.OutcomePending {
			w.note(m, rec)
			return
		}
		if err != nil && broker.CodeOf(err) != broker.CodeUnavailable {
			w.failf("%s: %v", m.ID, err)
			return
		}
		if time.Since(begun) > 5*time.Minute {
			w.failf("%s: nothing is told after %v: %v %v", m.ID, time.Since(begun), rec.Outcome, err)
			return
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // fake time
	}
}

func (w *world) ask(m webhooks.Message, settle bool) (webhooks.Delivery, error) {
	rec, err := w.living().Ask(context.Background(), m.Ref, m.Caller, settle)
	if err == nil {
		w.note(m, rec)
	}
	return rec, err
}

// note checks that what is told is final where it has to be.
func (w *world) note(m webhooks.Message, rec webhooks.Delivery) {
	w.mu.Lock()
	before, id := w.told[string(m.ID)], string(m.ID)
	if rec.Outcome.Final() {
		w.told[id] = rec.Outcome
	}
	w.mu.Unlock()
	if before != "" && before != rec.Outcome {
		w.failf("%s was told %s and then %s", id, before, rec.Outcome)
	}
}

func (w *world) living() *webhooks.Dispatcher {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.d
}

// play runs the scenario over one store with a dispatcher for each life.
func (w *world) play() {
	p, server := newPipes(w)
	defer func() { _ = server.Close() }()
	store := newStore()
	endpoints := new(table)
	e := endpoint(w.t, "http://school.example/")
	endpoints.set("once", e)
	e.Idempotent = true
	endpoints.set("idempotent", e)
	var pages sync.WaitGroup
	quiet := make(chan struct{})
	for life, k := range append(w.s.Kills, kill{Op: -1}) {
		q := &mortal{Queue: store, after: k.After, left: k.Op, dead: make(chan struct{})}
		cfg := config(q, endpoints.find)
		cfg.DialWith(p.dial)
		d := webhooks.NewDispatcher(cfg)
		w.mu.Lock()
		w.d = d
		w.mu.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			_ = d.Run(ctx) // a store that dies while it is loaded ends Run with an error
			close(ended)
		}()
		if life == 0 {
			for n := range w.s.Messages {
				pages.Go(func() { w.page(n) })
			}
			go func() { pages.Wait(); close(quiet) }()
		}
		select {
		case <-q.dead:
		case <-quiet:
			if k.Op > 0 {
				break // it was not reached
			}
			time.Sleep(4 * 24 * time.Hour) //nolint:forbidigo // fake time: jobs run their schedule
			w.verdict(store)
		}
		cancel()
		<-ended
	}
}

// verdict compares what was told with what happened, when nothing can happen any more.
func (w *world) verdict(store webhooks.Queue) {
	for n, p := range w.s.Messages {
		m := w.message(n)
		rec, err := store.Get(context.Background(), m.Ref)
		switch {
		case err != nil: // outcomes are forgotten a day after they are final; what was told remains
		case rec.State == webhooks.StateDone:
			w.note(m, rec)
		case rec.State != webhooks.StateDead:
			w.failf("%s never ended: %s", m.ID, rec.State)
		}
		w.mu.Lock()
		effects, tries, told := w.effects[string(m.ID)], w.tries[string(m.ID)], w.told[string(m.ID)]
		w.mu.Unlock()
		switch {
		case told == webhooks.OutcomeNotDelivered && effects > 0:
			w.failf("%s is not_delivered and ran %d times", m.ID, effects)
		case told == webhooks.OutcomeDelivered && effects == 0:
			w.failf("%s is delivered and never ran", m.ID)
		case !p.Job && !p.Idempotent && effects > 1:
			w.failf("%s ran %d times", m.ID, effects)
		case p.Job && told != webhooks.OutcomeNotDelivered && tries == 0:
			w.failf("job %s was lost", m.ID)
		}
	}
}

func TestOutcomesAreTrueWhereverTheBrokerIsKilled(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		if w := playScenario(t, drawScenario(rt)); len(w.wrong) > 0 {
			rt.Fatalf("%v", w.wrong)
		}
	})
}

func playScenario(t *testing.T, s scenario) *world {
	w := &world{s: s, tries: map[string]int{}, effects: map[string]int{}, told: map[string]webhooks.Outcome{}}
	synctest.Test(t, func(t *testing.T) {
		w.t = t
		w.play()
	})
	return w
}

// TestKilledAtEveryTransitionOfACall goes through the states one by one: every behaviour, every operation, both sides.
func TestKilledAtEveryTransitionOfACall(t *testing.T) {
	most := 8
	if os.Getenv("BACKCHANNEL_LONG") != "" {
		most = 25
	}
	for _, name := range behaviourNames {
		for op := 1; op <= most; op++ {
			for _, after := range []bool{false, true} {
				s := scenario{
					Messages: []play{
						{Deadline: 2 * time.Second, Behaviour: []string{name, "answer"}},
						{Start: 10 * time.Millisecond, Deadline: 4 * time.Second, Idempotent: true, Behaviour: []string{name, "busy", "answer"}},
						{Start: 20 * time.Millisecond, Deadline: 3 * time.Second, Settle: true, Behaviour: []string{name}},
						{Start: 30 * time.Millisecond, Job: true, Deadline: time.Second, Behaviour: []string{name, "answer"}},
					},
					Kills: []kill{{op, after}},
				}
				if w := playScenario(t, s); len(w.wrong) > 0 {
					t.Errorf("%s, killed at operation %d (after: %v): %v", name, op, after, w.wrong)
				}
			}
		}
	}
}
