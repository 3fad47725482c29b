package persist_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/persist"

	"golang.org/x/sys/unix"
)

// benchStore is a store on the disk that TMPDIR names.
func benchStore(b *testing.B, keep int) *running {
	b.Helper()
	opts := small(b)
	opts.Retention = persist.Retention{PerChannel: keep}
	r := run(b, opts)
	b.Cleanup(func() { r.stop(b) })
	return r
}

func benchDraft(i int) broker.Draft {
	return broker.Draft{
		Channel: broker.Channel{Site: "moodle", ID: broker.ChannelID(fmt.Sprintf("channel-%02d", i%100))},
		Data:    []byte(`"` + strings.Repeat("x", 198) + `"`),
	}
}

// BenchmarkAppend is synced publishes of 200 bytes, closed loop.
func BenchmarkAppend(b *testing.B) {
	for _, publishers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("publishers=%d", publishers), func(b *testing.B) {
			s := benchStore(b, -1)
			b.ResetTimer()
			closedLoop(b, publishers, func(i int) error {
				_, err := s.Append(b.Context(), []broker.Draft{benchDraft(i)})
				return err
			})
			st := s.Stats()
			b.ReportMetric(float64(st.Appended)/float64(st.Commits), "events/commit")
		})
	}
}

// BenchmarkAppendToFullChannels is BenchmarkAppend with 64 publishers where each event pushes another one out.
func BenchmarkAppendToFullChannels(b *testing.B) {
	s := benchStore(b, 100)
	fill(b, s, 20_000)
	b.ResetTimer()
	closedLoop(b, 64, func(i int) error {
		_, err := s.Append(b.Context(), []broker.Draft{benchDraft(i)})
		return err
	})
}

// closedLoop runs b.N calls by some callers, each waiting for its own.
func closedLoop(b *testing.B, callers int, call func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	before := cpuTime(b)
	for range callers {
		group.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := call(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(cpuTime(b)-before)/1e3/float64(b.N), "cpu-us/event")
}

// cpuTime is what the process has used of processors, which other processes of a busy machine do not change.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFdatasync is what the disk allows: writes of 256 bytes into a preallocated and written file, all that wait
// sharing one fdatasync.
func BenchmarkFdatasync(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			f := newSyncFile(b)
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan struct{})
			go func() { defer close(done); f.run(ctx) }()
			b.ResetTimer()
			closedLoop(b, callers, func(int) error { return f.write() })
			cancel()
			<-done
		})
	}
}

type syncFile struct {
	file    *os.File
	at      int64
	mu      sync.Mutex
	waiting []chan error
	wake    chan struct{}
}

func newSyncFile(b *testing.B) *syncFile {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() })
	zeros := make([]byte, 1<<20)
	for range 256 {
		if _, err := file.Write(zeros); err != nil {
			b.Fatal(err)
		}
	}
	if err := file.Sync(); err != nil {
		b.Fatal(err)
	}
	return &syncFile{file: file, wake: make(chan struct{}, 1)}
}

func (f *syncFile) write() error {
	done := make(chan error, 1)
	f.mu.Lock()
	f.waiting = append(f.waiting, done)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return <-done
}

func (f *syncFile) run(ctx context.Context) {
	buf := make([]byte, 0, 1<<16)
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		f.mu.Lock()
		taken := f.waiting
		f.waiting = nil
		f.mu.Unlock()
		buf = buf[:len(taken)*256]
		_, err := f.file.WriteAt(buf, f.at)
		if f.at += int64(len(buf)); f.at > 250<<20 {
			f.at = 0
		}
		if err == nil {
			err = unix.Fdatasync(int(f.file.Fd()))
		}
		for _, done := range taken {
			done <- err
		}
	}
}

// fill appends n events in large calls.
func fill(b testing.TB, s *running, n int) {
	b.Helper()
	drafts := make([]broker.Draft, 500)
	for i := 0; i < n; i += len(drafts) {
		for k := range drafts {
			drafts[k] = benchDraft(i + k)
		}
		if _, err := s.Append(context.Background(), drafts); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReplay is pages of 100 events from 100,000 in 100 channels, by as many readers as there are processors.
func BenchmarkReplay(b *testing.B) {
	s := benchStore(b, -1)
	fill(b, s, 100_000)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			page, err := s.Range(b.Context(), benchDraft(i).Channel, uint64(i*7919%90_000), broker.PageLimit{Events: 100})
			if err != nil || len(page.Events) != 100 {
				b.Errorf("page of %d events, %v", len(page.Events), err)
			}
		}
	})
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkTail is one tail reading 100,000 events of the log from the start, none of them in the ring.
func BenchmarkTail(b *testing.B) {
	s := benchStore(b, -1)
	const events = 100_000
	fill(b, s, events)
	b.ResetTimer()
	for range b.N {
		ctx, cancel := context.WithCancel(b.Context())
		_ = s.Tail(ctx, 0, func(batch []broker.Event) {
			if batch[len(batch)-1].Seq == events {
				cancel()
			}
		})
		cancel()
	}
	b.ReportMetric(float64(b.N)*events/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOpen is opening a store of 1,000,000 events, closed before in good order.
func BenchmarkOpen(b *testing.B) {
	opts := small(b)
	opts.Retention = persist.Retention{PerChannel: -1}
	s := run(b, opts)
	fill(b, s, 1_000_000)
	s.stop(b)
	var spent time.Duration
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		s := run(b, opts)
		if _, err := s.Append(b.Context(), []broker.Draft{benchDraft(0)}); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(began)
		s.stop(b)
	}
	b.ReportMetric(spent.Seconds()*1000/float64(b.N), "ms/open")
}
