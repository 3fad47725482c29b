package blackbox_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRawGarbageOnTheWireHarmsNobody(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	s.caughtUp()
	good := string(mustJSON(map[string]any{"grants": []string{c.s.hears(h)}}))
	for name, w := range map[string]struct {
		text   string
		status string // what the answer begins with; "" if only an end is wanted
	}{
		"no HTTP":              {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""},
		"half a request":       {"POST /v1/stream HTTP/1.1\r\nHost: x\r\n", ""},
		"half a body":          {"POST /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n" + good, ""},
		"two lengths":          {"POST /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}", "HTTP/1.1 400"},
		"a body that says no":  {"POST /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n{}", "HTTP/1.1 400"},
		"huge header":          {"GET /v1/self HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", "HTTP/1.1 431"},
		"NUL in a path":        {"GET /v1/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400"},
		"NUL in Last-Event-ID": {"GET /v1/stream?grant=" + c.s.hears(h) + " HTTP/1.1\r\nHost: x\r\nLast-Event-ID: a\x00b\r\n\r\n", "HTTP/1.1 400"},
		"an upgrade":           {"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 40"},
		"pipelined after a stream": {fmt.Sprintf("POST /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%sGET /v1/self HTTP/1.1\r\nHost: x\r\n\r\n",
			len(good), good), "HTTP/1.1 "},
	} {
		t.Run(name, func(t *testing.T) {
			if got := exchange(t, c.b.address(), w.text); !strings.HasPrefix(got, w.status) {
				t.Errorf("got %.200q, want %q", got, w.status)
			}
		})
	}
	c.publish(t, h, 1)
	s.awaitEvents(1)
}

// exchange writes text and returns what comes back within a short while.
func exchange(t *testing.T, address, text string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, waitLimit)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()            //nolint:errcheck // the answer was read
	go io.WriteString(conn, text) //nolint:errcheck // the broker may refuse to read all of it
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(io.LimitReader(conn, 4096))
	return string(got)
}

func TestAnAcceptedStreamIsMadeToWaitAndNewOnesAreRefused(t *testing.T) {
	c := start(t, func(conf *config) { conf.sites[0].streams = 2 })
	h := c.s.hash("a")
	first := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	resume := first.hello().Resume
	second := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	second.hello()
	full := c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"grants": []string{c.s.hears(h)}})
	expectProblem(t, full, 429, "rate_limited")
	if !strings.Contains(string(full.body), "2") {
		t.Errorf("the limit is not in the text: %s", full)
	}
	first.close()
	var third *stream
	eventually(t, waitLimit, "the place is free again", func() bool {
		a, err := c.send(t.Context(), http.MethodPost, "/v1/stream", map[string]any{"grants": []string{c.s.hears(h)}})
		if err != nil || a.StatusCode != 200 {
			return false
		}
		third = adopt(t, a, rules{})
		return true
	})
	answered := make(chan int, 1)
	go func() {
		resp, err := c.send(t.Context(), http.MethodPost, "/v1/stream", map[string]any{"resume": resume})
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case status := <-answered:
		if status != 200 {
			t.Fatalf("an accepted stream that came back was answered %d", status)
		}
		return
	case <-timer.C: // it waits
	}
	third.close()
	select {
	case status := <-answered:
		if status != 200 {
			t.Errorf("an accepted stream that came back was answered %d", status)
		}
	case <-time.After(waitLimit):
		t.Error("a place is free, and the stream that waits for one does not get it")
	}
}
