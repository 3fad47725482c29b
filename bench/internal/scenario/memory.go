package scenario

import (
	"context"
	"time"

	"backchannel/bench/internal/load"
	"backchannel/bench/internal/proc"
	"backchannel/bench/internal/target"
)

const megabyte = 1 << 20

// memory is what an idle stream with so many channels costs: the growth of the server's own memory, divided.
func memory(channels int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		if err := s.rest(ctx, min(time.Second, s.Rest)); err != nil {
			return err
		}
		before, err := proc.MemoryOf(s.server.PID())
		if err != nil {
			return err
		}
		names := make([]string, channels)
		for i := range names {
			names[i] = name("memory", i)
		}
		if err := s.subscribe(ctx, s.Idle, atOnce, func(int) []string { return names }, nil); err != nil {
			return err
		}
		if err := s.rest(ctx, s.Rest); err != nil {
			return err
		}
		after, err := proc.MemoryOf(s.server.PID())
		if err != nil {
			return err
		}
		for _, st := range s.streams {
			if !st.IsOpen() {
				s.account.Missing++
			}
		}
		s.values["rss_empty_mb"], s.values["rss_mb"] = float64(before.RSS)/megabyte, float64(after.RSS)/megabyte
		s.values["bytes_per_stream"] = float64(after.PSS-before.PSS) / float64(s.Idle)
		return s.heapProfile(ctx)
	}
}

// idleChannels compares two fresh servers with equally many events: all on one channel, and each on its own. What the
// second holds more is what channels cost. Resident memory after that many writes varies by more than that from run to
// run, so the live heap is compared too, by the server's own account.
func idleChannels(ctx context.Context, s *session) error {
	one, err := s.filled(ctx, func(int) string { return "one" })
	if err != nil {
		return err
	}
	liveOne, err := s.liveHeap(ctx)
	if err != nil {
		return err
	}
	kind, bench := s.server.Name, s.bench
	if err := s.close(); err != nil {
		return err
	}
	fresh, err := bench.again(ctx, kind)
	if err != nil {
		return err
	}
	fresh.values, fresh.scenario = s.values, s.scenario
	*s = *fresh
	many, err := s.filled(ctx, func(i int) string { return name("idle", i) })
	if err != nil {
		return err
	}
	liveMany, err := s.liveHeap(ctx)
	if err != nil {
		return err
	}
	s.values["live_bytes_per_channel"] = (liveMany - liveOne) / float64(s.IdleChannels)
	s.values["rss_one_mb"], s.values["rss_many_mb"] = float64(one.RSS)/megabyte, float64(many.RSS)/megabyte
	s.values["bytes_per_channel"] = float64(many.PSS-one.PSS) / float64(s.IdleChannels)
	return nil
}

// filled publishes an event for each idle channel, waits and reads the server's memory.
func (s *session) filled(ctx context.Context, channel func(i int) string) (proc.Memory, error) {
	const batch = 100
	if err := s.publishers(8); err != nil {
		return proc.Memory{}, err
	}
	sent, answered, failed := 0, 0, error(nil)
	for _, p := range s.pubs {
		p.OnAnswer = func(p *load.Publisher, _ []byte) {
			answered += batch
			s.idle = append(s.idle, p)
		}
	}
	send := s.batch(batch, channel)
	err := s.until(ctx, openTime, "fill channels", func() bool {
		for failed == nil && len(s.idle) > 0 && sent < s.IdleChannels {
			failed = send()
			sent += batch
		}
		return failed != nil || answered >= s.IdleChannels
	})
	if err == nil {
		err = failed
	}
	if err == nil {
		err = s.rest(ctx, s.Rest)
	}
	if err != nil {
		return proc.Memory{}, err
	}
	return proc.MemoryOf(s.server.PID())
}

// again starts a server of the same kind.
func (b *Bench) again(ctx context.Context, kind string) (*session, error) {
	for _, k := range target.Kinds() {
		if k.Name == kind {
			return b.open(ctx, k, false)
		}
	}
	panic("BUG: server " + kind + " is of no kind")
}
