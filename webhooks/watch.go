package webhooks

import (
	"context"
	"errors"
	"time"

	"backchannel/broker"
)

// watch is one moment at which something is told of a delivery, shared by all who wait for it.
type watch struct {
	told chan struct{} // closed when d or err is set
	d    Delivery
	err  error
}

// watching gives the watch of the next telling. Dispatcher.mu is held.
func (it *item) watching() *watch {
	if it.watch == nil {
		it.watch = &watch{told: make(chan struct{})}
	}
	return it.watch
}

// tell wakes all who wait; what is told has been stored. Dispatcher.mu is held.
func (it *item) tell(d Delivery, err error) {
	if w := it.watch; w != nil {
		it.watch = nil
		w.d, w.err = d, err
		close(w.told)
	}
}

// wait waits for an outcome, at most answerWait. known is the record as the caller last saw it.
func (d *Dispatcher) wait(ctx context.Context, w *watch, known Delivery) (Delivery, error) {
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	select {
	case <-w.told:
		if errors.Is(w.err, errStopped) {
			return answer(known), nil
		}
		return answer(w.d), w.err
	case <-timer.C:
		return answer(known), nil
	case <-d.stopped:
		return answer(known), nil
	case <-ctx.Done():
		return Delivery{}, ctx.Err()
	}
}

// answer is a record as it may be told: without an outcome a call is pending, and a job queued while it may still
// run. A dead job may have run or not.
func answer(d Delivery) Delivery {
	switch {
	case d.Outcome != OutcomeNone:
	case d.State == StateDead:
		d.Outcome = OutcomeUnknown
	case d.Kind == KindCall:
		d.Outcome = OutcomePending
	default:
		d.Outcome = OutcomeQueued
	}
	return d
}

// ended tells whether there is an outcome to tell.
func (d *Delivery) ended() bool {
	return d.State == StateDone || d.State == StateDead || d.Outcome != OutcomeNone
}

// await waits until the start-up rules have been applied.
func (d *Dispatcher) await(ctx context.Context) error {
	select {
	case <-d.ready:
		return nil
	default:
	}
	select {
	case <-d.ready:
		return nil
	case <-d.stopped:
		return broker.Errorf(broker.CodeUnavailable, "the broker is stopping: ask again")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errUnavailable hides what the store said from pages, unless it is a refusal.
func errUnavailable(err error) error {
	if errors.Is(err, errStopped) || broker.CodeOf(err) != broker.CodeInternal {
		return err
	}
	return errors.Join(broker.Errorf(broker.CodeUnavailable, "the delivery could not be stored: ask again by its id"), err)
}
