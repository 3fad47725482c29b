package memory

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

const (
	// replyLife is how long a reply is safe from the bound on replies.
	replyLife = 10 * time.Minute

	defaultListLimit = 100
	maxListLimit     = 1000
)

// delivery is a record and its place in the order of acceptance.
type delivery struct {
	webhooks.Delivery
	number uint64
}

// Accept implements webhooks.Queue.
func (s *Store) Accept(ctx context.Context, d webhooks.Delivery) (webhooks.Delivery, bool, error) {
	if err := ctx.Err(); err != nil {
		return webhooks.Delivery{}, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOld()
	if known := s.deliveries[d.Ref]; known != nil {
		return clone(known.Delivery), true, nil
	}
	used := s.usage()
	if active(d.State) && s.bounds.Queue > 0 && used.QueueBytes+weight(&d) > s.bounds.Queue {
		return webhooks.Delivery{}, false, broker.Errorf(broker.CodeStoreFull,
			"the queue holds %d of %d bytes ([limits] queue); try again when deliveries have ended", used.QueueBytes, s.bounds.Queue)
	}
	s.accepted++
	stored := &delivery{clone(d), s.accepted}
	s.ended(stored)
	s.deliveries[d.Ref] = stored
	s.trimEnded()
	return clone(stored.Delivery), false, nil
}

// Update implements webhooks.Queue. The message stays as it was accepted.
func (s *Store) Update(ctx context.Context, d webhooks.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOld()
	known := s.deliveries[d.Ref]
	if known == nil {
		return notFound(d.Ref)
	}
	message := known.Message
	known.Delivery = clone(d)
	known.Message = message
	s.ended(known)
	s.trimEnded()
	return nil
}

// ended erases what an ended delivery must not keep.
func (s *Store) ended(d *delivery) {
	if active(d.State) {
		return
	}
	d.Seal = ""
	if d.Ended.IsZero() {
		d.Ended = s.now()
	}
}

// Get implements webhooks.Queue.
func (s *Store) Get(ctx context.Context, ref webhooks.Ref) (webhooks.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOld()
	if d := s.deliveries[ref]; d != nil {
		return clone(d.Delivery), ctx.Err()
	}
	return webhooks.Delivery{}, notFound(ref)
}

func notFound(ref webhooks.Ref) error {
	return broker.Errorf(broker.CodeNotFound, "no delivery %q is known", string(ref.ID))
}

// Pending implements webhooks.Queue.
func (s *Store) Pending(ctx context.Context, fn func(webhooks.Delivery) error) error {
	for _, d := range s.sorted(func(d *delivery) bool { return pending(&d.Delivery) }) {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.Data, d.Reply, d.Log = nil, nil, nil
		if err := fn(d.Delivery); err != nil {
			return err
		}
	}
	return nil
}

func pending(d *webhooks.Delivery) bool {
	return active(d.State) || d.Kind == webhooks.KindCall && d.Outcome == webhooks.OutcomeUnknown
}

// sorted copies the deliveries that fn wants, in the order of acceptance.
func (s *Store) sorted(want func(*delivery) bool) []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOld()
	var out []delivery
	for _, d := range s.deliveries {
		if want(d) {
			out = append(out, delivery{clone(d.Delivery), d.number})
		}
	}
	slices.SortFunc(out, func(a, b delivery) int { return cmp.Compare(a.number, b.number) })
	return out
}

// List implements webhooks.Queue.
func (s *Store) List(ctx context.Context, site broker.SiteID, q webhooks.ListQuery) ([]webhooks.Delivery, string, error) {
	before := uint64(1 << 63)
	if q.After != "" {
		n, err := strconv.ParseUint(q.After, 10, 63)
		if err != nil {
			return nil, "", broker.Errorf(broker.CodeBadRequest, "after: want the next of the page before")
		}
		before = n
	}
	if q.Limit <= 0 {
		q.Limit = defaultListLimit
	}
	limit := min(q.Limit, maxListLimit)
	all := s.sorted(func(d *delivery) bool {
		return d.Site == site && d.number < before &&
			(q.State == "" || d.State == q.State) && (q.Component == "" || d.Component == q.Component)
	})
	slices.Reverse(all)
	next := ""
	if len(all) > limit {
		next = strconv.FormatUint(all[limit-1].number, 10)
		all = all[:limit]
	}
	out := make([]webhooks.Delivery, len(all))
	for i := range all {
		out[i] = all[i].Delivery
	}
	return out, next, ctx.Err()
}

