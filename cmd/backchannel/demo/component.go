package demo

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	componentName = "demo_quiz"
	componentPath = "/component/webhook"
	// signatureTolerance is how old or new a webhook's timestamp may be.
	signatureTolerance = 5 * time.Minute
	// keptAttempts is how many attempts the page shows.
	keptAttempts = 12
	// maxKnown bounds the ids that are remembered.
	maxKnown = 10_000
)

// component is a plugin of the LMS: a quiz that marks answers when a page calls, and writes reports as jobs. It
// dedupes by webhook-id, so what a repeat would do shows in the points.
type component struct {
	site    *site
	room    *room
	hostile func() bool
	now     func() time.Time

	mu       sync.Mutex
	known    map[string]json.RawMessage // guarded by mu; webhook-id to the reply that was given, nil before
	order    []string                   // guarded by mu; keys of known, oldest first
	points   map[string]int             // guarded by mu; per session
	tally    tally                      // guarded by mu
	attempts []attempt                  // guarded by mu; newest first
}

// tally counts what reached the webhook.
type tally struct {
	Attempts int `json:"attempts"` // requests with a good signature
	Messages int `json:"messages"` // different ids among them
	Effects  int `json:"effects"`  // times that something was done
	Repeats  int `json:"repeats"`  // answered from memory
	Lost     int `json:"lost"`     // answers that the hostile network swallowed
	Busy     int `json:"busy"`     // refused before anything ran
	Forged   int `json:"forged"`   // bad signatures
}

// attempt is one request as the page shows it.
type attempt struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	Nth  int    `json:"nth"`
	What string `json:"what"` // done, repeat, lost, busy
	At   int64  `json:"at"`   // ms since 1970
}

func newComponent(s *site, r *room, hostile func() bool, now func() time.Time) *component {
	return &component{site: s, room: r, hostile: hostile, now: now, known: make(map[string]json.RawMessage), points: make(map[string]int)}
}

// message is the part of a webhook's body that the component reads.
type message struct {
	Type    string
	ID      string
	Session string
	Data    struct {
		Do   string
		A, B int
		Is   int
	}
}

// webhook answers one attempt: verify, dedupe, act.
func (c *component) webhook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes))
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("read webhook: %w", err))
		return
	}
	var m message
	if !c.verify(r.Header, body) || json.Unmarshal(body, &m) != nil || m.ID != r.Header.Get("webhook-id") {
		c.mu.Lock()
		c.tally.Forged++
		c.mu.Unlock()
		fail(w, http.StatusUnauthorized, fmt.Errorf("the signature does not fit"))
		return
	}
	nth, _ := strconv.Atoi(r.Header.Get("Backchannel-Attempt"))
	reply, what := c.handle(r.Context(), m, nth)
	c.note(attempt{ID: m.ID, Kind: strings.TrimPrefix(m.Type, "message."), Nth: nth, What: what, At: c.now().UnixMilli()})
	switch what {
	case "busy":
		w.Header().Set("Backchannel-Ran", "no")
		fail(w, http.StatusServiceUnavailable, fmt.Errorf("busy; nothing was done"))
	case "lost":
		panic(http.ErrAbortHandler) // the effect has happened, the connection breaks before the answer
	default:
		writeJSON(w, http.StatusOK, reply)
	}
}

// verify checks a signature as Standard Webhooks says.
func (c *component) verify(h http.Header, body []byte) bool {
	at, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if err != nil || c.now().Sub(time.Unix(at, 0)).Abs() > signatureTolerance {
		return false
	}
	mac := hmac.New(sha256.New, c.site.key.Webhook)
	_, _ = fmt.Fprintf(mac, "%s.%d.%s", h.Get("webhook-id"), at, body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return slices.ContainsFunc(strings.Fields(h.Get("webhook-signature")), func(s string) bool {
		return hmac.Equal([]byte(s), []byte(want))
	})
}

// handle does what m asks for unless it has been done. In a hostile world some first attempts are refused before
// anything is done, and some lose their answer after it.
func (c *component) handle(ctx context.Context, m message, nth int) (json.RawMessage, string) {
	luck := uint32(2)
	if c.hostile() && nth == 1 {
		h := fnv.New32a()
		_, _ = io.WriteString(h, m.ID)
		luck = h.Sum32() % 3
	}
	if reply := c.meet(m.ID); reply != nil {
		return reply, "repeat"
	}
	if luck == 0 {
		return nil, "busy"
	}
	if m.Type == "message.job" {
		// Told before it is remembered: a repeat tells it under the same id, which is stored once.
		if err := c.room.Tell(ctx, m.Session, "report", m.ID, c.report(m.Session)); err != nil {
			return nil, "busy"
		}
	}
	reply, fresh := c.act(m)
	switch {
	case !fresh:
		return reply, "repeat"
	case luck == 1:
		return reply, "lost"
	}
	return reply, "done"
}

// meet counts an id that comes for the first time, and gives the reply of one that has been done.
func (c *component) meet(id string) (reply json.RawMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply, known := c.known[id]; known {
		return reply
	}
	c.tally.Messages++
	c.known[id] = nil
	c.order = append(c.order, id)
	if len(c.order) > maxKnown {
		delete(c.known, c.order[0])
		c.order = c.order[1:]
	}
	return nil
}

// act is the effect and its memory in one step, as a transaction would be.
func (c *component) act(m message) (reply json.RawMessage, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply := c.known[m.ID]; reply != nil {
		return reply, false // a copy was faster
	}
	answer := map[string]any{"noted": true}
	if m.Data.Do == "mark" {
		right := m.Data.A*m.Data.B == m.Data.Is
		if right {
			c.points[m.Session]++
		}
		answer = map[string]any{"right": right, "product": m.Data.A * m.Data.B, "points": c.points[m.Session]}
	}
	reply, _ = json.Marshal(answer) // numbers and booleans
	c.tally.Effects++
	c.known[m.ID] = reply
	return reply, true
}

func (c *component) report(session string) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return map[string]any{"points": c.points[session], "at": c.now().UnixMilli()}
}

func (c *component) note(a attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally.Attempts++
	switch a.What {
	case "repeat":
		c.tally.Repeats++
	case "lost":
		c.tally.Lost++
	case "busy":
		c.tally.Busy++
	}
	c.attempts = append([]attempt{a}, c.attempts...)
	if len(c.attempts) > keptAttempts {
		c.attempts = c.attempts[:keptAttempts]
	}
}

// componentStatus is what the page shows of the webhook.
type componentStatus struct {
	tally
	Recent []attempt `json:"recent"`
}

func (c *component) status() componentStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return componentStatus{tally: c.tally, Recent: append([]attempt{}, c.attempts...)}
}
