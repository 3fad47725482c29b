package broker

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// sweepYield is after how many writes a sweep lets others run: a raw write does not, and a sweep over 10,000
	// sockets holds a processor for 40 ms.
	sweepYield = 256
	// tickEvery is the grain of heartbeats and expiry.
	tickEvery = 250 * time.Millisecond
	// stuckAfter is how long a sink may take nothing before its stream is closed.
	stuckAfter = 60 * time.Second
)

// shard owns a part of the streams and all that is theirs. Its goroutine is run; everything else reaches it through
// the inbox.
type shard struct {
	hub    *Hub
	poller poller
	wheel  wheel

	// Owned by run.
	pos     uint64 // every event up to pos has been dispatched
	streams map[StreamID]*stream
	topics  map[Channel]*topic
	blocked map[*stream]struct{}
	early   []*stream // caught up, but with an entry that starts after pos
	touched []*stream
	turn    uint64
	joined  joined

	wake chan struct{} // buffered 1; a signal, never data

	mu     sync.Mutex
	inbox  inbox // guarded by mu
	closed bool  // guarded by mu: nothing is taken any more
}

// inbox is what waits for the shard. Deliveries come first: a command sees every event that was there before it.
type inbox struct {
	deliveries []delivery
	commands   []func()
}

// delivery is a batch from the log's tail.
type delivery struct {
	frames      []*Frame
	revocations []Revocation
	head        uint64
	// broken: records between the last delivery and this one were removed before they were heard.
	broken bool
}

func newShard(h *Hub) *shard {
	return &shard{
		hub: h, wake: make(chan struct{}, 1),
		streams: make(map[StreamID]*stream), topics: make(map[Channel]*topic), blocked: make(map[*stream]struct{}),
	}
}

// prepare readies the shard for run, from a position.
func (s *shard) prepare(pos uint64) error {
	s.pos = pos
	s.wheel.start(s.hub.now().UnixMilli())
	return s.poller.start()
}

// run works until ctx ends, then closes every stream.
func (s *shard) run(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	defer s.closeAll()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-tick.C:
			s.tick()
		}
		in := s.take()
		if len(in.deliveries) > 0 {
			s.deliver(in.deliveries)
		}
		for _, do := range in.commands {
			do()
		}
	}
}

func (s *shard) take() inbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.inbox
	s.inbox = inbox{}
	return in
}

// do has f run by the shard's goroutine. It never waits; it is false, and f is not run, once the shard has stopped.
func (s *shard) do(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.inbox.commands = append(s.inbox.commands, f)
	s.signal()
	return true
}

func (s *shard) post(d delivery) {
	s.mu.Lock()
	s.inbox.deliveries = append(s.inbox.deliveries, d)
	s.mu.Unlock()
	s.signal()
}

