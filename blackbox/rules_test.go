package blackbox_test

import (
	"encoding/json"
	"fmt"
)

// heard is one event of a stream or poll.
type heard struct {
	id      cursor // zero for history at or before the cursor
	typ     string
	Channel string          `json:"channel"`
	Time    float64         `json:"time"`
	Data    json.RawMessage `json:"data"`
	Replay  bool            `json:"replay"`
	At      string          `json:"at"`
}

// ack is an entry of hello or of a channels frame.
type ack struct {
	Channel   string          `json:"channel"`
	As        string          `json:"as"`
	Recovered *bool           `json:"recovered"`
	Head      string          `json:"head"`
	Until     float64         `json:"until"`
	Removed   json.RawMessage `json:"removed"`
	Code      string          `json:"code"`
}

// hello is the data of the frame of that name.
type hello struct {
	Stream    string  `json:"stream"`
	Time      float64 `json:"time"`
	Heartbeat float64 `json:"heartbeat"`
	Resume    string  `json:"resume"`
	Key       string  `json:"key"`
	Channels  []ack   `json:"channels"`
	Refused   []struct {
		Grant *int   `json:"grant"`
		Code  string `json:"code"`
	} `json:"refused"`
}

// rules is what holds on every stream at every moment: hello first, ids only rise, control frames carry an id or none
// as they must, events say their channel and time, and time never falls.
type rules struct {
	greeted bool
	poll    bool // of a poll with resume: no hello comes
	last    cursor
	time    float64
	// after is the cursor that was given, zero for none: events carry ids above it.
	after cursor
	// caughtUp is set by the first heartbeat.
	caughtUp bool
}

// check judges the next frame; ev is set if it is an event.
func (r *rules) check(f frame) (ev *heard, err error) {
	if !f.hasIt {
		if f.hasID || f.event != "" {
			return nil, fmt.Errorf("frame without data: %+v", f)
		}
		return nil, nil // retry or a comment
	}
	if !json.Valid([]byte(f.data)) {
		return nil, fmt.Errorf("data is no JSON: %+v", f)
	}
	if !r.greeted && !r.poll && f.event != "hello" {
		return nil, fmt.Errorf("before hello: %+v", f)
	}
	switch f.event {
	case "hello":
		if r.greeted || r.poll {
			return nil, fmt.Errorf("a second hello: %+v", f)
		}
		r.greeted = true
		return nil, r.noID(f)
	case "gap", "presence", "bye":
		return nil, r.noID(f)
	case "heartbeat", "channels":
		r.caughtUp = r.caughtUp || f.event == "heartbeat"
		return nil, r.position(f)
	case "open", "error", "message":
		return nil, fmt.Errorf("reserved event type: %+v", f)
	}
	return r.event(f)
}

func (r *rules) noID(f frame) error {
	if f.hasID {
		return fmt.Errorf("%s carries an id: %+v", f.event, f)
	}
	return nil
}

// position checks the id of a control frame, which may repeat the last one.
func (r *rules) position(f frame) error {
	at, err := parseCursor(f.id)
	if err != nil {
		return fmt.Errorf("%s: %w: %+v", f.event, err, f)
	}
	if r.last.epoch != "" && at.epoch != r.last.epoch || at.seq < r.last.seq {
		return fmt.Errorf("%s: id %s after %s", f.event, at, r.last)
	}
	r.last = at
	return nil
}

func (r *rules) event(f frame) (*heard, error) {
	ev := &heard{typ: f.event}
	if err := json.Unmarshal([]byte(f.data), ev); err != nil {
		return nil, fmt.Errorf("event: %w: %+v", err, f)
	}
	if ev.Channel == "" || ev.Time == 0 || len(ev.Data) == 0 {
		return nil, fmt.Errorf("event without channel, time or data: %+v", f)
	}
	if ev.Replay {
		if f.hasID || ev.At == "" {
			return nil, fmt.Errorf("replayed history wants at and no id: %+v", f)
		}
		at, err := parseCursor(ev.At)
		ev.id = at
		return ev, err
	}
	at, err := parseCursor(f.id)
	if err != nil {
		return nil, fmt.Errorf("event: %w: %+v", err, f)
	}
	if r.last.epoch != "" && (at.epoch != r.last.epoch || at.seq <= r.last.seq) {
		return nil, fmt.Errorf("event: id %s after %s: %+v", at, r.last, f)
	}
	if r.after.epoch == at.epoch && at.seq <= r.after.seq {
		return nil, fmt.Errorf("event: id %s is not after the cursor %s given", at, r.after)
	}
	if ev.Time < r.time {
		return nil, fmt.Errorf("event: time fell from %f: %+v", r.time, f)
	}
	r.last, r.time, ev.id = at, ev.Time, at
	return ev, nil
}
