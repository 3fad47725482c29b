package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"backchannel/broker"
	"backchannel/persist"
	"backchannel/persist/memory"
)

// The model: a list of what was published on each channel and of what was removed from it, beside clients that come,
// go, stall and change their channels at any moment while real goroutines race. What a client must have at the end
// follows from its own frames alone: every event after its start, in order, once, but for what a gap or a hello with
// recovered:false announced; and such an announcement needs something that was really removed.

var modelChannels = []string{"a", "b", "c"}

type model struct {
	t         *rapid.T
	b         *bench
	published map[string][]uint64
	removed   map[string]uint64 // the newest position that purge or trim may have removed
	perChan   int
	pad       string              // fills the buffers of held readers
	all       map[string][]uint64 // with those that have a life of their own: they count for the trim
	last      broker.Cursor
}

// client is one page over many connections.
type client struct {
	name     string
	channels []string
	cursor   string
	conn     *conn
	entries  map[string]*heard
}

// heard is what a client knows of one channel.
type heard struct {
	reached uint64   // every event up to here is accounted for
	got     []uint64 // in the order of arrival
	lost    [][2]uint64
}

func TestReplayJoinsLiveWithoutGapRepeatOrInversion(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		modelCheck(t, rt, func(perChan int) (broker.Log, func() broker.Log, func()) {
			log := memory.New(time.Now, memory.WithRetention(0, perChan, 0))
			return log, func() broker.Log { return log }, func() {}
		})
	})
}

func TestReplayJoinsLiveOnDiskOverRestarts(t *testing.T) {
	if testing.Short() {
		t.Skip("synced to disk for every publish; the model in memory has run")
	}
	rapid.Check(t, func(rt *rapid.T) {
		modelCheck(t, rt, func(perChan int) (broker.Log, func() broker.Log, func()) {
			dir, err := os.MkdirTemp("", "model")
			if err != nil {
				t.Fatal(err)
			}
			s := openDisk(t, dir, perChan)
			return s, func() broker.Log {
					s.stop()
					s = openDisk(t, dir, perChan)
					return s
				}, func() {
					s.stop()
					_ = os.RemoveAll(dir)
				}
		})
	})
}

// disk is a store on disk that runs.
type disk struct {
	*persist.Store
	stop func()
}

