package blackbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// item is one result of a batch.
type item struct {
	ID       string `json:"id"`
	Repeated bool   `json:"repeated"`
	Status   int    `json:"status"`
	Code     string `json:"code"`
}

func (c *client) batch(t testing.TB, events ...map[string]any) []item {
	t.Helper()
	var got struct{ Results []item }
	c.server(t, http.MethodPost, "/v1/publish", map[string]any{"events": events}).decode(t, &got)
	if len(got.Results) != len(events) {
		t.Fatalf("%d results for %d events", len(got.Results), len(events))
	}
	return got.Results
}

func TestABatchStoresTheGoodInOrderAndNamesTheBad(t *testing.T) {
	c := start(t)
	a, b := c.s.hash("a"), c.s.hash("b")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(a, b)}})
	got := c.batch(t,
		publishBody(a, 1),
		publishBody("no channel!", 2),
		publishBody(b, 3),
		publishBody(a, 4, map[string]any{"type": "evil\ntype"}),
		publishBody(a, 5, map[string]any{"id": "k"}),
		publishBody(a, 6, map[string]any{"id": "k"}),
		publishBody(a, strings.Repeat("x", 257<<10)),
		publishBody(a, 8),
	)
	for i, code := range []string{"", "bad_request", "", "bad_request", "", "", "too_large", ""} {
		if got[i].Code != code || code == "" && got[i].ID == "" {
			t.Errorf("item %d: %+v, want code %q", i, got[i], code)
		}
	}
	if got[5].ID != got[4].ID || !got[5].Repeated || got[4].Repeated {
		t.Errorf("the repeat in one batch: %+v, %+v", got[4], got[5])
	}
	events := s.awaitEvents(4)
	if !slices.Equal(datas(events), []string{"1", "3", "5", "8"}) {
		t.Errorf("heard %v", datas(events))
	}
	for i, n := range []int{0, 2, 4, 7} {
		if events[i].id.String() != got[n].ID {
			t.Errorf("event %d stands at %s, was acknowledged at %s", i, events[i].id, got[n].ID)
		}
	}
}

func TestARepeatedPublishIsStoredOnceAlsoAfterAKill(t *testing.T) {
	c := start(t)
	a, b := c.s.hash("a"), c.s.hash("b")
	id := map[string]any{"id": "game-7 ü"}
	first := c.publishBody(t, publishBody(a, 1, id))
	for range 2 {
		if again := c.publishBody(t, publishBody(a, "other data", id)); again.ID != first.ID || !again.Repeated {
			t.Errorf("repeated: %+v, first: %+v", again, first)
		}
		c.b.kill()
		c.b.start()
	}
	if other := c.publishBody(t, publishBody(b, 1, id)); other.Repeated {
		t.Error("the same id on another channel counts as a repeat")
	}
	events, _ := c.open(t, map[string]any{"grants": []string{c.s.grant([]entry{{"h": a, "last": 100}})}}).caughtUp()
	if len(events) != 1 {
		t.Errorf("stored %d times", len(events))
	}
}

func TestConcurrentPublishesOfOneIDAreOneEvent(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	s.caughtUp()
	ids := make([]published, 24)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			a, err := c.as(t.Context(), http.MethodPost, "/v1/publish", publishBody(h, i, map[string]any{"id": "one"}))
			if err == nil {
				err = json.Unmarshal(a.body, &ids[i])
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	first := 0
	for _, p := range ids {
		if p.ID != ids[0].ID {
			t.Errorf("two places: %s and %s", p.ID, ids[0].ID)
		}
		if !p.Repeated {
			first++
		}
	}
	c.publish(t, h, "end")
	if events := s.awaitEvents(2); first != 1 || len(events) != 2 {
		t.Errorf("%d were the first, heard %v", first, datas(events))
	}
}

func TestChannelsAreNamedByPropertiesUserAndSession(t *testing.T) {
	c := start(t)
	named := channelHash(c.s.salt, "42", "mod_test", `a/"b"`, "7", "ü\n")
	user, session := channelHash(c.s.salt, "", "@user", "", "u1", ""), channelHash(c.s.salt, "", "@session", "", "s1", "")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(named, user, session)}})
	for _, body := range []map[string]any{
		{"channel": map[string]string{"context": "42", "component": "mod_test", "area": `a/"b"`, "item": "7", "details": "ü\n"}, "data": 1},
		{"user": "u1", "data": 2},
		{"session": "s1", "data": 3},
	} {
		c.publishBody(t, body)
	}
	for i, want := range []string{named, user, session} {
		if got := s.awaitEvents(3)[i]; got.Channel != want || string(got.Data) != fmt.Sprint(i+1) {
			t.Errorf("event %d: %+v, want channel %s", i, got, want)
		}
	}
}

