package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

func (d *desk) publishN(t testing.TB, channel string, n int) {
	t.Helper()
	for i := range n {
		d.ok(t, http.MethodPost, "/v1/publish", fmt.Sprintf(`{"channel":%q,"data":{"n":%d,"html":"<&>"},"type":"t"}`, channel, i))
	}
}

func (d *desk) events(t testing.TB, path string) (ids []string, next string, more bool) {
	t.Helper()
	var page struct {
		Events []struct{ ID, Channel string }
		Next   string
		More   bool
	}
	d.ok(t, http.MethodGet, path, "").json(t, &page)
	for _, e := range page.Events {
		ids = append(ids, e.ID+" "+e.Channel)
	}
	return ids, page.Next, page.More
}

func TestHistoryIsPagedInOrderAndAsPublished(t *testing.T) {
	d := newDesk(t)
	d.publishN(t, "c1", 3)
	d.publishN(t, "c2", 2)
	first, next, more := d.events(t, "/v1/channels/c1/events?limit=2")
	if !slices.Equal(first, []string{d.cursor(1) + " c1", d.cursor(2) + " c1"}) || !more {
		t.Fatalf("got %v, more %v", first, more)
	}
	second, next, more := d.events(t, "/v1/channels/c1/events?limit=2&after="+next)
	if !slices.Equal(second, []string{d.cursor(3) + " c1"}) || more || next != d.cursor(5) {
		t.Fatalf("got %v, more %v, next %s", second, more, next)
	}
	site, _, _ := d.events(t, "/v1/events")
	if len(site) != 5 || site[4] != d.cursor(5)+" c2" {
		t.Fatalf("the whole site: %v", site)
	}
	if body := d.ok(t, http.MethodGet, "/v1/events?after="+d.cursor(4), "").body; !strings.Contains(body, `"time":1790000060,"type":"t","data":{"n":1,"html":"<&>"}`) {
		t.Errorf("got %s", body)
	}
	if none, next, _ := d.events(t, "/v1/channels/quiet/events"); len(none) != 0 || next == "" {
		t.Errorf("a quiet channel: %v, next %q", none, next)
	}
}

