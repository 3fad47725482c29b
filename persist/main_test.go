package persist_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"backchannel/persist"
	"backchannel/persist/persisttest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// running is an open store with its Run.
type running struct {
	*persist.Store
	cancel context.CancelFunc
	ended  chan error
}

func run(t testing.TB, opts persist.Options) *running {
	t.Helper()
	store, err := persist.Open(opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{store, cancel, make(chan error, 1)}
	go func() { r.ended <- store.Run(ctx) }()
	return r
}

func (r *running) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// unbound is what the suite means by zero.
func unbound(s persisttest.Settings) persist.Retention {
	r := persist.Retention{Age: s.Age, PerChannel: s.PerChannel, Total: s.Total}
	if r.Age == 0 {
		r.Age = -1
	}
	if r.PerChannel == 0 {
		r.PerChannel = -1
	}
	if r.Total == 0 {
		r.Total = -1
	}
	return r
}

// small keeps tests from needing much of the disk.
func small(t testing.TB) persist.Options {
	return persist.Options{
		Dir: t.TempDir(), MinFree: 1 << 20, Ballast: 1 << 20,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func open(t testing.TB, s persisttest.Settings) *persisttest.Subject {
	opts := small(t)
	opts.Retention, opts.Bounds, opts.Now = unbound(s), s.Bounds, s.Now
	r := run(t, opts)
	sub := &persisttest.Subject{Log: r, Queue: r}
	sub.Reopen = func() {
		r.stop(t)
		r = run(t, opts)
		sub.Log, sub.Queue = r, r
	}
	sub.Close = func() { r.stop(t) }
	return sub
}

func TestLogKeepsItsContract(t *testing.T) { persisttest.RunLog(t, open) }

func TestQueueKeepsItsContract(t *testing.T) { persisttest.RunQueue(t, open) }

// eventually waits for what happens in the background, asking again until it is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("after 30 s still not so: %s", what)
		case <-tick.C:
		}
	}
}
