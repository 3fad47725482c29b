package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"backchannel/broker"
	"backchannel/handlers"
	"backchannel/persist"
	"backchannel/webhooks"
)

const (
	// drainLimit is how long streams and requests have to end after a signal. With what the dispatcher and the store
	// take after it, the process is gone within 30 s.
	drainLimit = 15 * time.Second
	// startLimit is how long a store may take to be read at the start.
	startLimit = 10 * time.Minute
	// storeDir is what the store owns of Data.
	storeDir = "store"
)

// App is the broker as a value: what main and end-to-end tests run. NewApp starts nothing; Run does everything and
// leaves nothing. Reload and Addresses may be called from any goroutine while Run runs.
type App struct {
	load    func() (*Config, error)
	logger  *slog.Logger
	now     func() time.Time
	version string

	conf     atomic.Pointer[Config]
	sites    broker.Sites
	draining atomic.Bool
	ready    chan struct{} // closed when Addresses are known and requests are answered
	stopped  chan struct{} // closed when Run returns
	listen   listeners     // written before ready is closed

	store      *persist.Store
	hub        *broker.Hub
	dispatcher *webhooks.Dispatcher
	server     *handlers.Server
}

// AppConfig is what an App works with.
type AppConfig struct {
	// Load reads the configuration; it is called at the start and for every reload.
	Load func() (*Config, error)
	// Logger gets everything the broker has to say.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Version is shown to plugins.
	Version string
}

// Addresses are where a running broker listens.
type Addresses struct {
	Public, Admin string
	// TLS is "" without tls_listen.
	TLS string
}

// NewApp reads the configuration; the error says what is wrong with it.
func NewApp(cfg AppConfig) (*App, error) {
	a := &App{load: cfg.Load, logger: cfg.Logger, now: cfg.Now, version: cfg.Version, ready: make(chan struct{}), stopped: make(chan struct{})}
	if a.now == nil {
		a.now = time.Now
	}
	conf, err := a.load()
	if err != nil {
		return nil, err
	}
	a.use(conf)
	return a, nil
}

// Config is the configuration in force.
func (a *App) Config() *Config { return a.conf.Load() }

// Ready is closed once requests are answered.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Stopped is closed when Run has returned.
func (a *App) Stopped() <-chan struct{} { return a.stopped }

// Addresses are known once Ready is closed.
func (a *App) Addresses() Addresses { return a.listen.addresses() }

// Run serves until ctx ends, then drains: streams get their bye, requests and attempts under way are finished or given
// back, the store is closed. It returns nil after a drain, else why the broker cannot go on. It can be called once.
func (a *App) Run(ctx context.Context) (err error) {
	defer close(a.stopped)
	conf := a.Config()
	lock, err := lockData(conf.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	password, made, err := adminPassword(conf.Data)
	if err != nil {
		return err
	}
	if made != "" {
		a.logger.LogAttrs(ctx, slog.LevelInfo, "made a password for the admin listener", slog.String("file", made))
	}
	applyMemoryLimit(ctx, a.logger, conf.Memory)
	raiseFileLimit(ctx, a.logger, conf)
	if a.listen, err = openListeners(conf); err != nil {
		return err
	}
	defer a.listen.close()
	options := a.storeOptions(conf)
	if err := a.awaitRoom(ctx, options); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := a.build(conf, options, password); err != nil {
		return err
	}
	err = a.serve(ctx, lock)
	if cerr := a.store.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close store: %w", cerr))
	}
	a.logger.LogAttrs(ctx, slog.LevelInfo, "stopped")
	return err
}

func (a *App) storeOptions(conf *Config) persist.Options {
	return persist.Options{
		Dir: filepath.Join(conf.Data, storeDir), Retention: conf.retention(), Bounds: conf.bounds(),
		MinFree: int64(conf.Space.MinFree), Ballast: int64(conf.Space.Ballast), Logger: a.logger, Now: a.now,
	}
}

// ignoreEnd drops an error that only says that ctx has ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// build opens the store and makes everything that works on it. Calls against the arrows between packages are function
// fields set here.
func (a *App) build(conf *Config, options persist.Options, password adminSecret) (err error) {
	if a.store, err = persist.Open(options); err != nil {
		return err
	}
	a.hub = broker.NewHub(broker.HubConfig{
		Log: a.store, Limits: a.limits, Logger: a.logger, Now: a.now,
		Mint: func(site broker.SiteID, stream broker.StreamID, grants []*broker.Grant) (string, string, error) {
			return a.server.Mint(site, stream, grants)
		},
	})
	a.dispatcher = webhooks.NewDispatcher(webhooks.Config{
		Queue: a.store, Endpoints: a.endpoint, AdminAddr: a.adminAddr, Logger: a.logger, Now: a.now,
		MaxReply: func(site broker.SiteID) int { return a.limits(site).ReplyBytes },
	})
	a.server, err = handlers.New(handlers.Config{
		Sites: &a.sites, Log: a.store, Hub: a.hub, Messages: a.dispatcher, Queue: a.store, PublicURL: conf.PublicURL,
		Logger: a.logger, Version: a.version, Now: a.now, Health: a.health, Epoch: a.hub.Epoch,
		Endpoint: a.endpoint, AdminPassword: password.matches, AdminHosts: conf.AdminHosts, Pprof: conf.Pprof,
		Metrics: storeMetrics(a.store.Stats, a.now),
	})
	if err != nil {
		return errors.Join(err, a.store.Close())
	}
	return nil
}

