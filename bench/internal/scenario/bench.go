package scenario

import (
	"context"
	"fmt"
	"time"

	"backchannel/bench/internal/load"
	"backchannel/bench/internal/target"
)

// Sizes are how much and how long; every figure of a report says which it was.
type Sizes struct {
	// Small and Large are the two sizes of fan-outs; Idle the streams whose memory is measured.
	Small, Large, Idle int
	// Rate is deliveries a second of the paced runs.
	Rate int
	// Subscribers on Channels of the run with many channels.
	Subscribers, Channels int
	// Resume clients come back at once, Behind events behind.
	Resume, Behind int
	// IdleChannels hold one event each.
	IdleChannels int
	// Warm comes before each measurement, Measure is its length, Paced that of paced runs, Rest comes before memory is
	// read.
	Warm, Measure, Paced, Rest time.Duration
	// Payload is the size of an event's data in bytes, InFlight how many events some subscriber may not have heard.
	Payload, InFlight int
}

// Full are the sizes of the report.
func Full() Sizes {
	return Sizes{
		Small: 1000, Large: 10000, Idle: 10000, Rate: 20000, Subscribers: 5000, Channels: 1000, Resume: 2000, Behind: 100,
		IdleChannels: 100000, Warm: time.Second, Measure: 3 * time.Second, Paced: 5 * time.Second, Rest: 16 * time.Second,
		Payload: 200, InFlight: 16,
	}
}

// Quick are sizes for a smoke test: the figures say little.
func Quick() Sizes {
	return Sizes{
		Small: 100, Large: 500, Idle: 500, Rate: 2000, Subscribers: 200, Channels: 50, Resume: 100, Behind: 20,
		IdleChannels: 2000, Warm: 100 * time.Millisecond, Measure: 300 * time.Millisecond, Paced: 500 * time.Millisecond,
		Rest: 500 * time.Millisecond, Payload: 200, InFlight: 16,
	}
}

// Bench is what scenarios run on.
type Bench struct {
	Host  *target.Host
	Sizes Sizes
}

// Result is one run of one server.
type Result struct {
	Scenario string `json:"scenario"`
	Server   string `json:"server"`
	Run      int    `json:"run"`
	// Values by name; the unit is in the name.
	Values  map[string]float64 `json:"values"`
	Account load.Account       `json:"account"`
	Error   string             `json:"error,omitempty"`
}

// Scenario is one thing that is measured.
type Scenario struct {
	Name, About string
	// Fits tells whether a server can be asked.
	Fits func(target.Features) bool
	// Once: the figure hardly varies, or takes long: it is measured in the first run only.
	Once bool
	// History: the server keeps events.
	History bool

	run func(context.Context, *session) error
}

// runTime bounds one run.
const runTime = 3 * time.Minute

// Run measures one server once. An error that ended the run early is in the result.
func (b *Bench) Run(ctx context.Context, sc Scenario, k target.Kind, run int) Result {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	r := Result{Scenario: sc.Name, Server: k.Name, Run: run, Values: make(map[string]float64)}
	s, err := b.open(ctx, k, sc.History)
	if err == nil {
		s.values, s.scenario = r.Values, sc.Name
		err = sc.run(ctx, s)
		if s.tally != nil {
			s.account.Add(s.tally.Close())
		}
		r.Account = s.account
		if e := s.close(); err == nil {
			err = e
		}
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (b *Bench) open(ctx context.Context, k target.Kind, history bool) (*session, error) {
	server, err := k.Start(ctx, b.Host, history)
	if err != nil {
		return nil, err
	}
	loop, err := load.NewLoop(server.Addr)
	if err != nil {
		_ = server.Stop()
		return nil, err
	}
	return &session{bench: b, server: server, loop: loop, tally: load.NewTally(loop), Sizes: b.Sizes}, nil
}

func everyone(target.Features) bool  { return true }
func single(f target.Features) bool  { return !f.Joins }
func replays(f target.Features) bool { return f.Replay }
func batches(f target.Features) bool { return f.Batch }
func entries(f target.Features) bool { return f.Entries }

// All are the scenarios in the order of the report.
func All(z Sizes) []Scenario {
	return []Scenario{
		{Name: "fanout-small", About: fmt.Sprintf("%d subscribers of one channel, %d events in flight", z.Small, z.InFlight), Fits: everyone, run: fanOut(z.Small)},
		{Name: "fanout-large", About: fmt.Sprintf("%d subscribers of one channel, %d events in flight", z.Large, z.InFlight), Fits: everyone, run: fanOut(z.Large)},
		{Name: "paced-small", About: fmt.Sprintf("%d subscribers, %d deliveries a second", z.Small, z.Rate), Fits: single, run: paced(z.Small)},
		{Name: "paced-large", About: fmt.Sprintf("%d subscribers, %d deliveries a second", z.Large, z.Rate), Fits: single, run: paced(z.Large)},
		{Name: "channels", About: fmt.Sprintf("%d subscribers on %d channels, 8 publishers", z.Subscribers, z.Channels), Fits: single, run: manyChannels(8)},
		{Name: "channels-64", About: fmt.Sprintf("%d subscribers on %d channels, 64 publishers", z.Subscribers, z.Channels), Fits: single, run: manyChannels(64)},
		{Name: "publish-1", About: "1 publisher, one event a request, no subscribers", Fits: single, run: publish(1)},
		{Name: "publish-64", About: "64 publishers, one event a request, no subscribers", Fits: single, run: publish(64)},
		{Name: "publish-256", About: "256 publishers, one event a request, no subscribers", Fits: single, run: publish(256)},
		{Name: "publish-batch", About: "8 publishers, 100 events a request, no subscribers", Fits: batches, run: publishBatches(8, 100)},
		{Name: "replay", About: fmt.Sprintf("%d clients resume at once, %d events behind each", z.Resume, z.Behind), Fits: replays, History: true, run: replay},
		{Name: "churn", About: "connect, first frame, disconnect, 64 at a time", Fits: single, run: churn},
		{Name: "memory", About: fmt.Sprintf("%d idle streams of one channel", z.Idle), Fits: single, Once: true, run: memory(1)},
		{Name: "memory-20", About: fmt.Sprintf("%d idle streams of 20 channels each", z.Idle), Fits: entries, Once: true, run: memory(20)},
		{Name: "idle-channels", About: fmt.Sprintf("%d channels with one event each, against as many events on one channel", z.IdleChannels), Fits: batches, Once: true, run: idleChannels},
	}
}
