package memory

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"time"

	"backchannel/broker"
)

const (
	defaultPageEvents = 1000
	defaultPageBytes  = 1 << 20
)

// Range implements broker.Log.
func (s *Store) Range(ctx context.Context, ch broker.Channel, after uint64, limit broker.PageLimit) (broker.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick()
	c := s.channels[ch]
	if c == nil {
		return broker.Page{Through: s.last.seq}, ctx.Err()
	}
	page := s.page(tail(c.kept, after), limit, func(r *record) bool { return r.kept(now) })
	page.Last = c.counted
	return page, ctx.Err()
}

// tail is the part of records behind a position.
func tail(records []*record, after uint64) []*record {
	i := sort.Search(len(records), func(i int) bool { return records[i].event.Seq > after })
	return records[i:]
}

func (s *Store) page(from []*record, limit broker.PageLimit, want func(*record) bool) broker.Page {
	if limit.Events <= 0 {
		limit.Events = defaultPageEvents
	}
	if limit.Bytes <= 0 {
		limit.Bytes = defaultPageBytes
	}
	page := broker.Page{Through: s.last.seq}
	bytes := 0
	for _, r := range from {
		if !want(r) {
			continue
		}
		if len(page.Events) >= limit.Events || bytes >= limit.Bytes {
			page.More = true
			page.Through = page.Events[len(page.Events)-1].Seq
			break
		}
		page.Events = append(page.Events, r.event)
		bytes += len(r.event.Data)
	}
	return page
}

// Last implements broker.Log.
func (s *Store) Last(ctx context.Context, ch broker.Channel, n int) (broker.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := broker.Page{Through: s.last.seq}
	c := s.channels[ch]
	if c == nil {
		return page, ctx.Err()
	}
	now := s.tick()
	page.Last = c.counted
	for i := len(c.kept) - 1; i >= 0; i-- {
		if r := c.kept[i]; r.kept(now) {
			if len(page.Events) >= n {
				page.More = true
				break
			}
			page.Events = append(page.Events, r.event)
		}
	}
	slices.Reverse(page.Events)
	return page, ctx.Err()
}

// Scan implements broker.Log.
func (s *Store) Scan(ctx context.Context, site broker.SiteID, after uint64, limit broker.PageLimit) (broker.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick()
	return s.page(tail(s.records, after), limit, func(r *record) bool {
		return r.kept(now) && r.event.Revocation == nil && r.event.Channel.Site == site
	}), ctx.Err()
}

// Channel implements broker.Log.
func (s *Store) Channel(ctx context.Context, ch broker.Channel) (broker.ChannelState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channels[ch] == nil {
		return broker.ChannelState{}, ctx.Err()
	}
	return s.state(ch, s.tick()), ctx.Err()
}

func (s *Store) state(ch broker.Channel, now int64) broker.ChannelState {
	c := s.channels[ch]
	st := broker.ChannelState{Channel: ch, Last: c.counted, Time: c.time}
	for _, r := range c.kept {
		if r.kept(now) {
			if st.First == 0 {
				st.First = r.event.Seq
			}
			st.Newest = r.event.Seq
		}
	}
	return st
}

// Channels implements broker.Log.
func (s *Store) Channels(ctx context.Context, site broker.SiteID, after broker.ChannelID, most int) ([]broker.ChannelState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick()
	var out []broker.ChannelState
	for ch := range s.channels {
		if ch.Site == site && ch.ID > after {
			out = append(out, s.state(ch, now))
		}
	}
	slices.SortFunc(out, func(a, b broker.ChannelState) int { return cmp.Compare(a.Channel.ID, b.Channel.ID) })
	if most <= 0 {
		most = defaultPageEvents
	}
	return out[:min(len(out), most)], ctx.Err()
}

// At implements broker.Log.
func (s *Store) At(ctx context.Context, t time.Time) (uint64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, at := s.tick(), t.UnixMicro()
	floor := max(s.created, s.floor.time)
	seq := s.floor.seq
	var next *record
	for _, r := range s.records {
		if !r.gone && r.expires <= now && (r.event.Counted || r.event.Revocation != nil) {
			floor = max(floor, r.event.Time)
			continue
		}
		if !r.kept(now) {
			continue
		}
		if r.event.Time > at {
			next = r
			break
		}
		seq = r.event.Seq
	}
	switch {
	case next != nil && next.before <= at:
		seq = next.event.Seq - 1
	case next == nil && s.last.time <= at:
		seq = s.last.seq
	}
	return seq, at >= floor, ctx.Err()
}

// Position implements broker.Log.
func (s *Store) Position(ctx context.Context) (broker.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor(s.last.seq), ctx.Err()
}

// Tail implements broker.Log.
func (s *Store) Tail(ctx context.Context, after uint64, deliver func([]broker.Event)) error {
	for {
		page, wake := s.behind(after)
		if len(page.Events) > 0 {
			deliver(page.Events)
		}
		after = max(after, page.Through)
		if page.More {
			if err := ctx.Err(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		}
	}
}

func (s *Store) behind(after uint64) (broker.Page, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick()
	return s.page(tail(s.records, after), broker.PageLimit{}, func(r *record) bool { return r.kept(now) }), s.wake
}
