package blackbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAWaitingPollHearsOfARevocationWithinASecond(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	g := c.s.grant([]entry{{"h": h}}, func(g claims) { g["sid"] = "s-polls" })
	var r rules
	p, _ := c.poll(t, &r, map[string]any{"grants": []string{g}})
	var revoked time.Time
	var revoking sync.WaitGroup
	revoking.Go(func() {
		pause(t.Context(), 300*time.Millisecond) // so that the poll waits
		revoked = time.Now()
		if a, err := c.as(t.Context(), http.MethodPost, "/v1/revoke", map[string]any{"sid": "s-polls"}); err != nil || !a.ok() {
			t.Errorf("revoke: %v %v", a, err)
		}
	})
	a := c.page(t, "/v1/poll", map[string]any{"resume": p.Resume, "cursor": p.Cursor, "wait": 20})
	revoking.Wait()
	if d := time.Since(revoked); d > time.Second+machineSlack {
		t.Errorf("the poll was answered %s after the revocation", d)
	}
	if a.status == 200 && !strings.Contains(string(a.body), `"revoked"`) || a.status != 200 && a.status != 403 {
		t.Errorf("got %s, want bye with revoked, or 403", a)
	}
	next := c.page(t, "/v1/poll", map[string]any{"resume": p.Resume, "cursor": p.Cursor, "wait": 1})
	expectProblem(t, next, 403, "revoked")
}

func TestAUUIDIsOneInWhateverCaseItIsWritten(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, 1) })
	p, id := c.sender("mod_test"), "0A1B2C3D-4E5F-4A6B-8C7D-ABCDEF012345"
	a, o := p.post(t, p.message(id, "mod_test", "call", 1, 5))
	if o.Outcome != "delivered" {
		t.Fatalf("got %s", a)
	}
	for _, same := range []string{id, strings.ToLower(id)} {
		if a, o := p.ask(t, same, false); o.Outcome != "delivered" {
			t.Errorf("asked for %s: %s", same, a)
		}
		if a, o := p.post(t, p.message(same, "mod_test", "call", 1, 5)); o.Outcome != "delivered" {
			t.Errorf("posted again as %s: %s", same, a)
		}
	}
	if n := len(r.received(strings.ToLower(id))) + len(r.received(id)); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func TestSizesAtTheirLimitsAreTaken(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, c call) { answerJSON(w, 200, c.body.Data) })
	h := c.s.hash("a")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	s.caughtUp()
	big := strings.Repeat("x", 256<<10-2)
	c.publish(t, h, big, map[string]any{"type": strings.Repeat("t", 64), "id": strings.Repeat("i", 256)})
	if got := s.awaitEvents(1)[0]; string(got.Data) != `"`+big+`"` || got.typ != strings.Repeat("t", 64) {
		t.Errorf("got %d bytes of type %q", len(got.Data), got.typ)
	}
	p, id := c.sender("mod_test"), newUUID()
	data := strings.Repeat("y", 64<<10-2)
	a, o := p.post(t, p.message(id, "mod_test", "call", data, 10))
	if o.Outcome != "delivered" || string(o.Reply) != `"`+data+`"` {
		t.Errorf("got %.200s", a)
	}
	if got := r.received(id); len(got) != 1 || string(got[0].body.Data) != `"`+data+`"` {
		t.Errorf("the component got %d calls", len(got))
	}
}

func TestAReplyThatIsTooLargeIsNoAnswer(t *testing.T) {
	c, _ := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, strings.Repeat("z", 300<<10)) })
	p := c.sender("mod_test")
	a, o := p.post(t, p.message(newUUID(), "mod_test", "call", 1, 3))
	if o.Outcome != "unknown" {
		t.Errorf("got %.300s, want unknown: it ran, and there is no usable answer", a)
	}
}

func TestOneTokenServesManyTabs(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	resume := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}}).hello().Resume
	at := c.publish(t, h, 0)
	streams := make([]*stream, 5)
	names := map[string]bool{}
	for i := range streams {
		streams[i] = c.open(t, map[string]any{"resume": resume, "cursor": at.String()})
		names[streams[i].hello().Stream] = true
	}
	c.publish(t, h, 1)
	for _, s := range streams {
		if got := datas(s.awaitEvents(1)); !slices.Equal(got, []string{"1"}) {
			t.Errorf("heard %v", got)
		}
	}
	t.Logf("%d streams have %d names", len(streams), len(names))
}

