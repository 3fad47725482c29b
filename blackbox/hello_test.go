package blackbox_test

import (
	"encoding/base64"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestHelloComesFirstAndDescribesEveryEntry(t *testing.T) {
	c := start(t)
	a, b := c.s.hash("a"), c.s.hash("b")
	until := time.Now().Add(3 * time.Hour)
	g := c.s.grant([]entry{{"h": a}, {"h": b}}, func(g claims) { g["until"] = unix(until) })
	s := c.open(t, map[string]any{"grants": []string{g}})
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := s.resp.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	h := s.hello()
	if raw, err := base64.RawURLEncoding.DecodeString(h.Stream); err != nil || len(raw) < 16 {
		t.Errorf("stream %q has not 128 bits", h.Stream)
	}
	if h.Heartbeat != 15 || math.Abs(h.Time-unix(time.Now())) > 5 || h.Resume == "" || h.Key == "" {
		t.Errorf("hello: %+v", h)
	}
	if len(h.Channels) != 2 || h.Channels[0].Channel != a || h.Channels[1].Channel != b {
		t.Fatalf("channels: %+v", h.Channels)
	}
	for _, e := range h.Channels {
		if _, err := parseCursor(e.Head); err != nil || e.As != e.Channel || e.Recovered == nil || !*e.Recovered || math.Abs(e.Until-unix(until)) > 1 {
			t.Errorf("entry: %+v (%v)", e, err)
		}
	}
}

func TestTheFirstHeartbeatFollowsAtOnceWithThePositionReached(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	at := c.publish(t, h, 1)
	begun := time.Now()
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	events, reached := s.caughtUp()
	if d := time.Since(begun); d > 2*time.Second || len(events) > 0 || reached != at {
		t.Errorf("after %s at %s with %d events; want at once, at %s, none", d, reached, len(events), at)
	}
}

func TestAQuietStreamBeatsEvery15SecondsAndMovesOn(t *testing.T) {
	c := start(t)
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(c.s.hash("quiet"))}})
	_, first := s.caughtUp()
	begun := time.Now()
	at := c.publish(t, c.s.hash("another"), 1)
	beat := s.awaitWithin("heartbeat", 17*time.Second)
	if d := time.Since(begun); d > 16*time.Second {
		t.Errorf("silent for %s", d)
	}
	if beat.id != at.String() {
		t.Errorf("the heartbeat says %s, the log stands at %s (first: %s): a quiet cursor ages", beat.id, at, first)
	}
}

func TestEventsAreSentAsTheContractShowsThem(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	a := c.server(t, http.MethodPost, "/v1/publish", `{"channel":"`+h+`","type":"score","data": { "a" : [1, 2.50, "ü\u2028\n<&>"],  "b":null } }`)
	var p published
	a.decode(t, &p)
	f := s.await("score")
	want := regexp.MustCompile(`^\{"channel":"` + h + `","time":\d{10}\.\d{6},"data":\{"a":\[1,2\.50,"ü\\u2028\\n<&>"\],"b":null\}\}$`)
	if f.id != p.ID || !want.MatchString(f.data) {
		t.Errorf("got id %s (published at %s), data %s", f.id, p.ID, f.data)
	}
	if got := a.header.Get("Backchannel-Time"); !regexp.MustCompile(`^\d{10}\.\d{6}$`).MatchString(got) {
		t.Errorf("Backchannel-Time: %q", got)
	}
}

func TestHelloIsPaddedForBufferingProxies(t *testing.T) {
	c := start(t)
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(c.s.hash("a"))}, "pad": 32 << 10})
	s.hello()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.frames[0].bytes; n < 32<<10 || n > 40<<10 {
		t.Errorf("hello has %d bytes, want 32 KiB", n)
	}
}

func TestABadGrantBesideAGoodOneIsNamedInHello(t *testing.T) {
	c := start(t)
	a, b, d := c.s.hash("a"), c.s.hash("b"), c.s.hash("d")
	same := func(g claims) { g["sub"], g["sid"] = "9", "s9" }
	spent := c.s.grant([]entry{{"h": b}}, same, func(g claims) {
		g["iat"], g["exp"] = unix(time.Now().Add(-time.Hour)), unix(time.Now().Add(-5*time.Minute))
	})
	good, other := c.s.grant([]entry{{"h": a}}, same), c.s.grant([]entry{{"h": d}}, same)
	for name, s := range map[string]*stream{
		"POST": c.open(t, map[string]any{"grants": []string{spent, good, other, good[:len(good)-6] + "AAAAAA"}}),
		"GET":  c.get(t, url.Values{"grant": {spent, good, other, good[:len(good)-6] + "AAAAAA"}}),
	} {
		h := s.hello()
		if len(h.Channels) != 2 || h.Channels[0].Channel != a || h.Channels[1].Channel != d {
			t.Errorf("%s: channels %+v", name, h.Channels)
		}
		if r := h.Refused; len(r) != 2 || *r[0].Grant != 0 || r[0].Code != "grant_expired" || *r[1].Grant != 3 || r[1].Code != "grant_invalid" {
			t.Errorf("%s: refused %+v", name, r)
		}
	}
}

func TestEntriesEndAtTheirOwnUntil(t *testing.T) {
	c := start(t)
	a, b := c.s.hash("a"), c.s.hash("b")
	same := func(g claims) { g["sub"], g["sid"] = "9", "s9" }
	short := c.s.grant([]entry{{"h": a}}, same, func(g claims) {
		g["exp"], g["until"] = unix(time.Now().Add(2*time.Second)), unix(time.Now().Add(2*time.Second))
	})
	both := c.open(t, map[string]any{"grants": []string{short, c.s.grant([]entry{{"h": b}}, same)}})
	alone := c.open(t, map[string]any{"grants": []string{short}})
	begun := time.Now()
	f := alone.await("bye")
	if !strings.Contains(f.data, `"expired"`) {
		t.Errorf("bye: %s", f.data)
	}
	alone.ended(waitLimit)
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("it ended %s after it was opened, 2 s before its until", d)
	}
	if f = both.await("channels"); !strings.Contains(f.data, a) {
		t.Errorf("channels: %s", f.data)
	}
	c.publish(t, a, "ended")
	c.publish(t, b, "still here")
	if got := datas(both.awaitEvents(1)); got[0] != `"still here"` {
		t.Errorf("heard %v", got)
	}
}

func TestTheSameWorksUnderThePathOfThePublicURL(t *testing.T) {
	c := start(t, func(conf *config) { conf.publicURL = "https://school.example/rt" })
	h := c.s.hash("a")
	plain := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	under := &client{b: c.b, s: c.s, prefix: "/rt", http: c.http}
	s := under.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	under.publish(t, h, 1)
	c.publish(t, h, 2)
	for _, s := range []*stream{plain, s} {
		if got := datas(s.awaitEvents(2)); got[0] != "1" || got[1] != "2" {
			t.Errorf("heard %v", got)
		}
	}
	for _, path := range []string{"/healthz", "/rt/healthz"} {
		if a, err := c.do(timeout(t, waitLimit), http.MethodGet, path, nil); err != nil || a.status != 200 {
			t.Errorf("GET %s: %v %v", path, a, err)
		}
	}
	for _, path := range []string{"/metrics", "/readyz", "/debug/pprof/", "/"} {
		if a, err := c.do(timeout(t, waitLimit), http.MethodGet, path, nil); err != nil || a.status != 404 {
			t.Errorf("GET %s on the public listener: %v %v, want 404", path, a, err)
		}
	}
}
