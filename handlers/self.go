package handlers

import (
	"context"
	"time"

	"backchannel/broker"
)

// selfView is what a plugin's "check connection" shows.
type selfView struct {
	Site      broker.SiteID      `json:"site"`
	Version   string             `json:"version"`
	Time      broker.NumericDate `json:"time"`
	PublicURL string             `json:"public_url,omitempty"`
	Epoch     broker.Epoch       `json:"epoch"`
	Head      string             `json:"head"`
	Origins   []string           `json:"origins"`
	Keys      []keyView          `json:"keys"`
	Limits    limitsView         `json:"limits"`
	Component *componentView     `json:"component,omitempty"`
}

// keyView tells when a key was used last for each purpose since the broker started; absent: not at all.
type keyView struct {
	ID     string             `json:"id"`
	Grant  broker.NumericDate `json:"grant,omitzero"`
	Resume broker.NumericDate `json:"resume,omitzero"`
	API    broker.NumericDate `json:"api,omitzero"`
}

type limitsView struct {
	Streams        int     `json:"streams"`
	EventBytes     int     `json:"event_bytes"`
	MessageBytes   int     `json:"message_bytes"`
	ReplyBytes     int     `json:"reply_bytes"`
	GrantEntries   int     `json:"grant_entries"`
	StreamEntries  int     `json:"stream_entries"`
	CallerMessages float64 `json:"caller_messages"`
	BatchEvents    int     `json:"batch_events"`
	BodyBytes      int     `json:"body_bytes"`
}

// componentView answers ?component=. The webhook's path and query are left out: they may hold a secret.
type componentView struct {
	Name    broker.ComponentID `json:"name"`
	Webhook bool               `json:"webhook"`
	Host    string             `json:"host,omitempty"`
}

func (s *Server) self(ctx context.Context, r *request) (answer, error) {
	pos, err := s.cfg.Log.Position(ctx)
	if err != nil {
		return answer{}, err
	}
	component, err := optionalComponent(query{r.Request}.get("component"))
	if err != nil {
		return answer{}, err
	}
	l := r.site.Limits.WithDefaults()
	v := selfView{
		Site: r.site.ID, Version: s.cfg.Version, Time: broker.NumericDateOf(s.cfg.Now()), PublicURL: s.cfg.PublicURL,
		Epoch: pos.Epoch, Head: pos.String(), Origins: append([]string{}, r.site.Origins...),
		Limits: limitsView{
			Streams: l.Streams, EventBytes: l.EventBytes, MessageBytes: l.MessageBytes, ReplyBytes: l.ReplyBytes,
			GrantEntries: l.GrantEntries, StreamEntries: l.StreamEntries, CallerMessages: l.CallerMessages,
			BatchEvents: maxBatch, BodyBytes: maxServerBody,
		},
	}
	for _, k := range r.site.Keys {
		last := func(use keyUse) broker.NumericDate {
			return dateOf(s.uses.of(r.site.ID, k.ID, use).Truncate(time.Second))
		}
		v.Keys = append(v.Keys, keyView{ID: k.ID, Grant: last(useGrant), Resume: last(useResume), API: last(useAPI)})
	}
	if component != "" && s.cfg.Endpoint != nil {
		v.Component = s.component(r.site.ID, component)
	}
	return ok(v)
}

func (s *Server) component(site broker.SiteID, name broker.ComponentID) *componentView {
	v := &componentView{Name: name}
	if e, found := s.cfg.Endpoint(site, name); found {
		v.Webhook = true
		if e.URL != nil {
			v.Host = e.URL.Host
		}
	}
	return v
}
