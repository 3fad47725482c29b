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
	if err := s.admit(&d); err != nil {
		return webhooks.Delivery{}, false, err
	}
	s.accepted++
	stored := &delivery{clone(d), s.accepted}
	s.ended(stored)
	s.deliveries[d.Ref] = stored
	s.trimEnded()
	return clone(stored.Delivery), false, nil
}

// admit refuses what a bound on the queue has no room for.
func (s *Store) admit(d *webhooks.Delivery) error {
	if !active(d.State) {
		return nil
	}
	if used := s.usage("").QueueBytes; s.bounds.Queue > 0 && used+weight(d) > s.bounds.Queue {
		return broker.Errorf(broker.CodeStoreFull,
			"the queue holds %d of %d bytes ([limits] queue); try again when deliveries have ended", used, s.bounds.Queue)
	}
	own := s.bounds.Sites[d.Site].Queue
	if own <= 0 {
		return nil
	}
	if used := s.usage(d.Site).QueueBytes; used+weight(d) > own {
		return broker.Errorf(broker.CodeStoreFull,
			"the queue of site %s holds %d of %d bytes ([site.limits] queue); try again when deliveries have ended", d.Site, used, own)
	}
	return nil
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
	return s.usage(""), ctx.Err()
}

// usage counts the deliveries of a site, or of all for "".
func (s *Store) usage(site broker.SiteID) webhooks.Usage {
	var u webhooks.Usage
	for _, d := range s.deliveries {
		if site != "" && d.Site != site {
			continue
		}
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
			u.LogBytes += logged(&d.Delivery)
		default:
			u.Done++
			u.ReplyBytes += body(&d.Delivery)
			u.LogBytes += logged(&d.Delivery)
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

// clone shares no memory with d, so neither side can change the other's.
func clone(d webhooks.Delivery) webhooks.Delivery {
	d.Data, d.Reply, d.Error, d.Log = slices.Clone(d.Data), slices.Clone(d.Reply), slices.Clone(d.Error), slices.Clone(d.Log)
	return d
}

var (
	_ broker.Log     = (*Store)(nil)
	_ webhooks.Queue = (*Store)(nil)
)
