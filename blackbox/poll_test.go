package blackbox_test

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"
)

// polled is the answer to a long poll.
type polled struct {
	Cursor string       `json:"cursor"`
	Resume string       `json:"resume"`
	Frames []polledItem `json:"frames"`
}

type polledItem struct {
	ID    *string         `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// frame is the same frame as a stream would carry it.
func (p polledItem) frame() frame {
	f := frame{event: p.Event, data: string(p.Data), hasIt: len(p.Data) > 0, retry: -1}
	if p.ID != nil {
		f.id, f.hasID = *p.ID, true
	}
	return f
}

// poll makes one long poll and judges its frames.
func (c *client) poll(t testing.TB, r *rules, body map[string]any) (polled, []heard) {
	t.Helper()
	a := c.page(t, "/v1/poll", body)
	if a.status != 200 {
		t.Fatalf("poll: %s", a)
	}
	var p polled
	a.decode(t, &p)
	if _, err := parseCursor(p.Cursor); err != nil || p.Resume == "" {
		t.Fatalf("poll: want cursor and resume, got %s", a)
	}
	_, withResume := body["resume"]
	r.poll = withResume
	var events []heard
	for _, item := range p.Frames {
		ev, err := r.check(item.frame())
		if err != nil {
			t.Errorf("the poll breaks a rule: %v", err)
		}
		if ev != nil {
			events = append(events, *ev)
		}
	}
	return p, events
}

func TestAPollWithoutResumeAnswersAtOnceWithHello(t *testing.T) {
	c := start(t)
	h := c.s.hash("poll")
	begun := time.Now()
	p, _ := c.poll(t, &rules{}, map[string]any{"grants": []string{c.s.hears(h)}, "wait": 25})
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("the first poll took %s", d)
	}
	if len(p.Frames) == 0 || p.Frames[0].Event != "hello" {
		t.Fatalf("frames: %+v, want hello first", p.Frames)
	}
}

func TestPollsCarryTheSameFramesAndCursorAsAStream(t *testing.T) {
	c := start(t)
	h := c.s.hash("poll")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	s.hello()
	var r rules
	p, events := c.poll(t, &r, map[string]any{"grants": []string{c.s.hears(h)}})
	for i := range 5 {
		c.publish(t, h, map[string]int{"n": i}, map[string]any{"type": []string{"", "score"}[i%2]})
	}
	for len(events) < 5 {
		var more []heard
		p, more = c.poll(t, &r, map[string]any{"resume": p.Resume, "cursor": p.Cursor, "wait": 5})
		if len(more) == 0 {
			t.Fatalf("a poll with events waiting answered %+v", p)
		}
		events = append(events, more...)
	}
	live := s.awaitEvents(5)
	for i := range live {
		if live[i].id != events[i].id || live[i].typ != events[i].typ || string(live[i].Data) != string(events[i].Data) {
			t.Errorf("event %d: stream %+v, poll %+v", i, live[i], events[i])
		}
	}
	if at, err := parseCursor(p.Cursor); err != nil || at.seq < live[4].id.seq {
		t.Errorf("cursor %s, want at least %s", p.Cursor, live[4].id)
	}
}

func TestAPollWaitsAndAnswersWithWhatComes(t *testing.T) {
	c := start(t)
	h := c.s.hash("poll")
	var r rules
	p, _ := c.poll(t, &r, map[string]any{"grants": []string{c.s.hears(h)}})
	begun := time.Now()
	p, events := c.poll(t, &r, map[string]any{"resume": p.Resume, "cursor": p.Cursor, "wait": 1})
	if d := time.Since(begun); len(events) > 0 || d < 900*time.Millisecond || d > 5*time.Second {
		t.Errorf("an idle poll with wait 1 took %s and brought %d events", d, len(events))
	}
	var publishing sync.WaitGroup
	publishing.Go(func() {
		pause(t.Context(), 200*time.Millisecond) // so that the poll waits; the other order must work too
		if a, err := c.as(t.Context(), http.MethodPost, "/v1/publish", publishBody(h, "come")); err != nil || !a.ok() {
			t.Errorf("publish: %v %v", a, err)
		}
	})
	begun = time.Now()
	_, events = c.poll(t, &r, map[string]any{"resume": p.Resume, "cursor": p.Cursor, "wait": 20})
	publishing.Wait()
	if d := time.Since(begun); len(events) != 1 || string(events[0].Data) != `"come"` || d > waitLimit {
		t.Errorf("after %s got %+v, want the one event at once", d, events)
	}
}

func TestEntriesAreAddedAndRemovedInThePollItself(t *testing.T) {
	c := start(t)
	one, two := c.s.hash("one"), c.s.hash("two")
	c.publish(t, c.s.hash("any"), 0)
	who := func(g claims) { g["sub"], g["sid"] = "7", "s7" }
	var r rules
	p, _ := c.poll(t, &r, map[string]any{"grants": []string{c.s.grant([]entry{{"h": one}}, who)}})
	added := c.s.grant([]entry{{"h": two}}, who)
	p, _ = c.poll(t, &r, map[string]any{"resume": p.Resume, "cursor": p.Cursor, "wait": 2, "grants": []string{added}, "remove": []string{one}})
	c.publish(t, one, "not for us")
	c.publish(t, two, "for us")
	var got []heard
	for deadline := time.Now().Add(waitLimit); len(got) == 0 && time.Now().Before(deadline); {
		var more []heard
		p, more = c.poll(t, &r, map[string]any{"resume": p.Resume, "cursor": p.Cursor, "wait": 2})
		got = append(got, more...)
	}
	if len(got) != 1 || got[0].Channel != two {
		t.Errorf("got %+v, want only the event of the added entry", got)
	}
}
