package broker

import (
	"context"
	"io"
	"sync"
)

// bufferedBytes bounds what waits for a stream that is written by a goroutine. What does not fit stays in the log.
const bufferedBytes = 64 << 10

// Buffered is the sink of a stream that cannot be detached from net/http (HTTP/2): the shard fills a bounded
// buffer and the handler's goroutine empties it with Serve.
type Buffered struct {
	ready chan struct{} // buffered 1: there is something to do

	mu     sync.Mutex
	buf    []byte  // guarded by mu
	full   bool    // guarded by mu: the shard waits to be woken
	closed bool    // guarded by mu
	gone   bool    // guarded by mu: nobody reads any more
	st     *stream // set by open, before any write
}

// NewBuffered makes an empty one.
func NewBuffered() *Buffered { return &Buffered{ready: make(chan struct{}, 1)} }

// Serve writes what the stream gets until the hub ends it (nil), ctx ends or a write fails. flush is called after
// each write. It must be called once, from the goroutine that owns w.
func (b *Buffered) Serve(ctx context.Context, w io.Writer, flush func() error) error {
	defer b.leave()
	var spare []byte
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.ready:
		}
		out, wake, closed := b.take(spare)
		if len(out) > 0 {
			if _, err := w.Write(out); err != nil {
				return err
			}
			if err := flush(); err != nil {
				return err
			}
		}
		spare = out[:0]
		if closed {
			return nil
		}
		if wake {
			b.st.shard.writable(b.st)
		}
	}
}

func (b *Buffered) take(spare []byte) (out []byte, wake, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out, b.buf = b.buf, spare
	wake, b.full = b.full, false
	return out, wake, b.closed
}

func (b *Buffered) leave() {
	b.mu.Lock()
	b.gone, b.buf = true, nil
	b.mu.Unlock()
}

func (b *Buffered) open(st *stream) error {
	b.st = st
	return nil
}

func (b *Buffered) write(_ []*Frame, wire []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return 0, io.ErrClosedPipe
	}
	n := min(len(wire), bufferedBytes-len(b.buf))
	b.buf = append(b.buf, wire[:n]...)
	b.full = n < len(wire)
	b.signal()
	return n, nil
}

func (b *Buffered) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *Buffered) settled(bool) bool { return false }

func (b *Buffered) close(uint64) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.signal()
}

func (b *Buffered) transport() string { return "http" }

func (b *Buffered) beats() bool { return true }
