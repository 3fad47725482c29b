package broker_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/persist/memory"
)

// BenchmarkFanOut publishes to streams on loopback sockets and counts what they read; allocations are the broker's and
// the readers', and must not grow with the streams.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			h := startHub(b, memory.New(time.Now))
			var bytes atomic.Int64
			for range n {
				client, _ := h.openSocket(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}})
				go func() {
					buf := make([]byte, 64<<10)
					for {
						k, err := client.Read(buf)
						bytes.Add(int64(k))
						if err != nil {
							return
						}
					}
				}()
			}
			for h.hub.Stats().Frames < int64(2*n) {
				runtime.Gosched()
			}
			d := draft("a", fmt.Sprintf("%q", make([]byte, 40)))
			b.ReportAllocs()
			b.ResetTimer()
			start := h.hub.Stats()
			for range b.N {
				h.publish(d)
			}
			for h.hub.Stats().Frames-start.Frames < int64(b.N)*int64(n) {
				runtime.Gosched()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkReplay reads a channel of 10,000 events through a stream, from a log without a ring.
func BenchmarkReplay(b *testing.B) {
	h := startHub(b, memory.New(time.Now), func(c *broker.HubConfig) { c.RecentBytes = 1 })
	const events = 10_000
	var first broker.Cursor
	for i := range events {
		at := h.publish(draft("a", `{"n":1,"text":"something like what a plugin says"}`))[0].Cursor
		if i == 0 {
			first = at
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		o, err := h.hub.Open(context.Background(), broker.OpenRequest{Site: h.site, Grants: []*broker.Grant{grant("a")}, Cursor: first.String()})
		if err != nil {
			b.Fatal(err)
		}
		sink := broker.NewBuffered()
		o.Attach(sink, nil, false)
		ctx, cancel := context.WithCancel(context.Background())
		base := h.hub.Stats().Replayed
		go func() {
			for h.hub.Stats().Replayed-base < events-1 {
				runtime.Gosched()
			}
			cancel()
		}()
		_ = sink.Serve(ctx, io.Discard, func() error { return nil })
		o.End()
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