// serve runs the parts in the order in which they depend on each other, and stops them in the other.
func (a *App) serve(ctx context.Context, lock *runFile) error {
	// The parts must outlive ctx: draining needs them all.
	base := context.WithoutCancel(ctx)
	parts, failed := errgroup.WithContext(base)
	storeCtx, stopStore := context.WithCancel(failed)
	hubCtx, stopHub := context.WithCancel(failed)
	hookCtx, stopHooks := context.WithCancel(failed)
	defer stopStore()
	defer stopHub()
	defer stopHooks()
	hubDone, hooksDone := make(chan struct{}), make(chan struct{})
	parts.Go(func() error { return partError("store", storeCtx, a.store.Run(storeCtx)) })
	parts.Go(func() error { defer close(hubDone); return partError("hub", hubCtx, a.hub.Run(hubCtx)) })
	parts.Go(func() error { return partError("tidy", hubCtx, a.tidy(hubCtx)) })
	parts.Go(func() error { defer close(hooksDone); return partError("webhooks", hookCtx, a.dispatcher.Run(hookCtx)) })

	err := a.await(ctx, failed)
	if err == nil {
		err = a.answer(ctx, failed, lock, stopHooks)
	}
	stopHooks()
	<-hooksDone
	stopHub()
	<-hubDone
	stopStore()
	return errors.Join(parts.Wait(), err)
}

// partError drops the error with which a part reports that it was told to stop.
func partError(name string, ctx context.Context, err error) error { //nolint:revive // ctx is not first: it is judged, not used
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		if ctx.Err() == nil {
			return fmt.Errorf("%s: stopped by itself", name)
		}
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// await returns when requests can be answered truthfully: the hub knows its revocations and the dispatcher has said
// what became of the calls of the process before.
func (a *App) await(ctx, failed context.Context) error {
	timer := time.NewTimer(startLimit)
	defer timer.Stop()
	for _, ready := range []<-chan struct{}{a.hub.Ready(), a.dispatcher.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil
		case <-failed.Done():
			return nil // the part's own error is returned
		case <-timer.C:
			return fmt.Errorf("the store was not read within %s", startLimit)
		}
	}
	return nil
}

// answer serves HTTP until ctx ends or a part failed, and drains.
func (a *App) answer(ctx, failed context.Context, lock *runFile, stopHooks func()) error {
	if ctx.Err() != nil || failed.Err() != nil {
		return nil
	}
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	servers := a.listen.servers(requests, a.server, a.logger)
	serving, serveFailed := errgroup.WithContext(failed)
	for _, s := range servers {
		serving.Go(s.run)
	}
	addr := a.Addresses()
	if err := lock.write(runInfo{PID: pid(), Public: addr.Public, Admin: addr.Admin}); err != nil {
		return err
	}
	close(a.ready)
	a.logListening(ctx, addr)
	stopNotify := a.notifyReady(failed)

	select {
	case <-ctx.Done():
	case <-serveFailed.Done():
	}
	a.draining.Store(true)
	stopNotify()
	a.drain(servers, stopHooks)
	cancelRequests()
	return serving.Wait()
}

// drain ends streams and requests within drainLimit; what does not end by then is cut.
func (a *App) drain(servers []*httpServer, stopHooks func()) {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	a.logger.LogAttrs(ctx, slog.LevelInfo, "draining", slog.Int("streams", a.hub.Stats().Streams))
	stopHooks() // at once: requests that wait for an outcome are answered by its end
	var all errgroup.Group
	all.Go(func() error { return a.hub.Drain(ctx) })
	for _, s := range servers {
		all.Go(func() error { return s.stop(ctx) })
	}
	if err := all.Wait(); err != nil {
		a.logger.LogAttrs(ctx, slog.LevelWarn, "drain was cut short", slog.String("reason", err.Error()))
	}
}

func (a *App) logListening(ctx context.Context, addr Addresses) {
	attrs := []slog.Attr{slog.String("public", addr.Public), slog.String("admin", addr.Admin)}
	if addr.TLS != "" {
		attrs = append(attrs, slog.String("tls", addr.TLS))
	}
	attrs = append(attrs, slog.String("version", a.version), slog.Int("sites", len(a.Config().Sites)))
	a.logger.LogAttrs(ctx, slog.LevelInfo, "listening", attrs...)
}

// health is nil, or why the broker should get no traffic.
func (a *App) health() error {
	if a.draining.Load() {
		return broker.Errorf(broker.CodeUnavailable, "the broker is draining")
	}
	return a.store.Health()
}

func (a *App) limits(id broker.SiteID) broker.Limits {
	if s := a.sites.Get(id); s != nil {
		return s.Limits
	}
	return broker.DefaultLimits()
}

func (a *App) endpoint(site broker.SiteID, component broker.ComponentID) (webhooks.Endpoint, bool) {
	return a.Config().Endpoint(site, component)
}

// adminAddr is the admin listener's address: no webhook may be sent there.
func (a *App) adminAddr() netip.AddrPort {
	if t, ok := a.listen.admin.Addr().(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}
