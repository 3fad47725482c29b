package scenario

import (
	"context"
	"fmt"
	"time"

	"backchannel/bench/internal/load"
	"backchannel/bench/internal/proc"
	"backchannel/bench/internal/target"
)

// Limits of waiting, far beyond what any working server needs.
const (
	openTime  = 60 * time.Second
	drainTime = 20 * time.Second
	// atOnce is how many connections are being opened at a time.
	atOnce = 64
)

// session is one run with its server, streams and publishers.
type session struct {
	Sizes
	bench    *Bench
	server   *target.Server
	loop     *load.Loop
	tally    *load.Tally
	streams  []*load.Stream
	pubs     []*load.Publisher
	idle     []*load.Publisher
	account  load.Account
	values   map[string]float64
	scenario string

	closed  bool
	profile chan struct{} // closed when a profile that was asked for is there; nil if none was

	request [][]byte // of each publisher, reused
	data    []byte
}

// close ends the run's connections and its server; a second call does nothing.
func (s *session) close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.profile != nil {
		<-s.profile
	}
	s.loop.Close()
	return s.server.Stop()
}

// until polls until done, the end of ctx, or the limit, which is an error that says what was waited for.
func (s *session) until(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	deadline := s.loop.Clock() + int64(limit)
	for !done() {
		if err := s.loop.Poll(5 * time.Millisecond); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if s.loop.Now > deadline {
			return fmt.Errorf("%s: not done after %s", what, limit)
		}
	}
	return s.loop.Err()
}

// rest lets the loop run for d.
func (s *session) rest(ctx context.Context, d time.Duration) error {
	end := s.loop.Clock() + int64(d)
	return s.until(ctx, d+openTime, "rest", func() bool { return s.loop.Now >= end })
}

// subscribe opens n streams, atOnce at a time or all together; channels gives those of each, of which follow, if any,
// is the one whose events are counted.
func (s *session) subscribe(ctx context.Context, n, together int, channels func(i int) []string, follow func(i int) *load.Channel) error {
	opened, started, failed := 0, 0, error(nil)
	err := s.until(ctx, openTime, "open streams", func() bool {
		for started < n && started-opened < together {
			st := &load.Stream{NeedFrame: s.server.FirstFrame, OnOpen: func(*load.Stream) { opened++ }}
			if follow != nil {
				follow(started).Follow(st, 0)
			}
			if failed = s.loop.Open(st, s.server.Subscribe(started, channels(started), "")); failed != nil {
				return true
			}
			s.streams = append(s.streams, st)
			started++
		}
		return opened == n
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("%d of %d streams open: %w", opened, n, err)
	}
	return s.rest(ctx, 200*time.Millisecond) // a library may answer a little before it has registered the subscriber
}

// publishers connects n of them, all idle.
func (s *session) publishers(n int) error {
	for i := range n {
		p := &load.Publisher{Index: int32(i)} // #nosec G115 -- a few hundred
		p.OnAnswer = func(p *load.Publisher, _ []byte) { s.idle = append(s.idle, p) }
		if err := s.loop.Connect(p); err != nil {
			return err
		}
		s.pubs = append(s.pubs, p)
	}
	s.idle = append(s.idle, s.pubs...)
	s.request = make([][]byte, n)
	return nil
}

// publish makes an idle publisher send an event that was due at the given time.
func (s *session) publish(c *load.Channel, due int64) error {
	p := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	s.data = s.tally.Payload(s.data[:0], c, p.Index, due, s.Payload)
	s.request[p.Index] = s.server.Publish(s.request[p.Index][:0], c.Name, s.data)
	return p.Send(s.request[p.Index])
}

// drain waits until all that was published has been answered and heard.
func (s *session) drain(ctx context.Context) error {
	return s.until(ctx, drainTime, "drain", func() bool {
		return len(s.idle) == len(s.pubs) && s.tally.InFlight == 0
	})
}

// meter takes a server's figures over a while.
type meter struct {
	s                    *session
	wall                 time.Time
	server, self, core   time.Duration
	delivered, published int
}

func (s *session) meter() (*meter, error) {
	cpu, err := proc.CPU(s.server.PID())
	if err != nil {
		return nil, err
	}
	m := &meter{s: s, wall: time.Now(), server: cpu, self: proc.Self(), core: s.core()}
	s.startProfile()
	m.delivered, m.published = s.tally.Delivered, s.tally.Published
	return m, nil
}

func (s *session) core() time.Duration {
	if c := s.bench.Host.Cores; c.Pinned() {
		return proc.Core(c.Server)
	}
	return 0
}

// stop records who used how much: shares of a core, and the time in seconds. It returns the server's CPU time and the
// time that passed, both in seconds.
func (m *meter) stop() (cpu, wall float64, err error) {
	now, err := proc.CPU(m.s.server.PID())
	if err != nil {
		return 0, 0, err
	}
	cpu, wall = (now - m.server).Seconds(), time.Since(m.wall).Seconds()
	v := m.s.values
	v["server_cores"], v["generator_cores"] = cpu/wall, (proc.Self()-m.self).Seconds()/wall
	if m.s.bench.Host.Cores.Pinned() {
		v["foreign_cores"] = max(0, (m.s.core()-m.core).Seconds()-cpu) / wall
	}
	return cpu, wall, nil
}

// deliveries records the rate of deliveries and what each cost.
func (m *meter) deliveries() error {
	cpu, wall, err := m.stop()
	if err != nil {
		return err
	}
	n := float64(m.s.tally.Delivered - m.delivered)
	v := m.s.values
	v["deliveries_per_s"], v["publishes_per_s"] = n/wall, float64(m.s.tally.Published-m.published)/wall
	if n > 0 && cpu > 0 {
		v["deliveries_per_cpu_s"], v["cpu_us_per_delivery"] = n/cpu, cpu/n*1e6
	}
	return nil
}
