package blackbox_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"
)

// cursorWays opens a stream with a cursor in each way there is.
func cursorWays(t *testing.T, c *client, grant, at string) map[string]*stream {
	t.Helper()
	return map[string]*stream{
		"body":                     c.open(t, map[string]any{"grants": []string{grant}, "cursor": at}),
		"header":                   c.get(t, url.Values{"grant": {grant}}, "Last-Event-ID", at),
		"header of a POST":         c.open(t, map[string]any{"grants": []string{grant}}, "Last-Event-ID", at),
		"query last_event_id":      c.get(t, url.Values{"grant": {grant}, "last_event_id": {at}}),
		"query lastEventId":        c.get(t, url.Values{"grant": {grant}, "lastEventId": {at}}),
		"query of a POST":          c.openWith(t, "POST", "/v1/stream?last_event_id="+at, map[string]any{"grants": []string{grant}}),
		"text/plain, no preflight": c.open(t, map[string]any{"grants": []string{grant}, "cursor": at}, "Content-Type", "text/plain"),
	}
}

func TestACursorResumesInEveryWay(t *testing.T) {
	c := start(t)
	h, other := c.s.hash("a"), c.s.hash("b")
	var at []cursor
	for i := range 10 {
		at = append(at, c.publish(t, h, i))
		c.publish(t, other, "other")
	}
	for name, s := range cursorWays(t, c, c.s.hears(h), at[3].String()) {
		if e := s.hello().Channels[0]; !*e.Recovered {
			t.Errorf("by %s: not recovered", name)
		}
		events, _ := s.caughtUp()
		if got := datas(events); !slices.Equal(got, []string{"4", "5", "6", "7", "8", "9"}) {
			t.Errorf("by %s: got %v", name, got)
		}
	}
}

func TestACursorThatCannotBeReadIsNotRecoveredAndNoError(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	at := c.publish(t, h, 1)
	for what, bad := range map[string]string{
		"another epoch":    "zzzzzzzz-1",
		"ahead of the log": at.epoch + "-999999",
		"unreadable":       "gibberish",
		"negative":         at.epoch + "--1",
		"too big":          at.epoch + "-99999999999999999999999",
	} {
		for way, s := range map[string]*stream{
			"body":   c.open(t, map[string]any{"grants": []string{c.s.hears(h)}, "cursor": bad}),
			"header": c.get(t, url.Values{"grant": {c.s.hears(h)}}, "Last-Event-ID", bad),
			"query":  c.get(t, url.Values{"grant": {c.s.hears(h)}, "last_event_id": {bad}}),
		} {
			s.mu.Lock()
			s.rules.after = cursor{} // it was no cursor of this log
			s.mu.Unlock()
			e := s.hello().Channels[0]
			if e.Recovered == nil || *e.Recovered {
				t.Errorf("%s by %s: %+v, want recovered false", what, way, e)
			}
			if events, _ := s.caughtUp(); len(events) > 0 {
				t.Errorf("%s by %s: partial history %+v", what, way, events)
			}
		}
	}
}

func TestFromSaysWhereThePagesOwnKnowledgeEnds(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	first := c.publish(t, h, 0)
	pause(t.Context(), 20*time.Millisecond) // so that the moment below lies between
	between := time.Now()
	pause(t.Context(), 20*time.Millisecond)
	second := c.publish(t, h, 1)
	c.publish(t, h, 2)
	before := time.Now().Add(-time.Hour)
	for _, w := range []struct {
		name      string
		grantFrom any
		entryFrom any
		cursor    string
		want      []string
		recovered bool
	}{
		{"none: the head", nil, nil, "", nil, true},
		{"a time", float64(between.UnixMicro()) / 1e6, nil, "", []string{"1", "2"}, true},
		{"a cursor", first.String(), nil, "", []string{"1", "2"}, true},
		{"of the entry", first.String(), second.String(), "", []string{"2"}, true},
		{"of the entry, earlier", second.String(), first.String(), "", []string{"1", "2"}, true},
		{"earlier than the cursor", first.String(), nil, second.String(), []string{"2"}, true},
		{"later than the cursor", second.String(), nil, first.String(), []string{"2"}, true},
		{"a time before the store was made", unix(before), nil, "", nil, false},
		{"a cursor of another epoch", "zzzzzzzz-1", nil, "", nil, false},
		{"a time to come", unix(time.Now().Add(30 * time.Second)), nil, "", nil, true},
	} {
		e := entry{"h": h}
		if w.entryFrom != nil {
			e["from"] = w.entryFrom
		}
		g := c.s.grant([]entry{e}, func(g claims) {
			if w.grantFrom != nil {
				g["from"] = w.grantFrom
			}
		})
		body := map[string]any{"grants": []string{g}}
		if w.cursor != "" {
			body["cursor"] = w.cursor
		}
		s := c.open(t, body)
		if got := s.hello().Channels[0]; got.Recovered == nil || *got.Recovered != w.recovered {
			t.Errorf("from %s: %+v, want recovered %t", w.name, got, w.recovered)
		}
		if events, _ := s.caughtUp(); !slices.Equal(datas(events), append([]string{}, w.want...)) {
			t.Errorf("from %s: got %v, want %v", w.name, datas(events), w.want)
		}
	}
}

func TestLastReplaysHistoryAsHistory(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	var at []cursor
	for i := range 8 {
		at = append(at, c.publish(t, h, i))
	}
	g := c.s.grant([]entry{{"h": h, "last": 3}})
	events, _ := c.open(t, map[string]any{"grants": []string{g}}).caughtUp()
	if !slices.Equal(datas(events), []string{"5", "6", "7"}) {
		t.Fatalf("got %v", datas(events))
	}
	for i, e := range events {
		if !e.Replay || e.At != at[5+i].String() {
			t.Errorf("history %d: %+v, want replay at %s", i, e, at[5+i])
		}
	}
	events, _ = c.open(t, map[string]any{"grants": []string{g}, "cursor": at[6].String()}).caughtUp()
	if !slices.Equal(datas(events), []string{"7"}) || events[0].Replay {
		t.Errorf("with a cursor: got %+v, want only what came after it", events)
	}
}

