package broker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultHeartbeat is the longest silence on a stream: below the idle cuts of 30 s and 60 s that proxies make.
	DefaultHeartbeat = 15 * time.Second
	// heartbeatMargin makes the heartbeat come before the interval that hello promises is over.
	heartbeatMargin = 750 * time.Millisecond
	// defaultRecent bounds the memory for recent events, in bytes of frames.
	defaultRecent = 16 << 20
	// openers is how many streams may read the log for their opening at once.
	openers = 8
)

var errStopping = Errorf(CodeUnavailable, "the broker is stopping")

// HubConfig is what a hub needs.
type HubConfig struct {
	Log  Log
	Mint Mint
	// Limits gives a site's limits as configured now.
	Limits func(SiteID) Limits
	Logger *slog.Logger
	// Heartbeat is the longest silence; 0 means DefaultHeartbeat.
	Heartbeat time.Duration
	// RecentBytes bounds the memory for recent events; 0 means 16 MiB.
	RecentBytes int
	// Shards is how many goroutines write; 0 means one for each processor.
	Shards int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Hub brings every event of the log to every stream that has to hear it. It hears events from Log.Tail alone. All
// exported methods may be called from many goroutines.
type Hub struct {
	log       Log
	mint      Mint
	limits    func(SiteID) Limits
	logger    *slog.Logger
	now       func() time.Time
	heartbeat time.Duration
	beatMs    int64
	shards    []*shard
	replayers replayers
	recent    recent
	revoked   revocations
	stats     hubCounters
	opening   chan struct{} // semaphore

	epoch    Epoch         // written by Run before ready is closed
	ready    chan struct{} // closed when streams can be opened
	stopped  chan struct{} // closed when no shard works any more
	draining atomic.Bool
	head     atomic.Uint64 // position of the last delivery

	mu       sync.Mutex
	open     map[SiteID]int              // guarded by mu: streams and polls
	counting map[Revocation]*revokeCount // guarded by mu
}

// NewHub makes a hub; Run makes it work.
func NewHub(c HubConfig) *Hub {
	h := &Hub{
		log: c.Log, mint: c.Mint, limits: c.Limits, logger: c.Logger, now: c.Now, heartbeat: c.Heartbeat,
		opening: make(chan struct{}, openers), ready: make(chan struct{}), stopped: make(chan struct{}),
		open: make(map[SiteID]int), counting: make(map[Revocation]*revokeCount),
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.heartbeat == 0 {
		h.heartbeat = DefaultHeartbeat
	}
	if h.limits == nil {
		h.limits = func(SiteID) Limits { return DefaultLimits() }
	}
	h.beatMs = max(h.heartbeat-heartbeatMargin, h.heartbeat/2).Milliseconds()
	if h.recent.maxBytes = c.RecentBytes; h.recent.maxBytes == 0 {
		h.recent.maxBytes = defaultRecent
	}
	n := c.Shards
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for range n {
		h.shards = append(h.shards, newShard(h))
	}
	h.replayers = replayers{hub: h, wake: make(chan struct{}, 1)}
	return h
}

// Ready is closed when streams can be opened.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// Epoch is the log's, once Ready.
func (h *Hub) Epoch() Epoch {
	<-h.ready
	return h.epoch
}

// Run hears the log and writes to streams until ctx ends or the log fails; then it closes every stream. When it
// returns nothing of it is left.
func (h *Hub) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pos, err := h.log.Position(ctx)
	if err != nil {
		return err
	}
	h.epoch = pos.Epoch
	h.head.Store(pos.Seq)
	h.recent.reset(pos.Seq)
	revocations, err := h.log.Revocations(ctx)
	if err != nil {
		return err
	}
	for _, r := range revocations {
		h.revoked.add(r, h.now())
	}

	var group sync.WaitGroup
	failed := make(chan error, 2*len(h.shards)+1)
	start := func(f func(context.Context) error) {
		group.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	for _, s := range h.shards {
		if err := s.prepare(pos.Seq); err != nil {
			cancel()
			group.Wait()
			return err
		}
		start(s.run)
		start(s.watch)
	}
	for range replayersCount {
		group.Go(func() { h.replayers.run(ctx) })
	}
	start(func(ctx context.Context) error { return h.log.Tail(ctx, pos.Seq, h.deliver) })
	close(h.ready)

	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-failed:
	}
	h.draining.Store(true)
	cancel()
	group.Wait()
	close(h.stopped)
	return err
}

// deliver takes a batch from the tail. It is the only place where events enter the hub.
func (h *Hub) deliver(batch []Event) {
	if len(batch) == 0 {
		return
	}
	d := delivery{head: batch[len(batch)-1].Seq, broken: batch[0].Seq != h.head.Load()+1}
	for i := range batch {
		e := &batch[i]
		// A hole inside a batch is as bad as one before it.
		d.broken = d.broken || i > 0 && e.Seq != batch[i-1].Seq+1
		if e.Revocation != nil {
			h.revoked.add(*e.Revocation, h.now())
			d.revocations = append(d.revocations, *e.Revocation)
			continue
		}
		d.frames = append(d.frames, eventFrame(h.epoch, e))
	}
	if d.broken {
		// What the tail did not give has been removed. The ring must not pretend to be whole: streams look at the
		// log, which knows what is lost.
		h.recent.reset(d.head)
		d.frames = nil
	} else {
		h.recent.add(d.frames, d.head)
	}
	h.head.Store(d.head)
	for _, s := range h.shards {
		s.post(d)
	}
}

// Drain sends every stream a bye, with a time to come back that is spread so that they do not come back at once, and
// takes no new ones. It returns when all have ended or ctx has.
func (h *Hub) Drain(ctx context.Context) error {
	if h.draining.Swap(true) {
		return nil
	}
	n := int64(h.Stats().Streams)
	spread := max(2*time.Second, time.Duration(n)*time.Second/2000)
	for _, s := range h.shards {
		if err := s.ask(ctx, func() {
			for _, st := range s.streams {
				s.dismiss(st, reasonDrain, 500*time.Millisecond+rand.N(spread)) //nolint:gosec // audited: jitter, no secret
			}
		}); err != nil {
			return err
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for h.Stats().Streams > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// EndSite ends the streams of a site that is not configured any more, as if all its grants were revoked.
func (h *Hub) EndSite(ctx context.Context, site SiteID) error {
	for _, s := range h.shards {
		if err := s.ask(ctx, func() {
			for _, st := range s.streams {
				if st.site == site {
					s.dismiss(st, codeRevoked, comeBack())
				}
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// Revoked tells whether the entry for ch that g gave is revoked; "" asks for the grant as a whole.
func (h *Hub) Revoked(g *Grant, ch ChannelID) bool { return h.revoked.hit(g, ch) }

// revokeCount counts the streams that a revocation met, whichever way it reached the shards first.
type revokeCount struct{ streams atomic.Int64 }

// Revoke stores r durably, takes away what it names on every live stream, and tells how many streams that were.
func (h *Hub) Revoke(ctx context.Context, r Revocation) (int, error) {
	count := &revokeCount{}
	h.mu.Lock()
	if running := h.counting[r]; running != nil {
		count = running
	}
	h.counting[r] = count
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.counting, r)
		h.mu.Unlock()
	}()
	if _, err := h.log.Revoke(ctx, r); err != nil {
		return 0, err
	}
	h.revoked.add(r, h.now())
	h.revoked.sweep(h.now())
	for _, s := range h.shards {
		if err := s.ask(ctx, func() { s.revoke(r) }); err != nil {
			return 0, err
		}
	}
	return int(count.streams.Load()), nil
}

func (h *Hub) countRevoked(r Revocation, n int) {
	h.mu.Lock()
	count := h.counting[r]
	h.mu.Unlock()
	if count != nil {
		count.streams.Add(int64(n))
	}
}

// closed is called by a shard when a stream has ended.
func (h *Hub) closed(st *stream) {
	h.stats.closed.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[st.site]--; h.open[st.site] <= 0 {
		delete(h.open, st.site)
	}
}

// admit counts a stream in, or refuses it at its site's limit. A stream that was accepted before always comes back.
func (h *Hub) admit(site SiteID, back bool) error {
	limit := h.limits(site).Streams
	h.mu.Lock()
	defer h.mu.Unlock()
	if !back && limit > 0 && h.open[site] >= limit {
		return Errorf(CodeRateLimited, "site %s has %d open streams; its limit is %d", site, h.open[site], limit)
	}
	h.open[site]++
	h.stats.opened.Add(1)
	return nil
}

func (h *Hub) shardOf(id StreamID) *shard { return h.shards[int(id[0])%len(h.shards)] }

func (h *Hub) logReadError(err error) {
	if errors.Is(err, context.Canceled) || CodeOf(err) == CodeUnavailable {
		return
	}
	h.logger.LogAttrs(context.Background(), slog.LevelError, "stream closed because the log could not be read", slog.String("error", err.Error()))
}
