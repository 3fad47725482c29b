package blackbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAReaderThatRetentionOvertookIsToldOfTheGap lets a slow page fall behind what the log keeps. Events may be missing
// then, but only where a gap frame says so, and what is published afterwards arrives.
func TestAReaderThatRetentionOvertookIsToldOfTheGap(t *testing.T) {
	c := start(t, func(conf *config) { conf.perChannel = 100 })
	h, kept := c.s.hash("a"), c.s.hash("kept")
	conn, body := slowStream(t, c, c.s.hears(h, kept))
	c.publish(t, kept, "kept")
	pad := strings.Repeat("x", 32<<10)
	for i := range 60 {
		batch := make([]map[string]any, 25)
		for j := range batch {
			batch[j] = publishBody(h, entry{"i": i*25 + j, "pad": pad})
		}
		c.batch(t, batch...)
	}
	settle := c.publish(t, h, entry{"i": 1500})
	// Trimming runs on its own time: a fresh page tells when it is done.
	eventually(t, 30*time.Second, "trimmed", func() bool {
		s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}, "cursor": settle.epoch + "-1"})
		defer s.close()
		return !*s.hello().Channels[0].Recovered
	})
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	end := c.publish(t, h, entry{"i": 1501})
	r, reader, next, gaps, said := rules{}, newSSEReader(body), 0, 0, false
	var others []string
	for r.last != end {
		f, err := reader.next()
		if err != nil {
			t.Fatalf("at event %d: %v", next, err)
		}
		ev, err := r.check(f)
		if err != nil {
			t.Fatal(err)
		}
		if f.event == "gap" {
			var g struct{ Channel, Head string }
			if err := json.Unmarshal([]byte(f.data), &g); err != nil || g.Channel != h || g.Head == "" {
				t.Fatalf("gap: %s", f.data)
			}
			gaps, said = gaps+1, true
		}
		if ev == nil {
			continue
		}
		if ev.Channel == kept {
			others = append(others, string(ev.Data))
			continue
		}
		var d struct{ I int }
		if err := json.Unmarshal(ev.Data, &d); err != nil || d.I != next && !said || d.I < next {
			t.Fatalf("event %d came where %d was next, after %d gaps: a silent loss", d.I, next, gaps)
		}
		next, said = d.I+1, false
	}
	if !slices.Equal(others, []string{`"kept"`}) {
		t.Errorf("the other channel brought %v", others)
	}
	if gaps == 0 {
		t.Error("it never fell behind: the test tests nothing")
	}
}

func TestRevokingOneGrantLeavesWhatTheOtherGave(t *testing.T) {
	c := start(t)
	a, b, both := c.s.hash("a"), c.s.hash("b"), c.s.hash("both")
	mate := func(jti string, hs ...string) string {
		entries := []entry{}
		for _, h := range hs {
			entries = append(entries, entry{"h": h})
		}
		return c.s.grant(entries, func(g claims) { g["sub"], g["sid"], g["jti"] = "9", "s9", jti })
	}
	s := c.open(t, map[string]any{"grants": []string{mate("j-one", a, both), mate("j-two", b, both)}})
	h := s.hello()
	c.revoke(t, map[string]any{"jti": "j-one"})
	ch := s.await("channels").change(t)
	if !slices.Contains(ch.removed(t), a) || slices.Contains(ch.removed(t), b) {
		t.Errorf("removed %v", ch.removed(t))
	}
	c.publish(t, a, "gone")
	c.publish(t, both, "both")
	c.publish(t, b, "here")
	if got := datas(s.awaitEvents(2)); !slices.Equal(got, []string{`"both"`, `"here"`}) {
		t.Errorf("heard %v", got)
	}
	again := c.open(t, map[string]any{"resume": h.Resume}).hello()
	var names []string
	for _, e := range again.Channels {
		names = append(names, e.Channel)
	}
	if slices.Contains(names, a) || !slices.Contains(names, b) || !slices.Contains(names, both) {
		t.Errorf("the token from before brings back %v", names)
	}
}

func TestFiltersChooseAndHideNoLoss(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	g := c.s.grant([]entry{{"h": h, "f": entry{"id": 5}, "last": 2}})
	origin := c.publish(t, c.s.hash("before"), 0)
	for i, d := range []string{
		`{"id":5,"i":0}`, `{"id":"5","i":1}`, `{"id":6,"i":2}`, `{"ids":[4,5],"i":3}`, `{"ids":["5"],"i":4}`, `{"id":6,"ids":[5],"i":5}`,
		`{"i":6}`, `[5]`, `5`, `null`, `{"id":{"x":5},"i":10}`, `{"id":5.0,"i":11}`, `{"id":null,"ids":[5],"i":12}`,
	} {
		if a := c.server(t, http.MethodPost, "/v1/publish", fmt.Sprintf(`{"channel":%q,"data":%s}`, h, d)); !a.ok() {
			t.Fatal(i, a)
		}
	}
	s := c.open(t, map[string]any{"grants": []string{g}, "cursor": origin.String()})
	if !*s.hello().Channels[0].Recovered {
		t.Error("what the filter keeps away counts as a loss")
	}
	events, _ := s.caughtUp()
	var got []int
	for _, e := range events {
		var d struct{ I int }
		json.Unmarshal(e.Data, &d) //nolint:errcheck // the test published it
		got = append(got, d.I)
	}
	if !slices.Equal(got, []int{0, 1, 3, 4, 11}) {
		t.Errorf("heard %v, want 0 1 3 4 11", got)
	}
	events, _ = c.open(t, map[string]any{"grants": []string{g}}).caughtUp()
	if len(events) != 2 || !strings.Contains(string(events[0].Data), `"i":4`) || !strings.Contains(string(events[1].Data), `"i":11`) {
		t.Errorf("last 2: %v", datas(events))
	}
}

func TestAStreamHoldsAThousandEntries(t *testing.T) {
	c := start(t)
	grants := func(n int) []string {
		var all []string
		for i := range n {
			var entries []entry
			for j := range 200 {
				entries = append(entries, entry{"h": c.s.hash(fmt.Sprint(i, "-", j))})
			}
			all = append(all, c.s.mates(entries...))
		}
		return all
	}
	s := c.open(t, map[string]any{"grants": grants(5)})
	h := s.hello()
	if len(h.Channels) != 1000 {
		t.Fatalf("%d entries", len(h.Channels))
	}
	c.publish(t, c.s.hash("4-199"), "last")
	at := s.awaitEvents(1)[0].id
	back := c.open(t, map[string]any{"resume": h.Resume, "cursor": at.String()})
	if got := back.hello(); len(got.Channels) != 1000 {
		t.Errorf("the resume token brings back %d entries", len(got.Channels))
	}
	a := c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"grants": grants(6)})
	expectOneOf(t, a, "413 too_large")
	if !strings.Contains(strings.ReplaceAll(string(a.body), ",", ""), "1000") {
		t.Errorf("the limit is not in the text: %s", a)
	}
}
