package persist

import (
	"context"

	"backchannel/broker"
)

// Tail implements broker.Log. It reads the ring of recent batches, and the log itself when it has fallen out of it.
func (s *Store) Tail(ctx context.Context, after uint64, deliver func([]broker.Event)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		batches, moved, ok := s.ring.after(after)
		switch {
		case !ok:
			page, err := s.readLog(ctx, after, broker.PageLimit{}, "")
			if err != nil {
				return err
			}
			if len(page.Events) > 0 {
				deliver(page.Events)
			}
			after = max(after, page.Through)
		case len(batches) > 0:
			for _, b := range batches {
				after = deliverAfter(b.events, after, deliver)
			}
		default:
			select {
			case <-ctx.Done():
			case <-moved:
			}
		}
	}
}

// deliverAfter gives the part of a batch behind a position and returns the new one.
func deliverAfter(events []broker.Event, after uint64, deliver func([]broker.Event)) uint64 {
	last := events[len(events)-1].Seq
	if last <= after {
		return after
	}
	if first := events[0].Seq; first <= after {
		events = events[after-first+1:] // a batch has no gaps
	}
	deliver(events)
	return last
}
