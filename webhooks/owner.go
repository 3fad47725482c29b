package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"backchannel/broker"
)

// What stands here is done by the one goroutine that owns a delivery.

// retryStore is what an owner waits between tries to store an outcome; the last one repeats.
var retryStore = []time.Duration{50 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second}

// attempt makes one attempt of an item in flight and stores what came of it. rec is its record with the attempt
// stored already, or nil if it has to be read.
func (d *Dispatcher) attempt(it *item, rec *Delivery) {
	defer d.pump()
	endpoint, ok := d.endpoint(it.comp.key)
	begun := rec != nil
	if rec == nil {
		if rec = d.read(it); rec == nil {
			return
		}
	}
	if it.call != nil && !d.cfg.Now().Before(rec.Deadline) {
		d.finishUnsent(it, rec, begun)
		return
	}
	if it.call != nil && !begun && !d.storeSending(it, rec) {
		return
	}
	if it.call == nil {
		rec.Attempts++ // stored with what comes of it
	}
	r := result{final: true, err: fmt.Errorf("component %s of site %s has no endpoint: set webhook in the site's file", rec.Component, rec.Site)}
	if ok {
		r = d.exchange(it, rec, endpoint)
	} else {
		now := d.cfg.Now()
		r.entry = Attempt{Number: rec.Attempts, Started: now, Error: describe(r.err)}
	}
	d.settleAttempt(it, rec, endpoint, r)
}

// read gets the record of an item in flight. Without it the item goes back or is forgotten.
func (d *Dispatcher) read(it *item) *Delivery {
	ref := it.ref()
	ctx, cancel := d.storeContext()
	defer cancel()
	rec, err := d.cfg.Queue.Get(ctx, ref)
	switch {
	case err == nil:
		return &rec
	case broker.CodeOf(err) == broker.CodeNotFound:
		d.logError("delivery has no record", ref, err)
		d.end(ref, it, nil, err)
	default:
		d.logError("delivery not read", ref, err)
		d.putBack(it, time.Second, false)
	}
	return nil
}

// storeSending stores the attempt of a call before its first byte leaves. If that fails nothing is sent.
func (d *Dispatcher) storeSending(it *item, rec *Delivery) bool {
	rec.State = StateSending
	rec.Attempts++
	rec.Reason = fmt.Sprintf("attempt %d is under way", rec.Attempts)
	ctx, cancel := d.storeContext()
	defer cancel()
	if err := d.cfg.Queue.Update(ctx, *rec); err != nil {
		d.logError("attempt not stored, so not made", rec.Ref, err)
		d.putBack(it, at(retryStore, 1), false)
		return false
	}
	return true
}

// exchange makes the request. A call is told unknown at its deadline, and its answer is read for lateRead more.
func (d *Dispatcher) exchange(it *item, rec *Delivery, e *Endpoint) result {
	now := d.cfg.Now()
	limit := e.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	left := limit
	if it.call != nil {
		left = rec.Deadline.Sub(now)
		limit = left + lateRead
	}
	ctx, cancel := context.WithTimeout(d.base, limit)
	defer cancel()
	t := try{
		d: rec, endpoint: e, number: rec.Attempts, left: left, now: d.cfg.Now,
		maxReply: d.cfg.MaxReply(rec.Site), agent: d.cfg.UserAgent,
	}
	w := new(wire)
	if it.call == nil {
		return t.do(ctx, &d.clients, w)
	}
	answer := make(chan result, 1)
	sending := *rec // the request is made from a copy: rec changes at the deadline
	t.d = &sending
	go func() { answer <- t.do(ctx, &d.clients, w) }()
	deadline := time.NewTimer(left)
	defer deadline.Stop()
	select {
	case r := <-answer:
		return r
	case <-deadline.C:
	}
	if w.stop() { // not a byte has left, and none will
		cancel()
		r := <-answer
		r.sent = false
		return r
	}
	d.tellUnknown(it, rec)
	return <-answer
}

