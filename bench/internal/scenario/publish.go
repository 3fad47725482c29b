package scenario

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"backchannel/bench/internal/load"
)

func name(prefix string, i int) string { return prefix + "-" + strconv.Itoa(i) }

// publish measures acknowledged publishes in a closed loop over 100 channels. Where the server tells positions, those
// that one publisher was given must rise.
func publish(publishers int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		if err := s.publishers(publishers); err != nil {
			return err
		}
		channels := make([]*load.Channel, 100)
		for i := range channels {
			channels[i] = s.tally.Channel(name("publish", i))
		}
		newest := make([]int64, publishers)
		answered, failed := 0, error(nil)
		onAnswer := func(p *load.Publisher, body []byte) {
			answered++
			s.idle = append(s.idle, p)
			if s.server.Position == nil {
				return
			}
			at, err := s.server.Position(body)
			if err == nil && at <= newest[p.Index] {
				err = fmt.Errorf("publisher %d was given position %d after %d", p.Index, at, newest[p.Index])
			}
			newest[p.Index], failed = at, errors.Join(failed, err)
		}
		for _, p := range s.pubs {
			p.OnAnswer = onAnswer
		}
		turn := 0
		err := s.closedLoop(ctx, &answered, func() error {
			turn++
			return errors.Join(failed, s.publish(channels[turn%len(channels)], s.loop.Clock()))
		})
		return errors.Join(err, failed)
	}
}

// closedLoop keeps all publishers busy and records the rate of answers, in events.
func (s *session) closedLoop(ctx context.Context, answered *int, send func() error) error {
	var failed error
	pump := func(d time.Duration) error {
		end := s.loop.Clock() + int64(d)
		err := s.until(ctx, d+drainTime, "publish", func() bool {
			for failed == nil && len(s.idle) > 0 {
				failed = send()
			}
			return failed != nil || s.loop.Now >= end
		})
		return errors.Join(err, failed)
	}
	if err := pump(s.Warm); err != nil {
		return err
	}
	latency := &load.Histogram{}
	for _, p := range s.pubs {
		p.Latency = latency
	}
	m, err := s.meter()
	if err != nil {
		return err
	}
	before := *answered
	if err := pump(s.Measure); err != nil {
		return err
	}
	n := float64(*answered - before)
	cpu, wall, err := m.stop()
	if err != nil {
		return err
	}
	s.values["publishes_per_s"], s.values["cpu_us_per_publish"] = n/wall, cpu/max(n, 1)*1e6
	s.latencies(latency)
	return s.drain(ctx)
}

// publishBatches is publish with many events a request.
func publishBatches(publishers, size int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		if err := s.publishers(publishers); err != nil {
			return err
		}
		answered := 0
		for _, p := range s.pubs {
			p.OnAnswer = func(p *load.Publisher, _ []byte) {
				answered += size
				s.idle = append(s.idle, p)
			}
		}
		b := s.batch(size, func(i int) string { return name("publish", i%100) })
		return s.closedLoop(ctx, &answered, b)
	}
}

// batch returns a function that makes an idle publisher send size events on channels by their number.
func (s *session) batch(size int, channel func(i int) string) func() error {
	channels, data := make([]string, size), make([][]byte, size)
	next := 0
	return func() error {
		p := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		for i := range size {
			channels[i] = channel(next)
			c := s.tally.Channel(channels[i])
			data[i] = s.tally.Payload(data[i][:0], c, p.Index, 0, s.Payload)
			next++
		}
		s.request[p.Index] = s.server.PublishMany(s.request[p.Index][:0], channels, data)
		return p.Send(s.request[p.Index])
	}
}
