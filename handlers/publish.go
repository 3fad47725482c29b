package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"backchannel/broker"
)

// maxBatch bounds the events of one publish.
const maxBatch = 1000

// publication is one event as a server sends it.
type publication struct {
	// Channel is a name, or properties; else User or Session names the channel.
	Channel json.RawMessage `json:"channel"`
	User    *string         `json:"user"`
	Session *string         `json:"session"`
	Data    json.RawMessage `json:"data"`
	Type    string          `json:"type"`
	ID      string          `json:"id"`
	TTL     float64         `json:"ttl"` // s
}

// published is the answer for one event: its position or, in a batch, a problem.
type published struct {
	ID       string `json:"id"`
	Repeated bool   `json:"repeated,omitempty"`
}

// publish stores one event or a batch in one commit. A batch is no transaction: what is wrong with one of its events is
// told in its place, and the others are stored in their order.
func (s *Server) publish(ctx context.Context, r *request) (answer, error) {
	var body struct {
		publication
		Events *[]json.RawMessage `json:"events"`
	}
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	if body.Events == nil {
		return s.publishOne(ctx, r.site, &body.publication)
	}
	if !body.empty() {
		return answer{}, broker.Errorf(broker.CodeBadRequest, "events: the events stand in the list; nothing may stand beside it")
	}
	if n := len(*body.Events); n > maxBatch {
		return answer{}, broker.Errorf(broker.CodeTooLarge, "%d events; at most %d are allowed in one request", n, maxBatch)
	}
	return s.publishBatch(ctx, r.site, *body.Events)
}

func (p *publication) empty() bool {
	return p.Channel == nil && p.User == nil && p.Session == nil && p.Data == nil && p.Type == "" && p.ID == "" && p.TTL == 0
}

func (s *Server) publishOne(ctx context.Context, site *broker.Site, p *publication) (answer, error) {
	d, err := p.draft(site)
	if err != nil {
		return answer{}, err
	}
	done, err := s.cfg.Log.Append(ctx, []broker.Draft{d})
	if err != nil {
		return answer{}, err
	}
	return ok(publishedAs(done[0]))
}

func publishedAs(a broker.Appended) published {
	return published{ID: a.Cursor.String(), Repeated: a.Repeated}
}

func (s *Server) publishBatch(ctx context.Context, site *broker.Site, events []json.RawMessage) (answer, error) {
	results := make([]any, len(events))
	drafts := make([]broker.Draft, 0, len(events))
	places := make([]int, 0, len(events))
	for i, text := range events {
		d, err := draftOf(site, text)
		if err != nil {
			results[i] = problemOf(err)
			continue
		}
		drafts = append(drafts, d)
		places = append(places, i)
	}
	if len(drafts) > 0 {
		done, err := s.cfg.Log.Append(ctx, drafts)
		if err != nil {
			return answer{}, err
		}
		for i, a := range done {
			results[places[i]] = publishedAs(a)
		}
	}
	return ok(map[string]any{"results": results})
}

func draftOf(site *broker.Site, text json.RawMessage) (broker.Draft, error) {
	var p publication
	if err := decode(text, strict, &p); err != nil {
		return broker.Draft{}, err
	}
	return p.draft(site)
}

func (p *publication) draft(site *broker.Site) (broker.Draft, error) {
	ch, err := p.target(site)
	if err != nil {
		return broker.Draft{}, err
	}
	if most := site.Limits.WithDefaults().EventBytes; len(p.Data) > most {
		return broker.Draft{}, broker.Errorf(broker.CodeTooLarge, "data has %d bytes; at most %d are allowed", len(p.Data), most)
	}
	if p.TTL < 0 || p.TTL > broker.MaxTTL.Seconds() {
		return broker.Draft{}, broker.Errorf(broker.CodeBadRequest, "ttl: want 0 to %d seconds", int(broker.MaxTTL/time.Second))
	}
	return broker.NewDraft(broker.Channel{Site: site.ID, ID: ch}, p.Type, p.Data, p.ID, time.Duration(p.TTL*float64(time.Second)))
}

// target finds the channel, which is named in exactly one way.
func (p *publication) target(site *broker.Site) (broker.ChannelID, error) {
	named := 0
	for _, given := range []bool{p.Channel != nil, p.User != nil, p.Session != nil} {
		if given {
			named++
		}
	}
	switch {
	case named != 1:
		return "", broker.Errorf(broker.CodeBadRequest, "want exactly one of channel, user and session")
	case p.User != nil:
		return ownChannel("user", *p.User, site, broker.UserChannel)
	case p.Session != nil:
		return ownChannel("session", *p.Session, site, broker.SessionChannel)
	case p.Channel[0] == '"':
		var name string
		if err := json.Unmarshal(p.Channel, &name); err != nil {
			return "", broker.Errorf(broker.CodeBadRequest, "channel: not a string")
		}
		return broker.ParseChannelID(name)
	}
	return hashed(p.Channel, site)
}

// ownChannel is the channel of a user or session. An empty name is nobody: to publish to it is a mistake.
func ownChannel(what, name string, site *broker.Site, of func([]byte, string) (broker.ChannelID, error)) (broker.ChannelID, error) {
	if name == "" || len(name) > maxSubjectBytes {
		return "", broker.Errorf(broker.CodeBadRequest, "%s: want 1 to %d bytes", what, maxSubjectBytes)
	}
	return of(site.Salt, name)
}

func hashed(text json.RawMessage, site *broker.Site) (broker.ChannelID, error) {
	var props struct {
		Context   *string `json:"context"`
		Component *string `json:"component"`
		Area      *string `json:"area"`
		Item      *string `json:"item"`
		Details   *string `json:"details"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&props); err != nil {
		return "", broker.Errorf(broker.CodeBadRequest, "channel: want a name, or an object of the strings context, component, area, item, details")
	}
	var p broker.Properties
	for _, m := range []struct {
		name string
		from *string
		to   *string
	}{
		{"context", props.Context, &p.Context},
		{"component", props.Component, &p.Component},
		{"area", props.Area, &p.Area},
		{"item", props.Item, &p.Item},
		{"details", props.Details, &p.Details},
	} {
		// A left-out one is "" to many, and something else to the next: it would be another channel, silently.
		if m.from == nil {
			return "", broker.Errorf(broker.CodeBadRequest, "channel: %s is missing; all five properties must be given, as strings", m.name)
		}
		*m.to = *m.from
	}
	return p.Hash(site.Salt)
}
