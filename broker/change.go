package broker

import (
	"context"
	"encoding/json"
	"slices"
)

// change is something that a stream has to be told of its entries, in order. What it takes away is gone at once; what
// it adds is live when the acknowledgement is out.
type change struct {
	added    []*entry // not subscribed yet; their history is replayed first
	extended []*entry // granted again: a later end, nothing replayed
	removed  []string
	code     string // why entries left; "" if the page asked for it
	begun    bool
	upTo     uint64 // the position at which added joins
	replayed bool
}

// acknowledge works on the first change; it is false if the stream has to wait, for the log or its sink.
func (s *shard) acknowledge(st *stream) bool {
	c := st.changes[0]
	if !c.begun {
		c.begun, c.upTo = true, st.pos
	}
	if !c.replayed {
		if s.readLate(st, c) {
			return false
		}
		c.replayed = true
	}
	for _, e := range c.added {
		e.after, e.base = max(e.after, c.upTo), max(e.base, c.upTo)
		e.from = e.after
	}
	frame, err := s.channelsFrame(st, c)
	if err != nil {
		s.hub.logReadError(err)
		s.close(st)
		return false
	}
	started, all := s.write(st, []*Frame{frame}, frame.wire)
	if started == 0 || st.state == stateClosed {
		return false // it is written again from the start when the sink takes bytes
	}
	for _, e := range c.added {
		st.entries = append(st.entries, e)
		s.subscribe(e)
	}
	st.version++
	st.changes = st.changes[1:]
	return all
}

// readLate has the history of late entries read, page by page; it is false if there is none left.
func (s *shard) readLate(st *stream, c *change) bool {
	var late []*entry
	for _, e := range c.added {
		if e.after < c.upTo {
			late = append(late, e)
		}
	}
	if len(late) == 0 {
		return false
	}
	st.reading = true
	job := replay{st: st, version: st.version, head: c.upTo, upTo: c.upTo, late: true, reads: readsOf(late, 0)}
	s.hub.replayers.submit(job, func(p replayed) {
		s.do(func() { s.applyLate(st, late, p) })
	})
	return true
}

func (s *shard) applyLate(st *stream, late []*entry, p replayed) {
	started, all, ok := s.land(st, p)
	if !ok {
		return
	}
	for _, m := range p.marks {
		if m.frames > started {
			continue
		}
		e := late[m.entry]
		e.base, e.after = max(e.base, m.base), max(e.after, m.after)
		e.recovered = e.recovered && !m.lost
	}
	if all {
		for _, e := range late {
			e.after = max(e.after, p.through)
		}
		s.advance(st)
	}
}

// Change adds to a live stream what grants give and takes away the entries that remove names. It returns when the
// stream has taken note; the page hears in band when it is done. CodeNotFound if there is no such stream,
// CodeBadRequest if a name stands for another entry already, CodeTooLarge beyond the site's entries.
func (h *Hub) Change(ctx context.Context, site SiteID, id StreamID, grants []*Grant, remove []string) error {
	s := h.shardOf(id)
	var st *stream
	if err := s.ask(ctx, func() { st = s.streams[id] }); err != nil {
		return err
	}
	if st == nil || st.site != site {
		return Errorf(CodeNotFound, "no stream %s: it has ended, or it is a poll", id)
	}
	release, err := h.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	pos, err := h.log.Position(ctx)
	if err != nil {
		return err
	}
	added, slimmed, err := h.resolveAll(ctx, st, grants, pos)
	if err != nil {
		return err
	}
	var refused error
	if err := s.ask(ctx, func() {
		if st.state == stateClosed || st.farewell != nil {
			refused = Errorf(CodeNotFound, "stream %s has ended", id)
			return
		}
		var c *change
		if c, refused = s.amend(st, added, slimmed, remove); refused == nil {
			s.wheel.put(st, s.due(st, h.now()))
			s.change(st, c)
		}
	}); err != nil {
		return err
	}
	return refused
}

// resolveAll makes entries of grants for a stream that exists: they have no cursor, only their own start.
func (h *Hub) resolveAll(ctx context.Context, st *stream, grants []*Grant, pos Cursor) ([]*entry, []*Grant, error) {
	added, err := mergeEntries(st, grants, h.limits(st.site).StreamEntries)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range added {
		if err := h.resolve(ctx, e, "", pos); err != nil {
			return nil, nil, err
		}
	}
	return entriesOf(added), slim(grants, added), nil
}