// tellUnknown stores and tells that the deadline has passed without an answer. The call leaves the order of its caller.
func (d *Dispatcher) tellUnknown(it *item, rec *Delivery) {
	rec.Outcome = OutcomeUnknown
	rec.Reason = fmt.Sprintf("sent, but not answered by its deadline; an answer is still taken for %s", lateRead)
	ctx, cancel := d.storeContext()
	defer cancel()
	if err := d.cfg.Queue.Update(ctx, *rec); err != nil {
		d.logError("outcome not stored, so not told", rec.Ref, err)
		rec.Outcome = OutcomeNone
		return
	}
	d.mu.Lock()
	it.call.tainted = true
	d.s.pass(it)
	it.tell(*rec, nil)
	d.mu.Unlock()
	d.pump()
}

// settleAttempt applies the rules to an attempt's result and stores it before anybody learns of it.
func (d *Dispatcher) settleAttempt(it *item, rec *Delivery, e *Endpoint, r result) {
	if r.cancelled && (r.sent || it.call == nil) && !r.refusal() {
		d.end(rec.Ref, it, nil, errStopped) // the store keeps it as sending or waiting: the next start decides
		return
	}
	now := d.cfg.Now()
	v := judge(rec.Kind, r)
	d.mu.Lock()
	d.s.freeSlot(it)
	d.s.finishing++
	it.comp.results.count(v)
	it.tries++
	tries := int(it.tries)
	tainted := it.call != nil && (it.call.tainted || rec.Outcome == OutcomeUnknown)
	d.mu.Unlock()
	d.pump() // the URL is free for the next one while this one is stored
	rec.log(r.entry)
	next := d.plan.next(standing{
		kind: rec.Kind, tries: tries, tainted: tainted,
		idempotent: e != nil && e.Idempotent, deadline: rec.Deadline,
	}, v, r.retryAfter, now, d.cfg.Random())
	rec.apply(next, v, r, now)
	if next.kind != stepRetry {
		d.finish(it, rec, true)
		return
	}
	if v == unsure || tainted {
		rec.State = StateSending // it may have run, and no later start may think otherwise
	}
	err := d.store(rec)
	d.mu.Lock()
	d.s.finishing--
	it.homeless = e == nil
	if it.call != nil {
		it.call.tainted = tainted || v == unsure
	}
	if err == nil {
		d.s.retry(it, next.due, next.park)
	}
	d.mu.Unlock()
	if err != nil {
		d.end(rec.Ref, it, nil, err)
	}
}

// apply writes what an attempt came to into the record.
func (d *Delivery) apply(next step, v verdict, r result, now time.Time) {
	what := fmt.Sprintf("attempt %d: %s", d.Attempts, r.explain())
	switch next.kind {
	case stepRetry:
		d.State, d.Due = StateWaiting, next.due
		d.Reason = fmt.Sprintf("%s; next try at %s", what, next.due.UTC().Format(time.RFC3339))
	case stepDead:
		d.State, d.Ended, d.Due = StateDead, now, time.Time{}
		d.Reason = what + "; no tries are left: it is kept for 14 days and can be retried by hand"
	case stepEnd:
		d.State, d.Outcome, d.Ended, d.Due = StateDone, next.outcome, now, time.Time{}
		d.Reason = endReason(next.outcome, what)
		switch v {
		case delivered:
			d.Reply = r.reply
		case rejected:
			d.Error = refusalError(r)
		}
	}
}

func endReason(o Outcome, what string) string {
	switch o {
	case OutcomeNotDelivered:
		return "not delivered: " + what
	case OutcomeUnknown:
		return "unknown: " + what + "; it was sent and may have run"
	case OutcomeRejected:
		return "rejected: " + what
	}
	return "delivered: " + what
}

// refusalError is the component's JSON, or {"status":n}.
func refusalError(r result) json.RawMessage {
	if r.json && string(r.reply) != "null" {
		return r.reply
	}
	return json.RawMessage(fmt.Sprintf(`{"status":%d}`, r.status))
}

