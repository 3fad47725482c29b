package blackbox_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// page is one page of a list of the server API.
type page struct {
	Events   []json.RawMessage `json:"events"`
	Channels []json.RawMessage `json:"channels"`
	Streams  []json.RawMessage `json:"streams"`
	Next     string            `json:"next"`
}

// pagesOf follows next until it ends and returns all texts of a list.
func (c *client) pagesOf(t testing.TB, path string, query url.Values, list func(page) []json.RawMessage) (all []string, pages int) {
	t.Helper()
	query = maps.Clone(query)
	if query == nil {
		query = url.Values{}
	}
	for {
		var p page
		c.server(t, http.MethodGet, path+"?"+query.Encode(), nil).decode(t, &p)
		for _, raw := range list(p) {
			all = append(all, string(raw))
		}
		if pages++; p.Next == "" || pages > 100 {
			return all, pages
		}
		query.Set("after", p.Next)
	}
}

func TestHistoryIsPagedAndWhole(t *testing.T) {
	c := start(t)
	a, b := c.s.hash("a"), c.s.hash("b")
	for i := range 25 {
		c.publish(t, a, fmt.Sprintf("a%d.", i))
		c.publish(t, b, fmt.Sprintf("b%d.", i))
	}
	events := func(p page) []json.RawMessage { return p.Events }
	got, pages := c.pagesOf(t, "/v1/channels/"+a+"/events", url.Values{"limit": {"10"}}, events)
	if len(got) != 25 || pages < 3 {
		t.Fatalf("%d events in %d pages: %v", len(got), pages, got)
	}
	for i, e := range got {
		if !strings.Contains(e, fmt.Sprintf(`"a%d."`, i)) {
			t.Errorf("event %d is %s", i, e)
		}
	}
	if got, _ = c.pagesOf(t, "/v1/events", url.Values{"limit": {"7"}}, events); len(got) != 50 {
		t.Errorf("the site's history has %d events, want 50", len(got))
	}
	c.server(t, http.MethodPost, "/v1/channels/"+a+"/purge", nil)
	if got, _ = c.pagesOf(t, "/v1/channels/"+a+"/events", url.Values{}, events); len(got) != 0 {
		t.Errorf("purged, and still there: %v", got)
	}
	if got, _ = c.pagesOf(t, "/v1/events", url.Values{}, events); len(got) != 25 {
		t.Errorf("the site's history has %d events after the purge, want 25", len(got))
	}
}

func TestChannelsStreamsAndSelfAreListed(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	c.publish(t, h, 1)
	hello := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}}).hello()
	if got, _ := c.pagesOf(t, "/v1/channels", url.Values{}, func(p page) []json.RawMessage { return p.Channels }); len(got) != 1 || !strings.Contains(got[0], h) {
		t.Errorf("channels: %v", got)
	}
	got, _ := c.pagesOf(t, "/v1/streams", url.Values{}, func(p page) []json.RawMessage { return p.Streams })
	if len(got) != 1 || !strings.Contains(got[0], hello.Stream) || strings.Contains(got[0], hello.Resume) {
		t.Errorf("streams: %v", got)
	}
	if a := c.server(t, http.MethodGet, "/v1/channels/"+h, nil); !strings.Contains(string(a.body), h) {
		t.Errorf("channel: %s", a)
	}
	self := c.server(t, http.MethodGet, "/v1/self", nil)
	if !strings.Contains(string(self.body), `"school"`) || !strings.Contains(string(self.body), `"k1"`) || strings.Contains(string(self.body), base64url(c.s.keys[0].secret)) {
		t.Errorf("self: %s", self)
	}
}

func TestAUsersOwnChannelCanBePurged(t *testing.T) {
	c := start(t)
	user := channelHash(c.s.salt, "", "@user", "", "u1", "")
	first := c.publishBody(t, map[string]any{"user": "u1", "data": 1})
	c.publishBody(t, map[string]any{"user": "u1", "data": 2})
	c.server(t, http.MethodPost, "/v1/users/u1/purge", nil)
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(user)}, "cursor": first.ID})
	if *s.hello().Channels[0].Recovered {
		t.Error("a page that was behind is not told of the purge")
	}
}

func TestWrongServerRequestsAreRefused(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	c.publish(t, h, 1)
	for _, w := range []struct {
		method, path string
		body         any
		want         string
	}{
		{"POST", "/v1/revoke", map[string]any{}, "400 bad_request"},
		{"POST", "/v1/revoke", map[string]any{"sid": "a", "user": "b"}, "400 bad_request"},
		{"POST", "/v1/revoke", map[string]any{"sid": ""}, "400 bad_request"},
		{"POST", "/v1/revoke", map[string]any{"user": "5", "before": "now"}, "400 bad_request"},
		{"POST", "/v1/revoke", map[string]any{"chanel": "x"}, "400 bad_request"},
		{"POST", "/v1/revoke", map[string]any{"channel": "a b"}, "400 bad_request"},
		{"POST", "/v1/revoke", map[string]any{"sid": strings.Repeat("s", 300)}, "400 bad_request"},
		{"POST", "/v1/revoke", "{", "400 bad_request"},
		{"GET", "/v1/channels/a%20b", nil, "400 bad_request | 404 not_found"},
		{"GET", "/v1/channels/" + h + "/events?after=gibberish", nil, "400 bad_request"},
		{"GET", "/v1/channels/" + h + "/events?limit=-1", nil, "400 bad_request"},
		{"GET", "/v1/channels/" + h + "/events?limit=many", nil, "400 bad_request"},
		{"GET", "/v1/events?limit=0x10", nil, "400 bad_request"},
		{"GET", "/v1/deliveries?state=lost", nil, "400 bad_request"},
		{"GET", "/v1/deliveries/" + newUUID(), nil, "404 not_found"},
		{"POST", "/v1/deliveries/" + newUUID() + "/retry", nil, "404 not_found"},
		{"POST", "/v1/channels/a%0Ab/purge", nil, "400 bad_request | 404 not_found"},
	} {
		t.Run(w.method+w.path+string(mustJSON(w.body)), func(t *testing.T) {
			a, err := c.as(timeout(t, waitLimit), w.method, w.path, w.body)
			if err != nil {
				t.Fatal(err)
			}
			expectOneOf(t, a, w.want)
		})
	}
}
