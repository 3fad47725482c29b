package handlers

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/persist/memory"
	"backchannel/webhooks"
)

// start is the moment of the vectors' iat.
var start = time.Unix(1790000000, 0)

// fakeHub holds revocations and tells of streams that a test made up.
type fakeHub struct {
	broker.HubStats
	log     broker.Log
	revoked []broker.Revocation
	live    []broker.LiveChannel
	streams []broker.StreamInfo
	cut     int // what Revoke tells
	panics  bool
}

func (h *fakeHub) Revoked(g *broker.Grant, ch broker.ChannelID) bool {
	if h.panics {
		panic("a bug")
	}
	for _, r := range h.revoked {
		if r.Hits(g, ch) {
			return true
		}
	}
	return false
}

func (h *fakeHub) Revoke(ctx context.Context, r broker.Revocation) (int, error) {
	if _, err := h.log.Revoke(ctx, r); err != nil {
		return 0, err
	}
	h.revoked = append(h.revoked, r)
	return h.cut, nil
}

func (h *fakeHub) Streams(_ context.Context, _ broker.SiteID, after string, limit int) ([]broker.StreamInfo, string, error) {
	var page []broker.StreamInfo
	for _, s := range h.streams {
		if s.ID.String() > after && len(page) < limit {
			page = append(page, s)
		}
	}
	if n := len(page); n > 0 && page[n-1].ID != h.streams[len(h.streams)-1].ID {
		return page, page[n-1].ID.String(), nil
	}
	return page, "", nil
}

func (h *fakeHub) Live(_ context.Context, site broker.SiteID) ([]broker.LiveChannel, error) {
	if site != "moodle" {
		return nil, nil
	}
	return h.live, nil
}

func (h *fakeHub) Audience(ctx context.Context, ch broker.Channel) (int, error) {
	all, err := h.Live(ctx, ch.Site)
	for _, l := range all {
		if l.Channel == ch.ID {
			return l.Streams, err
		}
	}
	return 0, err
}

func (h *fakeHub) Stats() broker.HubStats { return h.HubStats }

func (h *fakeHub) Open(context.Context, broker.OpenRequest) (*broker.Opening, error) {
	return nil, broker.Errorf(broker.CodeUnavailable, "no streams here")
}

func (h *fakeHub) Change(context.Context, broker.SiteID, broker.StreamID, []*broker.Grant, []string) error {
	return broker.Errorf(broker.CodeUnavailable, "no streams here")
}

// fakeDispatcher stores what it is sent and says what a test tells it to.
type fakeDispatcher struct {
	mu     sync.Mutex
	sent   []webhooks.Message // guarded by mu
	asked  []string           // guarded by mu: callers
	answer func(webhooks.Message) (webhooks.Delivery, error)
	told   func(webhooks.Ref, string, bool) (webhooks.Delivery, error)
	queue  webhooks.Queue
}

func (f *fakeDispatcher) Send(_ context.Context, m webhooks.Message) (webhooks.Delivery, error) {
	f.mu.Lock()
	f.sent = append(f.sent, m)
	f.mu.Unlock()
	return f.answer(m)
}

func (f *fakeDispatcher) Ask(_ context.Context, ref webhooks.Ref, caller string, settle bool) (webhooks.Delivery, error) {
	f.mu.Lock()
	f.asked = append(f.asked, caller)
	f.mu.Unlock()
	return f.told(ref, caller, settle)
}

func (f *fakeDispatcher) Retry(ctx context.Context, ref webhooks.Ref) (webhooks.Delivery, error) {
	d, err := f.queue.Get(ctx, ref)
	if err != nil {
		return d, err
	}
	if d.State != webhooks.StateDead {
		return d, broker.Errorf(broker.CodeBadRequest, "delivery %s is not dead", d.ID)
	}
	d.State = webhooks.StateWaiting
	return d, f.queue.Update(ctx, d)
}

func (f *fakeDispatcher) Stats() webhooks.Stats {
	return webhooks.Stats{Components: []webhooks.ComponentStats{{Site: "moodle", Component: "mod_kahoodle", Waiting: 2, Attempts: webhooks.Results{Delivered: 3}}}}
}