func TestReplayIsMergedByPositionOverAllEntriesAndSpansPages(t *testing.T) {
	c := start(t)
	entries, batch := []entry{}, []map[string]any{}
	for i := range 7 {
		entries = append(entries, entry{"h": c.s.hash(fmt.Sprint(i))})
	}
	origin := c.publish(t, c.s.hash("before"), 0)
	for i := range 3000 {
		batch = append(batch, publishBody(c.s.hash(fmt.Sprint(i*i%11)), i))
		if len(batch) == 1000 {
			c.server(t, "POST", "/v1/publish", map[string]any{"events": batch})
			batch = batch[:0]
		}
	}
	var want []string
	for i := range 3000 {
		if i*i%11 < 7 {
			want = append(want, fmt.Sprint(i))
		}
	}
	s := c.open(t, map[string]any{"grants": []string{c.s.grant(entries)}, "cursor": origin.String()})
	if events, _ := s.caughtUp(); !slices.Equal(datas(events), want) {
		t.Errorf("got %d events, want %d in one order", len(events), len(want))
	}
}

func TestPurgedHistoryIsNotRecoveredAndQuietChannelsStayRecovered(t *testing.T) {
	c := start(t)
	h, quiet := c.s.hash("a"), c.s.hash("quiet")
	quietAt := c.publish(t, quiet, 0)
	behind := c.publish(t, h, 1)
	at := c.publish(t, h, 2)
	c.server(t, "POST", "/v1/channels/"+h+"/purge", nil)
	g := c.s.hears(h, quiet)
	for _, w := range []struct {
		cursor    cursor
		recovered bool
	}{{behind, false}, {at, true}, {quietAt, false}} {
		hello := c.open(t, map[string]any{"grants": []string{g}, "cursor": w.cursor.String()}).hello()
		if got := *hello.Channels[0].Recovered; got != w.recovered {
			t.Errorf("the purged channel from %s: recovered %t, want %t", w.cursor, got, w.recovered)
		}
		if !*hello.Channels[1].Recovered {
			t.Errorf("the quiet channel from %s is not recovered", w.cursor)
		}
	}
}

func TestWhatRetentionTrimmedIsNotRecovered(t *testing.T) {
	c := start(t, func(conf *config) { conf.perChannel = 50 })
	h, kept := c.s.hash("a"), c.s.hash("kept")
	origin := c.publish(t, h, "first")
	c.publish(t, kept, "kept")
	var at cursor
	for range 5 {
		batch := []map[string]any{}
		for i := range 100 {
			batch = append(batch, publishBody(h, i))
		}
		c.server(t, "POST", "/v1/publish", map[string]any{"events": batch})
		at = c.publish(t, h, "mark")
	}
	c.publish(t, h, "last")
	eventually(t, 30*time.Second, "trimmed", func() bool {
		hello := c.open(t, map[string]any{"grants": []string{c.s.hears(h, kept)}, "cursor": origin.String()}).hello()
		if !*hello.Channels[1].Recovered {
			t.Error("the other channel lost something")
		}
		return !*hello.Channels[0].Recovered
	})
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}, "cursor": at.String()})
	if !*s.hello().Channels[0].Recovered {
		t.Error("a page one event behind is not recovered")
	}
	if events, _ := s.caughtUp(); !slices.Equal(datas(events), []string{`"last"`}) {
		t.Errorf("got %v", datas(events))
	}
}

func TestEventsWithATTLAreNoLossWhenTheyExpire(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	at := c.publish(t, h, 1)
	c.publish(t, h, "fleeting", map[string]any{"ttl": 1})
	g := c.s.hears(h)
	if events, _ := c.open(t, map[string]any{"grants": []string{g}, "cursor": at.String()}).caughtUp(); len(events) != 1 {
		t.Errorf("before it expires: got %v", datas(events))
	}
	eventually(t, waitLimit, "the event has expired", func() bool {
		s := c.open(t, map[string]any{"grants": []string{g}, "cursor": at.String()})
		if !*s.hello().Channels[0].Recovered {
			t.Fatal("its expiry counts as a loss")
		}
		events, _ := s.caughtUp()
		s.close()
		return len(events) == 0
	})
}

func TestWhatAgedAwayIsNotRecovered(t *testing.T) {
	c := start(t, func(conf *config) { conf.age = "2s" })
	h, quiet := c.s.hash("a"), c.s.hash("quiet")
	origin := c.publish(t, h, 0)
	c.publish(t, h, 1)
	g := c.s.hears(h, quiet)
	eventually(t, 20*time.Second, "aged away", func() bool {
		s := c.open(t, map[string]any{"grants": []string{g}, "cursor": origin.String()})
		defer s.close()
		hello := s.hello()
		if !*hello.Channels[1].Recovered {
			t.Error("the channel on which nothing was published lost something")
		}
		events, _ := s.caughtUp()
		if recovered := *hello.Channels[0].Recovered; recovered != (len(events) == 1) {
			t.Errorf("recovered %t, and %d of 1 events came", recovered, len(events))
		}
		return len(events) == 0
	})
	since := c.s.grant([]entry{{"h": h, "from": unix(time.Now().Add(-time.Hour))}})
	if e := c.open(t, map[string]any{"grants": []string{since}}).hello().Channels[0]; *e.Recovered {
		t.Error("from an hour ago is recovered by a log of two seconds")
	}
}
