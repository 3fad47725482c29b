package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"backchannel/broker"
)

const maxIDBytes = 64

// Send accepts a message or notice and returns a job or notice once it is durable (OutcomeQueued) and a call once it
// has an outcome, after 20 s at the latest (OutcomePending). Ending ctx ends the waiting alone. A message whose id is
// known is not accepted again: Send answers for the one that is stored, as Ask does. Errors: CodeIDTaken if that is
// another caller's; CodeNotFound if the component has no endpoint (nothing is stored); CodeBadRequest; CodeStoreFull
// and CodeUnavailable from the queue, after which it may or may not be accepted, and sending again under its id tells.
func (d *Dispatcher) Send(ctx context.Context, m Message) (Delivery, error) {
	if err := m.check(); err != nil {
		return Delivery{}, err
	}
	if err := d.await(ctx); err != nil {
		return Delivery{}, err
	}
	if m.Accepted.IsZero() {
		m.Accepted = d.cfg.Now()
	}
	key := componentKey{m.Site, m.Component}
	e, ok := d.endpoint(key)
	if !ok {
		return d.known(ctx, m)
	}
	for {
		it, first, err := d.reserve(m.Ref, func(it *item) { d.place(it, key, e, &m) })
		switch {
		case err != nil:
			return Delivery{}, err
		case first:
			return d.accept(ctx, it, m)
		}
		rec, err := d.ask(ctx, m.Ref, m.Caller, m.Kind != KindCall)
		if broker.CodeOf(err) == broker.CodeNotFound && ctx.Err() == nil {
			continue // whoever had the id has failed to store it
		}
		return rec, taken(err)
	}
}

// reserve makes the caller the owner of an id that is not in memory: first is true then. Otherwise it waits until the
// id's acceptance is decided.
func (d *Dispatcher) reserve(ref Ref, place func(*item)) (it *item, first bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.s.stopping {
		return nil, false, broker.Errorf(broker.CodeUnavailable, "the broker is stopping: send again under the same id")
	}
	if it := d.s.items[ref]; it != nil {
		return it, false, nil
	}
	it = &item{id: ref.ID, state: itemAccepting, gate: make(chan struct{})}
	d.s.items[ref] = it
	d.work.Add(1) // until accepted or abandoned: Run does not end in between
	place(it)
	return it, true, nil
}

// place gives a new item its component, and a slot if one is free. mu is held.
func (d *Dispatcher) place(it *item, key componentKey, e *Endpoint, m *Message) {
	it.kind = m.Kind
	it.accepted = m.Accepted.UnixMicro()
	if m.Kind == KindCall {
		it.call = &callPart{deadline: m.Deadline.UnixMicro()}
	}
	c := d.s.component(key, e)
	c.add(it)
	d.s.startAtOnce(it, m.Order)
}

// accept stores a message whose id its caller has reserved. If it has a slot, acceptance and first attempt are one
// commit.
func (d *Dispatcher) accept(ctx context.Context, it *item, m Message) (Delivery, error) {
	rec := Delivery{Message: m, State: StateWaiting, Due: m.Accepted, Reason: "accepted; it waits for its turn"}
	d.mu.Lock()
	atOnce := it.state == itemFlight
	var w *watch
	if m.Kind == KindCall {
		w = it.watching()
	}
	d.mu.Unlock()
	if atOnce && m.Kind == KindCall {
		rec.State, rec.Attempts, rec.Due, rec.Reason = StateSending, 1, time.Time{}, "attempt 1 is under way"
	}
	stored, known, err := d.enter(rec)
	if err != nil {
		d.abandon(m.Ref, it)
		return Delivery{}, err
	}
	if known {
		return d.meet(ctx, it, stored, m)
	}
	d.mu.Lock()
	if !atOnce {
		d.s.enqueue(it, m.Order, false)
	}
	it.accept()
	d.mu.Unlock()
	if atOnce {
		go func() {
			defer d.work.Done()
			own := rec
			d.attempt(it, &own)
		}()
	} else {
		d.work.Done()
		d.pump()
	}
	if m.Kind != KindCall {
		return answer(rec), nil
	}
	return d.wait(ctx, w, rec)
}

