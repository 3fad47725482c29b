package blackbox_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// revoke revokes and returns how many streams it says lost something.
func (c *client) revoke(t testing.TB, body map[string]any) int {
	t.Helper()
	var got struct {
		Streams *int `json:"streams"`
	}
	c.server(t, http.MethodPost, "/v1/revoke", body).decode(t, &got)
	if got.Streams == nil {
		t.Fatal("the answer to a revocation has no streams")
	}
	return *got.Streams
}

func TestRevocationCutsWithinASecondAndIsRememberedAfterAKill(t *testing.T) {
	for _, kind := range []string{"jti", "sid", "user"} {
		t.Run(kind, func(t *testing.T) {
			c := start(t)
			h := c.s.hash("a")
			names := map[string]string{"jti": "j-revoked", "sid": "s-revoked", "user": "u-revoked"}
			g := c.s.grant([]entry{{"h": h}}, func(g claims) { g["jti"], g["sid"], g["sub"] = names["jti"], names["sid"], names["user"] })
			s := c.open(t, map[string]any{"grants": []string{g}})
			hello := s.hello()
			bystander := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
			bystander.caughtUp()
			begun := time.Now()
			if n := c.revoke(t, map[string]any{kind: names[kind]}); n != 1 {
				t.Errorf("it says that %d streams lost something, want 1", n)
			}
			bye := s.await("bye")
			s.ended(waitLimit)
			if d := time.Since(begun); d > time.Second+machineSlack || !strings.Contains(bye.data, `"revoked"`) {
				t.Errorf("cut after %s with %s", d, bye.data)
			}
			refused := func(when string) {
				for what, body := range map[string]map[string]any{"grant": {"grants": []string{g}}, "resume": {"resume": hello.Resume}} {
					a := c.refusal(t, http.MethodPost, "/v1/stream", body)
					t.Logf("%s, by %s: %s", when, what, a)
					expectProblem(t, a, 403, "revoked")
				}
			}
			refused("at once")
			c.publish(t, h, 1)
			bystander.awaitEvents(1)
			c.b.kill()
			c.b.start()
			refused("after a kill")
		})
	}
}

func TestRevokingAChannelTakesAwayThatEntryOnly(t *testing.T) {
	c := start(t)
	a, b := c.s.hash("a"), c.s.hash("b")
	g := c.s.hears(a, b)
	s := c.open(t, map[string]any{"grants": []string{g}})
	h := s.hello()
	if n := c.revoke(t, map[string]any{"channel": a}); n != 1 {
		t.Errorf("%d streams", n)
	}
	f := s.await("channels")
	if ch := f.change(t); !slices.Equal(ch.removed(t), []string{a}) || !strings.Contains(f.data, `"code":"revoked"`) {
		t.Errorf("channels: %s", f.data)
	}
	c.publish(t, a, "gone")
	at := c.publish(t, b, "here")
	if got := datas(s.awaitEvents(1)); got[0] != `"here"` {
		t.Errorf("heard %v", got)
	}
	for what, body := range map[string]map[string]any{"grant": {"grants": []string{g}}, "resume": {"resume": h.Resume}} {
		body["cursor"] = at.String()
		again := c.open(t, body)
		hello := again.hello()
		c.publish(t, a, "still gone")
		events, _ := again.caughtUp()
		for _, e := range events {
			if e.Channel == a {
				t.Errorf("by %s a revoked channel is heard again (hello %+v)", what, hello)
			}
		}
	}
	later := c.s.grant([]entry{{"h": a}}, func(g claims) { g["iat"] = unix(time.Now()) })
	c.revoke(t, map[string]any{"channel": b, "before": unix(time.Now().Add(-time.Hour))})
	if got := c.open(t, map[string]any{"grants": []string{c.s.hears(b)}}).hello(); len(got.Channels) != 1 {
		t.Errorf("a grant signed after before was refused: %+v", got)
	}
	expectProblem(t, c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"grants": []string{later}}), 403, "revoked")
}

func TestARevokedSessionTakesNothingElseWithIt(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	if n := c.revoke(t, map[string]any{"sid": "nobody-yet"}); n != 0 {
		t.Errorf("%d streams", n)
	}
	g := c.s.grant([]entry{{"h": h}}, func(g claims) { g["sid"] = "nobody-yet" })
	expectProblem(t, c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"grants": []string{g}}), 403, "revoked")
	before := time.Now().Add(-10 * time.Second)
	c.revoke(t, map[string]any{"user": "5", "before": unix(before)})
	old := c.s.grant([]entry{{"h": h}}, func(g claims) { g["iat"] = unix(before.Add(-time.Second)) })
	expectProblem(t, c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"grants": []string{old}}), 403, "revoked")
	c.open(t, map[string]any{"grants": []string{c.s.hears(h)}}).hello()
}

func TestARevokedCallerSendsNoMessages(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, 1) })
	g := c.s.grant([]entry{{"h": c.s.hash("a")}}, func(g claims) { g["sid"], g["send"] = "s-out", []string{"mod_test"} })
	h := c.open(t, map[string]any{"grants": []string{g}}).hello()
	c.revoke(t, map[string]any{"sid": "s-out"})
	for name, token := range map[string]string{"grant": g, "resume": h.Resume, "key": h.Key} {
		id := newUUID()
		a := c.page(t, "/v1/messages", map[string]any{name: token, "id": id, "component": "mod_test", "kind": "job", "data": 1})
		expectProblem(t, a, 403, "revoked")
		if len(r.received(id)) > 0 {
			t.Errorf("by %s the component ran", name)
		}
	}
}
