package blackbox_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestASlowReaderLosesNothingAndDisturbsNobody lets a page with a small socket buffer read nothing for five seconds
// while more is published than any buffer holds. A quick page beside it hears everything at once.
func TestASlowReaderLosesNothingAndDisturbsNobody(t *testing.T) {
	c := startAlone(t)
	h := c.s.hash("a")
	quick := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	quick.caughtUp()
	conn, body := slowStream(t, c, c.s.hears(h))
	const events, size = 1500, 16 << 10 // 24 MB
	begun := time.Now()
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range events {
			c.publish(t, h, entry{"i": i, "pad": strings.Repeat("x", size)})
		}
	})
	publishing.Wait()
	eventually(t, waitLimit, "the quick page has all", func() bool { return len(quick.heard()) == events })
	t.Logf("%d events of %d KiB in %s", events, size>>10, time.Since(begun).Round(time.Millisecond))
	pause(t.Context(), 5*time.Second-time.Since(begun)) // it reads nothing all this time
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	want := quick.heard()
	r, reader, n := rules{}, newSSEReader(body), 0
	for n < events {
		f, err := reader.next()
		if err != nil {
			t.Fatalf("after %d of %d events: %v", n, events, err)
		}
		ev, err := r.check(f)
		if err != nil || f.event == "gap" {
			t.Fatalf("after %d events: %v %+v", n, err, f)
		}
		if ev == nil {
			continue
		}
		if ev.id != want[n].id || string(ev.Data) != string(want[n].Data) {
			t.Fatalf("event %d is %s, want %s", n, ev.id, want[n].id)
		}
		n++
	}
}

// slowStream opens a stream on a socket that takes little, and reads no byte of the answer's body.
func slowStream(t *testing.T, c *client, grant string) (net.Conn, *bufio.Reader) {
	t.Helper()
	return rawStream(t, c, grant, 64<<10)
}

// rawStream opens a stream on a socket with a buffer of its own, 0 for what the system gives.
func rawStream(t *testing.T, c *client, grant string, buffer int) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: waitLimit}).DialContext(t.Context(), "tcp", c.b.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the test is over
	if tcp, ok := conn.(*net.TCPConn); ok && buffer > 0 {
		if err := tcp.SetReadBuffer(buffer); err != nil {
			t.Fatal(err)
		}
	}
	body := string(mustJSON(map[string]any{"grants": []string{grant}}))
	_, err = fmt.Fprintf(conn, "POST /v1/stream HTTP/1.0\r\nHost: broker\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReaderSize(conn, 4096)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", resp, err)
	}
	if len(resp.TransferEncoding) > 0 {
		t.Fatalf("an answer to HTTP/1.0 in %v", resp.TransferEncoding)
	}
	return conn, br
}

// TestASocketThatTakesNothingIsClosedAfterAMinute takes over a minute, so it runs with -torture only.
func TestASocketThatTakesNothingIsClosedAfterAMinute(t *testing.T) {
	if !*fullTorture {
		t.Skip("takes over a minute: run it with -torture")
	}
	c := start(t)
	h := c.s.hash("a")
	conn, _ := slowStream(t, c, c.s.hears(h))
	pad := strings.Repeat("x", 100<<10)
	for range 200 {
		c.publish(t, h, pad)
	}
	begun := time.Now()
	streams := func() int {
		got, _ := c.pagesOf(t, "/v1/streams", nil, func(p page) []json.RawMessage { return p.Streams })
		return len(got)
	}
	if n := streams(); n != 1 {
		t.Fatalf("%d streams are listed, want the one", n)
	}
	eventually(t, 90*time.Second, "it is closed", func() bool { return streams() == 0 })
	if d := time.Since(begun); d < 55*time.Second {
		t.Errorf("it was closed after %s", d)
	}
	conn.Close()
}

// TestTheFirstHeartbeatFollowsALongReplayAtOnce replays more than a socket takes at once, many times: the heartbeat
// that says "you have all" must not wait for the next silence, whichever way the last byte left.
func TestTheFirstHeartbeatFollowsALongReplayAtOnce(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	origin := c.publish(t, h, 0)
	const events = 300
	for range events {
		c.publish(t, h, strings.Repeat("x", 100<<10))
	}
	g := c.s.grant([]entry{{"h": h, "from": origin.String()}})
	for i := range 12 {
		conn, body := rawStream(t, c, g, 0)
		r, n := newSSEReader(body), 0
		for beat := false; !beat; {
			if err := conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
				t.Fatal(err)
			}
			f, err := r.next()
			if err != nil {
				t.Errorf("stream %d: after %d of %d events: %v", i, n, events, err)
				break
			}
			if f.event == "" && f.hasIt {
				n++
			}
			beat = f.event == "heartbeat"
		}
		conn.Close()
	}
}