func TestAHugeCursorIsOnlyNotRecovered(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	at := c.publish(t, h, 0)
	for _, bad := range []string{strings.Repeat("9", 4000), at.epoch + "-" + strings.Repeat("9", 500), at.epoch + "-0x1", at.epoch + "-+1", "-", "ü-1", at.String() + " "} {
		s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}, "cursor": bad})
		if e := s.hello().Channels[0]; *e.Recovered {
			t.Errorf("%.40q is recovered", bad)
		}
		s.close()
	}
}

func TestAPurgeUnderALiveStreamIsNoGap(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	s.caughtUp()
	for i := range 5 {
		c.publish(t, h, i)
	}
	s.awaitEvents(5)
	c.server(t, http.MethodPost, "/v1/channels/"+h+"/purge", nil)
	at := c.publish(t, h, 5)
	events := s.awaitEvents(6)
	if events[5].id != at {
		t.Errorf("heard %v", datas(events))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.frames {
		if f.event == "gap" {
			t.Errorf("who had heard all is told %s", f.data)
		}
	}
}

// TestEveryPageOfASiteSeesOneOrder lets many publishers meet on one channel: all pages, however they came, hear the
// same events in the same order.
func TestEveryPageOfASiteSeesOneOrder(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	origin := c.publish(t, h, "first")
	grant := c.s.hears(h)
	early := c.open(t, map[string]any{"grants": []string{grant}, "cursor": origin.String()})
	var publishing sync.WaitGroup
	for p := range 16 {
		publishing.Go(func() {
			for i := range 25 {
				a, err := c.as(t.Context(), http.MethodPost, "/v1/publish", publishBody(h, fmt.Sprint(p, "-", i)))
				if err != nil || !a.ok() {
					t.Errorf("publish: %v %v", a, err)
				}
			}
		})
	}
	late := c.open(t, map[string]any{"grants": []string{grant}, "cursor": origin.String()})
	publishing.Wait()
	after := c.open(t, map[string]any{"grants": []string{grant}, "cursor": origin.String()})
	want := early.awaitEvents(400)
	for name, s := range map[string]*stream{"late": late, "after": after} {
		if got := s.awaitEvents(400); !slices.Equal(datas(got), datas(want)) {
			t.Errorf("the page that came %s heard another order", name)
		}
	}
	next := map[string]int{}
	for _, e := range want {
		var text string
		json.Unmarshal(e.Data, &text) //nolint:errcheck // the test published it
		p, i, _ := strings.Cut(text, "-")
		if i != fmt.Sprint(next[p]) {
			t.Fatalf("publisher %s: %s came where %d was next", p, i, next[p])
		}
		next[p]++
	}
}

func TestWhatTheTotalEvictedIsToldHonestly(t *testing.T) {
	c := start(t, func(conf *config) { conf.total = "16MiB" })
	h, quiet := c.s.hash("a"), c.s.hash("quiet")
	before := time.Now()
	origin := c.publish(t, quiet, "old")
	c.publish(t, h, 0)
	g := c.s.grant([]entry{{"h": h}, {"h": quiet}})
	n := 0
	gone := func() bool {
		for range 5 {
			batch := []map[string]any{}
			for range 10 {
				batch = append(batch, publishBody(h, strings.Repeat("x", 90<<10)))
			}
			c.batch(t, batch...)
			n += 10
		}
		s := c.open(t, map[string]any{"grants": []string{g}, "cursor": origin.String()})
		defer s.close()
		return !*s.hello().Channels[0].Recovered
	}
	eventually(t, 60*time.Second, "the oldest is evicted", gone)
	t.Logf("after %d events of 90 KiB", n)
	hello := c.open(t, map[string]any{"grants": []string{g}, "cursor": origin.String()}).hello()
	if !*hello.Channels[1].Recovered {
		t.Error("a page that has all of the quiet channel is told that it lost something")
	}
	since := c.s.grant([]entry{{"h": quiet, "from": float64(before.UnixMicro()) / 1e6}})
	if e := c.open(t, map[string]any{"grants": []string{since}}).hello().Channels[0]; *e.Recovered {
		t.Error("a time before the log's floor is recovered")
	}
	latest := c.publish(t, h, "latest")
	s := c.open(t, map[string]any{"grants": []string{g}, "cursor": fmt.Sprintf("%s-%d", latest.epoch, latest.seq-3)})
	if !*s.hello().Channels[0].Recovered {
		t.Error("a page three events behind is not recovered")
	}
}
