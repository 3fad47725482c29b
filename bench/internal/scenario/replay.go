package scenario

import (
	"context"
	"fmt"
	"time"

	"backchannel/bench/internal/load"
)

// replay lets one subscriber hear an anchor and the events behind it, then many resume from the anchor at once. They
// must hear what the first one heard.
func replay(ctx context.Context, s *session) error {
	c := s.tally.Channel("replay")
	c.Subscribers = 1
	if err := s.onOneChannel(ctx, c); err != nil {
		return err
	}
	probe := s.streams[0]
	probe.KeepID = true
	if err := s.publishers(1); err != nil {
		return err
	}
	id := ""
	if s.server.ResumeID != nil {
		s.pubs[0].OnAnswer = func(p *load.Publisher, body []byte) {
			if id == "" {
				id = s.server.ResumeID(body)
			}
			s.idle = append(s.idle, p)
		}
	}
	for i := range 1 + s.Behind {
		if err := s.publish(c, s.loop.Clock()); err != nil {
			return err
		}
		if err := s.drain(ctx); err != nil {
			return err
		}
		if i == 0 && id == "" {
			id = probe.LastID
		}
	}
	if id == "" {
		return fmt.Errorf("the anchor came without an id: nothing to resume from")
	}
	return s.resume(ctx, c, id)
}

func (s *session) resume(ctx context.Context, c *load.Channel, id string) error {
	requests := make([][]byte, s.Resume)
	for i := range requests {
		requests[i] = s.server.Subscribe(i, []string{c.Name}, id)
	}
	s.tally.Expect(s.Resume * s.Behind)
	m, err := s.meter()
	if err != nil {
		return err
	}
	start := time.Now()
	for _, r := range requests {
		st := &load.Stream{NeedFrame: s.server.FirstFrame, Goal: 1 + s.Behind}
		c.Follow(st, 1)
		if err := s.loop.Open(st, r); err != nil {
			return err
		}
		s.streams = append(s.streams, st)
	}
	half := time.Duration(0)
	err = s.until(ctx, drainTime, "replay", func() bool {
		if half == 0 && s.tally.Reached >= s.Resume/2 {
			half = time.Since(start)
		}
		return s.tally.Reached >= s.Resume
	})
	all := time.Since(start)
	if err != nil {
		return err
	}
	cpu, _, err := m.stop()
	if err != nil {
		return err
	}
	events := float64(s.Resume * s.Behind)
	s.values["half_s"], s.values["all_s"], s.values["cpu_s"] = half.Seconds(), all.Seconds(), cpu
	s.values["events_per_s"], s.values["cpu_s_per_million"] = events/all.Seconds(), cpu/events*1e6
	return s.rest(ctx, 200*time.Millisecond) // what comes twice comes now
}
