package webhooks

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"backchannel/broker"
)

const (
	// answerWait is how long Send and Ask wait for an outcome.
	answerWait = 20 * time.Second
	// lateRead is how long past a call's deadline its answer is still read.
	lateRead = time.Minute
	// stopGrace is how long attempts in flight get when the broker stops.
	stopGrace = 5 * time.Second
	// storeTimeout bounds one operation of the queue.
	storeTimeout = 10 * time.Second
	// sweepInterval is how often clients that nobody uses are looked for.
	sweepInterval = time.Minute
)

var errStopped = errors.New("the broker stopped")

// Config is what a Dispatcher needs. Queue, Endpoints and Logger are required.
type Config struct {
	Queue     Queue
	Endpoints Endpoints
	// AdminAddr gives the broker's own admin listener, which is never dialled; nil if there is none.
	AdminAddr func() netip.AddrPort
	Logger    *slog.Logger
	Now       func() time.Time // nil means time.Now
	UserAgent string           // "" means "Backchannel"
	// MaxReply is the largest reply of a site's components in bytes; nil means broker.DefaultLimits.
	MaxReply func(broker.SiteID) int
	// Schedule and CallWaits replace DefaultSchedule and DefaultCallWaits.
	Schedule, CallWaits []time.Duration
	// Random is uniform in [0,1), for jitter; nil means math/rand. It may be called from many goroutines.
	Random func() float64

	dial dialFunc // for tests without sockets
}

// Dispatcher brings deliveries from a Queue to their endpoints. All methods may be called from many goroutines; they
// work while Run does.
type Dispatcher struct {
	cfg     Config
	plan    plan
	clients clients

	// base is the life of attempts: it ends stopGrace after Run's context, with the cause errStopped. Attempts begin
	// in Send too, so it cannot be handed down. Written before ready is closed.
	base context.Context //nolint:containedctx // see above

	ready, stopped chan struct{} // closed once
	wake           chan struct{} // buffered 1; a signal that an alarm was set before armed
	work           sync.WaitGroup

	mu    sync.Mutex
	s     *scheduler // guarded by mu
	armed time.Time  // guarded by mu; when Run will look at the alarms; zero: it is about to
}

// NewDispatcher makes a dispatcher; it starts nothing.
func NewDispatcher(cfg Config) *Dispatcher {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "Backchannel"
	}
	if cfg.MaxReply == nil {
		cfg.MaxReply = func(broker.SiteID) int { return broker.DefaultLimits().ReplyBytes }
	}
	if cfg.Schedule == nil {
		cfg.Schedule = DefaultSchedule()
	}
	if cfg.CallWaits == nil {
		cfg.CallWaits = DefaultCallWaits()
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	return &Dispatcher{
		cfg:     cfg,
		plan:    plan{jobs: cfg.Schedule, calls: cfg.CallWaits},
		clients: clients{admin: cfg.AdminAddr, dial: cfg.dial, all: make(map[clientKey]*client)},
		ready:   make(chan struct{}), stopped: make(chan struct{}), wake: make(chan struct{}, 1),
		s: newScheduler(),
	}
}

// Run loads what is pending, applies the start-up rules and works until ctx ends. Calls that were not sent then become
// not_delivered; attempts in flight get stopGrace and go back to the queue if that is not enough. When Run returns
// nothing of it is left. It may be called once. The error is the queue's, if pending deliveries could not be read.
func (d *Dispatcher) Run(ctx context.Context) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer close(d.stopped)
	defer d.clients.close()
	defer cancel(errStopped)
	d.base = base
	hurry := context.AfterFunc(ctx, func() { cancel(errStopped) }) // a store that fails must not hold up a stop
	err := d.load(ctx)
	if !hurry() { // ctx has ended: what was not decided is left to the next start
		return nil
	}
	if err != nil {
		return err
	}
	close(d.ready)
	d.loop(ctx)
	d.drain(cancel)
	return nil
}

// Ready is closed once the start-up rules have been applied. Send, Ask and Retry wait for it.
func (d *Dispatcher) Ready() <-chan struct{} { return d.ready }

