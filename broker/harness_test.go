package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"backchannel/broker"
)

const testSite = broker.SiteID("moodle")

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// bench is a running hub over a log.
type bench struct {
	t    testing.TB
	log  broker.Log
	hub  *broker.Hub
	site *broker.Site
	stop func()
}

// startHub runs a hub over log until the test ends or stop is called.
func startHub(t testing.TB, log broker.Log, change ...func(*broker.HubConfig)) *bench {
	t.Helper()
	cfg := broker.HubConfig{
		Log:    log,
		Mint:   func(broker.SiteID, broker.StreamID, []*broker.Grant) (string, string, error) { return "r", "k", nil },
		Logger: slog.New(slog.DiscardHandler),
		Shards: 2,
	}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &bench{t: t, log: log, hub: broker.NewHub(cfg), site: &broker.Site{ID: testSite}}
	done := make(chan error, 1)
	go func() { done <- b.hub.Run(ctx) }()
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("hub ended with %v", err)
			}
		})
	}
	t.Cleanup(b.stop)
	<-b.hub.Ready()
	return b
}

func ch(name string) broker.Channel {
	return broker.Channel{Site: testSite, ID: broker.ChannelID(name)}
}

func (b *bench) publish(drafts ...broker.Draft) []broker.Appended {
	b.t.Helper()
	out, err := b.log.Append(context.Background(), drafts)
	if err != nil {
		b.t.Fatalf("append: %v", err)
	}
	return out
}

func draft(channel, data string) broker.Draft {
	return broker.Draft{Channel: ch(channel), Data: []byte(data)}
}

func grant(channels ...string) *broker.Grant {
	now := time.Now()
	g := &broker.Grant{Site: testSite, ID: "j1", User: "5", Session: "s1", IssuedAt: now, Until: now.Add(time.Hour)}
	for _, c := range channels {
		g.Entries = append(g.Entries, broker.Entry{Channel: broker.ChannelID(c), As: c})
	}
	return g
}

// frame is one frame as a client parses it.
type frame struct {
	id, event string
	data      map[string]any
}

func (f frame) seq() uint64 {
	c, err := broker.ParseCursor(f.id)
	if err != nil {
		return 0
	}
	return c.Seq
}

// reader is a client: it collects frames from whatever is written to it, and can stop reading.
type reader struct {
	mu     sync.Mutex
	gate   *sync.Cond // on mu
	held   bool
	gone   bool
	buf    []byte
	frames []frame
	cursor string
}

func newReader() *reader {
	r := &reader{}
	r.gate = sync.NewCond(&r.mu)
	return r
}

// Write implements io.Writer; it blocks while the reader is held.
func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.held && !r.gone {
		r.gate.Wait()
	}
	if r.gone {
		return 0, io.ErrClosedPipe
	}
	r.buf = append(r.buf, p...)
	for {
		i := bytes.Index(r.buf, []byte("\n\n"))
		if i < 0 {
			return len(p), nil
		}
		r.parse(string(r.buf[:i]))
		r.buf = r.buf[i+2:]
	}
}

func (r *reader) parse(block string) {
	var f frame
	var data []string
	for line := range strings.SplitSeq(block, "\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			f.id, r.cursor = value, value
		case "event":
			f.event = value
		case "data":
			data = append(data, value)
		}
	}
	if data == nil {
		return
	}
	if err := json.Unmarshal([]byte(strings.Join(data, "\n")), &f.data); err != nil {
		f.event = "BROKEN " + err.Error()
	}
	r.frames = append(r.frames, f)
}

func (r *reader) hold(held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held
	r.gate.Broadcast()
}

func (r *reader) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.gate.Broadcast()
}

func (r *reader) snapshot() []frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]frame(nil), r.frames...)
}

// await waits until ok accepts the frames so far.
func (r *reader) await(t testing.TB, what string, ok func([]frame) bool) []frame {
	t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		f := r.snapshot()
		if ok(f) {
			return f
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s; got %d frames, ending with %.1000v", what, len(f), f[max(0, len(f)-3):])
		}
	}
	return nil
}

func count(event string) func([]frame) int {
	return func(all []frame) int {
		n := 0
		for _, f := range all {
			if f.event == event {
				n++
			}
		}
		return n
	}
}

func atLeast(n int, event string) func([]frame) bool {
	return func(all []frame) bool { return count(event)(all) >= n }
}

// conn is a stream that a test holds.
type conn struct {
	*reader
	opening *broker.Opening
	cancel  context.CancelFunc
	t       testing.TB
	done    chan error
}

// open opens a stream over a buffered sink.
func (b *bench) open(req broker.OpenRequest) *conn {
	b.t.Helper()
	req.Site = b.site
	o, err := b.hub.Open(context.Background(), req)
	if err != nil {
		b.t.Fatalf("open: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &conn{reader: newReader(), t: b.t, opening: o, cancel: cancel, done: make(chan error, 1)}
	sink := broker.NewBuffered()
	o.Attach(sink, nil, false)
	go func() {
		c.done <- sink.Serve(ctx, c.reader, func() error { return nil })
		o.End()
	}()
	b.t.Cleanup(c.close)
	return c
}

func (c *conn) close() {
	c.cancel()
	c.leave()
	if c.done != nil {
		if err := <-c.done; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, io.ErrClosedPipe) {
			c.t.Errorf("stream: %v", err)
		}
		c.done = nil
	}
}

// openSocket opens a detached stream over loopback.
func (b *bench) openSocket(req broker.OpenRequest) (client net.Conn, o *broker.Opening) {
	b.t.Helper()
	return b.openOn(req, nil)
}

// openOn opens a detached stream over loopback, with TLS if there is a configuration for it.
func (b *bench) openOn(req broker.OpenRequest, secure *tls.Config) (client net.Conn, o *broker.Opening) {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a listener of a test
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = client.Close() })
	server, err := broker.TLSListener(l).Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	if secure == nil {
		server = server.(interface{ NetConn() net.Conn }).NetConn()
	} else {
		server, client = handshake(b.t, server, client, secure)
	}
	req.Site = b.site
	o, err = b.hub.Open(context.Background(), req)
	if err != nil {
		b.t.Fatalf("open: %v", err)
	}
	sink, ok, err := broker.Detach(server)
	if err != nil || !ok {
		b.t.Fatalf("detach: %v %v", ok, err)
	}
	o.Attach(sink, []byte("HEAD\n\n"), false)
	return client, o
}

func handshake(t testing.TB, server, client net.Conn, secure *tls.Config) (net.Conn, net.Conn) {
	t.Helper()
	s := tls.Server(server, secure)
	c := tls.Client(client, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // a test's certificate
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// secure is a server's TLS configuration with a certificate of a test.
func secure(t testing.TB) *tls.Config {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS12}
}

// roads are the ways on which a stream that is detached can be written.
func roads(t *testing.T, test func(t *testing.T, secure *tls.Config)) {
	t.Run("plain", func(t *testing.T) { test(t, nil) })
	t.Run("TLS", func(t *testing.T) { test(t, secure(t)) })
}

// follow copies a connection into a reader until it ends.
func follow(client net.Conn) (*reader, chan error) {
	r := newReader()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(r, bufio.NewReader(client))
		done <- err
	}()
	return r, done
}

func events(all []frame) (out []frame) {
	for _, f := range all {
		if _, ok := f.data["data"]; ok {
			out = append(out, f)
		}
	}
	return out
}

func numbers(n int) (out []broker.Draft) {
	for i := range n {
		out = append(out, draft("a", fmt.Sprint(i)))
	}
	return out
}