// amend changes a stream's entries and makes the change that tells of it. Nothing has changed after an error.
func (s *shard) amend(st *stream, added []*entry, grants []*Grant, remove []string) (*change, error) {
	names := make(map[string]bool, len(remove))
	for _, as := range remove {
		names[as] = true
	}
	taken := make(map[string]*entry)
	for _, e := range st.entries {
		if !names[e.as()] {
			taken[e.as()] = e
		}
	}
	for _, c := range st.changes {
		for _, e := range c.added {
			if !names[e.as()] {
				taken[e.as()] = e
			}
		}
	}
	c := &change{}
	for _, e := range added {
		switch old := taken[e.as()]; {
		case old == nil:
			taken[e.as()] = e
			c.added = append(c.added, e)
		case old.same(e):
			c.extended = append(c.extended, old)
		default:
			return nil, Errorf(CodeBadRequest, "as %q names another entry of this stream", clip(e.as()))
		}
	}
	if limit := s.hub.limits(st.site).StreamEntries; len(taken) > limit {
		return nil, Errorf(CodeTooLarge, "the stream would have %d channels; its site's limit is %d", len(taken), limit)
	}
	adopt(st, added, grants)
	for _, e := range added {
		if old := taken[e.as()]; old != e {
			old.grants = append(old.grants, e.grants...)
		}
	}
	c.removed = s.remove(st, func(e *entry) bool { return names[e.as()] })
	return c, nil
}

// adopt adds grants to the stream. One that it has already, because a page named another room under it, stays one.
func adopt(st *stream, added []*entry, grants []*Grant) {
	st.grants = st.grants[:len(st.grants):len(st.grants)]
	for _, g := range grants {
		old := slices.IndexFunc(st.grants, func(have *Grant) bool {
			return have.ID == g.ID && have.IssuedAt.Equal(g.IssuedAt) && have.Until.Equal(g.Until) && have.Seal == g.Seal
		})
		if old < 0 {
			st.grants = append(st.grants, g)
			continue
		}
		for _, e := range added {
			for i := range e.grants {
				if e.grants[i] == g {
					e.grants[i] = st.grants[old]
				}
			}
		}
	}
}

// change queues c and has it worked on.
func (s *shard) change(st *stream, c *change) {
	if st.state == stateLive {
		st.pos, st.state = s.pos, stateBehind
		s.rebase(st)
	}
	st.changes = append(st.changes, c)
	s.advance(st)
}

// channelJSON describes an entry in hello and channels.
type channelJSON struct {
	Channel   ChannelID   `json:"channel"`
	As        string      `json:"as"`
	Recovered bool        `json:"recovered"`
	Head      Cursor      `json:"head"`
	Until     NumericDate `json:"until"`
}

func describe(epoch Epoch, entries []*entry, head uint64) []channelJSON {
	out := make([]channelJSON, 0, len(entries))
	for _, e := range entries {
		out = append(out, channelJSON{
			Channel: e.channel, As: e.as(), Recovered: e.recovered,
			Head: Cursor{epoch, max(head, e.after)}, Until: NumericDateOf(e.until()),
		})
	}
	return out
}

// channelsFrame makes the acknowledgement of c, as if it were done already.
func (s *shard) channelsFrame(st *stream, c *change) (*Frame, error) {
	entries := append(st.entries[:len(st.entries):len(st.entries)], c.added...)
	resume, key, err := s.hub.mint(st.site, st.id, remaining(s.hub.epoch, st.grants, entries, s.hub.now()))
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(struct {
		Channels []channelJSON `json:"channels"`
		Removed  []string      `json:"removed,omitempty"`
		Code     string        `json:"code,omitempty"`
		Resume   string        `json:"resume"`
		Key      string        `json:"key"`
	}{
		append(describe(s.hub.epoch, c.added, c.upTo), describe(s.hub.epoch, c.extended, c.upTo)...),
		c.removed, c.code, resume, key,
	})
	if err != nil {
		return nil, err
	}
	return controlFrame(&Cursor{s.hub.epoch, st.pos}, FrameChannels, data, ""), nil
}
