package broker

import "context"

// pollBytes bounds the frames of one poll's answer; the next poll goes on from there.
const pollBytes = 256 << 10

// Poll is the sink of a long poll: it collects the first frames there are and ends the stream.
type Poll struct {
	done chan struct{}

	// All fields are the shard's until done is closed.
	frames []*Frame
	bytes  int
	pos    uint64
}

// NewPoll makes an empty one.
func NewPoll() *Poll { return &Poll{done: make(chan struct{})} }

// Wait waits for the answer: the frames, and the position that they reach. It returns when the stream has ended,
// which the caller brings about with Hub.End when its patience ends; an error is ctx's.
func (p *Poll) Wait(ctx context.Context) ([]*Frame, uint64, error) {
	select {
	case <-p.done:
		return p.frames, p.pos, nil
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// Done is closed when the answer is there.
func (p *Poll) Done() <-chan struct{} { return p.done }

func (p *Poll) open(*stream) error { return nil }

func (p *Poll) write(frames []*Frame, wire []byte) (int, error) {
	p.frames = append(p.frames, frames...)
	p.bytes += len(wire)
	return len(wire), nil
}

func (p *Poll) settled(caughtUp bool) bool {
	return caughtUp && len(p.frames) > 0 || p.bytes >= pollBytes
}

func (p *Poll) close(pos uint64) {
	p.pos = pos
	close(p.done)
}

func (p *Poll) transport() string { return "poll" }

func (p *Poll) beats() bool { return false }
