package handlers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

const uuid = "018f3c9e-7b1a-7c3e-9f00-1234567890ab"

// delivered answers every message with its own data.
func delivered(m webhooks.Message) (webhooks.Delivery, error) {
	return webhooks.Delivery{Message: m, State: webhooks.StateDone, Outcome: webhooks.OutcomeDelivered, Reply: m.Data}, nil
}

// message is a good one after change.
func (d *desk) message(t testing.TB, change ...func(map[string]any)) string {
	t.Helper()
	m := map[string]any{"grant": d.grant(t), "id": uuid, "component": "mod_kahoodle", "data": map[string]int{"answer": 3}, "kind": "call"}
	for _, f := range change {
		f(m)
	}
	return text(t, m)
}

func set(name string, value any) func(map[string]any) {
	return func(m map[string]any) {
		if delete(m, name); value != nil {
			m[name] = value
		}
	}
}

func TestAMessageSaysWhoTheGrantSaysAndNothingElse(t *testing.T) {
	d := newDesk(t)
	d.messages.answer = delivered
	r := d.send(http.MethodPost, "/v1/messages", d.message(t, set("grant", d.grant(t, with("seal", "c2VhbA"))), set("user", "6"),
		set("seal", "forged"), set("id", strings.ToUpper(uuid)), set("deadline", 7.5)), "Origin", schoolSite, "Content-Type", "text/plain")
	if r.status != 200 || strings.TrimSpace(r.body) != `{"id":"`+uuid+`","outcome":"delivered","reply":{"answer":3}}` {
		t.Fatalf("got %d %s", r.status, r.body)
	}
	m := d.messages.messages()[0]
	if m.Site != "moodle" || m.ID != uuid || m.Component != "mod_kahoodle" || m.Kind != webhooks.KindCall || m.Type != webhooks.TypeCall ||
		m.Caller != "s:s1" || m.Order != "s:s1" || m.User != "5" || m.Session != "s1" || m.Seal != "c2VhbA" ||
		string(m.Data) != `{"answer":3}` || !m.Accepted.Equal(d.now) || m.Deadline.Sub(d.now) != 7500*time.Millisecond {
		t.Fatalf("sent %+v", m)
	}
}

func TestACallHasTenSecondsUnlessItSaysSoAndAJobHasNoDeadline(t *testing.T) {
	d := newDesk(t)
	d.messages.answer = delivered
	d.send(http.MethodPost, "/v1/messages", d.message(t))
	d.send(http.MethodPost, "/v1/messages", d.message(t, set("kind", "job"), set("deadline", 5)))
	sent := d.messages.messages()
	if sent[0].Deadline.Sub(d.now) != 10*time.Second || !sent[1].Deadline.IsZero() || sent[1].Type != webhooks.TypeJob {
		t.Fatalf("sent %+v", sent)
	}
}