// Forget implements webhooks.Queue.
func (s *Store) Forget(ctx context.Context, site broker.SiteID, user string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, d := range s.deliveries {
		if d.Site == site && d.User == user && !active(d.State) {
			d.Data, d.Reply, d.Error, d.Seal, d.Log = nil, nil, nil, "", nil
			n++
		}
	}
	return n, ctx.Err()
}

// Usage implements webhooks.Queue.
func (s *Store) Usage(ctx context.Context) (webhooks.Usage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOld()
	return s.usage(), ctx.Err()
}

func (s *Store) usage() webhooks.Usage {
	var u webhooks.Usage
	for _, d := range s.deliveries {
		switch d.State {
		case webhooks.StateWaiting:
			u.Waiting++
			u.QueueBytes += weight(&d.Delivery)
		case webhooks.StateSending:
			u.Sending++
			u.QueueBytes += weight(&d.Delivery)
		case webhooks.StateDead:
			u.Dead++
			u.DeadBytes += weight(&d.Delivery)
		default:
			u.Done++
			u.ReplyBytes += body(&d.Delivery)
		}
	}
	return u
}

// forgetOld removes the ended records whose time has come.
func (s *Store) forgetOld() {
	now := s.now()
	for ref, d := range s.deliveries {
		switch d.State {
		case webhooks.StateDone:
			if !d.Ended.Add(webhooks.OutcomeLife).After(now) {
				delete(s.deliveries, ref)
			}
		case webhooks.StateDead:
			if !d.Ended.Add(webhooks.DeadLife).After(now) {
				delete(s.deliveries, ref)
			}
		}
	}
}

// trimEnded keeps dead letters and the bodies of done deliveries within their bounds, the oldest going first.
func (s *Store) trimEnded() {
	used := s.usage()
	for s.bounds.Dead > 0 && used.DeadBytes > s.bounds.Dead {
		d := s.oldest(func(d *delivery) bool { return d.State == webhooks.StateDead })
		delete(s.deliveries, d.Ref)
		used.DeadBytes -= weight(&d.Delivery)
	}
	safe := s.now().Add(-replyLife)
	for s.bounds.Replies > 0 && used.ReplyBytes > s.bounds.Replies {
		d := s.oldest(func(d *delivery) bool {
			return d.State == webhooks.StateDone && body(&d.Delivery) > 0 && !d.Ended.After(safe)
		})
		if d == nil {
			return
		}
		used.ReplyBytes -= body(&d.Delivery)
		d.Data, d.Reply, d.Error, d.Log = nil, nil, nil, nil
	}
}

func (s *Store) oldest(want func(*delivery) bool) *delivery {
	var found *delivery
	for _, d := range s.deliveries {
		if want(d) && (found == nil || d.Ended.Before(found.Ended)) {
			found = d
		}
	}
	return found
}

func active(st webhooks.State) bool {
	return st == webhooks.StateWaiting || st == webhooks.StateSending
}

// body is what can go of a done delivery while its outcome stays.
func body(d *webhooks.Delivery) int64 {
	n := len(d.Data) + len(d.Reply) + len(d.Error)
	for i := range d.Log {
		n += 128 + len(d.Log[i].URL) + len(d.Log[i].Error) + len(d.Log[i].Request) + len(d.Log[i].Response)
	}
	return int64(n)
}

// weight is what a delivery counts against the bounds of queue and dead letters.
func weight(d *webhooks.Delivery) int64 {
	return body(d) + 256 + int64(len(d.ID)+len(d.Caller)+len(d.Order)+len(d.User)+len(d.Session)+len(d.Seal)+
		len(d.ChannelRef)+len(d.Reason))
}

// clone shares no memory with d, so neither side can change the other's.
func clone(d webhooks.Delivery) webhooks.Delivery {
	d.Data, d.Reply, d.Error, d.Log = slices.Clone(d.Data), slices.Clone(d.Reply), slices.Clone(d.Error), slices.Clone(d.Log)
	return d
}

var (
	_ broker.Log     = (*Store)(nil)
	_ webhooks.Queue = (*Store)(nil)
)
