package scenario

import (
	"context"
	"math/rand/v2"
	"time"

	"backchannel/bench/internal/load"
)

// fanOut saturates one channel: a next event is published whenever fewer than InFlight are on their way.
func fanOut(subscribers int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		c := s.tally.Channel("fanout")
		c.Subscribers = subscribers
		if err := s.onOneChannel(ctx, c); err != nil {
			return err
		}
		if err := s.publishers(s.InFlight); err != nil {
			return err
		}
		return s.saturate(ctx, s.InFlight, func() *load.Channel { return c })
	}
}

// onOneChannel opens all subscribers of c.
func (s *session) onOneChannel(ctx context.Context, c *load.Channel) error {
	names := []string{c.Name}
	return s.subscribe(ctx, c.Subscribers, atOnce, func(int) []string { return names }, func(int) *load.Channel { return c })
}

// saturate warms up, measures and drains.
func (s *session) saturate(ctx context.Context, inFlight int, next func() *load.Channel) error {
	var failed error
	pump := func(d time.Duration) error {
		end := s.loop.Clock() + int64(d)
		err := s.until(ctx, d+drainTime, "publish", func() bool {
			for failed == nil && len(s.idle) > 0 && s.tally.InFlight < inFlight {
				failed = s.publish(next(), s.loop.Clock())
			}
			return failed != nil || s.loop.Now >= end
		})
		if err == nil {
			err = failed
		}
		return err
	}
	if err := pump(s.Warm); err != nil {
		return err
	}
	m, err := s.meter()
	if err != nil {
		return err
	}
	s.tally.Latency = &load.Histogram{}
	if err := pump(s.Measure); err != nil {
		return err
	}
	if err := m.deliveries(); err != nil {
		return err
	}
	s.latencies(s.tally.Latency)
	s.tally.Latency = nil
	return s.drain(ctx)
}

func (s *session) latencies(h *load.Histogram) {
	s.values["p50_ms"], s.values["p99_ms"], s.values["max_ms"] = h.Quantile(0.5), h.Quantile(0.99), h.Max()
}

// paced publishes at a fixed rate, whatever the server does: an event's latency counts from the time it was due.
func paced(subscribers int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		c := s.tally.Channel("paced")
		c.Subscribers = subscribers
		if err := s.onOneChannel(ctx, c); err != nil {
			return err
		}
		if err := s.publishers(8); err != nil {
			return err
		}
		interval := time.Second * time.Duration(subscribers) / time.Duration(s.Rate)
		if err := s.pace(ctx, c, interval, s.Warm); err != nil {
			return err
		}
		m, err := s.meter()
		if err != nil {
			return err
		}
		s.tally.Latency = &load.Histogram{}
		if err := s.pace(ctx, c, interval, s.Paced); err != nil {
			return err
		}
		if err := m.deliveries(); err != nil {
			return err
		}
		err = s.drain(ctx)
		s.latencies(s.tally.Latency)
		return err
	}
}

// pace publishes an event each interval and returns an interval after the last.
func (s *session) pace(ctx context.Context, c *load.Channel, interval, d time.Duration) error {
	start := s.loop.Clock()
	for due := start; due <= start+int64(max(d, interval)); due += int64(interval) {
		for s.loop.Clock() < due || len(s.idle) == 0 {
			// Poll waits whole milliseconds: the last one is spent asking.
			if err := s.loop.Poll(time.Duration(due - s.loop.Clock())); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if due+int64(interval) <= start+int64(max(d, interval)) {
			if err := s.publish(c, due); err != nil {
				return err
			}
		}
	}
	return nil
}

// manyChannels spreads subscribers evenly over channels; publishers choose one at random, each event after the
// acknowledgement of their last.
func manyChannels(publishers int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		channels := make([]*load.Channel, s.Channels)
		for i := range channels {
			channels[i] = s.tally.Channel(name("channel", i))
		}
		of := func(i int) *load.Channel { return channels[i%len(channels)] }
		for i := range s.Subscribers {
			of(i).Subscribers++
		}
		if err := s.subscribe(ctx, s.Subscribers, atOnce, func(i int) []string { return []string{of(i).Name} }, of); err != nil {
			return err
		}
		if err := s.publishers(publishers); err != nil {
			return err
		}
		random := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- the same choice in each run
		return s.saturate(ctx, 1000, func() *load.Channel { return channels[random.IntN(len(channels))] })
	}
}