// enter stores rec. It does not end with the request: a record that was stored must find its owner. If the store
// cannot tell whether it was stored, reading decides.
func (d *Dispatcher) enter(rec Delivery) (stored Delivery, known bool, err error) {
	ctx, cancel := d.storeContext()
	defer cancel()
	stored, known, err = d.cfg.Queue.Accept(ctx, rec)
	if err == nil || broker.CodeOf(err) == broker.CodeStoreFull {
		return stored, known, err
	}
	found, readErr := d.cfg.Queue.Get(ctx, rec.Ref)
	if readErr != nil {
		return Delivery{}, false, errUnavailable(err)
	}
	return found, true, nil
}

// meet answers a message whose id turned out to be stored. A record without an owner (its acceptance was in doubt) is
// adopted by the item that the message has reserved.
func (d *Dispatcher) meet(ctx context.Context, it *item, stored Delivery, m Message) (Delivery, error) {
	d.adopt(it, stored)
	rec, err := d.ask(ctx, m.Ref, m.Caller, m.Kind != KindCall)
	return rec, taken(err)
}

// adopt makes a reserved item the owner of a record found in the store. It ends the reservation.
func (d *Dispatcher) adopt(it *item, stored Delivery) {
	defer d.work.Done()
	d.mu.Lock()
	d.s.remove(stored.Ref, it) // its place was for another message
	it.accept()
	d.mu.Unlock()
	if stored.ended() && stored.State != StateSending {
		return
	}
	d.restore(&stored)
	d.pump()
}

// abandon gives up a reservation whose record was not stored.
func (d *Dispatcher) abandon(ref Ref, it *item) {
	d.mu.Lock()
	d.s.remove(ref, it)
	it.accept()
	d.mu.Unlock()
	d.work.Done()
	d.pump()
}

// accept lets those in who came while the record was being stored. mu is held.
func (it *item) accept() {
	if it.gate != nil {
		close(it.gate)
		it.gate = nil
	}
}

// known answers for a component without endpoint: what was accepted before can still be asked for.
func (d *Dispatcher) known(ctx context.Context, m Message) (Delivery, error) {
	rec, err := d.ask(ctx, m.Ref, m.Caller, m.Kind != KindCall)
	if broker.CodeOf(err) == broker.CodeNotFound {
		err = broker.Errorf(broker.CodeNotFound, "component %s has no endpoint: set webhook for site %s, or for this component, in the site's file", m.Component, m.Site)
	}
	return rec, taken(err)
}

// taken turns the discretion of Ask into the answer that Send owes: the id cannot be used.
func taken(err error) error {
	if errors.Is(err, errOtherCaller) {
		return broker.Errorf(broker.CodeIDTaken, "this id is in use by another sender: choose a new UUID")
	}
	return err
}

func (m *Message) check() error {
	if m.ID == "" || len(m.ID) > maxIDBytes {
		return broker.Errorf(broker.CodeBadRequest, "id: want 1 to %d characters", maxIDBytes)
	}
	for i := range len(m.ID) {
		if c := m.ID[i]; c <= ' ' || c >= 0x7f || c == '.' { // a dot would make the signed text ambiguous
			return broker.Errorf(broker.CodeBadRequest, "id: character %d is not allowed", i+1)
		}
	}
	if m.Kind == KindCall && m.Deadline.IsZero() {
		return broker.Errorf(broker.CodeBadRequest, "a call needs a deadline")
	}
	if m.Data != nil && !json.Valid(m.Data) {
		return broker.Errorf(broker.CodeBadRequest, "data is not JSON")
	}
	return nil
}