func TestWrongPublishesAreRefusedAndNothingIsStored(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	at := c.publish(t, h, "first")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	with := func(k string, v any) map[string]any { return publishBody(h, 1, map[string]any{k: v}) }
	raw := func(data string) string { return `{"channel":"` + h + `","data":` + data + `}` }
	cases := map[string]struct {
		body any
		want string
	}{
		"no body": {"", "400 bad_request"}, "no JSON": {`{"channel`, "400 bad_request"}, "a list": {"[]", "400 bad_request"},
		"two values": {raw("1") + raw("2"), "400 bad_request"}, "no data": {map[string]any{"channel": h}, "400 bad_request"},
		"no channel": {map[string]any{"data": 1}, "400 bad_request"}, "unknown member": {with("chanel", "x"), "400 bad_request"},
		"channel with a line feed": {publishBody(h+"\n", 1), "400 bad_request"}, "channel too long": {publishBody(strings.Repeat("a", 65), 1), "400 bad_request"},
		"empty channel": {publishBody("", 1), "400 bad_request"}, "channel and user": {with("user", "5"), "400 bad_request"},
		"missing property": {`{"channel":{"context":"1"},"data":1}`, "400 bad_request"},
		"invalid UTF-8":    {raw("\"\xff\""), "400 bad_request"}, "raw line feed in a string": {raw("\"a\nb\""), "400 bad_request"},
		"trailing comma": {raw("[1,]"), "400 bad_request"}, "NaN": {raw("NaN"), "400 bad_request"},
		"too large":     {publishBody(h, strings.Repeat("x", 256<<10)), "413 too_large"},
		"far too large": {publishBody(h, strings.Repeat("x", 3<<20)), "413 too_large"},
		"negative ttl":  {with("ttl", -1), "400 bad_request"}, "ttl as text": {with("ttl", "soon"), "400 bad_request"}, "endless ttl": {with("ttl", 1e12), "400 bad_request"},
		"id too long": {with("id", strings.Repeat("i", 257)), "400 bad_request"}, "id with NUL": {with("id", "a\x00b"), "400 bad_request"}, "id with CR": {with("id", "a\rb"), "400 bad_request"},
		"deep nesting": {raw(strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), "400 bad_request"},
	}
	for _, typ := range []string{"hello", "heartbeat", "channels", "gap", "presence", "bye", "peer", "open", "error", "message", "a\nb", "a\rdata: x", "a\x00", "a b", "ü", strings.Repeat("t", 65)} {
		cases[fmt.Sprintf("type %q", typ)] = struct {
			body any
			want string
		}{with("type", typ), "400 bad_request"}
	}
	for name, w := range cases {
		t.Run(name, func(t *testing.T) {
			a, err := c.as(timeout(t, waitLimit), http.MethodPost, "/v1/publish", w.body)
			if err != nil {
				t.Fatal(err)
			}
			expectOneOf(t, a, w.want)
		})
	}
	last := c.publish(t, h, "last")
	if got := datas(s.awaitEvents(1)); got[0] != `"last"` || last.seq != at.seq+1 {
		t.Errorf("heard %v; the log went from %s to %s", got, at, last)
	}
}

func TestABatchIsLimitedInEventsAndBytes(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	events := []map[string]any{}
	for i := range 1000 {
		events = append(events, publishBody(h, i))
	}
	c.batch(t, events...)
	post := func(body any) answer {
		a, err := c.as(timeout(t, waitLimit), http.MethodPost, "/v1/publish", body)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := post(map[string]any{"events": append(events, publishBody(h, 1))})
	expectProblem(t, a, 413, "too_large")
	if !strings.Contains(strings.ReplaceAll(string(a.body), ",", ""), "1000") {
		t.Errorf("the limit is not in the text: %s", a)
	}
	big := []map[string]any{}
	for range 6 {
		big = append(big, publishBody(h, strings.Repeat("x", 200<<10)))
	}
	expectProblem(t, post(map[string]any{"events": big}), 413, "too_large")
}