func TestEachOutcomeIsTold(t *testing.T) {
	d := newDesk(t)
	for name, c := range map[string]struct {
		d      webhooks.Delivery
		status int
		want   string
	}{
		"delivered":           {webhooks.Delivery{Outcome: webhooks.OutcomeDelivered, Reply: json.RawMessage(`"<&>"`)}, 200, `"outcome":"delivered","reply":"<&>"`},
		"delivered, no reply": {webhooks.Delivery{Outcome: webhooks.OutcomeDelivered}, 200, `"outcome":"delivered","reply":null`},
		"rejected":            {webhooks.Delivery{Outcome: webhooks.OutcomeRejected, Error: json.RawMessage(`{"status":404}`)}, 200, `"outcome":"rejected","error":{"status":404}`},
		"not delivered":       {webhooks.Delivery{Outcome: webhooks.OutcomeNotDelivered, Reason: "breaker open"}, 200, `"outcome":"not_delivered"`},
		"unknown":             {webhooks.Delivery{Outcome: webhooks.OutcomeUnknown, State: webhooks.StateSending}, 200, `"outcome":"unknown"`},
		"pending":             {webhooks.Delivery{Outcome: webhooks.OutcomePending}, 202, `"outcome":"pending"`},
		"queued":              {webhooks.Delivery{Outcome: webhooks.OutcomeQueued}, 202, `"outcome":"queued"`},
		"a call under way":    {webhooks.Delivery{State: webhooks.StateSending, Message: webhooks.Message{Kind: webhooks.KindCall}}, 202, `"outcome":"pending"`},
		"a job that waits":    {webhooks.Delivery{State: webhooks.StateWaiting, Message: webhooks.Message{Kind: webhooks.KindJob}}, 202, `"outcome":"queued"`},
		"a job that gave up":  {webhooks.Delivery{State: webhooks.StateDead, Message: webhooks.Message{Kind: webhooks.KindJob}}, 200, `"outcome":"unknown"`},
	} {
		t.Run(name, func(t *testing.T) {
			d.now = d.now.Add(time.Second)
			d.messages.answer = func(m webhooks.Message) (webhooks.Delivery, error) { c.d.ID = m.ID; return c.d, nil }
			d.messages.told = func(ref webhooks.Ref, _ string, _ bool) (webhooks.Delivery, error) { c.d.ID = ref.ID; return c.d, nil }
			want := `{"id":"` + uuid + `",` + c.want + `}`
			if r := d.send(http.MethodPost, "/v1/messages", d.message(t)); r.status != c.status || strings.TrimSpace(r.body) != want {
				t.Errorf("sent: got %d %s, want %d %s", r.status, r.body, c.status, want)
			}
			if r := d.send(http.MethodPost, "/v1/messages/"+uuid, text(t, map[string]any{"grant": d.grant(t)})); r.status != c.status || strings.TrimSpace(r.body) != want {
				t.Errorf("asked: got %d %s, want %d %s", r.status, r.body, c.status, want)
			}
		})
	}
}

func TestWrongMessagesAreRefusedClearlyAndNothingIsSent(t *testing.T) {
	d := newDesk(t)
	_, resume, key := d.mint(t, d.grants())
	for name, c := range map[string]struct {
		change []func(map[string]any)
		status int
		code   broker.Code
	}{
		"component not granted":  {[]func(map[string]any){set("component", "mod_other")}, 403, broker.CodeComponentDenied},
		"no component":           {[]func(map[string]any){set("component", nil)}, 400, broker.CodeBadRequest},
		"component with a line":  {[]func(map[string]any){set("component", "mod\nx")}, 400, broker.CodeBadRequest},
		"no id":                  {[]func(map[string]any){set("id", nil)}, 400, broker.CodeBadRequest},
		"id is no UUID":          {[]func(map[string]any){set("id", strings.Repeat("z", 36))}, 400, broker.CodeBadRequest},
		"id in braces":           {[]func(map[string]any){set("id", "{"+uuid+"}")}, 400, broker.CodeBadRequest},
		"id with NUL":            {[]func(map[string]any){set("id", uuid[:35]+"\x00")}, 400, broker.CodeBadRequest},
		"unknown kind":           {[]func(map[string]any){set("kind", "notice")}, 400, broker.CodeBadRequest},
		"no kind":                {[]func(map[string]any){set("kind", nil)}, 400, broker.CodeBadRequest},
		"deadline 0":             {[]func(map[string]any){set("deadline", 0)}, 400, broker.CodeBadRequest},
		"deadline 61":            {[]func(map[string]any){set("deadline", 61)}, 400, broker.CodeBadRequest},
		"deadline -1":            {[]func(map[string]any){set("deadline", -1)}, 400, broker.CodeBadRequest},
		"deadline in words":      {[]func(map[string]any){set("deadline", "soon")}, 400, broker.CodeBadRequest},
		"too much data":          {[]func(map[string]any){set("data", long(64<<10))}, 413, broker.CodeTooLarge},
		"too much of everything": {[]func(map[string]any){set("data", long(maxPageBody))}, 413, broker.CodeTooLarge},
		"no credential":          {[]func(map[string]any){set("grant", nil)}, 401, broker.CodeGrantInvalid},
		"a forged one":           {[]func(map[string]any){set("grant", d.grant(t)+"x")}, 401, broker.CodeGrantInvalid},
		"a resume token as key":  {[]func(map[string]any){set("grant", nil), set("key", resume)}, 401, broker.CodeGrantInvalid},
		"a key as resume token":  {[]func(map[string]any){set("grant", nil), set("resume", key)}, 401, broker.CodeGrantInvalid},
		"credentials of two":     {[]func(map[string]any){set("grant", d.grant(t, with("sub", "6"))), set("key", key)}, 403, broker.CodeSubjectMismatch},
		"an expired grant":       {[]func(map[string]any){set("grant", d.grant(t, with("exp", start.Unix()-100), with("iat", start.Unix()-200)))}, 401, broker.CodeGrantExpired},
	} {
		t.Run(name, func(t *testing.T) {
			d.send(http.MethodPost, "/v1/messages", d.message(t, c.change...)).want(t, c.status, c.code)
		})
	}
	d.send(http.MethodPost, "/v1/messages", d.message(t), "Origin", "https://tsugi.example").want(t, 403, broker.CodeOriginDenied)
	d.send(http.MethodPost, "/v1/messages", strings.Replace(d.message(t), "3", "\"\xff\"", 1)).want(t, 400, broker.CodeBadRequest)
	if n := len(d.messages.messages()); n != 0 {
		t.Fatalf("%d messages were sent", n)
	}
}