// finish stores the end of a delivery, then tells it. counted says that the caller counted itself as finishing.
func (d *Dispatcher) finish(it *item, rec *Delivery, counted bool) {
	if rec.State == StateDead {
		d.cfg.Logger.LogAttrs(d.base, slog.LevelWarn, "delivery is a dead letter",
			slog.String("site", string(rec.Site)), slog.String("component", string(rec.Component)),
			slog.String("delivery", string(rec.ID)), slog.Int("attempts", rec.Attempts))
	}
	err := d.store(rec)
	if counted {
		d.mu.Lock()
		d.s.finishing--
		d.mu.Unlock()
	}
	d.end(rec.Ref, it, rec, err)
}

// finishUnsent ends a call whose deadline passed before its attempt began. stored says that the attempt is on disk.
func (d *Dispatcher) finishUnsent(it *item, rec *Delivery, stored bool) {
	d.mu.Lock()
	tainted := it.call.tainted
	d.mu.Unlock()
	outcome, what := OutcomeNotDelivered, "its deadline passed before it could be sent"
	if tainted {
		outcome, what = OutcomeUnknown, "its deadline passed before it could be tried again"
	}
	if stored {
		rec.Attempts--
	}
	rec.State, rec.Outcome, rec.Ended = StateDone, outcome, d.cfg.Now()
	rec.Reason = endReason(outcome, what)
	d.finish(it, rec, false)
}

// giveUp ends an item that its caller has claimed and that was never sent (or, if tainted, not again).
func (d *Dispatcher) giveUp(it *item, reason string) {
	defer d.pump()
	ref := it.ref()
	ctx, cancel := d.storeContext()
	rec, err := d.cfg.Queue.Get(ctx, ref)
	cancel()
	if err != nil {
		d.logError("delivery not read", ref, err)
		d.end(ref, it, nil, err)
		return
	}
	rec.State, rec.Outcome, rec.Ended, rec.Due = StateDone, OutcomeNotDelivered, d.cfg.Now(), time.Time{}
	rec.Reason = reason
	if it.call != nil && it.call.tainted {
		rec.Outcome, rec.Reason = OutcomeUnknown, "unknown: "+reason+" again; an earlier attempt may have run"
	}
	d.finish(it, &rec, false)
}

// store keeps trying to store an outcome until it succeeds or the broker has stopped.
func (d *Dispatcher) store(rec *Delivery) error {
	for i := 0; ; i++ {
		ctx, cancel := d.storeContext()
		err := d.cfg.Queue.Update(ctx, *rec)
		cancel()
		if err == nil || broker.CodeOf(err) == broker.CodeNotFound {
			return err
		}
		if i < len(retryStore) {
			d.logError("outcome not stored, trying again", rec.Ref, err)
		}
		if !sleep(d.base, at(retryStore, i)) {
			return errors.Join(errStopped, err)
		}
	}
}

// end forgets an item and tells those who wait: rec if it was stored, else err.
func (d *Dispatcher) end(ref Ref, it *item, rec *Delivery, err error) {
	d.mu.Lock()
	d.s.remove(ref, it)
	switch {
	case err != nil:
		it.tell(Delivery{}, errUnavailable(err))
	case rec != nil:
		it.tell(*rec, nil)
	}
	d.mu.Unlock()
}

// putBack makes an item wait again without counting a try.
func (d *Dispatcher) putBack(it *item, wait time.Duration, park bool) {
	due := d.cfg.Now().Add(wait)
	d.mu.Lock()
	d.s.freeSlot(it)
	d.s.retry(it, due, park)
	d.mu.Unlock()
}

// storeContext bounds an operation of the queue that must not end with a request or with the broker's stop.
func (d *Dispatcher) storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(d.base), storeTimeout)
}

// logError notes a failure of the store: what says in a clause what became of it.
func (d *Dispatcher) logError(what string, ref Ref, err error) {
	d.cfg.Logger.LogAttrs(d.base, slog.LevelWarn, "queue operation failed", slog.String("consequence", what),
		slog.String("site", string(ref.Site)), slog.String("delivery", string(ref.ID)), slog.String("error", err.Error()))
}

func (it *item) ref() Ref { return Ref{Site: it.comp.key.site, ID: it.id} }

func sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
