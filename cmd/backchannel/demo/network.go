package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// networkPath is where the page reaches the broker: behind the network.
	networkPath = "/rt"
	// cutEvery is the rhythm of a hostile network: it cuts everything, then refuses for refuseFor.
	cutEvery  = 10 * time.Second
	refuseFor = 3 * time.Second
)

// network stands between the page and the servers, and can be made hostile: it cuts every connection, answers 503
// itself for a while, and sends every POST twice.
type network struct {
	proxy *httputil.ReverseProxy
	now   func() time.Time

	mu       sync.Mutex
	hostile  bool                               // guarded by mu
	since    time.Time                          // guarded by mu; of hostile
	refusing time.Time                          // guarded by mu; until when it answers 503
	open     map[uint64]context.CancelCauseFunc // guarded by mu
	next     uint64                             // guarded by mu

	cuts, refused, doubled atomic.Int64
}

// errCut is the cause of a request that the network cut.
var errCut = errors.New("the network cut the connection")

func newNetwork(address func() string, logger *slog.Logger, now func() time.Time) *network {
	n := &network{now: now, open: make(map[uint64]context.CancelCauseFunc)}
	n.proxy = &httputil.ReverseProxy{
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // broken connections are its daily bread
		Transport:     &http.Transport{DisableCompression: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address()})
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			if errors.Is(context.Cause(r.Context()), errCut) {
				panic(http.ErrAbortHandler)
			}
			fail(w, http.StatusBadGateway, errors.New("the broker does not answer"))
		},
	}
	return n
}

// Hostile tells which way the switch stands.
func (n *network) Hostile() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hostile
}

// SetHostile moves the switch. Going hostile begins with a cut, so that a viewer need not wait for it.
func (n *network) SetHostile(on bool) {
	n.mu.Lock()
	changed := n.hostile != on
	n.hostile, n.refusing = on, time.Time{}
	n.since = n.now()
	n.mu.Unlock()
	if changed && on {
		n.cut()
	}
}

// Run keeps the rhythm until ctx ends.
func (n *network) Run(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		n.mu.Lock()
		due := n.hostile && n.now().Sub(n.since) >= cutEvery
		if due {
			n.since = n.now()
		}
		n.mu.Unlock()
		if due {
			n.cut()
		}
	}
}

// cut breaks every open connection, mid-answer, and begins to refuse.
func (n *network) cut() {
	n.mu.Lock()
	victims := n.open
	n.open = make(map[uint64]context.CancelCauseFunc)
	n.refusing = n.now().Add(refuseFor)
	n.mu.Unlock()
	n.cuts.Add(1)
	for _, cancel := range victims {
		cancel(errCut)
	}
}

func (n *network) close() {
	if t, ok := n.proxy.Transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// between puts the network in front of next.
func (n *network) between(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hostile, refuse := n.weather()
		if refuse {
			n.refused.Add(1)
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, errors.New("the hostile network says no"))
			return
		}
		ctx, done := n.register(r.Context())
		defer done()
		if !hostile || r.Method != http.MethodPost {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		n.twice(ctx, next, w, r)
	})
}

func (n *network) weather() (hostile, refuse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hostile, n.hostile && n.now().Before(n.refusing)
}

func (n *network) register(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	id := n.next
	n.open[id] = cancel
	return ctx, func() {
		n.mu.Lock()
		delete(n.open, id)
		n.mu.Unlock()
		cancel(nil)
	}
}

// twice sends a request and a copy of it at the same time, and throws the copy's answer away. A copy that opened a
// stream is left when the answer has begun: nobody reads it.
func (n *network) twice(ctx context.Context, next http.Handler, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	n.doubled.Add(1)
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		defer func() { _ = recover() }() // an abort of the copy is meant for nobody
		next.ServeHTTP(httptest.NewRecorder(), withBody(r, ctx, body))
	}()
	defer func() { <-copied }()
	next.ServeHTTP(w, withBody(r, ctx, body))
}

func withBody(r *http.Request, ctx context.Context, body []byte) *http.Request { //nolint:revive // it is r's context that is replaced
	out := r.Clone(ctx)
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.ContentLength = int64(len(body))
	return out
}

// networkStatus is what the page shows of the network.
type networkStatus struct {
	Hostile  bool  `json:"hostile"`
	Refusing bool  `json:"refusing"`
	Cuts     int64 `json:"cuts"`
	Refused  int64 `json:"refused"`
	Doubled  int64 `json:"doubled"`
}

func (n *network) status() networkStatus {
	hostile, refusing := n.weather()
	return networkStatus{hostile, refusing, n.cuts.Load(), n.refused.Load(), n.doubled.Load()}
}