func TestAResumeTokenAndAKeySendToo(t *testing.T) {
	d := newDesk(t)
	d.messages.answer = delivered
	_, resume, key := d.mint(t, d.grants())
	for _, credential := range []func(map[string]any){set("resume", resume), set("key", key)} {
		if r := d.send(http.MethodPost, "/v1/messages", d.message(t, set("grant", nil), credential)); r.status != 200 {
			t.Fatalf("got %d %s", r.status, r.body)
		}
	}
	for _, m := range d.messages.messages() {
		if m.Caller != "s:s1" || m.Seal != "c2VhbA" {
			t.Errorf("sent %+v", m)
		}
	}
}

func TestACallerIsLimitedAndOthersAreNot(t *testing.T) {
	d := newDesk(t)
	d.messages.answer = delivered
	for i := range 40 {
		if r := d.send(http.MethodPost, "/v1/messages", d.message(t)); r.status != 200 {
			t.Fatalf("message %d: %d %s", i, r.status, r.body)
		}
	}
	r := d.send(http.MethodPost, "/v1/messages", d.message(t))
	r.want(t, 429, broker.CodeRateLimited)
	if r.header.Get("Retry-After") != "1" || !strings.Contains(r.body, "20 messages a second") {
		t.Errorf("got Retry-After %q and %s", r.header.Get("Retry-After"), r.body)
	}
	if r := d.send(http.MethodPost, "/v1/messages", d.message(t, set("grant", d.grant(t, with("sid", "s2"))))); r.status != 200 {
		t.Errorf("another caller: %d %s", r.status, r.body)
	}
	d.now = d.now.Add(50 * time.Millisecond)
	if r := d.send(http.MethodPost, "/v1/messages", d.message(t)); r.status != 200 {
		t.Errorf("after 50 ms: %d %s", r.status, r.body)
	}
	d.send(http.MethodPost, "/v1/messages", d.message(t)).want(t, 429, broker.CodeRateLimited)
}

func TestARememberedRateIsBounded(t *testing.T) {
	r := newRates(10)
	for i := range 1000 {
		if err := r.take(rateKey{"moodle", fmt.Sprint(i)}, 20, start); err != nil {
			t.Fatal(err)
		}
		if n := len(r.now) + len(r.old); n > 10 {
			t.Fatalf("%d callers are remembered, want at most 10", n)
		}
	}
}