func (f *fakeDispatcher) messages() []webhooks.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]webhooks.Message(nil), f.sent...)
}

// failingLog is a log that a test breaks.
type failingLog struct {
	broker.Log
	err     error
	commits int
}

func (l *failingLog) Append(ctx context.Context, drafts []broker.Draft) ([]broker.Appended, error) {
	if l.err != nil {
		return nil, l.err
	}
	l.commits++
	return l.Log.Append(ctx, drafts)
}

// desk is a Server in a test on a store in memory, with what the test may turn.
type desk struct {
	*Server
	hub      *fakeHub
	messages *fakeDispatcher
	log      *failingLog
	store    *memory.Store
	sites    *broker.Sites
	now      time.Time
	epoch    broker.Epoch // if not the store's
	logged   lockedText
	health   error
}

// lockedText is what was logged, also by the goroutines of a listener.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newKey(t testing.TB, kid string, first byte) *broker.Key {
	t.Helper()
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = first + byte(i)
	}
	k, err := broker.NewKey(kid, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newDesk has the site moodle of the vectors, with a second key, and a site tsugi.
func newDesk(t testing.TB, change ...func(*Config)) *desk {
	t.Helper()
	salt := make([]byte, 32)
	for i := range salt {
		salt[i] = byte(32 + i)
	}
	d := &desk{sites: &broker.Sites{}, now: start.Add(time.Minute)}
	d.store = memory.New(func() time.Time { return d.now })
	d.log = &failingLog{Log: d.store}
	d.hub = &fakeHub{log: d.store}
	d.messages = &fakeDispatcher{queue: d.store}
	d.sites.Replace(map[broker.SiteID]*broker.Site{
		"moodle": {ID: "moodle", Keys: []*broker.Key{newKey(t, "k1", 0), newKey(t, "k0", 100)}, Salt: salt, Origins: []string{schoolSite}},
		"tsugi":  {ID: "tsugi", Keys: []*broker.Key{newKey(t, "k1", 50)}, Salt: salt, Origins: []string{"https://tsugi.example"}},
	})
	cfg := Config{
		Sites: d.sites, Log: d.log, Hub: d.hub, Messages: d.messages, Queue: d.store, PublicURL: "https://school.example/rt",
		Epoch: d.currentEpoch, Now: func() time.Time { return d.now }, Version: "v1.2.3",
		Logger:        slog.New(slog.NewTextHandler(&d.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Health:        func() error { return d.health },
		AdminPassword: func(p string) bool { return p == "correct horse" },
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Server = s
	return d
}

func (d *desk) currentEpoch() broker.Epoch {
	if d.epoch != "" {
		return d.epoch
	}
	pos, err := d.store.Position(context.Background())
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return pos.Epoch
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   string
}

// json reads the answer into v.
func (r reply) json(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
}

// want fails the test unless r is problem JSON with this status and code.
func (r reply) want(t testing.TB, status int, code broker.Code) {
	t.Helper()
	var p problem
	r.json(t, &p)
	if r.status != status || p.Status != status || p.Code != code || p.Title == "" || p.Detail == "" || p.Type == "" {
		t.Fatalf("got %d %s, want %d %s", r.status, r.body, status, code)
	}
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("a problem of type %q", got)
	}
}

// send asks the public listener; header is pairs of name and value.
func (d *desk) send(method, path, body string, header ...string) reply {
	return exchange(d.Public(), httptest.NewRequest(method, path, strings.NewReader(body)), header...)
}

func exchange(h http.Handler, r *http.Request, header ...string) reply {
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Body)
	return reply{w.Code, w.Header(), string(body)}
}

// server asks as moodle's server.
func (d *desk) server(method, path, body string) reply {
	return d.send(method, path, body, "Authorization", "Bearer "+d.key("moodle", 0).Bearer("moodle"))
}

// ok is server, and fails the test unless the answer is 200.
func (d *desk) ok(t testing.TB, method, path, body string) reply {
	t.Helper()
	r := d.server(method, path, body)
	if r.status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, r.status, r.body)
	}
	return r
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
