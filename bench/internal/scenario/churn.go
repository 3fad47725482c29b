package scenario

import (
	"context"
	"time"

	"backchannel/bench/internal/load"
	"backchannel/bench/internal/proc"
)

// churn opens and closes streams. Afterwards the server must give its descriptors back.
func churn(ctx context.Context, s *session) error {
	requests := make([][]byte, 1000)
	for i := range requests {
		requests[i] = s.server.Subscribe(i, []string{name("churn", i%10)}, "")
	}
	files := proc.Files(s.server.PID())
	before, err := proc.MemoryOf(s.server.PID())
	if err != nil {
		return err
	}
	cycles, failed := 0, error(nil)
	var done []*load.Stream
	open := func(st *load.Stream) {
		if e := s.loop.Open(st, requests[cycles%len(requests)]); e != nil {
			failed = e
		}
	}
	for range atOnce {
		done = append(done, &load.Stream{NeedFrame: s.server.FirstFrame, OnOpen: func(st *load.Stream) { done = append(done, st) }})
	}
	first := done
	done = nil
	for _, st := range first {
		open(st)
	}
	turn := func(d time.Duration) error {
		end := s.loop.Clock() + int64(d)
		err := s.until(ctx, d+drainTime, "churn", func() bool {
			ended := done
			done = nil
			for _, st := range ended {
				st.Close()
				cycles++
				open(st)
			}
			return failed != nil || s.loop.Now >= end
		})
		if err == nil {
			err = failed
		}
		return err
	}
	if err := turn(s.Warm); err != nil {
		return err
	}
	m, err := s.meter()
	if err != nil {
		return err
	}
	from := cycles
	if err := turn(s.Measure); err != nil {
		return err
	}
	cpu, wall, err := m.stop()
	if err != nil {
		return err
	}
	n := float64(cycles - from)
	s.values["cycles_per_s"], s.values["cpu_us_per_cycle"] = n/wall, cpu/max(n, 1)*1e6
	for _, st := range first {
		st.Close()
	}
	return s.settle(ctx, files, before)
}

// settle waits for the server to let go of what ended and records what it keeps.
func (s *session) settle(ctx context.Context, files int, before proc.Memory) error {
	kept := 0
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