func TestAskingIsByTheCallerAndSettlingIsPassedOn(t *testing.T) {
	d := newDesk(t)
	var settled bool
	d.messages.told = func(ref webhooks.Ref, caller string, settle bool) (webhooks.Delivery, error) {
		settled = settle
		if caller != "s:s1" || ref.ID != uuid || ref.Site != "moodle" {
			return webhooks.Delivery{}, broker.Errorf(broker.CodeNotFound, "no message with this id")
		}
		return webhooks.Delivery{Message: webhooks.Message{Ref: ref}, State: webhooks.StateDone, Outcome: webhooks.OutcomeNotDelivered, Settled: true}, nil
	}
	r := d.send(http.MethodPost, "/v1/messages/"+strings.ToUpper(uuid), text(t, map[string]any{"grant": d.grant(t), "settle": true}))
	if r.status != 200 || !settled {
		t.Fatalf("got %d %s, settled %v", r.status, r.body, settled)
	}
	d.send(http.MethodPost, "/v1/messages/"+uuid, text(t, map[string]any{"grant": d.grant(t, with("sid", "s2"))})).want(t, 404, broker.CodeNotFound)
	d.send(http.MethodPost, "/v1/messages/1", text(t, map[string]any{"grant": d.grant(t)})).want(t, 400, broker.CodeBadRequest)
	d.send(http.MethodPost, "/v1/messages/"+uuid, `{}`).want(t, 401, broker.CodeGrantInvalid)
}

func TestAnAnonymousPageWithTwoGrantsFindsItsMessageUnderEither(t *testing.T) {
	d := newDesk(t)
	anonymous := func(jti string) *broker.Grant {
		return &broker.Grant{Site: "moodle", ID: jti, IssuedAt: d.now, Until: d.now.Add(time.Hour), Send: []broker.ComponentID{broker.ComponentID("mod_" + jti)}}
	}
	_, _, key := d.mint(t, []*broker.Grant{anonymous("a"), anonymous("b")})
	ref := webhooks.Ref{Site: "moodle", ID: uuid}
	if _, _, err := d.store.Accept(t.Context(), webhooks.Delivery{Message: webhooks.Message{Ref: ref, Caller: "j:b"}, State: webhooks.StateWaiting}); err != nil {
		t.Fatal(err)
	}
	d.messages.told = func(ref webhooks.Ref, caller string, _ bool) (webhooks.Delivery, error) {
		if caller != "j:b" {
			return webhooks.Delivery{}, broker.Errorf(broker.CodeIDTaken, "another caller's")
		}
		return webhooks.Delivery{Message: webhooks.Message{Ref: ref}, Outcome: webhooks.OutcomeDelivered}, nil
	}
	if r := d.send(http.MethodPost, "/v1/messages/"+uuid, text(t, map[string]any{"key": key, "settle": true})); r.status != 200 {
		t.Fatalf("got %d %s", r.status, r.body)
	}
}

func TestRefusalsOfTheDispatcherKeepTheirCodes(t *testing.T) {
	d := newDesk(t)
	for code, status := range map[broker.Code]int{
		broker.CodeIDTaken: 409, broker.CodeNotFound: 404, broker.CodeUnavailable: 503, broker.CodeStoreFull: 503,
	} {
		d.messages.answer = func(webhooks.Message) (webhooks.Delivery, error) {
			return webhooks.Delivery{}, fmt.Errorf("send: %w", broker.Errorf(code, "because"))
		}
		d.send(http.MethodPost, "/v1/messages", d.message(t)).want(t, status, code)
	}
}

func FuzzMessage(f *testing.F) {
	d := newDesk(f)
	d.messages.answer = delivered
	f.Add(d.message(f), "text/plain")
	f.Add(`{"grant":"a.b.c","id":"`+uuid+`"}`, "application/json; charset=utf-8")
	f.Add(`{"data":{"data":{}}}`, "multipart/form-data")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		d.now = d.now.Add(time.Millisecond)
		r := d.send(http.MethodPost, "/v1/messages", body, "Content-Type", contentType)
		if r.status >= 500 {
			t.Fatalf("got %d %s", r.status, r.body)
		}
	})
}
