package broker

import (
	"time"
)

// pageBytes bounds what is read for one stream at a time, from the ring or the log.
const pageBytes = 128 << 10

// attach takes a stream over. first is written before anything else.
func (s *shard) attach(st *stream, first []*Frame) {
	if s.hub.draining.Load() {
		st.state = stateClosed // its handler ends it once more
		st.sink.close(st.pos)
		s.hub.closed(st)
		return
	}
	if old := s.streams[st.id]; old != nil {
		s.close(old) // a poll that was given up by its client and came again
	}
	s.streams[st.id] = st
	if err := st.sink.open(st); err != nil {
		s.close(st)
		return
	}
	for _, e := range st.entries {
		s.subscribe(e)
	}
	now := s.hub.now()
	st.wroteAt = now.UnixMilli()
	s.wheel.put(st, s.due(st, now))
	if len(first) > 0 {
		s.write(st, first, s.joined.of(first))
		s.joined.reset()
	}
	// A revocation that came between the check of the credential and this moment has met neither; now it does.
	s.purgeGrants(st, s.hub.revoked.hit, codeRevoked)
	s.advance(st)
}

func (s *shard) subscribe(e *entry) {
	ch := Channel{e.st.site, e.channel}
	t := s.topics[ch]
	if t == nil {
		t = &topic{channel: ch}
		s.topics[ch] = t
	}
	e.channel = t.channel.ID // one string for all who hear the channel
	t.add(e)
}

func (s *shard) unsubscribe(e *entry) {
	if e.bucket == nil {
		return
	}
	t := s.topics[Channel{e.st.site, e.channel}]
	t.remove(e)
	if t.entries == 0 {
		delete(s.topics, t.channel)
	}
}

// send writes frames to a live stream.
func (s *shard) send(st *stream, frames []*Frame) {
	if _, all := s.write(st, frames, s.joined.of(frames)); all && st.sink.settled(st.state == stateLive) {
		s.close(st)
	}
}

// write gives frames to the sink. started counts the frames of which at least a byte was taken; of the last of these
// the rest is kept, the others are forgotten: they are in the log. It is false if the stream has stalled or ended.
func (s *shard) write(st *stream, frames []*Frame, wire []byte) (started int, all bool) {
	n, err := st.sink.write(frames, wire)
	if err != nil {
		s.close(st)
		return 0, false
	}
	if n > 0 {
		st.wroteAt = s.hub.now().UnixMilli()
	}
	s.hub.stats.bytes.Add(int64(n))
	if n == len(wire) {
		s.hub.stats.frames.Add(int64(len(frames)))
		return len(frames), true
	}
	return s.stall(st, frames, n), false
}

// stall notes that the sink is full after n bytes of frames.
func (s *shard) stall(st *stream, frames []*Frame, n int) (started int) {
	if st.state == stateLive {
		st.pos = s.pos
		if f := frames[0]; f.channel.ID != "" {
			st.pos = f.Seq - 1
		}
	}
	for _, f := range frames {
		if n == 0 {
			break
		}
		started++
		if f.Seq > st.pos {
			st.pos = f.Seq
		}
		if n < len(f.wire) {
			st.rest = f.wire[n:]
			break
		}
		n -= len(f.wire)
	}
	if st.state == stateLive {
		st.state = stateBehind
		s.rebase(st)
	}
	s.hub.stats.frames.Add(int64(started))
	s.hub.stats.stalls.Add(1)
	st.blockedAt = s.hub.now().UnixMilli()
	s.blocked[st] = struct{}{}
	return started
}

// rebase notes that a stream which was live has heard everything up to its position.
func (s *shard) rebase(st *stream) {
	for _, e := range st.entries {
		e.base = max(e.base, st.pos)
	}
}

// writable is called when a sink that was full takes bytes again, from any goroutine.
func (s *shard) writable(st *stream) { s.do(func() { s.resume(st) }) }

func (s *shard) resume(st *stream) {
	if st.state == stateClosed || st.blockedAt == 0 {
		return
	}
	if len(st.rest) > 0 {
		n, err := st.sink.write(nil, st.rest)
		if err != nil {
			s.close(st)
			return
		}
		s.hub.stats.bytes.Add(int64(n))
		if st.rest = st.rest[n:]; n > 0 {
			st.wroteAt = s.hub.now().UnixMilli()
			st.blockedAt = st.wroteAt
		}
		if len(st.rest) > 0 {
			return
		}
	}
	st.rest, st.blockedAt = nil, 0
	delete(s.blocked, st)
	s.advance(st)
}

