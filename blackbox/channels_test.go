package blackbox_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"
)

// change is the data of a channels frame.
type change struct {
	Channels []ack           `json:"channels"`
	Removed  json.RawMessage `json:"removed"`
	Code     string          `json:"code"`
	Resume   string          `json:"resume"`
	Key      string          `json:"key"`
}

func (f frame) change(t testing.TB) change {
	t.Helper()
	var c change
	if err := json.Unmarshal([]byte(f.data), &c); err != nil || f.event != "channels" {
		t.Fatalf("want a channels frame, got %+v", f)
	}
	return c
}

// removed is the names of the entries that left; they may be named alone or as entries.
func (c change) removed(t testing.TB) []string {
	t.Helper()
	var names []string
	if len(c.Removed) == 0 || json.Unmarshal(c.Removed, &names) == nil {
		return names
	}
	var entries []ack
	if err := json.Unmarshal(c.Removed, &entries); err != nil {
		t.Fatalf("removed: %s", c.Removed)
	}
	for _, e := range entries {
		names = append(names, e.As)
	}
	return names
}

// change posts to the channels of a stream and wants it accepted.
func (c *client) change(t testing.TB, stream string, body map[string]any) answer {
	t.Helper()
	a := c.page(t, "/v1/streams/"+stream+"/channels", body)
	if !a.ok() {
		t.Fatalf("change: %s", a)
	}
	return a
}

// mates gives grants of one user and session.
func (s *site) mates(entries ...entry) string {
	return s.grant(entries, func(g claims) { g["sub"], g["sid"] = "9", "s9" })
}

func TestALateEntryIsReplayedBeforeItIsAcknowledged(t *testing.T) {
	c := start(t)
	a, b := c.s.hash("a"), c.s.hash("b")
	origin := c.publish(t, b, "before")
	one, two := c.publish(t, b, 1), c.publish(t, b, 2)
	s := c.open(t, map[string]any{"grants": []string{c.s.mates(entry{"h": a})}})
	h := s.hello()
	s.caughtUp()
	c.change(t, h.Stream, map[string]any{"resume": h.Resume, "add": []map[string]any{
		{"grant": c.s.mates(entry{"h": b, "from": origin.String()}), "as": "late"},
	}})
	f := s.await("channels")
	ch := f.change(t)
	if len(ch.Channels) != 1 || ch.Channels[0].As != "late" || ch.Channels[0].Channel != b || ch.Channels[0].Recovered == nil || !*ch.Channels[0].Recovered || ch.Resume == "" {
		t.Fatalf("acknowledged: %s", f.data)
	}
	events := s.heard()
	if !slices.Equal(datas(events), []string{"1", "2"}) || !events[0].Replay || events[0].At != one.String() || events[1].At != two.String() {
		t.Errorf("replayed %+v before the acknowledgement", events)
	}
	if joined, err := parseCursor(f.id); err != nil || joined.seq < two.seq {
		t.Errorf("joined at %s (%v), want at least %s", f.id, err, two)
	}
	live := c.publish(t, b, 3)
	if got := s.awaitEvents(3)[2]; got.id != live || got.Replay {
		t.Errorf("live: %+v", got)
	}
	back := c.open(t, map[string]any{"resume": ch.Resume, "cursor": live.String()})
	if again := back.hello(); len(again.Channels) != 2 || again.Channels[1].As != "late" {
		t.Errorf("the new resume token brings back %+v", again.Channels)
	}
}

func TestARemovedEntryIsHeardNoMore(t *testing.T) {
	c := start(t)
	a, b := c.s.hash("a"), c.s.hash("b")
	s := c.open(t, map[string]any{"grants": []string{c.s.mates(entry{"h": a}, entry{"h": b})}})
	h := s.hello()
	c.change(t, h.Stream, map[string]any{"resume": h.Resume, "remove": []string{a}})
	ch := s.await("channels").change(t)
	if got := ch.removed(t); !slices.Equal(got, []string{a}) {
		t.Errorf("removed %v, want %s", got, a)
	}
	c.publish(t, a, "gone")
	at := c.publish(t, b, "here")
	if got := datas(s.awaitEvents(1)); got[0] != `"here"` {
		t.Errorf("heard %v", got)
	}
	again := c.open(t, map[string]any{"resume": ch.Resume, "cursor": at.String()}).hello()
	if len(again.Channels) != 1 || again.Channels[0].Channel != b {
		t.Errorf("the new resume token brings back %+v", again.Channels)
	}
}

