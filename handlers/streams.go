package handlers

import (
	"context"

	"backchannel/broker"
)

// liveStreams lists what is open.
type liveStreams interface {
	// Streams pages through a site's live streams, ordered by id. next is the after of the next page, "" at the end.
	Streams(ctx context.Context, site broker.SiteID, after string, limit int) (page []broker.StreamInfo, next string, err error)
}

// streamView is a live stream as servers see it.
type streamView struct {
	Stream    string             `json:"stream"`
	User      string             `json:"user,omitempty"`
	Session   string             `json:"session,omitempty"`
	Transport string             `json:"transport"`
	Opened    broker.NumericDate `json:"opened"`
	Channels  []broker.ChannelID `json:"channels"`
	// Behind says that the stream reads from the log, at Position.
	Behind   bool   `json:"behind"`
	Position string `json:"position"`
}

func (s *Server) listStreams(ctx context.Context, r *request) (answer, error) {
	q := query{r.Request}
	limit, err := q.limit()
	if err != nil {
		return answer{}, err
	}
	infos, next, err := s.cfg.Hub.Streams(ctx, r.site.ID, q.get("after"), limit)
	if err != nil {
		return answer{}, err
	}
	views := make([]streamView, 0, len(infos))
	for _, i := range infos {
		channels := i.Channels
		if channels == nil {
			channels = []broker.ChannelID{}
		}
		views = append(views, streamView{
			Stream: i.ID.String(), User: i.User, Session: i.Session, Transport: i.Transport,
			Opened: broker.NumericDateOf(i.Opened), Channels: channels, Behind: i.Behind,
			Position: broker.Cursor{Epoch: s.cfg.Epoch(), Seq: i.Position}.String(),
		})
	}
	page := map[string]any{"streams": views}
	if next != "" {
		page["next"] = next
	}
	return ok(page)
}
