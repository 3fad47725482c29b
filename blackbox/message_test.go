package blackbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// outcome is what a page is told of a message.
type outcome struct {
	ID      string          `json:"id"`
	Outcome string          `json:"outcome"`
	Reply   json.RawMessage `json:"reply"`
	Error   json.RawMessage `json:"error"`
}

// newUUID is a random one (version 4).
func newUUID() string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// caller is a page that sends messages with one grant.
type caller struct {
	c     *client
	grant string
}

// sender is a page of a caller of its own that may send to these components.
func (c *client) sender(components ...string) *caller {
	return &caller{c: c, grant: c.s.grant(nil, func(g claims) { g["send"] = components })}
}

func (p *caller) message(id, component, kind string, data any, deadline float64) map[string]any {
	m := map[string]any{"grant": p.grant, "id": id, "component": component, "kind": kind, "data": data}
	if deadline > 0 {
		m["deadline"] = deadline
	}
	return m
}

// post sends a message and fails the test if no answer comes.
func (p *caller) post(t testing.TB, body map[string]any) (answer, outcome) {
	t.Helper()
	a := p.c.page(t, "/v1/messages", body)
	var o outcome
	if a.ok() {
		a.decode(t, &o)
	}
	return a, o
}

// ask asks for an outcome by id.
func (p *caller) ask(t testing.TB, id string, settle bool) (answer, outcome) {
	t.Helper()
	a := p.c.page(t, "/v1/messages/"+id, p.question(settle))
	var o outcome
	if a.ok() {
		a.decode(t, &o)
	}
	return a, o
}

func (p *caller) question(settle bool) map[string]any {
	q := map[string]any{"grant": p.grant}
	if settle {
		q["settle"] = true
	}
	return q
}

// try is a request whose answer may be lost with the broker.
func (p *caller) try(ctx context.Context, path string, body map[string]any) (answer, outcome, error) {
	a, err := p.c.do(ctx, http.MethodPost, path, body)
	var o outcome
	if err == nil && a.ok() {
		err = json.Unmarshal(a.body, &o)
	}
	return a, o, err
}

// withReceiver runs a broker whose site has the component mod_test at a receiver.
func withReceiver(t *testing.T, does func(w http.ResponseWriter, c call), change ...func(*config)) (*client, *receiver) {
	t.Helper()
	t.Parallel()
	s := newSite("school")
	r := newReceiver(t, s, does)
	s.webhook = r.url("/hook")
	conf := config{sites: []*site{s}}
	for _, f := range change {
		f(&conf)
	}
	return newClient(t, startBroker(t, conf), s), r
}

func TestACallBringsTheComponentsReply(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, c call) { answerJSON(w, 200, map[string]any{"echo": c.body.Data}) })
	p := &caller{c: c, grant: c.s.grant(nil, func(g claims) {
		g["send"], g["sub"], g["sid"], g["seal"] = []string{"mod_test"}, "42", "sess", "sealed"
	})}
	id := newUUID()
	a, o := p.post(t, p.message(id, "mod_test", "call", map[string]any{"x": 1}, 10))
	if a.status != 200 || o.Outcome != "delivered" || o.ID != id || string(o.Reply) != `{"echo":{"x":1}}` {
		t.Fatalf("got %s", a)
	}
	got := r.received(id)
	if len(got) != 1 || got[0].attempt != 1 || got[0].deadline > 10*time.Second {
		t.Fatalf("the component got %+v", got)
	}
	if b := got[0].body; b.Type != "message.call" || b.User != "42" || b.Session != "sess" || b.Seal != "sealed" {
		t.Errorf("the body is %s", got[0].raw)
	}
	_, again := p.post(t, p.message(id, "mod_test", "call", map[string]any{"x": 1}, 10))
	_, asked := p.ask(t, id, true)
	if again.Outcome != "delivered" || asked.Outcome != "delivered" || string(asked.Reply) != string(o.Reply) {
		t.Errorf("posted again: %+v, asked: %+v", again, asked)
	}
	if n := len(r.received(id)); n != 1 {
		t.Errorf("the component ran %d times", n)
	}
}

func TestOutcomesOfCallsAreWhatTheComponentDid(t *testing.T) {
	answers := map[string]func(w http.ResponseWriter){
		"empty":    func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		"refused":  func(w http.ResponseWriter) { answerJSON(w, 422, map[string]string{"why": "no"}) },
		"plain":    func(w http.ResponseWriter) { http.Error(w, "nope", http.StatusForbidden) },
		"broken":   func(w http.ResponseWriter) { http.Error(w, "oops", http.StatusInternalServerError) },
		"html":     func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }, //nolint:errcheck // a test's answer
		"hangup":   hangUp,
		"redirect": func(w http.ResponseWriter) { w.Header().Set("Location", "/else"); w.WriteHeader(http.StatusFound) },
		"not_run":  func(w http.ResponseWriter) { w.Header().Set("Backchannel-Ran", "no"); w.WriteHeader(503) },
	}
	c, r := withReceiver(t, func(w http.ResponseWriter, c call) {
		var how string
		json.Unmarshal(c.body.Data, &how) //nolint:errcheck // the test sent it
		answers[how](w)
	})
	for _, want := range []struct{ how, outcome, reply, err string }{
		{"empty", "delivered", "null", ""},
		{"refused", "rejected", "", `{"why":"no"}`},
		{"plain", "rejected", "", `{"status":403}`},
		{"broken", "unknown", "", ""},
		{"html", "unknown", "", ""},
		{"hangup", "unknown", "", ""},
		{"redirect", "unknown", "", ""},
		{"not_run", "not_delivered", "", ""},
	} {
		t.Run(want.how, func(t *testing.T) {
			p, id := c.sender("mod_test"), newUUID()
			a, o := p.post(t, p.message(id, "mod_test", "call", want.how, 2))
			if a.status != 200 || o.Outcome != want.outcome || string(o.Reply) != want.reply || want.err != "" && string(o.Error) != want.err {
				t.Errorf("got %s, want %+v", a, want)
			}
			if n := len(r.received(id)); n != 1 && want.how != "not_run" {
				t.Errorf("the component was asked %d times", n)
			}
		})
	}
}

func TestACallToAClosedPortIsNotDelivered(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, 1) })
	r.stop()
	p, id, begun := c.sender("mod_test"), newUUID(), time.Now()
	a, o := p.post(t, p.message(id, "mod_test", "call", 1, 2))
	if a.status != 200 || o.Outcome != "not_delivered" || time.Since(begun) > 3*time.Second {
		t.Errorf("after %s got %s, want not_delivered", time.Since(begun), a)
	}
	r.restart(0)
	if _, o = p.post(t, p.message(id, "mod_test", "call", 1, 2)); o.Outcome != "not_delivered" || len(r.received(id)) > 0 {
		t.Errorf("posted again: %+v, and the component ran %d times", o, len(r.received(id)))
	}
}