// loop keeps the clock: everything else happens in the goroutine that caused it.
func (d *Dispatcher) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	swept := d.cfg.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
		now := d.cfg.Now()
		if now.Sub(swept) >= sweepInterval {
			swept = now
			d.clients.evict(now)
		}
		d.tick(now)
		timer.Reset(d.untilNext(swept.Add(sweepInterval)))
	}
}

// tick ends the calls whose deadline has passed and starts what is due.
func (d *Dispatcher) tick(now time.Time) {
	d.mu.Lock()
	d.armed = time.Time{}
	expired := d.s.ring(now)
	d.work.Add(len(expired))
	d.mu.Unlock()
	for _, it := range expired {
		go func() {
			defer d.work.Done()
			d.giveUp(it, "not delivered: its deadline passed before it could be sent")
		}()
	}
	d.pump()
}

func (d *Dispatcher) untilNext(latest time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = latest
	if next, ok := d.s.alarms.next(); ok && next.Before(latest) {
		d.armed = next
	}
	return max(d.armed.Sub(d.cfg.Now()), 0)
}

// pump starts every attempt that may start now. It is called after each change of the scheduler.
func (d *Dispatcher) pump() {
	var started []*item
	d.mu.Lock()
	for it := d.s.start(); it != nil; it = d.s.start() {
		d.work.Add(1) // before stopping is set, so before anybody waits
		started = append(started, it)
	}
	next, ok := d.s.alarms.next()
	early := ok && !d.armed.IsZero() && next.Before(d.armed)
	d.mu.Unlock()
	if early {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
	for _, it := range started {
		go func() {
			defer d.work.Done()
			d.attempt(it, nil)
		}()
	}
}

// drain ends all work: what was not sent is given up, what is on the wire gets stopGrace.
func (d *Dispatcher) drain(cancel context.CancelCauseFunc) {
	d.mu.Lock()
	d.s.stopping = true
	d.mu.Unlock()
	d.giveUpCalls()
	quiet := make(chan struct{})
	go func() {
		d.work.Wait()
		close(quiet)
	}()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-quiet:
	case <-grace.C:
		cancel(errStopped)
		<-quiet
	}
	d.giveUpCalls() // those whose attempt failed meanwhile
}

// giveUpCalls tells not_delivered of every call that waits and was never sent.
func (d *Dispatcher) giveUpCalls() {
	d.mu.Lock()
	calls := d.s.claimCalls()
	d.mu.Unlock()
	parallel(calls, func(it *item) {
		d.giveUp(it, "not delivered: the broker was stopped before it was sent")
	})
}

// Reload re-examines what waits: endpoints are looked up again, certificates read again, and retries of components
// whose endpoint changed are made due at once.
func (d *Dispatcher) Reload() {
	d.clients.renew()
	d.mu.Lock()
	comps := make([]*component, 0, len(d.s.comps))
	for _, c := range d.s.comps {
		comps = append(comps, c)
	}
	d.mu.Unlock()
	for _, c := range comps {
		e, ok := d.endpoint(c.key)
		d.mu.Lock()
		changed := d.s.route(c, e)
		if ok {
			d.s.hasten(c, changed)
		}
		d.mu.Unlock()
	}
	d.pump()
}

// endpoint looks a component up; e is nil if it has none.
func (d *Dispatcher) endpoint(key componentKey) (e *Endpoint, ok bool) {
	found, ok := d.cfg.Endpoints(key.site, key.id)
	if !ok || found.URL == nil {
		return nil, false
	}
	return &found, true
}

// parallel calls fn for each item, a few at a time: a store commits many in one sync.
func parallel[T any](all []T, fn func(T)) {
	const workers = 64
	var wg sync.WaitGroup
	next := make(chan T)
	for range min(workers, len(all)) {
		wg.Go(func() {
			for v := range next {
				fn(v)
			}
		})
	}
	for _, v := range all {
		next <- v
	}
	close(next)
	wg.Wait()
}
