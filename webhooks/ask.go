package webhooks

import (
	"context"
	"errors"
	"time"

	"backchannel/broker"
)

// errOtherCaller is CodeNotFound to whoever asks.
var errOtherCaller = broker.Errorf(broker.CodeNotFound, "no message with this id")

// Ask waits up to 20 s for the outcome of a message and never runs anything. An id that is unknown, or another
// caller's, is CodeNotFound. With settle, an id that is unknown, or waits and certainly was not sent, becomes
// not_delivered for good (Delivery.Settled), also for a message with this id that arrives later; another caller's id
// is CodeIDTaken then. Once an attempt is stored settle changes nothing.
func (d *Dispatcher) Ask(ctx context.Context, ref Ref, caller string, settle bool) (Delivery, error) {
	if err := d.await(ctx); err != nil {
		return Delivery{}, err
	}
	for {
		if settle {
			rec, done, err := d.settle(ctx, ref, caller)
			if done || err != nil {
				return rec, taken(err)
			}
		}
		rec, err := d.ask(ctx, ref, caller, false)
		if settle && broker.CodeOf(err) == broker.CodeNotFound && !errors.Is(err, errOtherCaller) && ctx.Err() == nil {
			continue // its acceptance failed meanwhile
		}
		if settle {
			err = taken(err)
		}
		return rec, err
	}
}

// ask gives the stored outcome, or waits for it. With glance it does not wait beyond acceptance.
func (d *Dispatcher) ask(ctx context.Context, ref Ref, caller string, glance bool) (Delivery, error) {
	for orphan := false; ; orphan = true {
		w, err := d.join(ctx, ref)
		if err != nil {
			return Delivery{}, err
		}
		rec, err := d.get(ctx, ref, caller)
		switch {
		case err != nil:
			return Delivery{}, err
		case rec.ended() || glance && w != nil:
			return answer(rec), nil
		case w != nil:
			return d.wait(ctx, w, rec)
		case orphan: // twice in the store and not in memory: its acceptance was in doubt
			if err := d.foster(ref, rec); err != nil {
				return Delivery{}, err
			}
		}
	}
}

// join gives the watch of a delivery in memory, once its acceptance is decided; nil if it is not there. The watch is
// taken before the record is read, so no outcome can slip between.
func (d *Dispatcher) join(ctx context.Context, ref Ref) (*watch, error) {
	for {
		d.mu.Lock()
		it := d.s.items[ref]
		if it == nil {
			d.mu.Unlock()
			return nil, nil //nolint:nilnil // nil means that nothing is under way
		}
		gate := it.gate
		var w *watch
		if gate == nil {
			w = it.watching()
		}
		d.mu.Unlock()
		if gate == nil {
			return w, nil
		}
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *Dispatcher) get(ctx context.Context, ref Ref, caller string) (Delivery, error) {
	rec, err := d.cfg.Queue.Get(ctx, ref)
	if err != nil {
		return Delivery{}, err
	}
	if rec.Caller != caller || rec.Kind == KindNotice {
		return Delivery{}, errOtherCaller
	}
	return rec, nil
}

// foster gives a record without owner to the scheduler.
func (d *Dispatcher) foster(ref Ref, rec Delivery) error {
	it, first, err := d.reserve(ref, func(*item) {})
	if err != nil || !first {
		return err
	}
	d.adopt(it, rec)
	return nil
}

// settle ends an id that was certainly not sent. done is false if it is too late for that, or too early: its outcome
// is to be waited for.
func (d *Dispatcher) settle(ctx context.Context, ref Ref, caller string) (rec Delivery, done bool, err error) {
	it, first, err := d.reserve(ref, func(*item) {})
	switch {
	case err != nil:
		return Delivery{}, false, err
	case first:
		return d.settleUnknown(it, ref, caller)
	}
	if _, err := d.join(ctx, ref); err != nil { // until its acceptance is decided
		return Delivery{}, false, err
	}
	return d.settleWaiting(it, ref, caller)
}

// settleUnknown stores not_delivered under an id that is not in memory, unless the store knows it.
func (d *Dispatcher) settleUnknown(it *item, ref Ref, caller string) (Delivery, bool, error) {
	now := d.cfg.Now()
	rec, known, err := d.enter(Delivery{
		Message: Message{Ref: ref, Kind: KindCall, Type: TypeCall, Caller: caller, Accepted: now},
		State:   StateDone, Outcome: OutcomeNotDelivered, Ended: now, Settled: true,
		Reason: "not delivered: settled by its sender before it arrived",
	})
	if err != nil {
		d.abandon(ref, it)
		return Delivery{}, false, err
	}
	d.adopt(it, rec)
	if known && (rec.Caller != caller || rec.Kind == KindNotice) {
		return Delivery{}, false, errOtherCaller
	}
	return rec, !known || rec.Settled, nil
}

// settleWaiting claims an item that waits; whoever owns it otherwise is not disturbed.
func (d *Dispatcher) settleWaiting(it *item, ref Ref, caller string) (Delivery, bool, error) {
	ctx, cancel := d.storeContext() // not the request's: a claim has to be brought to its end
	defer cancel()
	if _, err := d.get(ctx, ref, caller); err != nil {
		return Delivery{}, false, ignoreNotFound(err)
	}
	d.mu.Lock()
	claimed := !d.s.stopping && it.unsent() && it.gate == nil
	if claimed {
		d.s.close(it)
		d.work.Add(1)
	}
	d.mu.Unlock()
	if !claimed {
		return Delivery{}, false, nil
	}
	defer d.work.Done()
	defer d.pump()
	rec, err := d.cfg.Queue.Get(ctx, ref)
	if err == nil {
		rec.State, rec.Outcome, rec.Ended, rec.Due = StateDone, OutcomeNotDelivered, d.cfg.Now(), time.Time{}
		rec.Settled, rec.Reason = true, "not delivered: settled by its sender before it was sent"
		err = d.store(&rec)
	}
	if err != nil {
		d.end(ref, it, nil, err)
		return Delivery{}, false, errUnavailable(err)
	}
	d.end(ref, it, &rec, nil)
	return rec, true, nil
}

// ignoreNotFound passes on what is not a mere absence: a message that is being accepted is not stored yet.
func ignoreNotFound(err error) error {
	if broker.CodeOf(err) == broker.CodeNotFound && !errors.Is(err, errOtherCaller) {
		return nil
	}
	return err
}
