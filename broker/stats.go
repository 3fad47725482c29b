package broker

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
)

type hubCounters struct {
	opened, closed, dispatched, frames, bytes, replayed, gaps, stalls, stuck atomic.Int64
}

// HubStats are counters since the start, but for Streams, Behind and RecentBytes, which are as of now.
type HubStats struct {
	Streams    int   // open streams and polls
	Opened     int64 // streams and polls ever opened
	Dispatched int64 // events handed to a shard
	Frames     int64 // frames written to streams
	Bytes      int64 // bytes written to streams
	Replayed   int64 // frames read back from the log
	Gaps       int64 // gap frames
	Stalls     int64 // times a reader was too slow and left memory
	Stuck      int64 // streams closed because they took nothing
	Head       uint64
}

// Stats takes a snapshot; it does not wait.
func (h *Hub) Stats() HubStats {
	h.mu.Lock()
	streams := 0
	for _, n := range h.open {
		streams += n
	}
	h.mu.Unlock()
	c := &h.stats
	return HubStats{
		Streams: streams, Opened: c.opened.Load(), Dispatched: c.dispatched.Load(), Frames: c.frames.Load(),
		Bytes: c.bytes.Load(), Replayed: c.replayed.Load(), Gaps: c.gaps.Load(), Stalls: c.stalls.Load(),
		Stuck: c.stuck.Load(), Head: h.head.Load(),
	}
}

// Streams pages through a site's live streams, ordered by id. next is the after of the next page, "" at the end.
func (h *Hub) Streams(ctx context.Context, site SiteID, after string, limit int) (page []StreamInfo, next string, err error) {
	for _, s := range h.shards {
		if err := s.ask(ctx, func() {
			for _, st := range s.streams {
				if st.site == site && st.id.String() > after {
					page = append(page, s.describe(st))
				}
			}
		}); err != nil {
			return nil, "", err
		}
	}
	slices.SortFunc(page, func(a, b StreamInfo) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID.String()
	}
	return page, next, nil
}

func (s *shard) describe(st *stream) StreamInfo {
	info := StreamInfo{
		ID: st.id, User: st.user, Session: st.session, Transport: st.sink.transport(), Opened: st.opened,
		Behind: st.state != stateLive, Position: s.pos,
	}
	if info.Behind {
		info.Position = st.pos
	}
	for _, e := range st.entries {
		info.Channels = append(info.Channels, e.channel)
	}
	return info
}

// LiveChannel is a channel with at least one stream on it.
type LiveChannel struct {
	Channel ChannelID
	Streams int
	// Component owns the channel, as its grants say; "" if they do not.
	Component ComponentID
}

// Live lists the channels of a site that have streams now, by name.
func (h *Hub) Live(ctx context.Context, site SiteID) ([]LiveChannel, error) {
	all := make(map[ChannelID]*LiveChannel)
	for _, s := range h.shards {
		if err := s.ask(ctx, func() {
			for ch, t := range s.topics {
				if ch.Site == site {
					addLive(all, t)
				}
			}
		}); err != nil {
			return nil, err
		}
	}
	out := make([]LiveChannel, 0, len(all))
	for _, l := range all {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b LiveChannel) int { return cmp.Compare(a.Channel, b.Channel) })
	return out, nil
}

func addLive(all map[ChannelID]*LiveChannel, t *topic) {
	l := all[t.channel.ID]
	if l == nil {
		l = &LiveChannel{Channel: t.channel.ID}
		all[t.channel.ID] = l
	}
	seen := make(map[*stream]bool, t.entries)
	t.each(func(e *entry) {
		if e.component != "" {
			l.Component = e.component
		}
		if !seen[e.st] {
			seen[e.st] = true
			l.Streams++
		}
	})
}

// Audience counts the live streams on a channel.
func (h *Hub) Audience(ctx context.Context, ch Channel) (int, error) {
	all := make(map[ChannelID]*LiveChannel)
	for _, s := range h.shards {
		if err := s.ask(ctx, func() {
			if t := s.topics[ch]; t != nil {
				addLive(all, t)
			}
		}); err != nil {
			return 0, err
		}
	}
	if l := all[ch.ID]; l != nil {
		return l.Streams, nil
	}
	return 0, nil
}
