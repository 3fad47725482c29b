package webhooks_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backchannel/webhooks"
)

func answerJSON(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"ok":true}`)
}

// BenchmarkDirectPost is what BenchmarkCall is compared with.
func BenchmarkDirectPost(b *testing.B) {
	s := serve(b, answerJSON)
	for b.Loop() {
		resp, err := http.Post(s.URL, "application/json", strings.NewReader(`{"n":1}`)) //nolint:noctx // a benchmark
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}

// BenchmarkCall is one call after the other on a store in memory: the dispatcher's own share of the latency.
func BenchmarkCall(b *testing.B) {
	s := serve(b, answerJSON)
	d, _ := start(b, config(flat{newStore(), new(sync.Map)}, oneEndpoint(endpoint(b, s.URL))))
	n := 0
	for b.Loop() {
		n++
		rec, err := d.Send(context.Background(), call(fmt.Sprintf("m%d", n), 10*time.Second))
		if err != nil || rec.Outcome != webhooks.OutcomeDelivered {
			b.Fatal(rec.Outcome, err)
		}
	}
}

// BenchmarkJobs is jobs of many callers at once, to one URL, through to their end.
func BenchmarkJobs(b *testing.B) {
	var hits atomic.Int64
	done := make(chan struct{}, 1)
	s := serve(b, func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, r)
		if hits.Add(1) == int64(b.N) {
			done <- struct{}{}
		}
	})
	d, _ := start(b, config(flat{newStore(), new(sync.Map)}, oneEndpoint(endpoint(b, s.URL))))
	b.ResetTimer()
	for n := range b.N {
		m := job(fmt.Sprintf("j%d", n))
		m.Order = fmt.Sprint(n % 64)
		mustSend(b, d, m)
	}
	<-done
}

// BenchmarkPending is the memory of a delivery that waits, in bytes.
func BenchmarkPending(b *testing.B) {
	q := backlog{newStore(), 200_000}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		begun := time.Now()
		d, stop := start(b, config(q, oneEndpoint(endpoint(b, "http://192.0.2.1/"))))
		<-d.Ready()
		took := time.Since(begun)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(q.n), "B/delivery")
		b.ReportMetric(float64(q.n)/took.Seconds(), "loaded/s")
		stop()
	}
}

// backlog has n jobs that are not due yet.
type backlog struct {
	webhooks.Queue
	n int
}

func (q backlog) Pending(_ context.Context, fn func(webhooks.Delivery) error) error {
	due := time.Now().Add(time.Hour)
	for n := range q.n {
		m := job(fmt.Sprintf("0190a5b4-7c1e-7f00-8000-%012d", n))
		m.Order = fmt.Sprint(n % 1000)
		if err := fn(webhooks.Delivery{Message: m, State: webhooks.StateWaiting, Due: due}); err != nil {
			return err
		}
	}
	return nil
}

// flat is a queue without bookkeeping, so that a benchmark measures the dispatcher.
type flat struct {
	webhooks.Queue
	all *sync.Map
}

func (q flat) Accept(_ context.Context, d webhooks.Delivery) (webhooks.Delivery, bool, error) {
	q.all.Store(d.Ref, d)
	return d, false, nil
}

func (q flat) Update(_ context.Context, d webhooks.Delivery) error {
	q.all.Delete(d.Ref)
	return nil
}

func (q flat) Get(ctx context.Context, ref webhooks.Ref) (webhooks.Delivery, error) {
	if d, ok := q.all.Load(ref); ok {
		return d.(webhooks.Delivery), nil //nolint:forcetypeassert // only Accept stores
	}
	return q.Queue.Get(ctx, ref)
}
