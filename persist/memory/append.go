package memory

import (
	"context"
	"slices"
	"time"

	"backchannel/broker"
)

// Append implements broker.Log.
func (s *Store) Append(ctx context.Context, drafts []broker.Draft) ([]broker.Appended, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick()
	out := make([]broker.Appended, len(drafts))
	for i := range drafts {
		out[i] = s.appendOne(&drafts[i], now)
	}
	s.trimTotal(now)
	s.announce()
	return out, nil
}

func (s *Store) appendOne(d *broker.Draft, now int64) broker.Appended {
	k := key{d.Channel, d.Key}
	if d.Key != "" {
		if f, ok := s.keys[k]; ok && f.expires > now {
			return broker.Appended{Cursor: s.cursor(f.seq), Repeated: true}
		}
		s.keys[k] = first{s.last.seq + 1, now + broker.KeyLife.Microseconds()}
	}
	ch := s.channels[d.Channel]
	if ch == nil {
		ch = &channel{}
		s.channels[d.Channel] = ch
	}
	ch.ordinal++
	ch.time = now
	r := s.push(broker.Event{
		Channel: d.Channel, Type: d.Type, Data: slices.Clone(d.Data), User: d.User, Client: d.Client,
		Counted: d.TTL == 0, Prev: ch.counted,
	}, now)
	r.ordinal = ch.ordinal
	r.expires = expiry(now, shorter(d.TTL, s.age))
	if d.TTL > 0 {
		r.event.Expires = r.expires
	}
	if r.event.Counted {
		ch.counted = r.event.Seq
	}
	ch.kept = append(ch.kept, r)
	s.trimChannel(ch, now)
	return broker.Appended{Cursor: s.cursor(r.event.Seq)}
}

// push gives e its place in the log.
func (s *Store) push(e broker.Event, now int64) *record {
	r := &record{event: e, before: s.last.time}
	s.last = position{s.last.seq + 1, now}
	r.event.Seq, r.event.Time = s.last.seq, now
	s.records = append(s.records, r)
	s.bytes += cost(&r.event)
	return r
}

func (s *Store) announce() {
	close(s.wake)
	s.wake = make(chan struct{})
}

// trimChannel removes what the count leaves behind and what has expired at the front.
func (s *Store) trimChannel(ch *channel, now int64) {
	n := 0
	for n < len(ch.kept) {
		r := ch.kept[n]
		if r.kept(now) && (s.perChannel == 0 || r.ordinal+s.perChannel > ch.ordinal) {
			break
		}
		if r.kept(now) {
			s.remove(r)
		}
		n++
	}
	ch.kept = ch.kept[n:]
}

func (s *Store) remove(r *record) {
	r.gone = true
	s.bytes -= cost(&r.event)
}

// trimTotal removes whole buckets of the oldest records until the rest fits; the bucket being written stays.
func (s *Store) trimTotal(now int64) {
	for s.total > 0 && s.bytes > s.total && len(s.records) > 0 {
		bucket := s.records[0].event.Seq / bucketSpan
		if bucket == s.last.seq/bucketSpan {
			return
		}
		n := 0
		for n < len(s.records) && s.records[n].event.Seq/bucketSpan == bucket {
			r := s.records[n]
			if r.kept(now) {
				s.floor = position{r.event.Seq, r.event.Time}
			}
			if !r.gone {
				s.remove(r)
			}
			n++
		}
		s.records = s.records[n:]
	}
}

// Revoke implements broker.Log.
func (s *Store) Revoke(ctx context.Context, r broker.Revocation) (broker.Cursor, error) {
	if err := ctx.Err(); err != nil {
		return broker.Cursor{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick()
	s.revocations = slices.DeleteFunc(s.revocations, func(r revocation) bool { return r.expires <= now })
	s.revocations = append(s.revocations, revocation{r, expiry(now, broker.RevocationLife)})
	rec := s.push(broker.Event{Channel: broker.Channel{Site: r.Site}, Revocation: &r}, now)
	rec.expires = expiry(now, s.age)
	s.announce()
	return s.cursor(rec.event.Seq), nil
}

// Revocations implements broker.Log.
func (s *Store) Revocations(ctx context.Context) ([]broker.Revocation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick()
	var out []broker.Revocation
	for _, r := range s.revocations {
		if r.expires > now {
			out = append(out, r.Revocation)
		}
	}
	return out, ctx.Err()
}

// Purge implements broker.Log.
func (s *Store) Purge(ctx context.Context, ch broker.Channel) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[ch]
	if c == nil {
		return 0, nil
	}
	now, n := s.tick(), 0
	for _, r := range c.kept {
		if r.kept(now) {
			n++
		}
		if !r.gone {
			s.remove(r)
		}
	}
	c.kept = nil
	return n, nil
}

func (s *Store) cursor(seq uint64) broker.Cursor { return broker.Cursor{Epoch: s.epoch, Seq: seq} }

// shorter is the smaller of two lives of which zero is endless.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