func TestHistoryOfAnotherSiteIsNotSeen(t *testing.T) {
	d := newDesk(t)
	d.publishN(t, "c1", 1)
	tsugi := "Bearer " + d.key("tsugi", 0).Bearer("tsugi")
	for _, path := range []string{"/v1/events", "/v1/channels/c1/events", "/v1/channels"} {
		if r := d.send(http.MethodGet, path, "", "Authorization", tsugi); r.status != 200 || strings.Contains(r.body, "html") || strings.Contains(r.body, `"c1"`) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r := d.send(http.MethodPost, "/v1/channels/c1/purge", "", "Authorization", tsugi); r.status != 200 || len(d.stored(t)) != 1 {
		t.Errorf("another site's purge: %d %s, left %d events", r.status, r.body, len(d.stored(t)))
	}
}

func TestHistoryAfterACursorOfAnotherStoreIsRefused(t *testing.T) {
	d := newDesk(t)
	d.publishN(t, "c1", 1)
	for _, after := range []string{"aaaaaaaa-1", d.currentEpochCursor(99), "nonsense", "1"} {
		d.server(http.MethodGet, "/v1/events?after="+after, "").want(t, 400, broker.CodeBadRequest)
	}
	for _, limit := range []string{"0", "-1", "1001", "x"} {
		d.server(http.MethodGet, "/v1/events?limit="+limit, "").want(t, 400, broker.CodeBadRequest)
	}
}

func (d *desk) currentEpochCursor(seq uint64) string {
	return broker.Cursor{Epoch: d.currentEpoch(), Seq: seq}.String()
}

func TestAPurgeIsToldInTheHistory(t *testing.T) {
	d := newDesk(t)
	d.publishN(t, "c1", 3)
	recovered := func() bool {
		var page struct{ Recovered *bool }
		d.ok(t, http.MethodGet, "/v1/channels/c1/events?after="+d.cursor(1), "").json(t, &page)
		return *page.Recovered
	}
	if !recovered() {
		t.Error("nothing is missing yet")
	}
	if got := strings.TrimSpace(d.ok(t, http.MethodPost, "/v1/channels/c1/purge", "").body); got != `{"purged":3}` {
		t.Errorf("got %s", got)
	}
	if recovered() {
		t.Error("the purge shows nowhere")
	}
}

func TestAUsersPurgeRemovesTheOwnChannelAndForgetsMessages(t *testing.T) {
	d := newDesk(t)
	const user = "a/b@c d"
	d.ok(t, http.MethodPost, "/v1/publish", `{"user":"`+user+`","data":1}`)
	d.publishN(t, "c1", 1)
	done := webhooks.Delivery{
		Message: webhooks.Message{Ref: webhooks.Ref{Site: "moodle", ID: uuid}, Kind: webhooks.KindCall, User: user, Data: []byte(`"private"`)},
		State:   webhooks.StateDone, Outcome: webhooks.OutcomeDelivered, Ended: d.now,
	}
	if _, _, err := d.store.Accept(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(d.ok(t, http.MethodPost, "/v1/users/"+url.PathEscape(user)+"/purge", "").body); got != `{"forgotten":1,"purged":1}` {
		t.Errorf("got %s", got)
	}
	if left := d.stored(t); len(left) != 1 || left[0].Channel.ID != "c1" {
		t.Errorf("left %+v", left)
	}
	kept, err := d.store.Get(t.Context(), done.Ref)
	if err != nil || kept.Data != nil {
		t.Errorf("kept %s, %v", kept.Data, err)
	}
}

func TestChannelsAreListedLiveOrStoredByName(t *testing.T) {
	d := newDesk(t)
	d.publishN(t, "b", 2)
	d.publishN(t, "d", 1)
	d.hub.live = []broker.LiveChannel{{Channel: "a", Streams: 2, Component: "mod_x"}, {Channel: "b", Streams: 1}, {Channel: "e", Streams: 3, Component: "mod_y"}}
	type view struct {
		Channel, Component, First, Newest, Last string
		Streams                                 int
	}
	list := func(query string) (all []view) {
		after := ""
		for {
			var page struct {
				Channels []view
				Next     string
			}
			d.ok(t, http.MethodGet, "/v1/channels?"+query+"&after="+after, "").json(t, &page)
			all = append(all, page.Channels...)
			if after = page.Next; after == "" {
				return all
			}
		}
	}
	want := []view{
		{Channel: "a", Streams: 2, Component: "mod_x"},
		{Channel: "b", Streams: 1, First: d.cursor(1), Newest: d.cursor(2), Last: d.cursor(2)},
		{Channel: "d", First: d.cursor(3), Newest: d.cursor(3), Last: d.cursor(3)},
		{Channel: "e", Streams: 3, Component: "mod_y"},
	}
	for _, limit := range []string{"limit=1", "limit=2", "limit=3", "limit=4", ""} {
		if got := list(limit); !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", limit, got, want)
		}
	}
	if got := list("component=mod_y"); !slices.Equal(got, want[3:]) {
		t.Errorf("of one component: %+v", got)
	}
	var one view
	d.ok(t, http.MethodGet, "/v1/channels/b", "").json(t, &one)
	if one != want[1] {
		t.Errorf("one channel: %+v", one)
	}
	d.server(http.MethodGet, "/v1/channels/a%20b", "").want(t, 400, broker.CodeBadRequest)
}

func TestStreamsArePaged(t *testing.T) {
	d := newDesk(t)
	d.hub.streams = []broker.StreamInfo{
		{ID: broker.StreamID{1}, User: "5", Session: "s1", Transport: "stream", Opened: start, Channels: []broker.ChannelID{"c1"}, Position: 7},
		{ID: broker.StreamID{2}, Transport: "poll", Opened: start, Behind: true},
	}
	var page struct {
		Streams []struct {
			Stream, User, Transport, Position string
			Opened                            float64
			Channels                          []string
			Behind                            bool
		}
		Next string
	}
	d.ok(t, http.MethodGet, "/v1/streams?limit=1", "").json(t, &page)
	if s := page.Streams; len(s) != 1 || s[0].User != "5" || s[0].Opened != 1790000000 || s[0].Channels[0] != "c1" || s[0].Position != d.currentEpochCursor(7) {
		t.Fatalf("got %+v", s)
	}
	d.ok(t, http.MethodGet, "/v1/streams?limit=1&after="+page.Next, "").json(t, &page)
	if s := page.Streams; len(s) != 1 || !s[0].Behind || s[0].Channels == nil {
		t.Fatalf("got %+v", s)
	}
}

func (d *desk) queueUp(t testing.TB, id webhooks.ID, state webhooks.State, component broker.ComponentID) {
	t.Helper()
	rec := webhooks.Delivery{
		Message: webhooks.Message{
			Ref: webhooks.Ref{Site: "moodle", ID: id}, Component: component, Kind: webhooks.KindJob, Type: webhooks.TypeJob, Caller: "s:s1",
			Accepted: d.now, User: "5", Seal: "sealcanary", Data: []byte(`{"password":"datacanary"}`),
		},
		State: state, Attempts: 1, Due: d.now.Add(time.Second), Reason: "the receiver answered 500",
		Log: []webhooks.Attempt{{Number: 1, Started: d.now, Duration: 42 * time.Millisecond, URL: "https://school.example/hook", Status: 500, Request: "POST /hook"}},
	}
	if state == webhooks.StateDead {
		rec.Ended = d.now
	}
	if _, _, err := d.store.Accept(context.Background(), rec); err != nil {
		t.Fatal(err)
	}
}

func TestDeliveriesAreListedAndShownWithoutWhatTheyCarry(t *testing.T) {
	d := newDesk(t)
	d.queueUp(t, "m1", webhooks.StateWaiting, "mod_a")
	d.queueUp(t, "m2", webhooks.StateDead, "mod_b")
	ids := func(query string) (all []string) {
		var page struct{ Deliveries []struct{ ID string } }
		d.ok(t, http.MethodGet, "/v1/deliveries"+query, "").json(t, &page)
		for _, x := range page.Deliveries {
			all = append(all, x.ID)
		}
		return all
	}
	for query, want := range map[string][]string{
		"": {"m2", "m1"}, "?state=dead": {"m2"}, "?component=mod_a": {"m1"}, "?state=done": nil, "?component=mod_c": nil, "?limit=1": {"m2"},
	} {
		if got := ids(query); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
	one := d.ok(t, http.MethodGet, "/v1/deliveries/m1", "").body
	for _, want := range []string{`"state":"waiting"`, `"due":1790000061`, `"ms":42`, `"status":500`, `"request":"POST /hook"`, `"attempts":1`} {
		if !strings.Contains(one, want) {
			t.Errorf("%s is not in %s", want, one)
		}
	}
	if all := one + d.ok(t, http.MethodGet, "/v1/deliveries", "").body; strings.Contains(all, "canary") {
		t.Errorf("a secret is in %s", all)
	}
	d.server(http.MethodGet, "/v1/deliveries?state=lost", "").want(t, 400, broker.CodeBadRequest)
	d.server(http.MethodGet, "/v1/deliveries?component=a%0Ab", "").want(t, 400, broker.CodeBadRequest)
	d.server(http.MethodGet, "/v1/deliveries/none", "").want(t, 404, broker.CodeNotFound)
	d.server(http.MethodGet, "/v1/deliveries/"+long(5000), "").want(t, 404, broker.CodeNotFound)
	d.send(http.MethodGet, "/v1/deliveries/m1", "", "Authorization", "Bearer "+d.key("tsugi", 0).Bearer("tsugi")).want(t, 404, broker.CodeNotFound)
}

func TestDeadLettersAreRetriedOneByOneOrAll(t *testing.T) {
	d := newDesk(t)
	for i, component := range []broker.ComponentID{"mod_a", "mod_a", "mod_b"} {
		d.queueUp(t, webhooks.ID(fmt.Sprintf("m%d", i)), webhooks.StateDead, component)
	}
	d.queueUp(t, "m3", webhooks.StateWaiting, "mod_a")
	if r := d.ok(t, http.MethodPost, "/v1/deliveries/m0/retry", ""); !strings.Contains(r.body, `"state":"waiting"`) {
		t.Errorf("got %s", r.body)
	}
	d.server(http.MethodPost, "/v1/deliveries/m3/retry", "").want(t, 400, broker.CodeBadRequest)
	d.server(http.MethodPost, "/v1/deliveries/none/retry", "").want(t, 404, broker.CodeNotFound)
	d.server(http.MethodPost, "/v1/deliveries/retry", `{"components":"mod_a"}`).want(t, 400, broker.CodeBadRequest)
	for _, c := range []struct{ body, want string }{
		{`{"component":"mod_a"}`, `{"more":false,"retried":1}`}, {``, `{"more":false,"retried":1}`}, {`{}`, `{"more":false,"retried":0}`},
	} {
		if got := strings.TrimSpace(d.ok(t, http.MethodPost, "/v1/deliveries/retry", c.body).body); got != c.want {
			t.Errorf("%s: got %s, want %s", c.body, got, c.want)
		}
	}
}

func TestARevocationIsStoredAndRefusesGrantsAtOnce(t *testing.T) {
	d := newDesk(t)
	d.hub.cut = 3
	if got := strings.TrimSpace(d.ok(t, http.MethodPost, "/v1/revoke", `{"sid":"s1"}`).body); got != `{"streams":3}` {
		t.Errorf("got %s", got)
	}
	d.send(http.MethodPost, "/v1/messages", d.message(t)).want(t, 403, broker.CodeRevoked)
	stored, err := d.store.Revocations(t.Context())
	if err != nil || len(stored) != 1 || stored[0].Value != "s1" {
		t.Errorf("stored %+v, %v", stored, err)
	}
}

func TestRevocationsOfUsersAndChannelsReachGrantsSignedUpToAMinuteAhead(t *testing.T) {
	d := newDesk(t)
	ahead := start.Add(2 * time.Minute).UnixMicro() // the desk's clock is a minute after start
	for body, want := range map[string]broker.Revocation{
		`{"user":"5"}`:                        {Kind: broker.RevokeUser, Value: "5", Before: ahead},
		`{"channel":"c1"}`:                    {Kind: broker.RevokeChannel, Value: "c1", Before: ahead},
		`{"user":"5","before":1790000000.25}`: {Kind: broker.RevokeUser, Value: "5", Before: 1790000000250000},
		`{"jti":"j1"}`:                        {Kind: broker.RevokeJTI, Value: "j1"},
		`{"jti":"j1","before":1790000000}`:    {Kind: broker.RevokeJTI, Value: "j1"},
	} {
		d.ok(t, http.MethodPost, "/v1/revoke", body)
		want.Site = "moodle"
		if got := d.hub.revoked[len(d.hub.revoked)-1]; got != want {
			t.Errorf("%s: got %+v, want %+v", body, got, want)
		}
	}
}

func TestWrongRevocationsAreRefused(t *testing.T) {
	d := newDesk(t)
	for _, body := range []string{
		`{}`, `{"jti":"a","sid":"b"}`, `{"jti":""}`, `{"user":"` + long(256) + `"}`, `{"channel":"a b"}`, `{"user":5}`, `{"usr":"5"}`,
		`{"user":"5","before":"now"}`, `{"user":"5","before":-1}`, `{"user":"5","before":null}`,
	} {
		d.server(http.MethodPost, "/v1/revoke", body).want(t, 400, broker.CodeBadRequest)
	}
	if len(d.hub.revoked) != 0 {
		t.Errorf("revoked %+v", d.hub.revoked)
	}
}

func TestSelfTellsWhatAConnectionCheckNeeds(t *testing.T) {
	hook, err := url.Parse("https://school.example/hook.php?secret=canary")
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, func(c *Config) {
		c.Endpoint = func(_ broker.SiteID, name broker.ComponentID) (webhooks.Endpoint, bool) {
			return webhooks.Endpoint{URL: hook}, name == "mod_kahoodle"
		}
	})
	if _, err := d.authenticate(presented{Grants: []string{d.grant(t)}}, ""); err != nil {
		t.Fatal(err)
	}
	d.publishN(t, "c1", 1)
	r := d.ok(t, http.MethodGet, "/v1/self?component=mod_kahoodle", "")
	var v selfView
	r.json(t, &v)
	if v.Site != "moodle" || v.Version != "v1.2.3" || v.Head != d.cursor(1) || v.Time.Time() != d.now || v.Limits.EventBytes != 256<<10 || v.Limits.CallerMessages != 20 ||
		len(v.Keys) != 2 || v.Keys[0].Grant == 0 || v.Keys[0].API == 0 || v.Keys[1].Grant != 0 || v.Component == nil || !v.Component.Webhook || v.Component.Host != "school.example" {
		t.Fatalf("got %s", r.body)
	}
	if strings.Contains(r.body, "canary") || strings.Contains(r.body, "hook.php") {
		t.Errorf("the webhook's address is told: %s", r.body)
	}
	d.ok(t, http.MethodGet, "/v1/self?component=mod_other", "").json(t, &v)
	if v.Component.Webhook {
		t.Error("mod_other has no webhook")
	}
}
