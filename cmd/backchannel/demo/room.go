package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"backchannel/broker"
)

const (
	// tickEvery paces the events that the room publishes by itself.
	tickEvery = 400 * time.Millisecond
	// keptSayings is how much of the talk a page is given when it is rendered.
	keptSayings = 30
	// keptIDs is how many sayings are recognised when they are repeated.
	keptIDs = 1000
	// publishPause is how long the room waits before it tries a publish again that was not acknowledged.
	publishPause = 150 * time.Millisecond
)

// room publishes what is heard in the demo's room, as an LMS does. One goroutine numbers the events and waits for each
// acknowledgement before the next, so a page can tell from the numbers alone whether something is lost, repeated or
// out of order.
type room struct {
	site    *site
	channel broker.ChannelID
	broker  func() string
	now     func() time.Time
	http    *http.Client
	sayings chan saying

	mu     sync.Mutex
	n      int                    // guarded by mu; the newest acknowledged number
	cursor string                 // guarded by mu; its position
	talk   []saying               // guarded by mu; oldest first
	known  map[string]*heldSaying // guarded by mu; by the id that the page chose
	order  []string               // guarded by mu; keys of known, oldest first
}

// saying is what somebody said in the room.
type saying struct {
	ID   string `json:"id"`
	From string `json:"from"`
	Text string `json:"text"`
	N    int    `json:"n"`
}

// heldSaying is closed once the saying has been published.
type heldSaying struct {
	done chan struct{}
	n    int // written before done is closed
}

func newRoom(s *site, address func() string, now func() time.Time) *room {
	id, err := broker.Properties{Context: "1", Component: "demo", Area: "room", Item: "lobby"}.Hash(s.salt)
	if err != nil {
		panic("BUG: the room's name: " + err.Error())
	}
	return &room{
		site: s, channel: id, broker: address, now: now, known: make(map[string]*heldSaying),
		http: &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{}}, sayings: make(chan saying, 64),
	}
}

func (r *room) close() { r.http.CloseIdleConnections() }

// event is the data of an event in the room.
type event struct {
	N    int    `json:"n"`
	ID   string `json:"id,omitempty"`
	From string `json:"from,omitempty"`
	Text string `json:"text,omitempty"`
}

// Run publishes a numbered tick at every tickEvery, and what is said in between, until ctx ends.
func (r *room) Run(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		var s saying
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s = <-r.sayings:
		case <-tick.C:
		}
		s.N = n
		cursor, err := r.number(ctx, s)
		if err != nil {
			return err
		}
		r.published(s, cursor)
	}
}

// number publishes s until it is acknowledged. It may be stored and the answer lost: the id makes a repeat safe.
func (r *room) number(ctx context.Context, s saying) (string, error) {
	typ := "tick"
	if s.ID != "" {
		typ = "say"
	}
	draft := map[string]any{
		"channel": r.channel, "type": typ, "id": strconv.Itoa(s.N),
		"data": event{N: s.N, ID: s.ID, From: s.From, Text: s.Text},
	}
	for {
		if cursor, err := r.publish(ctx, draft); err == nil {
			return cursor, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(publishPause):
		}
	}
}

func (r *room) published(s saying, cursor string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n, r.cursor = s.N, cursor
	if s.ID == "" {
		return
	}
	r.talk = append(r.talk, s)
	if len(r.talk) > keptSayings {
		r.talk = r.talk[1:]
	}
	held := r.known[s.ID]
	held.n = s.N
	close(held.done)
}

// Say publishes text and returns its number. A repeat with the same id is not said again: it waits for the first.
func (r *room) Say(ctx context.Context, s saying) (int, error) {
	held, fresh := r.hold(s.ID)
	if fresh {
		select {
		case r.sayings <- s:
		case <-ctx.Done():
			r.release(s.ID)
			return 0, ctx.Err()
		}
	}
	select {
	case <-held.done:
		return held.n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (r *room) hold(id string) (held *heldSaying, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held := r.known[id]; held != nil {
		return held, false
	}
	held = &heldSaying{done: make(chan struct{})}
	r.known[id] = held
	r.order = append(r.order, id)
	if len(r.order) > keptIDs && r.known[r.order[0]].n != 0 { // what still waits is not forgotten
		delete(r.known, r.order[0])
		r.order = r.order[1:]
	}
	return held, true
}

func (r *room) release(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, id)
	r.order = slices.DeleteFunc(r.order, func(o string) bool { return o == id })
}

// Tell publishes to one session's own channel. id makes a repeat safe.
func (r *room) Tell(ctx context.Context, session, typ, id string, data any) error {
	_, err := r.publish(ctx, map[string]any{"session": session, "type": typ, "id": id, "data": data})
	return err
}

// publish does one POST /v1/publish and returns the event's position.
func (r *room) publish(ctx context.Context, draft any) (string, error) {
	address := r.broker()
	if address == "" {
		return "", fmt.Errorf("publish: the broker is down")
	}
	body, err := json.Marshal(draft)
	if err != nil {
		return "", fmt.Errorf("encode event: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v1/publish", bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+r.site.key.Bearer(r.site.id))
	req.Header.Set("Content-Type", "application/json")
	res, err := r.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("publish: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return "", fmt.Errorf("read the broker's answer: %w", err)
	}
	var answer struct{ ID string }
	if err := json.Unmarshal(text, &answer); err != nil || res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("publish: the broker answered %s: %s", res.Status, text)
	}
	return answer.ID, nil
}

// snapshot is the state that a page is rendered from. Everything after number N is after Cursor, so a page that
// starts there has to hear N+1 first.
type snapshot struct {
	N      int      `json:"n"`
	Cursor string   `json:"cursor"`
	Talk   []saying `json:"talk"`
}

func (r *room) snapshot() snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return snapshot{N: r.n, Cursor: r.cursor, Talk: append([]saying{}, r.talk...)}
}
