package handlers

import (
	"context"
	"encoding/json"

	"backchannel/broker"
)

// historyBytes bounds the data of one page of history.
const historyBytes = 1 << 20

// eventView is an event of the past as servers see it.
type eventView struct {
	ID      string             `json:"id"`
	Channel broker.ChannelID   `json:"channel"`
	Time    broker.NumericDate `json:"time"`
	Type    string             `json:"type,omitempty"`
	User    string             `json:"user,omitempty"`
	Client  string             `json:"client,omitempty"`
	Data    json.RawMessage    `json:"data"`
}

// history is a page. Next is there even at the end: it is where to go on later.
type history struct {
	Events []eventView `json:"events"`
	Next   string      `json:"next"`
	More   bool        `json:"more"`
	// Recovered tells of a channel whether nothing is missing between after and the end of the page.
	Recovered *bool `json:"recovered,omitempty"`
}

// channelEvents is a channel's history, oldest first.
func (s *Server) channelEvents(ctx context.Context, r *request) (answer, error) {
	ch, err := r.channel()
	if err != nil {
		return answer{}, err
	}
	after, limit, err := s.historyRange(ctx, r)
	if err != nil {
		return answer{}, err
	}
	page, err := s.cfg.Log.Range(ctx, ch, after, limit)
	if err != nil {
		return answer{}, err
	}
	_, whole := page.Continues(after)
	h := s.history(page)
	h.Recovered = &whole
	return ok(h)
}

// siteEvents is the history of all channels of the site, oldest first.
func (s *Server) siteEvents(ctx context.Context, r *request) (answer, error) {
	after, limit, err := s.historyRange(ctx, r)
	if err != nil {
		return answer{}, err
	}
	page, err := s.cfg.Log.Scan(ctx, r.site.ID, after, limit)
	if err != nil {
		return answer{}, err
	}
	return ok(s.history(page))
}

func (s *Server) history(page broker.Page) history {
	h := history{
		Events: make([]eventView, 0, len(page.Events)), More: page.More,
		Next: broker.Cursor{Epoch: s.cfg.Epoch(), Seq: page.Through}.String(),
	}
	for i := range page.Events {
		e := &page.Events[i]
		h.Events = append(h.Events, eventView{
			ID: s.cursor(e.Seq), Channel: e.Channel.ID, Time: broker.NumericDate(e.Time), Type: e.Type,
			User: e.User, Client: e.Client, Data: e.Data,
		})
	}
	return h
}

// historyRange reads after and limit. A cursor of another life of the store, or ahead of it, is an error here: a server
// that reads history must not believe that it has seen it all.
func (s *Server) historyRange(ctx context.Context, r *request) (after uint64, limit broker.PageLimit, err error) {
	q := query{r.Request}
	n, err := q.limit()
	if err != nil {
		return 0, limit, err
	}
	limit = broker.PageLimit{Events: n, Bytes: historyBytes}
	text := q.get("after")
	if text == "" {
		return 0, limit, nil
	}
	c, err := broker.ParseCursor(text)
	if err != nil {
		return 0, limit, err
	}
	pos, err := s.cfg.Log.Position(ctx)
	if err != nil {
		return 0, limit, err
	}
	if c.Epoch != pos.Epoch || c.Seq > pos.Seq {
		return 0, limit, broker.Errorf(broker.CodeBadRequest, "after: %s is not of this store, which stands at %s (was it restored?); start again without after", c, pos)
	}
	return c.Seq, limit, nil
}
