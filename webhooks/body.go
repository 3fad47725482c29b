package webhooks

import (
	"bytes"
	"encoding/json"
	"fmt"

	"backchannel/broker"
)

// envelope is the body of every webhook.
type envelope struct {
	Type      Type               `json:"type"`
	ID        ID                 `json:"id"`
	Site      broker.SiteID      `json:"site"`
	Component broker.ComponentID `json:"component"`
	Time      json.RawMessage    `json:"time"`
	User      string             `json:"user,omitempty"`
	Session   string             `json:"session,omitempty"`
	Seal      string             `json:"seal,omitempty"`
	Channel   broker.ChannelID   `json:"channel,omitempty"`
	Ref       string             `json:"ref,omitempty"`
	Data      json.RawMessage    `json:"data,omitempty"`
}

// encodeBody gives the same bytes at every attempt of a message.
func encodeBody(m *Message) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(256 + len(m.Data) + len(m.Seal))
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // data goes to the component as the page wrote it
	err := enc.Encode(envelope{
		Type: m.Type, ID: m.ID, Site: m.Site, Component: m.Component,
		Time: json.RawMessage(broker.FormatTime(m.Accepted)),
		User: m.User, Session: m.Session, Seal: m.Seal,
		Channel: m.Channel, Ref: m.ChannelRef, Data: m.Data,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the body of %s: %w", m.ID, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}
