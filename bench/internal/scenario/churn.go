package scenario

import (
	"context"
	"errors"
	"time"

	"backchannel/bench/internal/load"
	"backchannel/bench/internal/proc"
)

// churner keeps a number of streams, each of which ends as soon as it has been opened and begins anew.
type churner struct {
	*session
	streams  []*load.Stream
	done     []*load.Stream // since the last turn
	requests [][]byte
	cycles   int
}

func (s *session) churner() *churner {
	c := &churner{session: s, requests: make([][]byte, 1000)}
	for i := range c.requests {
		c.requests[i] = s.server.Subscribe(i, []string{name("churn", i%10)}, "")
	}
	onOpen := func(st *load.Stream) { c.done = append(c.done, st) }
	for range atOnce {
		c.streams = append(c.streams, &load.Stream{NeedFrame: s.server.FirstFrame, OnOpen: onOpen})
	}
	return c
}

func (c *churner) open(st *load.Stream) error {
	return c.loop.Open(st, c.requests[c.cycles%len(c.requests)])
}

// turn goes on for d. Streams are closed here and not while they are read.
func (c *churner) turn(ctx context.Context, d time.Duration) error {
	var failed error
	end := c.loop.Clock() + int64(d)
	err := c.until(ctx, d+drainTime, "churn", func() bool {
		ended := c.done
		c.done = nil
		for _, st := range ended {
			st.Close()
			c.cycles++
			if failed = c.open(st); failed != nil {
				return true
			}
		}
		return c.loop.Now >= end
	})
	return errors.Join(err, failed)
}

// churn opens and closes streams. Afterwards the server must give its descriptors back.
func churn(ctx context.Context, s *session) error {
	c := s.churner()
	files := proc.Files(s.server.PID())
	before, err := proc.MemoryOf(s.server.PID())
	if err != nil {
		return err
	}
	for _, st := range c.streams {
		if err := c.open(st); err != nil {
			return err
		}
	}
	if err := c.turn(ctx, s.Warm); err != nil {
		return err
	}
	m, err := s.meter()
	if err != nil {
		return err
	}
	from := c.cycles
	if err := c.turn(ctx, s.Measure); err != nil {
		return err
	}
	cpu, wall, err := m.stop()
	if err != nil {
		return err
	}
	n := float64(c.cycles - from)
	s.values["cycles_per_s"], s.values["cpu_us_per_cycle"] = n/wall, cpu/max(n, 1)*1e6
	for _, st := range c.streams {
		st.Close()
	}
	return s.settle(ctx, files, before)
}

// settle waits for the server to let go of what ended and records what it keeps.
func (s *session) settle(ctx context.Context, files int, before proc.Memory) error {
	var kept int
	limit := s.loop.Clock() + int64(5*time.Second)
	for {
		if err := s.rest(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if kept = proc.Files(s.server.PID()) - files; kept <= 0 || s.loop.Now > limit {
			break
		}
	}
	after, err := proc.MemoryOf(s.server.PID())
	if err != nil {
		return err
	}
	s.values["descriptors_kept"] = float64(max(kept, 0))
	s.values["rss_grown_mb"] = float64(after.RSS-before.RSS) / (1 << 20)
	return nil
}
