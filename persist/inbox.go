package persist

import (
	"context"
	"sync"

	"backchannel/broker"
)

// request is something the committer does for somebody who waits. done is closed when err and the results are set; the
// committer owns the request until then.
type request struct {
	// entries and bytes are about what the transaction will hold for it.
	entries, bytes int
	// stage writes into g. A refusal (an error with a code) is the answer to this request alone and must leave g as
	// it was; any other error fails the whole group. It runs in the committer.
	stage func(g *group) error
	// chore, in place of stage, does more than one transaction. It runs in the committer, alone.
	chore func(c *committer) error

	err  error
	done chan struct{}
}

func (r *request) finish(err error) {
	r.err = err
	close(r.done)
}

// inbox holds the requests that wait for the committer. It is bounded by the number of callers: each waits for its own.
type inbox struct {
	mu      sync.Mutex
	waiting []*request // guarded by mu
	closed  bool       // guarded by mu
	wake    chan struct{}
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func errStopped() error {
	return broker.Errorf(broker.CodeUnavailable, "the store is stopping; try again when the broker is back")
}

func (in *inbox) put(r *request) error {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return errStopped()
	}
	in.waiting = append(in.waiting, r)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default: // it is awake already
	}
	return nil
}

// take empties the inbox; spare becomes its new memory.
func (in *inbox) take(spare []*request) []*request {
	in.mu.Lock()
	defer in.mu.Unlock()
	taken := in.waiting
	in.waiting = spare[:0]
	return taken
}

// close refuses what comes from now on. What is in the inbox can still be taken.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
}

// submit waits until the committer has dealt with r, or ctx ends: then r may still be done.
func (s *Store) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.done = make(chan struct{})
	if err := s.inbox.put(r); err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
