package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifyReady tells the service manager that the broker serves, and feeds its watchdog while the broker can still do
// its work. stop says that it is stopping and returns when the watchdog is not fed any more.
func (a *App) notifyReady(ctx context.Context) (stop func()) {
	a.notify(ctx, daemon.SdNotifyReady)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		wg.Go(func() { a.feedWatchdog(ctx, interval/3) })
	}
	return func() {
		cancel()
		wg.Wait()
		a.notify(context.WithoutCancel(ctx), daemon.SdNotifyStopping)
	}
}

func (a *App) feedWatchdog(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.probe(ctx, every); err != nil {
			a.logger.LogAttrs(ctx, slog.LevelError, "watchdog not fed", slog.String("reason", err.Error()))
			continue
		}
		a.notify(ctx, daemon.SdNotifyWatchdog)
	}
}

// probe asks the store and every shard of the hub something small. A full disk is no reason to be restarted; an answer
// that does not come is.
func (a *App) probe(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if _, err := a.store.Position(ctx); err != nil {
		return err
	}
	_, err := a.hub.Live(ctx, "")
	return err
}

func (a *App) notify(ctx context.Context, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.logger.LogAttrs(ctx, slog.LevelWarn, "the service manager could not be told", slog.String("reason", err.Error()))
	}
}
