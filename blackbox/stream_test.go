package blackbox_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// waitLimit is how long a test waits for a frame that must come; generous, because CI machines are slow.
const waitLimit = 10 * time.Second

// stream is an open event stream that is read as it comes. Every frame is judged by rules; a breach fails the test.
type stream struct {
	t    testing.TB
	resp *http.Response
	done chan struct{} // closed when the body has ended

	mu      sync.Mutex
	frames  []frame       // guarded by mu
	retry   int           // guarded by mu; the newest, in ms
	events  []heard       // guarded by mu
	rules   rules         // guarded by mu
	err     error         // guarded by mu; why the body ended
	changed chan struct{} // guarded by mu; closed and replaced at each frame
	seen    int           // of frames, by next and await; used by the test only
}

// open posts body to /v1/stream and fails the test unless a stream comes.
func (c *client) open(t testing.TB, body map[string]any, header ...string) *stream {
	t.Helper()
	return c.openWith(t, http.MethodPost, "/v1/stream", body, header...)
}

// get opens a stream by GET, as a bare EventSource does.
func (c *client) get(t testing.TB, query url.Values, header ...string) *stream {
	t.Helper()
	return c.openWith(t, http.MethodGet, "/v1/stream?"+query.Encode(), nil, header...)
}

func (c *client) openWith(t testing.TB, method, path string, body any, header ...string) *stream {
	t.Helper()
	resp, err := c.send(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
	}
	var r rules
	if given := cursorOf(body, header); given != "" {
		r.after, _ = parseCursor(given)
	}
	return adopt(t, resp, r)
}

// adopt reads the stream of an answer from now on.
func adopt(t testing.TB, resp *http.Response, r rules) *stream {
	t.Helper()
	s := &stream{t: t, resp: resp, rules: r, done: make(chan struct{}), changed: make(chan struct{})}
	go s.read()
	t.Cleanup(s.close)
	return s
}

func cursorOf(body any, header []string) string {
	if m, ok := body.(map[string]any); ok {
		if s, ok := m["cursor"].(string); ok {
			return s
		}
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Last-Event-ID" {
			return header[i+1]
		}
	}
	return ""
}

func (s *stream) read() {
	defer close(s.done)
	r := newSSEReader(s.resp.Body)
	for {
		f, err := r.next()
		var ev *heard
		if err == nil {
			var breach error // it fails the test; what follows may tell more
			s.mu.Lock()
			ev, breach = s.rules.check(f)
			s.mu.Unlock()
			if breach != nil {
				s.t.Errorf("the stream breaks a rule: %v", breach)
			}
		}
		s.mu.Lock()
		if err == nil && f.retry >= 0 {
			s.retry = f.retry
		}
		if err == nil && f.hasIt {
			s.frames = append(s.frames, f)
		}
		if err == nil && ev != nil {
			s.events = append(s.events, *ev)
		}
		s.err = err
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// close ends the connection from this side.
func (s *stream) close() {
	s.resp.Body.Close()
	<-s.done
}

// next waits for the next frame that carries data.
func (s *stream) next() frame {
	s.t.Helper()
	f, ok := s.nextWithin(waitLimit)
	if !ok {
		s.t.Fatalf("no frame came within %s; before: %s", waitLimit, s.story())
	}
	return f
}

func (s *stream) nextWithin(d time.Duration) (frame, bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		s.mu.Lock()
		if s.seen < len(s.frames) {
			f := s.frames[s.seen]
			s.seen++
			s.mu.Unlock()
			return f, true
		}
		changed, err := s.changed, s.err
		s.mu.Unlock()
		if err != nil {
			return frame{}, false
		}
		select {
		case <-changed:
		case <-timer.C:
			return frame{}, false
		}
	}
}

// await returns the next frame of this event name ("" for plain events), passing over others.
func (s *stream) await(event string) frame {
	s.t.Helper()
	return s.awaitWithin(event, waitLimit)
}

func (s *stream) awaitWithin(event string, d time.Duration) frame {
	s.t.Helper()
	deadline := time.Now().Add(d)
	for {
		f, ok := s.nextWithin(time.Until(deadline))
		if !ok {
			s.t.Fatalf("no %q came within %s; before: %s", event, d, s.story())
		}
		if f.event == event {
			return f
		}
	}
}

// hello reads the first frame, which must be it.
func (s *stream) hello() hello {
	s.t.Helper()
	f := s.next()
	var h hello
	if f.event != "hello" || json.Unmarshal([]byte(f.data), &h) != nil {
		s.t.Fatalf("the first frame is %+v, want hello", f)
	}
	return h
}

// caughtUp reads up to the next heartbeat and returns the events passed and the position reached.
func (s *stream) caughtUp() ([]heard, cursor) {
	s.t.Helper()
	beat := s.await("heartbeat")
	at, err := parseCursor(beat.id)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.heard(), at
}

// heard is every event up to now.
func (s *stream) heard() []heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]heard(nil), s.events...)
}

// awaitEvents waits until n events have come in all and returns them.
func (s *stream) awaitEvents(n int) []heard {
	s.t.Helper()
	if !poll(s.t.Context(), waitLimit, func() bool { return len(s.heard()) >= n }) {
		s.t.Fatalf("want %d events, got: %s", n, s.story())
	}
	return s.heard()
}

// ended waits for the end of the body.
func (s *stream) ended(within time.Duration) {
	s.t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		s.t.Fatalf("the stream did not end within %s; before: %s", within, s.story())
	}
}

func (s *stream) story() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, f := range s.frames[max(0, len(s.frames)-12):] {
		b.WriteString("\n  id=" + f.id + " event=" + f.event + " data=" + f.data[:min(len(f.data), 160)])
	}
	if s.err != nil {
		b.WriteString("\n  then " + s.err.Error())
	}
	return b.String()
}

// datas is the published data of events, for comparing.
func datas(events []heard) []string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = string(e.Data)
	}
	return out
}
