package webhooks

import (
	"context"
	"fmt"
	"time"
)

// load applies the start-up rules to everything pending. Calls are decided first of all that happens, because a page
// may be waiting; jobs only take their places.
func (d *Dispatcher) load(ctx context.Context) error {
	var calls []*Delivery
	endpoints := make(map[componentKey]*Endpoint)
	err := d.cfg.Queue.Pending(ctx, func(rec Delivery) error {
		if rec.State == StateDone || rec.State == StateDead {
			return nil // unknown for good: nothing of it is on its way
		}
		if rec.Kind == KindCall {
			calls = append(calls, &rec)
			return nil
		}
		key := componentKey{rec.Site, rec.Component}
		e, seen := endpoints[key]
		if !seen {
			e, _ = d.endpoint(key)
			endpoints[key] = e
		}
		d.restoreJob(&rec, e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("load pending deliveries: %w", err)
	}
	parallel(calls, func(rec *Delivery) { d.restore(rec) })
	return nil
}

// restore applies the start-up rule to one record that has no owner in memory.
func (d *Dispatcher) restore(rec *Delivery) {
	key := componentKey{rec.Site, rec.Component}
	e, _ := d.endpoint(key)
	if rec.Kind != KindCall {
		d.restoreJob(rec, e)
		return
	}
	it := &item{id: rec.ID, kind: rec.Kind, state: itemClosing, accepted: rec.Accepted.UnixMicro()}
	it.call = &callPart{deadline: rec.Deadline.UnixMicro(), tainted: rec.State == StateSending}
	d.mu.Lock()
	if d.s.items[rec.Ref] != nil {
		d.mu.Unlock()
		return // somebody was faster
	}
	d.s.items[rec.Ref] = it
	d.s.component(key, e).add(it)
	again := rec.State == StateSending && rec.Outcome == OutcomeNone && e != nil && e.Idempotent && d.cfg.Now().Before(rec.Deadline)
	if again {
		d.s.enqueue(it, rec.Order, false)
	}
	d.mu.Unlock()
	if !again {
		d.endRestored(it, rec)
	}
}

// endRestored decides a call of a life before this one: it either never ran, or nobody can know.
func (d *Dispatcher) endRestored(it *item, rec *Delivery) {
	ctx, cancel := d.storeContext()
	full, err := d.cfg.Queue.Get(ctx, rec.Ref)
	cancel()
	if err != nil {
		d.logError("delivery not read", rec.Ref, err)
		d.end(rec.Ref, it, nil, err)
		return
	}
	full.Outcome, full.Reason = OutcomeNotDelivered, "not delivered: the broker was restarted before it was sent"
	if rec.State == StateSending {
		full.Outcome = OutcomeUnknown
		full.Reason = "unknown: it was sent, and the broker was restarted before an answer came"
	}
	full.State, full.Ended, full.Due = StateDone, d.cfg.Now(), time.Time{}
	d.finish(it, &full, false)
}

// restoreJob gives a job its place. What is stored does not tell whether it was on the wire when the broker ended.
func (d *Dispatcher) restoreJob(rec *Delivery, e *Endpoint) {
	now := d.cfg.Now()
	tries := rec.Attempts - rec.RetriedAfter
	it := &item{
		id: rec.ID, kind: rec.Kind, accepted: rec.Accepted.UnixMicro(),
		tries: int32(min(max(tries, 0), 1<<20)), doubtful: true,
	}
	if rec.State == StateWaiting && rec.Due.After(now) {
		it.due = rec.Due.UnixMicro()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.s.items[rec.Ref] != nil {
		return
	}
	d.s.items[rec.Ref] = it
	d.s.component(componentKey{rec.Site, rec.Component}, e).add(it)
	d.s.enqueue(it, rec.Order, tries >= orderedTries)
}