func TestAnEventGoesOnceThoughTwoEntriesMatch(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	s := c.open(t, map[string]any{"grants": []string{c.s.mates(entry{"h": h, "f": entry{"k": 1}})}})
	hello := s.hello()
	c.change(t, hello.Stream, map[string]any{"resume": hello.Resume, "add": []map[string]any{
		{"grant": c.s.mates(entry{"h": h, "f": entry{"l": 2}}), "as": "second"},
	}})
	s.await("channels")
	for i, d := range []entry{{"k": 1, "l": 2}, {"k": 9, "l": 9}, {"k": "1"}, {"l": 2.0}, {"m": 1}, {"k": 1, "l": 2, "end": true}} {
		d["i"] = i
		c.publish(t, h, d)
	}
	var got []int
	for _, e := range s.awaitEvents(4) {
		var d struct{ I int }
		json.Unmarshal(e.Data, &d) //nolint:errcheck // the test published it
		got = append(got, d.I)
	}
	if !slices.Equal(got, []int{0, 2, 3, 5}) {
		t.Errorf("heard events %v, want 0 2 3 5", got)
	}
}

func TestRoomsAreGrantedUnderTheirEntry(t *testing.T) {
	c := start(t)
	h, other := c.s.hash("a"), c.s.hash("b")
	g := c.s.mates(entry{"h": h, "rooms": true}, entry{"h": other})
	s := c.open(t, map[string]any{"grants": []string{g}, "rooms": map[string]any{h: []string{"place_42"}}})
	hello := s.hello()
	if len(hello.Channels) != 3 {
		t.Fatalf("hello: %+v", hello.Channels)
	}
	c.publish(t, roomChannel(h, "place_42"), "in 42")
	c.publish(t, roomChannel(h, "place_43"), "in 43, not yet")
	c.change(t, hello.Stream, map[string]any{"resume": hello.Resume, "rooms": map[string]any{h: []string{"place_43"}}})
	s.await("channels")
	c.publish(t, roomChannel(h, "place_43"), "in 43")
	if got := datas(s.awaitEvents(2)); !slices.Equal(got, []string{`"in 42"`, `"in 43"`}) {
		t.Errorf("heard %v", got)
	}
	for _, body := range []map[string]any{
		{"grants": []string{g}, "rooms": map[string]any{other: []string{"x"}}},
		{"grants": []string{g}, "rooms": map[string]any{c.s.hash("nowhere"): []string{"x"}}},
	} {
		expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/stream", body), "403 channel_denied | 400 bad_request")
	}
}

func TestAStreamIsChangedOnlyByItsOwnCredential(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	mine := c.open(t, map[string]any{"grants": []string{c.s.mates(entry{"h": h})}}).hello()
	theirs := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}}).hello()
	add := []map[string]any{{"grant": c.s.mates(entry{"h": c.s.hash("b")})}}
	for name, w := range map[string]struct {
		stream string
		body   map[string]any
		want   string
	}{
		"another's token":       {mine.Stream, map[string]any{"resume": theirs.Resume, "remove": []string{h}}, "404 not_found | 403 subject_mismatch"},
		"no token":              {mine.Stream, map[string]any{"remove": []string{h}}, "401 grant_invalid | 400 bad_request"},
		"a stream nobody has":   {"AAAAAAAAAAAAAAAAAAAAAA", map[string]any{"resume": mine.Resume, "remove": []string{h}}, "404 not_found"},
		"a stream of no form":   {"x", map[string]any{"resume": mine.Resume, "remove": []string{h}}, "404 not_found | 400 bad_request"},
		"another's grant added": {theirs.Stream, map[string]any{"resume": theirs.Resume, "add": add}, "403 subject_mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/streams/"+w.stream+"/channels", w.body), w.want)
		})
	}
}

// refusal makes a request that is to be refused; an event stream in answer is closed again.
func (c *client) refusal(t testing.TB, method, path string, body any, header ...string) answer {
	t.Helper()
	resp, err := c.send(timeout(t, waitLimit), method, path, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text := make([]byte, 64<<10)
	n, _ := resp.Body.Read(text)
	return answer{status: resp.StatusCode, header: resp.Header, body: text[:n]}
}

func TestAnEntryGrantedAgainTakesTheLaterUntilWithoutReplay(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	origin := c.publish(t, h, "old")
	until := func(d time.Duration) func(claims) {
		return func(g claims) { g["sub"], g["sid"], g["until"] = "9", "s9", unix(time.Now().Add(d)) }
	}
	s := c.open(t, map[string]any{"grants": []string{c.s.grant([]entry{{"h": h, "from": origin.String()}}, until(time.Hour))}})
	hello := s.hello()
	c.publish(t, h, 1)
	s.awaitEvents(1)
	later := c.s.grant([]entry{{"h": h, "from": origin.String()}}, until(3*time.Hour))
	c.change(t, hello.Stream, map[string]any{"resume": hello.Resume, "add": []map[string]any{{"grant": later}}})
	ch := s.await("channels").change(t)
	if len(ch.Channels) != 1 || ch.Channels[0].Until < hello.Channels[0].Until+7000 {
		t.Errorf("acknowledged %+v, want an until two hours after %f", ch.Channels, hello.Channels[0].Until)
	}
	c.publish(t, h, 2)
	if got := datas(s.awaitEvents(2)); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("heard %v, want nothing again", got)
	}
}
