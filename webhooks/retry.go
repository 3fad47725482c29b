package webhooks

import (
	"context"
	"fmt"
	"time"

	"backchannel/broker"
)

// Retry puts a dead or rejected job or notice back, under the same id and with a fresh schedule. Its seal was erased
// when it ended. Errors: CodeBadRequest, saying why, for a call and for what is not dead or rejected; CodeNotFound.
func (d *Dispatcher) Retry(ctx context.Context, ref Ref) (Delivery, error) {
	if err := d.await(ctx); err != nil {
		return Delivery{}, err
	}
	it, first, err := d.reserve(ref, func(*item) {})
	switch {
	case err != nil:
		return Delivery{}, err
	case !first:
		return Delivery{}, errNotEnded(ref)
	}
	rec, err := d.revive(ref)
	if err != nil {
		d.abandon(ref, it)
		return Delivery{}, err
	}
	d.adopt(it, rec)
	return answer(rec), nil
}

// revive stores a delivery as waiting again. One that waits already but has no owner (an earlier revival was in doubt)
// is taken as it is.
func (d *Dispatcher) revive(ref Ref) (Delivery, error) {
	ctx, cancel := d.storeContext()
	defer cancel()
	rec, err := d.cfg.Queue.Get(ctx, ref)
	if err != nil {
		return Delivery{}, err
	}
	if err := rec.retriable(); err != nil {
		return Delivery{}, err
	}
	if rec.State == StateWaiting {
		return rec, nil
	}
	rec.State, rec.Outcome, rec.Ended, rec.Due = StateWaiting, OutcomeNone, time.Time{}, d.cfg.Now()
	rec.RetriedAfter, rec.Error = rec.Attempts, nil
	rec.Reason = fmt.Sprintf("put back by hand after %d attempts; it waits for its turn", rec.Attempts)
	if err := d.cfg.Queue.Update(ctx, rec); err != nil {
		return Delivery{}, fmt.Errorf("put delivery %s back: %w", ref.ID, err)
	}
	return rec, nil
}

func (d *Delivery) retriable() error {
	switch {
	case d.Kind == KindCall:
		return broker.Errorf(broker.CodeBadRequest, "delivery %s is a call, and a call never runs after its deadline: only jobs and notices can be retried", d.ID)
	case d.State == StateDead, d.State == StateWaiting, d.State == StateDone && d.Outcome == OutcomeRejected:
		return nil
	case d.State == StateDone:
		return broker.Errorf(broker.CodeBadRequest, "delivery %s has ended as %s: only dead and rejected ones can be retried", d.ID, d.Outcome)
	}
	return errNotEnded(d.Ref)
}

func errNotEnded(ref Ref) error {
	return broker.Errorf(broker.CodeBadRequest, "delivery %s has not ended yet: wait for its outcome", ref.ID)
}
