package blackbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// call is one request that reached a receiver, with its signature checked.
type call struct {
	id, component string
	attempt       int
	deadline      time.Duration // what was left, 0 if it has none
	at            time.Time
	header        http.Header
	raw           []byte
	body          hookBody
}

// hookBody is the body of a webhook.
type hookBody struct {
	Type      string          `json:"type"`
	ID        string          `json:"id"`
	Site      string          `json:"site"`
	Component string          `json:"component"`
	Time      json.RawMessage `json:"time"`
	User      string          `json:"user"`
	Session   string          `json:"session"`
	Seal      string          `json:"seal"`
	Data      json.RawMessage `json:"data"`
}

// receiver is a plugin's webhook. It refuses what is not signed by every live key of the site, and can be ended and
// started again on its port. Safe for use by many goroutines.
type receiver struct {
	t    testing.TB
	s    *site
	port int
	does func(w http.ResponseWriter, c call) // set at the start; answers a good request

	mu       sync.Mutex
	srv      *http.Server // guarded by mu; nil while it is down
	served   chan struct{}
	calls    map[string][]call // guarded by mu; by webhook-id
	breaches []string          // guarded by mu
}

// newReceiver starts a receiver for the site. It changes nothing at the site: its url is to be configured.
func newReceiver(t testing.TB, s *site, does func(w http.ResponseWriter, c call)) *receiver {
	t.Helper()
	r := &receiver{t: t, s: s, does: does, calls: map[string][]call{}}
	ln := listen(t, 0)
	r.port = ln.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	r.serve(ln)
	t.Cleanup(func() {
		r.stop()
		for _, b := range r.breaches[:min(len(r.breaches), 10)] {
			t.Errorf("at the receiver: %s", b)
		}
	})
	return r
}

func (r *receiver) url(path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(r.port) + path
}

func (r *receiver) serve(ln net.Listener) {
	srv, served := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}, make(chan struct{})
	r.mu.Lock()
	r.srv, r.served = srv, served
	r.mu.Unlock()
	go func() {
		defer close(served)
		srv.Serve(ln) //nolint:errcheck // it ends with stop
	}()
}

// stop ends the receiver with all its connections, in the middle of what they do.
func (r *receiver) stop() {
	r.mu.Lock()
	srv, served := r.srv, r.served
	r.srv = nil
	r.mu.Unlock()
	if srv != nil {
		srv.Close() //nolint:errcheck // it ends either way
		<-served
	}
}

// restart ends it and starts it again on the same port after a while.
func (r *receiver) restart(down time.Duration) {
	r.stop()
	pause(r.t.Context(), down)
	var ln net.Listener
	eventually(r.t, startLimit, "the receiver's port", func() bool {
		var err error
		ln, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)))
		return err == nil
	})
	r.serve(ln)
}

// ServeHTTP judges the request and lets the test answer it.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return // cut by the broker's end
	}
	c := call{id: req.Header.Get("Webhook-Id"), component: req.Header.Get("Backchannel-Component"), at: time.Now(), header: req.Header, raw: raw}
	if err := c.check(req, r.s); err != nil {
		r.breach("%v: %v %s", err, req.Header, raw)
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.calls[c.id] = append(r.calls[c.id], c)
	r.mu.Unlock()
	r.does(w, c)
}

func (c *call) check(req *http.Request, s *site) error {
	if err := c.checkSignatures(s); err != nil {
		return err
	}
	var err error
	if c.attempt, err = strconv.Atoi(req.Header.Get("Backchannel-Attempt")); err != nil || c.attempt < 1 {
		return fmt.Errorf("bad Backchannel-Attempt")
	}
	if d := req.Header.Get("Backchannel-Deadline"); d != "" {
		ms, err := strconv.Atoi(d)
		if err != nil || ms <= 0 {
			return fmt.Errorf("bad Backchannel-Deadline")
		}
		c.deadline = time.Duration(ms) * time.Millisecond
	}
	if err := json.Unmarshal(c.raw, &c.body); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	b := c.body
	if req.Method != http.MethodPost || b.ID != c.id || b.Component != c.component || b.Site != s.name || req.Header.Get("Backchannel-Site") != s.name || len(b.Time) == 0 {
		return fmt.Errorf("method, headers and body disagree")
	}
	if b.Type == "message.call" && c.deadline == 0 {
		return fmt.Errorf("a call without Backchannel-Deadline")
	}
	return nil
}

// checkSignatures wants one signature for each live key and a timestamp of now.
func (c *call) checkSignatures(s *site) error {
	stamp := c.header.Get("Webhook-Timestamp")
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if age := time.Since(time.Unix(unix, 0)); err != nil || age < -5*time.Second || age > 30*time.Second {
		return fmt.Errorf("webhook-timestamp %q is not of this attempt", stamp)
	}
	given := strings.Fields(c.header.Get("Webhook-Signature"))
	if len(given) != len(s.keys) {
		return fmt.Errorf("%d signatures for %d keys", len(given), len(s.keys))
	}
	for _, k := range s.keys {
		want, found := signWebhook(k, c.id, stamp, c.raw), false
		for _, g := range given {
			found = found || g == want
		}
		if !found {
			return fmt.Errorf("no signature by key %s", k.kid)
		}
	}
	return nil
}

func (r *receiver) breach(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.breaches = append(r.breaches, fmt.Sprintf(format, args...))
}

// received is every request under an id.
func (r *receiver) received(id string) []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call(nil), r.calls[id]...)
}

// answerJSON is what a good plugin does.
func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(mustJSON(v)) //nolint:errcheck // the broker may be gone
}

// hangUp ends the connection in place of an answer.
func hangUp(http.ResponseWriter) { panic(http.ErrAbortHandler) }
