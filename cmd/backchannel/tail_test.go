package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backchannel/broker"
)

// fakeBroker is a stream endpoint under the test's control: connection n is served by the n-th function.
type fakeBroker struct {
	*httptest.Server
	mu      sync.Mutex
	cursors []string // guarded by mu; Last-Event-ID of each connection
	next    atomic.Int64
}

func newFakeBroker(t *testing.T, serve ...func(w http.ResponseWriter, r *http.Request)) *fakeBroker {
	t.Helper()
	f := &fakeBroker{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(f.next.Add(1)) - 1
		f.mu.Lock()
		f.cursors = append(f.cursors, r.Header.Get("Last-Event-ID"))
		f.mu.Unlock()
		if n >= len(serve) {
			<-r.Context().Done()
			return
		}
		serve[n](w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeBroker) dsn(t *testing.T) string {
	t.Helper()
	c := newSiteConfig("moodle", nil)
	key, err := broker.ParseKey(c.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	salt, err := broker.ParseSecret("salt", c.Salt)
	if err != nil {
		t.Fatal(err)
	}
	return broker.DSN{Site: "moodle", Key: key, Salt: salt, Public: f.URL}.String()
}

// frames writes a stream's beginning and these frames, and ends the body cleanly.
func frames(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "retry: 1\n\nevent: hello\ndata: {\"channels\":[]}\n\n"+text)
	}
}

// cut writes frames and then breaks the connection, so that what it wrote last may be half a frame.
func cut(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		frames(text)(w, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func event(n int) string {
	return fmt.Sprintf("id: x7k2m9qa-%d\ndata: {\"channel\":\"room1\",\"time\":1790000000.5,\"data\":%d}\n\n", n, n)
}

// numbers are the data of the events printed.
func numbers(t *testing.T, out string) []int {
	t.Helper()
	var all []int
	for line := range strings.Lines(out) {
		var e struct{ Data int }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, e.Data)
	}
	return all
}

func TestTailComesBackAfterACleanEndWithItsCursor(t *testing.T) {
	f := newFakeBroker(t, frames(event(1)+event(2)), frames(event(3)+event(4)))
	r := run(t, "", nil, "tail", "room1", "--count", "4", "--dsn", f.dsn(t))
	if r.code != exitOK || fmt.Sprint(numbers(t, r.out)) != "[1 2 3 4]" {
		t.Errorf("code %d, out %s, err %s", r.code, r.out, r.err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cursors[0] != "" || f.cursors[1] != "x7k2m9qa-2" {
		t.Errorf("cursors: %q", f.cursors)
	}
}

func TestTailTakesNoHalfFrameForAnEventOrACursor(t *testing.T) {
	whole := event(1042)
	for i := range len(whole) - 1 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			f := newFakeBroker(t, cut(event(1041)+whole[:i]), frames(whole))
			r := run(t, "", nil, "tail", "room1", "--count", "2", "--dsn", f.dsn(t))
			if got := fmt.Sprint(numbers(t, r.out)); got != "[1041 1042]" {
				t.Errorf("printed %s", got)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.cursors[1] != "x7k2m9qa-1041" {
				t.Errorf("came back with %q", f.cursors[1])
			}
		})
	}
}

func TestTailReadsFramesLongerThanTheClientsDefault(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	f := newFakeBroker(t, frames("id: x7k2m9qa-1\ndata: {\"channel\":\"room1\",\"data\":\""+long+"\"}\n\n"))
	r := run(t, "", nil, "tail", "room1", "--count", "1", "--dsn", f.dsn(t))
	if r.code != exitOK || len(r.out) < len(long) {
		t.Errorf("code %d, %d bytes, err %s", r.code, len(r.out), r.err)
	}
}

func TestTailGivesUpOnARefusalThatWillNotChange(t *testing.T) {
	f := newFakeBroker(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"code":"grant_invalid","detail":"grant: the signature is wrong"}`)
	})
	r := run(t, "", nil, "tail", "room1", "--dsn", f.dsn(t))
	if r.code != exitFailed || !strings.Contains(r.err, "the broker refused: grant: the signature is wrong (grant_invalid, 401)") {
		t.Errorf("code %d: %s", r.code, r.err)
	}
	if strings.Contains(r.err, "eyJ") {
		t.Errorf("a grant was printed: %s", r.err)
	}
}

func TestTailPrintsGapsAndNoHeartbeats(t *testing.T) {
	f := newFakeBroker(t, frames("id: x7k2m9qa-7\nevent: heartbeat\ndata: {\"time\":1}\n\nevent: gap\ndata: {\"channel\":\"room1\",\"head\":\"x7k2m9qa-7\"}\n\n"+
		"id: x7k2m9qa-8\nevent: score\ndata: {\"channel\":\"room1\",\"data\":8}\n\n"))
	r := run(t, "", nil, "tail", "room1", "--count", "1", "--dsn", f.dsn(t))
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"event":"gap"`) || lines[1] != `{"event":"score","id":"x7k2m9qa-8","channel":"room1","data":8}` {
		t.Errorf("printed %s", r.out)
	}
}

func TestSilentStreamIsEnded(t *testing.T) {
	f := newFakeBroker(t, func(w http.ResponseWriter, r *http.Request) {
		frames(event(1))(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	guard := &frameGuard{next: transport, silence: 50 * time.Millisecond}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, f.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := guard.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil || !strings.Contains(err.Error(), "nothing heard") {
		t.Errorf("ended with %v", err)
	}
	if !bytes.HasSuffix(text, []byte(event(1))) || guard.retry.Load() != 1 {
		t.Errorf("read %q, retry %d", text, guard.retry.Load())
	}
}
