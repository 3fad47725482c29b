package webhooks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"backchannel/broker"
	"backchannel/persist/memory"
	"backchannel/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	site      broker.SiteID      = "moodle"
	component broker.ComponentID = "mod_kahoodle"
)

var (
	secret   = []byte("0123456789abcdef0123456789abcdef")
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
)

// table is the endpoints of a test; set may be called while a dispatcher runs.
type table struct {
	mu  sync.Mutex
	all map[broker.ComponentID]webhooks.Endpoint // guarded by mu
}

func (t *table) set(c broker.ComponentID, e webhooks.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = make(map[broker.ComponentID]webhooks.Endpoint)
	}
	t.all[c] = e
}

func (t *table) find(s broker.SiteID, c broker.ComponentID) (webhooks.Endpoint, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.all[c]
	return e, ok && s == site
}

func endpoint(t testing.TB, rawURL string) webhooks.Endpoint {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return webhooks.Endpoint{Site: site, Component: component, URL: u, Allow: loopback, Secrets: [][]byte{secret}}
}

// oneEndpoint is a table with the usual component.
func oneEndpoint(e webhooks.Endpoint) webhooks.Endpoints {
	return (&table{all: map[broker.ComponentID]webhooks.Endpoint{component: e}}).find
}

func config(q webhooks.Queue, e webhooks.Endpoints) webhooks.Config {
	return webhooks.Config{Queue: q, Endpoints: e, Logger: slog.New(slog.DiscardHandler)}
}

// start runs a dispatcher until the test or stop ends it.
func start(t testing.TB, cfg webhooks.Config) (d *webhooks.Dispatcher, stop func()) {
	t.Helper()
	d = webhooks.NewDispatcher(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return d, stop
}

func newStore() *memory.Store { return memory.New(time.Now) }

func call(id string, deadline time.Duration) webhooks.Message {
	now := time.Now()
	return webhooks.Message{
		Ref: webhooks.Ref{Site: site, ID: webhooks.ID(id)}, Component: component,
		Kind: webhooks.KindCall, Type: webhooks.TypeCall, Caller: "s1", Order: "s1",
		Accepted: now, Deadline: now.Add(deadline), User: "5", Data: json.RawMessage(`{"n":1}`),
	}
}

func job(id string) webhooks.Message {
	m := call(id, 0)
	m.Kind, m.Type, m.Deadline = webhooks.KindJob, webhooks.TypeJob, time.Time{}
	return m
}

func mustSend(t testing.TB, d *webhooks.Dispatcher, m webhooks.Message) webhooks.Delivery {
	t.Helper()
	rec, err := d.Send(context.Background(), m)
	if err != nil {
		t.Fatalf("send %s: %v", m.ID, err)
	}
	return rec
}

func wantOutcome(t testing.TB, rec webhooks.Delivery, want webhooks.Outcome) {
	t.Helper()
	if rec.Outcome != want {
		t.Fatalf("outcome %q (%s), want %q", rec.Outcome, rec.Reason, want)
	}
}

// ended waits until a delivery is done or dead in the store.
func ended(t testing.TB, q webhooks.Queue, id string) webhooks.Delivery {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(2 * time.Millisecond) {
		rec, err := q.Get(context.Background(), webhooks.Ref{Site: site, ID: webhooks.ID(id)})
		if err == nil && (rec.State == webhooks.StateDone || rec.State == webhooks.StateDead) {
			return rec
		}
		if time.Now().After(deadline) {
			t.Fatalf("delivery %s did not end: %v, %+v", id, err, rec)
		}
	}
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// pipes is a server reached by pipes alone, for tests in a bubble of fake time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes(h http.Handler) (*pipes, *http.Server) {
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Hour}
	go func() { _ = s.Serve(p) }()
	return p, s
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: fmt.Errorf("connection refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