// advance brings a stream that is behind further: what has to be said of its entries first, then what the ring holds,
// else what the log holds, until it is live or its sink is full.
func (s *shard) advance(st *stream) {
	var want func(*Frame) bool
	for st.state == stateBehind && !st.reading && st.blockedAt == 0 {
		switch {
		case st.farewell != nil:
			s.part(st)
			return
		case len(st.changes) > 0:
			if !s.acknowledge(st) {
				return
			}
			want = nil
			continue
		}
		if st.pos >= s.pos {
			s.goLive(st)
			return
		}
		if want == nil {
			want = st.matcher()
		}
		found, through, ok := s.hub.recent.after(st.pos, s.pos, pageBytes, s.hub.now().UnixMicro(), want)
		if !ok {
			s.read(st)
			return
		}
		if len(found) > 0 {
			if _, all := s.write(st, found, s.joined.of(found)); !all {
				s.joined.reset()
				s.rebase(st) // the ring has no holes: what it passed over was not for this stream
				return
			}
			s.joined.reset()
		}
		st.pos = through
		s.rebase(st)
		if through < s.pos && st.sink.settled(false) {
			s.close(st)
		}
	}
}

// goLive ends replay: from here the stream hears what is dispatched.
func (s *shard) goLive(st *stream) {
	ready := st.pos <= s.pos
	for _, e := range st.entries {
		ready = ready && e.after <= s.pos
	}
	if !ready {
		s.early = append(s.early, st)
		return
	}
	st.state = stateLive
	if !st.greeted && st.sink.beats() {
		beat := s.heartbeat(s.hub.now())
		started, all := s.write(st, []*Frame{beat}, beat.wire)
		st.greeted = started > 0 // else it is sent when the sink takes bytes: it is in no log
		if !all {
			return
		}
	}
	st.greeted = true
	if st.sink.settled(true) {
		s.close(st)
	}
}

// read has a replayer fetch the next page of the log.
func (s *shard) read(st *stream) {
	st.reading = true
	job := replay{st: st, version: st.version, pos: st.pos, head: s.hub.head.Load(), reads: readsOf(st.entries, st.pos)}
	s.hub.replayers.submit(job, func(p replayed) {
		s.do(func() { s.apply(st, p) })
	})
}

// apply writes a page that a replayer has read.
func (s *shard) apply(st *stream, p replayed) {
	started, all, ok := s.land(st, p)
	if !ok {
		return
	}
	for _, m := range p.marks {
		if m.frames <= started {
			e := st.entries[m.entry]
			e.base, e.after = max(e.base, m.base), max(e.after, m.after)
		}
	}
	if !all {
		return
	}
	st.pos = max(st.pos, p.through)
	if st.sink.settled(false) {
		s.close(st)
		return
	}
	s.advance(st)
}

// land writes the frames of a page. started counts those of which a byte was taken; ok is false if the page came to
// nothing: the stream has ended, the log could not be read, or entries have changed meanwhile, so that the page may
// hold what the stream must not hear.
func (s *shard) land(st *stream, p replayed) (started int, all, ok bool) {
	st.reading = false
	switch {
	case st.state == stateClosed:
		return 0, false, false
	case p.err != nil:
		s.hub.logReadError(p.err)
		s.close(st) // the client comes back with its cursor
		return 0, false, false
	case p.version != st.version:
		s.advance(st)
		return 0, false, false
	case len(p.frames) == 0:
		return 0, true, true
	}
	started, all = s.write(st, p.frames, s.joined.of(p.frames))
	s.joined.reset()
	return started, all, st.state != stateClosed
}

// part writes the farewell, once, and closes the stream behind it.
func (s *shard) part(st *stream) {
	if st.parted {
		s.close(st)
		return
	}
	st.parted = true
	if _, all := s.write(st, []*Frame{st.farewell}, st.farewell.wire); all {
		s.close(st)
	}
}

// dismiss ends a stream with a bye as soon as its sink takes it.
func (s *shard) dismiss(st *stream, reason string, retry time.Duration) {
	if st.state == stateClosed || st.farewell != nil {
		return
	}
	st.farewell = byeFrame(reason, retry)
	if st.state == stateLive {
		st.pos, st.state = s.pos, stateBehind
	}
	st.version++ // a page on its way is not written any more
	s.advance(st)
}

func (s *shard) close(st *stream) {
	if st.state == stateClosed {
		return
	}
	if st.state == stateLive {
		st.pos = s.pos
	}
	st.state = stateClosed
	for _, e := range st.entries {
		s.unsubscribe(e)
	}
	if s.streams[st.id] == st {
		delete(s.streams, st.id)
	}
	delete(s.blocked, st)
	st.rest, st.changes, st.run = nil, nil, nil
	st.sink.close(st.pos)
	s.hub.closed(st)
}
