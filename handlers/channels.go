package handlers

import (
	"cmp"
	"context"
	"slices"

	"backchannel/broker"
)

// liveChannels tells what is heard now.
type liveChannels interface {
	// Audience counts the live streams on a channel.
	Audience(ctx context.Context, ch broker.Channel) (int, error)
	// Live lists the channels of a site that have streams now, by name.
	Live(ctx context.Context, site broker.SiteID) ([]broker.LiveChannel, error)
}

// channelView is a channel as servers see it. First, Newest and Last are cursors, absent where there is none.
type channelView struct {
	Channel   broker.ChannelID   `json:"channel"`
	Streams   int                `json:"streams"`
	Component broker.ComponentID `json:"component,omitempty"`
	First     string             `json:"first,omitempty"`
	Newest    string             `json:"newest,omitempty"`
	Last      string             `json:"last,omitempty"`
	Time      broker.NumericDate `json:"time,omitzero"`
}

func (s *Server) cursor(seq uint64) string {
	if seq == 0 {
		return ""
	}
	return broker.Cursor{Epoch: s.cfg.Epoch(), Seq: seq}.String()
}

func (v *channelView) store(s *Server, st broker.ChannelState) {
	v.First, v.Newest, v.Last = s.cursor(st.First), s.cursor(st.Newest), s.cursor(st.Last)
	v.Time = broker.NumericDate(st.Time)
}

// listChannels pages through live and stored channels, by name. Who owns a channel stands in grants alone, so with
// component only live ones are found.
func (s *Server) listChannels(ctx context.Context, r *request) (answer, error) {
	q := query{r.Request}
	limit, err := q.limit()
	if err != nil {
		return answer{}, err
	}
	after, component := broker.ChannelID(q.get("after")), broker.ComponentID(q.get("component"))
	all, err := s.channelViews(ctx, r.site.ID, component, after, limit+1)
	if err != nil {
		return answer{}, err
	}
	page := map[string]any{"channels": all[:min(limit, len(all))]}
	if len(all) > limit {
		page["next"] = all[limit-1].Channel
	}
	return ok(page)
}

// channelViews gives at most n channels after a given one.
func (s *Server) channelViews(ctx context.Context, site broker.SiteID, component broker.ComponentID, after broker.ChannelID, n int) ([]channelView, error) {
	live, err := s.cfg.Hub.Live(ctx, site)
	if err != nil {
		return nil, err
	}
	views := make(map[broker.ChannelID]*channelView)
	for _, l := range live {
		if l.Channel > after && (component == "" || l.Component == component) {
			views[l.Channel] = &channelView{Channel: l.Channel, Streams: l.Streams, Component: l.Component}
		}
	}
	if component == "" {
		stored, err := s.cfg.Log.Channels(ctx, site, after, n)
		if err != nil {
			return nil, err
		}
		for _, st := range stored {
			v := views[st.Channel.ID]
			if v == nil {
				v = &channelView{Channel: st.Channel.ID}
				views[st.Channel.ID] = v
			}
			v.store(s, st)
		}
	}
	out := make([]channelView, 0, len(views))
	for _, v := range views {
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b channelView) int { return cmp.Compare(a.Channel, b.Channel) })
	return s.fill(ctx, site, out[:min(n, len(out))])
}

// fill looks up what is stored of channels that were found because they are live.
func (s *Server) fill(ctx context.Context, site broker.SiteID, views []channelView) ([]channelView, error) {
	for i := range views {
		if v := &views[i]; v.Time == 0 {
			st, err := s.cfg.Log.Channel(ctx, broker.Channel{Site: site, ID: v.Channel})
			if err != nil {
				return nil, err
			}
			v.store(s, st)
		}
	}
	return views, nil
}

// showChannel tells of any name: a channel exists because somebody uses it.
func (s *Server) showChannel(ctx context.Context, r *request) (answer, error) {
	ch, err := r.channel()
	if err != nil {
		return answer{}, err
	}
	v := channelView{Channel: ch.ID}
	if v.Streams, err = s.cfg.Hub.Audience(ctx, ch); err != nil {
		return answer{}, err
	}
	st, err := s.cfg.Log.Channel(ctx, ch)
	if err != nil {
		return answer{}, err
	}
	v.store(s, st)
	return ok(v)
}
