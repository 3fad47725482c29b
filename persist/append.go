package persist

import (
	"context"
	"fmt"

	"backchannel/broker"
)

const (
	// maxEventBytes is the largest event: Badger keeps values below 1 MiB in the one log that is synced.
	maxEventBytes = 1<<20 - 8<<10
	// maxDrafts bounds one call, as one commit must hold it.
	maxDrafts = 2000
	// overhead is about what an event takes beside its data: keys, index, names.
	overhead = 256
)

// Append implements broker.Log. The drafts must not be changed afterwards: their data is shared with tails. Beyond
// 2,000 drafts, 1 MiB for an event or 2 MiB for the call it is CodeTooLarge.
func (s *Store) Append(ctx context.Context, drafts []broker.Draft) ([]broker.Appended, error) {
	if len(drafts) == 0 {
		return nil, ctx.Err()
	}
	bytes, err := checkSize(drafts)
	if err != nil {
		return nil, err
	}
	if err := s.space.admit(bytes); err != nil {
		return nil, err
	}
	out := make([]broker.Appended, len(drafts))
	err = s.submit(ctx, &request{
		entries: 5*len(drafts) + 8, bytes: bytes,
		stage: func(g *group) error { return g.append(drafts, out) },
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func checkSize(drafts []broker.Draft) (bytes int, err error) {
	if len(drafts) > maxDrafts {
		return 0, broker.Errorf(broker.CodeTooLarge, "%d events at once; the store takes at most %d", len(drafts), maxDrafts)
	}
	for i := range drafts {
		d := &drafts[i]
		size := len(d.Data) + len(d.User) + len(d.Client) + len(d.Type) + len(d.Key)
		if size > maxEventBytes {
			return 0, broker.Errorf(broker.CodeTooLarge, "event %d has %d bytes; the store takes at most %d", i+1, size, maxEventBytes)
		}
		bytes += size + overhead
	}
	if bytes > maxRequestBytes {
		return 0, broker.Errorf(broker.CodeTooLarge, "the events have %d bytes together; the store takes at most %d at once", bytes, maxRequestBytes)
	}
	return bytes, nil
}

// append numbers drafts and writes them with their indexes.
func (g *group) append(drafts []broker.Draft, out []broker.Appended) error {
	if err := g.c.s.space.admit(0); err != nil {
		return err
	}
	for i := range drafts {
		var err error
		if out[i], err = g.appendOne(&drafts[i]); err != nil {
			return fmt.Errorf("append to %s: %w", drafts[i].Channel, err)
		}
	}
	return nil
}

func (g *group) appendOne(d *broker.Draft) (broker.Appended, error) {
	if d.Key != "" {
		if seq, known, err := g.known(d); known || err != nil {
			return broker.Appended{Cursor: g.cursor(seq), Repeated: true}, err
		}
	}
	h, made, err := g.head(d.Channel)
	if err != nil {
		return broker.Appended{}, err
	}
	if made {
		if err := g.set(keyName(d.Channel), []byte{version}, never); err != nil {
			return broker.Appended{}, err
		}
	}
	e := broker.Event{
		Prev: h.counted, Channel: h.channel, Type: d.Type, Data: d.Data, Counted: d.TTL == 0, User: d.User, Client: d.Client,
	}
	if err := g.pushEvent(&e, h, untilTime(g.now, shorter(d.TTL, g.c.state.age()))); err != nil {
		return broker.Appended{}, err
	}
	seq := e.Seq
	if d.Key != "" {
		life := untilTime(g.now, broker.KeyLife)
		if err := g.set(keyHash(kindIdempotent, idempotentHash(d.Channel, d.Key)), encodePosition(position{seq, life}), life); err != nil {
			return broker.Appended{}, err
		}
	}
	return broker.Appended{Cursor: g.cursor(seq)}, nil
}

// known looks an idempotency id up, those of this group included.
func (g *group) known(d *broker.Draft) (uint64, bool, error) {
	var first position // time is when it ends
	found, err := read(g.txn, keyHash(kindIdempotent, idempotentHash(d.Channel, d.Key)), func(b []byte) (err error) {
		first, err = decodePosition(b)
		return err
	})
	return first.seq, found && first.time > g.now, err
}

// pushEvent gives an event its position and writes it with its pointer.
func (g *group) pushEvent(e *broker.Event, h *head, expires int64) error {
	if !e.Counted {
		e.Expires = expires
	}
	p := pointer{site: e.Channel.Site, expires: expires, channel: h.hash}
	en := entry{expires: expires, short: !e.Counted}
	en.cost = int64(len(e.Data)+len(e.Type)+len(e.User)+len(e.Client)) + overhead
	if err := g.push(e, &p, en.cost); err != nil {
		return err
	}
	h.ordinal++
	h.seq, h.time = e.Seq, e.Time
	if e.Counted {
		h.counted = e.Seq
	}
	g.touch(h)
	en.ordinal = h.ordinal
	return g.set(keyChannel(h.hash, e.Seq), encodeEvent(&en, e), expires)
}

// push gives a record its position and writes its pointer.
func (g *group) push(e *broker.Event, p *pointer, cost int64) error {
	st := g.c.state
	p.time, p.before = g.now, st.last.time
	st.last.seq++
	st.last.time = g.now
	g.last = true
	e.Seq, e.Time = st.last.seq, g.now
	g.count(e.Seq, cost, e.Revocation == nil && !e.Counted, p.expires)
	g.events = append(g.events, *e)
	return g.set(keySeq(kindEvent, e.Seq), encodePointer(p), p.expires)
}

func (g *group) cursor(seq uint64) broker.Cursor {
	return broker.Cursor{Epoch: g.c.state.store.epoch, Seq: seq}
}

// Revoke implements broker.Log. It is let in below the floor of free space, as long as a reserve lasts.
func (s *Store) Revoke(ctx context.Context, r broker.Revocation) (broker.Cursor, error) {
	if size := len(r.Value); size > maxEventBytes {
		return broker.Cursor{}, broker.Errorf(broker.CodeTooLarge, "the value has %d bytes; the store takes at most %d", size, maxEventBytes)
	}
	var at broker.Cursor
	err := s.submit(ctx, &request{entries: 4, bytes: len(r.Value) + overhead, stage: func(g *group) (err error) {
		at, err = g.revoke(r)
		return err
	}})
	if err != nil {
		return broker.Cursor{}, err
	}
	return at, nil
}

func (g *group) revoke(r broker.Revocation) (broker.Cursor, error) {
	if err := g.c.s.space.admitEssential(); err != nil {
		return broker.Cursor{}, err
	}
	rec := broker.Event{Channel: broker.Channel{Site: r.Site}, Revocation: &r}
	p := pointer{site: r.Site, expires: untilTime(g.now, g.c.state.age()), revocation: &r}
	if err := g.push(&rec, &p, int64(len(r.Value))+overhead); err != nil {
		return broker.Cursor{}, fmt.Errorf("revoke: %w", err)
	}
	life := untilTime(g.now, broker.RevocationLife)
	if err := g.set(keySeq(kindRevocation, rec.Seq), encodeRevocation(&r, life), life); err != nil {
		return broker.Cursor{}, fmt.Errorf("revoke: %w", err)
	}
	return g.cursor(rec.Seq), nil
}
