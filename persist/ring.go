package persist

import (
	"sync"

	"backchannel/broker"
)

// ringBytes bounds the recent events in memory. A tail further behind reads the log.
const ringBytes = 8 << 20

// batch is what one commit has added to the log. It is immutable and shared by all tails.
type batch struct {
	events []broker.Event
	bytes  int
}

// ring holds the newest batches, each joining the one before without a gap.
type ring struct {
	mu      sync.Mutex
	batches []batch       // guarded by mu
	bytes   int           // guarded by mu
	last    uint64        // guarded by mu; position of the newest event
	moved   chan struct{} // guarded by mu; closed and replaced when last moves
}

func newRing(last uint64) *ring { return &ring{last: last, moved: make(chan struct{})} }

// push adds a synced batch. It waits for nobody.
func (r *ring) push(events []broker.Event) {
	if len(events) == 0 {
		return
	}
	b := batch{events: events}
	for i := range events {
		b.bytes += len(events[i].Data) + 200 // the struct and its names
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, b)
	r.bytes += b.bytes
	drop := 0
	for r.bytes > ringBytes && drop < len(r.batches)-1 {
		r.bytes -= r.batches[drop].bytes
		r.batches[drop] = batch{}
		drop++
	}
	r.batches = r.batches[drop:]
	r.move(events[len(events)-1].Seq)
}

// reset forgets the batches: tails read the log up to last.
func (r *ring) reset(last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches, r.bytes = nil, 0
	r.move(last)
}

// move runs with r.mu held.
func (r *ring) move(last uint64) {
	r.last = last
	close(r.moved)
	r.moved = make(chan struct{})
}

// after gives the events behind a position, of several batches if they wait. ok is false if they are no longer all
// here; none and ok mean that the position is the newest, and moved will be closed when there is more.
func (r *ring) after(seq uint64) (found []batch, moved <-chan struct{}, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq >= r.last {
		return nil, r.moved, true
	}
	if len(r.batches) == 0 || r.batches[0].events[0].Seq > seq+1 {
		return nil, nil, false
	}
	first := len(r.batches) - 1
	for first > 0 && r.batches[first].events[0].Seq > seq+1 {
		first--
	}
	return append([]batch(nil), r.batches[first:]...), nil, true
}
