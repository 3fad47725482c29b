package blackbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// mark is one event as a follower keeps it: where it stood and which one it was.
type mark struct {
	seq  uint64
	name string
}

// way is how a follower comes back.
type way int

const (
	byBody way = iota
	byHeader
	byQuery
	byCamelQuery
	byResume
	byPoll
	byPollResume
	ways
)

// follower is a page that never gives up: it connects, drops, comes back with its cursor by another way each time, and
// keeps what it heard. run is for one goroutine; the rest may be used by any.
type follower struct {
	c        *client
	name     string
	channels []string
	grant    string

	// Of run only.
	resume string
	way    way
	time   float64 // of the newest event

	mu       sync.Mutex
	cursor   string            // guarded by mu
	reached  uint64            // guarded by mu
	got      map[string][]mark // guarded by mu; by channel
	breaches []string          // guarded by mu
	connects [ways]int         // guarded by mu
	refusals map[string]int    // guarded by mu; answers that were no stream
}

func newFollower(c *client, name, from string, channels []string) *follower {
	entries := make([]entry, len(channels))
	for i, h := range channels {
		entries[i] = entry{"h": h, "from": from}
	}
	return &follower{
		c: c, name: name, channels: channels, grant: c.s.grant(entries), way: way(rand.IntN(int(ways))),
		got: map[string][]mark{}, refusals: map[string]int{},
	}
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		life, cancel := context.WithTimeout(ctx, time.Second+rand.N(7*time.Second))
		f.connect(life)
		cancel()
		pause(ctx, 50*time.Millisecond+rand.N(250*time.Millisecond))
	}
}

func (f *follower) connect(ctx context.Context) {
	f.way = (f.way + 1) % ways
	if f.resume == "" && f.way == byResume {
		f.way = byBody
	}
	if f.way == byPoll || f.way == byPollResume {
		f.polls(ctx)
		return
	}
	resp, err := f.request(ctx)
	if err != nil {
		return // the broker is down, or this connection's time is over
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.refused(resp)
		return
	}
	f.count()
	r := rules{}
	r.after, _ = parseCursor(f.at())
	sse := newSSEReader(resp.Body)
	for {
		fr, err := sse.next()
		if err != nil {
			return // cut: by the kill, or by ourselves
		}
		f.take(&r, fr)
	}
}

func (f *follower) request(ctx context.Context) (*http.Response, error) {
	at := f.at()
	query := url.Values{"grant": {f.grant}}
	switch f.way {
	case byHeader:
		if at == "" {
			return f.c.send(ctx, http.MethodGet, "/v1/stream?"+query.Encode(), nil)
		}
		return f.c.send(ctx, http.MethodGet, "/v1/stream?"+query.Encode(), nil, "Last-Event-ID", at)
	case byQuery, byCamelQuery:
		if at != "" {
			query.Set(map[way]string{byQuery: "last_event_id", byCamelQuery: "lastEventId"}[f.way], at)
		}
		return f.c.send(ctx, http.MethodGet, "/v1/stream?"+query.Encode(), nil)
	case byResume:
		return f.c.send(ctx, http.MethodPost, "/v1/stream", f.body(map[string]any{"resume": f.resume}))
	}
	return f.c.send(ctx, http.MethodPost, "/v1/stream", f.body(map[string]any{"grants": []string{f.grant}}))
}

func (f *follower) body(m map[string]any) map[string]any {
	if at := f.at(); at != "" {
		m["cursor"] = at
	}
	return m
}

// polls follows by long polls for as long as ctx allows: the first with the grant, or with the token of the stream
// before, the rest with the token that each answer carries.
func (f *follower) polls(ctx context.Context) {
	r := rules{}
	body := map[string]any{"grants": []string{f.grant}, "wait": 2}
	if f.way == byPollResume && f.resume != "" {
		body, r.poll = map[string]any{"resume": f.resume, "wait": 2}, true
	}
	r.after, _ = parseCursor(f.at())
	for ctx.Err() == nil {
		a, ok := f.pollOnce(ctx, f.body(body))
		if !ok {
			return
		}
		for _, p := range a.Frames {
			f.take(&r, p.frame())
		}
		f.move(a.Cursor)
		f.resume, r.poll = a.Resume, true
		body = map[string]any{"resume": a.Resume, "wait": 2}
	}
}

func (f *follower) pollOnce(ctx context.Context, body map[string]any) (polled, bool) {
	resp, err := f.c.send(ctx, http.MethodPost, "/v1/poll", body)
	if err != nil {
		return polled{}, false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.refused(resp)
		return polled{}, false
	}
	var a polled
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return polled{}, false // cut in the middle: the page asks again with its old cursor
	}
	if a.Resume == "" || a.Cursor == "" {
		f.breach("a poll's answer without cursor or resume: %+v", a)
		return polled{}, false
	}
	f.count()
	return a, true
}

// take judges a frame and keeps what it says.
func (f *follower) take(r *rules, fr frame) {
	ev, err := r.check(fr)
	if err != nil {
		f.breach("%v", err)
		return
	}
	switch fr.event {
	case "hello":
		f.greet(fr)
	case "gap":
		f.breach("gap: %s", fr.data)
	case "heartbeat", "channels":
		f.move(fr.id)
	}
	if ev != nil {
		f.keep(ev)
	}
}

func (f *follower) greet(fr frame) {
	var h hello
	if err := json.Unmarshal([]byte(fr.data), &h); err != nil {
		f.breach("hello: %v", err)
		return
	}
	f.resume = h.Resume
	if len(h.Channels) != len(f.channels) || len(h.Refused) > 0 {
		f.breach("hello has %d of %d entries, refused %v", len(h.Channels), len(f.channels), h.Refused)
	}
	for _, c := range h.Channels {
		if c.Recovered == nil || !*c.Recovered {
			f.breach("not recovered by way %d from %q: %s", f.way, f.at(), fr.data)
		}
	}
}

func (f *follower) keep(ev *heard) {
	var d struct{ U string }
	if ev.Replay || json.Unmarshal(ev.Data, &d) != nil || d.U == "" {
		f.breach("an event nobody published: %+v", ev)
		return
	}
	if ev.Time < f.time {
		f.breach("time fell from %f: %+v", f.time, ev)
	}
	f.time = ev.Time
	f.mu.Lock()
	f.got[ev.Channel] = append(f.got[ev.Channel], mark{ev.id.seq, d.U})
	f.mu.Unlock()
	f.move(ev.id.String())
}

// move takes a position over as the cursor; it must never fall.
func (f *follower) move(id string) {
	at, err := parseCursor(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, _ := parseCursor(f.cursor); err != nil || f.cursor != "" && (at.epoch != old.epoch || at.seq < old.seq) {
		f.breaches = append(f.breaches, fmt.Sprintf("position %q after %q (%v)", id, f.cursor, err))
		return
	}
	f.cursor, f.reached = id, at.seq
}

func (f *follower) at() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cursor
}

func (f *follower) position() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reached
}

func (f *follower) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connects[f.way]++
}

func (f *follower) breach(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.breaches = append(f.breaches, fmt.Sprintf(format, args...))
}

func (f *follower) refused(resp *http.Response) {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusals[fmt.Sprintf("way %d: %s %s", f.way, resp.Status, text)]++
}