func openDisk(t *testing.T, dir string, perChan int) *disk {
	t.Helper()
	if perChan == 0 {
		perChan = 10_000
	}
	s, err := persist.Open(persist.Options{Dir: dir, Ballast: 1, Retention: persist.Retention{Age: time.Hour, PerChannel: perChan}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return &disk{Store: s, stop: func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("store: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}}
}

func modelCheck(t *testing.T, rt *rapid.T, open func(perChan int) (log broker.Log, reopen func() broker.Log, end func())) {
	perChan := rapid.SampledFrom([]int{0, 3, 20}).Draw(rt, "perChannel")
	ring := rapid.SampledFrom([]int{1, 10_000, 1 << 20}).Draw(rt, "ring")
	pad := strings.Repeat("x", rapid.SampledFrom([]int{0, 3000}).Draw(rt, "pad"))
	small := func(c *broker.HubConfig) { c.RecentBytes, c.Heartbeat = ring, time.Second }
	log, reopen, end := open(perChan)
	defer end()
	b := startHub(t, log, small)
	m := &model{t: rt, b: b, published: map[string][]uint64{}, removed: map[string]uint64{}, perChan: perChan, pad: pad, all: map[string][]uint64{}}
	defer func() { m.b.stop() }()
	m.run(func() {
		m.b.stop()
		m.b = startHub(t, reopen(), small)
	})
}

func (m *model) run(restart func()) {
	m.publish("a")
	clients := []*client{
		{name: "0", channels: modelChannels}, {name: "1", channels: []string{"a"}}, {name: "2", channels: []string{"b", "c"}},
	}
	steps := rapid.IntRange(5, 60).Draw(m.t, "steps")
	for range steps {
		c := clients[rapid.IntRange(0, len(clients)-1).Draw(m.t, "client")]
		switch rapid.SampledFrom([]string{"publish", "publish", "publish", "burst", "connect", "connect", "drop", "hold", "release", "purge", "short", "change", "restart"}).Draw(m.t, "step") {
		case "publish":
			m.publish(rapid.SampledFrom(modelChannels).Draw(m.t, "channel"))
		case "burst":
			m.burst(rapid.IntRange(1, 300).Draw(m.t, "burst"))
		case "short":
			ch := rapid.SampledFrom(modelChannels).Draw(m.t, "channel")
			d := draft(ch, `"short"`)
			d.TTL = time.Millisecond
			m.last = m.b.publish(d)[0].Cursor
			m.trim(ch)
		case "purge":
			ch := rapid.SampledFrom(modelChannels).Draw(m.t, "channel")
			if _, err := m.b.log.Purge(context.Background(), broker.Channel{Site: testSite, ID: broker.ChannelID(ch)}); err != nil {
				m.t.Fatal(err)
			}
			m.removed[ch] = m.last.Seq
		case "connect":
			m.connect(c)
		case "drop":
			m.drop(c)
		case "hold", "release":
			if c.conn != nil {
				c.conn.hold(rapid.Bool().Draw(m.t, "held"))
			}
		case "change":
			m.swap(c)
		case "restart":
			for _, c := range clients {
				m.drop(c)
			}
			restart()
		}
	}
	for _, c := range clients {
		m.finish(c)
	}
}

func (m *model) publish(channel string) { m.store(channel) }

// burst publishes n events over all channels in one commit.
func (m *model) burst(n int) {
	channels := make([]string, n)
	for i := range channels {
		channels[i] = modelChannels[i%3]
	}
	m.store(channels...)
}

func (m *model) store(channels ...string) {
	var drafts []broker.Draft
	for i, ch := range channels {
		drafts = append(drafts, draft(ch, fmt.Sprintf(`"%d %s"`, len(m.published[ch])+i, m.pad)))
	}
	for i, a := range m.b.publish(drafts...) {
		m.last = a.Cursor
		m.published[channels[i]] = append(m.published[channels[i]], m.last.Seq)
		m.trim(channels[i])
	}
}

// trim notes what a channel's cap has removed now that the newest event is in.
func (m *model) trim(channel string) {
	m.all[channel] = append(m.all[channel], m.last.Seq)
	if all := m.all[channel]; m.perChan > 0 && len(all) > m.perChan {
		m.removed[channel] = max(m.removed[channel], all[len(all)-m.perChan-1])
	}
}

func (m *model) connect(c *client) {
	m.drop(c)
	c.conn = m.b.open(broker.OpenRequest{Grants: []*broker.Grant{grant(c.channels...)}, Cursor: c.cursor})
}

// swap takes a channel away from a live stream and adds it again from where it was.
func (m *model) swap(c *client) {
	if c.conn == nil {
		return
	}
	g := grant(c.channels[0])
	g.ID = "again"
	g.Entries[0].From = broker.Start{Cursor: fmt.Sprintf("%s-0", m.last.Epoch)}
	err := m.b.hub.Change(context.Background(), testSite, c.conn.opening.Stream, []*broker.Grant{g}, []string{c.channels[0]})
	if err != nil && broker.CodeOf(err) != broker.CodeNotFound && broker.CodeOf(err) != broker.CodeBadRequest {
		m.t.Fatal(err)
	}
}

// drop ends the connection and takes into account what came over it.
func (m *model) drop(c *client) {
	if c.conn == nil {
		return
	}
	c.conn.close()
	m.digest(c, c.conn.snapshot())
	c.conn = nil
}

// finish waits until the client has all there is, and judges.
func (m *model) finish(c *client) {
	if c.conn == nil {
		m.connect(c)
	}
	c.conn.hold(false)
	for _, ch := range c.channels {
		m.publish(ch)
	}
	end := m.last.Seq
	c.conn.await(m.b.t, "the end of client "+c.name, func(all []frame) bool {
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].seq() >= end {
				return true
			}
		}
		return false
	})
	m.drop(c)
	for ch, h := range c.entries {
		m.judge(c, ch, h)
	}
}

func (m *model) digest(c *client, all []frame) {
	if c.entries == nil {
		c.entries = map[string]*heard{}
	}
	lastID, fresh := uint64(0), c.cursor == "" // the cursor that this connection was opened with
	if !fresh {
		cur, _ := broker.ParseCursor(c.cursor)
		lastID = cur.Seq
	}
	if len(all) > 0 && all[0].event != "hello" {
		m.t.Fatalf("client %s: the first frame is %v", c.name, all[0])
	}
	for _, f := range all {
		if s := f.seq(); s != 0 {
			if s < lastID {
				m.t.Fatalf("client %s: id %d after %d", c.name, s, lastID)
			}
			lastID, c.cursor = s, f.id
		}
		switch f.event {
		case "hello", "channels":
			for _, e := range f.data["channels"].([]any) {
				m.joined(c, e.(map[string]any), f.event == "hello", fresh, lastID)
			}
		case "gap":
			h := c.entries[f.data["channel"].(string)]
			head := mustSeq(f.data["head"])
			h.lost = append(h.lost, [2]uint64{h.reached, head})
			h.reached = max(h.reached, head)
		case "heartbeat", "bye":
		default:
			m.event(c, f)
		}
	}
}

func (m *model) joined(c *client, e map[string]any, hello, fresh bool, cursor uint64) {
	ch := e["channel"].(string)
	head := mustSeq(e["head"])
	h := c.entries[ch]
	if h == nil {
		h = &heard{}
		c.entries[ch] = h
	}
	if hello && fresh {
		// Without a cursor a stream begins at the head, and nothing before is owed.
		h.lost = append(h.lost, [2]uint64{0, head})
		h.reached = head
		return
	}
	if e["recovered"] != true && hello {
		// Judged from the cursor: a gap frame that came after it has moved nothing.
		h.lost = append(h.lost, [2]uint64{min(h.reached, cursor), head})
		h.reached = max(h.reached, head)
	}
	if !hello {
		// Added again: its history came before this frame, or is told to be lost; what lay between is not owed.
		h.lost = append(h.lost, [2]uint64{0, head})
	}
}

func (m *model) event(c *client, f frame) {
	ch := f.data["channel"].(string)
	if f.data["replay"] == true {
		return // history of an entry added again: a page drops by "at" what it has seen
	}
	h := c.entries[ch]
	if n := len(h.got); n > 0 && h.got[n-1] >= f.seq() {
		m.t.Fatalf("client %s: event %d of %s after %d", c.name, f.seq(), ch, h.got[n-1])
	}
	h.got = append(h.got, f.seq())
	h.reached = max(h.reached, f.seq())
}

func (m *model) judge(c *client, ch string, h *heard) {
	got := map[uint64]bool{}
	for _, s := range h.got {
		got[s] = true
	}
	for _, s := range m.published[ch] {
		if got[s] || h.announced(s) {
			continue
		}
		m.t.Fatalf("client %s: event %d of %s is missing, and no gap says so (got %v, lost %v)", c.name, s, ch, h.got, h.lost)
	}
	for _, l := range h.lost {
		if l[0] != 0 && m.removed[ch] <= l[0] {
			m.t.Fatalf("client %s: a loss of %s in (%d,%d] was announced, but only %d was removed", c.name, ch, l[0], l[1], m.removed[ch])
		}
	}
}

func (h *heard) announced(s uint64) bool {
	for _, l := range h.lost {
		if s > l[0] && s <= l[1] {
			return true
		}
	}
	return false
}

func mustSeq(v any) uint64 {
	c, err := broker.ParseCursor(v.(string))
	if err != nil {
		panic(err)
	}
	return c.Seq
}