func (s *shard) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ask runs f on the shard's goroutine and waits for it.
func (s *shard) ask(ctx context.Context, f func()) error {
	done := make(chan struct{})
	if !s.do(func() {
		defer close(done)
		f()
	}) {
		return errStopping
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deliver joins what has come in: a stream is written to once, however many batches waited.
func (s *shard) deliver(batches []delivery) {
	for len(batches) > 0 {
		n := 1
		frames, head := batches[0].frames, batches[0].head
		if batches[0].broken {
			s.leaveLive()
		}
		for len(batches[n-1].revocations) == 0 && n < len(batches) && !batches[n].broken {
			frames, head = append(frames[:len(frames):len(frames)], batches[n].frames...), batches[n].head
			n++
		}
		s.dispatch(frames, head)
		for _, r := range batches[n-1].revocations {
			s.revoke(r)
		}
		batches = batches[n:]
	}
	if early := s.early; len(early) > 0 {
		s.early = nil
		for _, st := range early {
			s.advance(st)
		}
	}
}

// leaveLive makes every live stream look at the log for what it may have missed.
func (s *shard) leaveLive() {
	for _, st := range s.streams {
		if st.state == stateLive {
			st.pos, st.state = s.pos, stateBehind
			s.rebase(st)
			s.do(func() { s.advance(st) })
		}
	}
}

// dispatch collects for each live stream the frames it has to get, then writes them, one write a stream.
func (s *shard) dispatch(frames []*Frame, head uint64) {
	s.turn++
	for _, f := range frames {
		if t := s.topics[f.channel]; t != nil {
			t.matching(f, func(e *entry) { s.collect(e.st, f) })
		}
	}
	s.pos = head
	for i, st := range s.touched {
		if st.state == stateLive {
			s.send(st, st.run)
		}
		clear(st.run)
		s.touched[i] = nil
		if i%sweepYield == sweepYield-1 {
			runtime.Gosched()
		}
	}
	s.touched = s.touched[:0]
	s.joined.reset()
	s.hub.stats.dispatched.Add(int64(len(frames)))
}

// collect notes that st has to get f in this dispatch: once, however many of its entries match.
func (s *shard) collect(st *stream, f *Frame) {
	if st.state != stateLive {
		return
	}
	if st.turn != s.turn {
		st.turn, st.run = s.turn, st.run[:0]
		s.touched = append(s.touched, st)
	}
	if n := len(st.run); n == 0 || st.run[n-1] != f {
		st.run = append(st.run, f)
	}
}

// joined keeps the last run of frames that was joined to one piece of bytes: the next stream usually has the same.
type joined struct {
	run  []*Frame
	wire []byte
}

func (j *joined) reset() {
	clear(j.run)
	j.run, j.wire = j.run[:0], nil
}

func (j *joined) of(run []*Frame) []byte {
	if len(run) == 1 {
		return run[0].wire
	}
	if len(run) == len(j.run) && run[0] == j.run[0] {
		same := true
		for i := range run {
			if run[i] != j.run[i] {
				same = false
				break
			}
		}
		if same {
			return j.wire
		}
	}
	var b bytes.Buffer
	size := 0
	for _, f := range run {
		size += len(f.wire)
	}
	b.Grow(size)
	for _, f := range run {
		b.Write(f.wire)
	}
	j.run, j.wire = append(j.run[:0], run...), b.Bytes()
	return j.wire
}

// tick sends the heartbeats that are due, ends what has expired and closes what is stuck.
func (s *shard) tick() {
	now := s.hub.now()
	nowMs := now.UnixMilli()
	var beat *Frame
	s.wheel.advance(nowMs, func(st *stream) (next int64) {
		if st.state == stateClosed {
			return 0
		}
		if s.expire(st, now); st.state == stateClosed {
			return 0
		}
		if st.state == stateLive && st.sink.beats() && nowMs >= st.wroteAt+s.hub.beatMs {
			if beat == nil {
				beat = s.heartbeat(now)
			}
			s.send(st, []*Frame{beat})
		}
		return s.due(st, now)
	})
	for st := range s.blocked {
		if nowMs-st.blockedAt > stuckAfter.Milliseconds() {
			s.hub.stats.stuck.Add(1)
			s.close(st)
		}
	}
}

func (s *shard) heartbeat(now time.Time) *Frame {
	data := append([]byte(`{"time":`), FormatTime(now)...)
	return controlFrame(&Cursor{s.hub.epoch, s.pos}, FrameHeartbeat, append(data, '}'), "")
}

// due is when the wheel has to look at st again: its next heartbeat, or the first end of an entry.
func (s *shard) due(st *stream, now time.Time) int64 {
	next := now.UnixMilli() + s.hub.beatMs
	if st.sink.beats() && st.state == stateLive {
		next = st.wroteAt + s.hub.beatMs
	}
	for _, e := range st.entries {
		next = min(next, e.until().UnixMilli())
	}
	for _, g := range st.grants {
		next = min(next, g.Until.UnixMilli())
	}
	return max(next, now.UnixMilli()+1)
}

func (s *shard) closeAll() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, do := range s.take().commands {
		do() // whoever waits for an answer gets one; streams attached here are closed below
	}
	for _, st := range s.streams {
		s.close(st)
	}
	s.poller.stop()
}
