package broker

import (
	"sort"
	"sync"
)

// recent holds the newest events of the whole log as frames, bounded in bytes. It is where replay joins live: a
// stream that has read the log up to a position inside it needs no further look at the log. It is written by Hub.Run
// and read by the shards.
type recent struct {
	maxBytes int

	mu     sync.RWMutex
	frames []*Frame // by Seq, without gaps but for records that are no events
	bytes  int
	from   uint64 // every event after from, up to head, is in frames
	head   uint64
}

// reset forgets everything: what comes next follows head.
func (r *recent) reset(head uint64) {
	r.mu.Lock()
	r.frames, r.bytes, r.from, r.head = nil, 0, head, head
	r.mu.Unlock()
}

func (r *recent) add(frames []*Frame, head uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, frames...)
	for _, f := range frames {
		r.bytes += len(f.wire)
	}
	r.head = head
	cut := 0
	for r.bytes > r.maxBytes && cut < len(r.frames) {
		r.bytes -= len(r.frames[cut].wire)
		r.from = r.frames[cut].Seq
		cut++
	}
	if cut > 0 {
		clear(r.frames[:cut]) // the array lives on; what it pointed at must not
		r.frames = r.frames[cut:]
	}
}

// after collects the frames in (after, upTo] that want accepts and that live at now (microseconds since 1970), at most
// maxBytes of them but at least one. ok is
// false if the ring does not reach back to after. through is the position up to which the answer is whole.
func (r *recent) after(after, upTo uint64, maxBytes int, now int64, want func(*Frame) bool) (found []*Frame, through uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if after < r.from {
		return nil, 0, false
	}
	size := 0
	i := sort.Search(len(r.frames), func(i int) bool { return r.frames[i].Seq > after })
	for ; i < len(r.frames) && r.frames[i].Seq <= upTo; i++ {
		f := r.frames[i]
		if f.expires != 0 && f.expires <= now || !want(f) {
			continue
		}
		if size > 0 && size+len(f.wire) > maxBytes {
			return found, found[len(found)-1].Seq, true
		}
		found = append(found, f)
		size += len(f.wire)
	}
	return found, upTo, true
}
