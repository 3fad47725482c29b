package broker

import (
	"slices"
	"time"
)

// streamState says where a stream's frames come from.
type streamState uint8

const (
	// stateBehind: the stream reads from the log or the ring, or waits for its sink; pos is its own.
	stateBehind streamState = iota
	// stateLive: everything up to the shard's position has been written; new events go straight to the sink.
	stateLive
	stateClosed
)

// stream is one subscriber. All fields belong to its shard's goroutine once it is attached.
type stream struct {
	id      StreamID
	shard   *shard
	sink    Sink
	site    SiteID
	user    string
	session string
	opened  time.Time

	entries []*entry
	state   streamState
	// reading: a replayer is at work for this stream; its page comes back through the inbox.
	reading bool
	// greeted: what was asked for at opening is out, and the first heartbeat.
	greeted bool
	// pos is the position reached while stateBehind: all that the stream has to hear up to it has been written.
	pos uint64
	// rest is what the sink did not take of the frame that was on its way; nothing else waits in memory.
	rest []byte
	// blockedAt and wroteAt are in milliseconds of the shard's clock; blockedAt is 0 if the sink takes bytes.
	blockedAt, wroteAt int64
	due                int64 // when the wheel looks at the stream; an item with another time is stale
	// changes wait to be worked on and acknowledged, in order.
	changes []*change
	// version counts changes of entries: a page read for an older one is not written.
	version int
	grants  []*Grant
	// farewell is written before the stream is closed; nothing else is sent once it is set.
	farewell *Frame
	parted   bool // farewell has been given to the sink

	// run and turn are scratch for one dispatch: the frames this stream has to get in it.
	run  []*Frame
	turn uint64
}

// wants tells whether the stream has to hear f, an event's frame.
func (st *stream) wants(f *Frame) bool {
	if f.channel.Site != st.site {
		return false
	}
	for _, e := range st.entries {
		if e.channel == f.channel.ID && f.Seq > e.after && e.filter.Match(f.payload) {
			return true
		}
	}
	return false
}

// matcher is wants for many frames.
func (st *stream) matcher() func(*Frame) bool {
	const few = 8
	if len(st.entries) <= few {
		return st.wants
	}
	byChannel := make(map[ChannelID][]*entry, len(st.entries))
	for _, e := range st.entries {
		byChannel[e.channel] = append(byChannel[e.channel], e)
	}
	return func(f *Frame) bool {
		if f.channel.Site != st.site {
			return false
		}
		for _, e := range byChannel[f.channel.ID] {
			if f.Seq > e.after && e.filter.Match(f.payload) {
				return true
			}
		}
		return false
	}
}

// remaining gives the grants of the stream with the entries that are still on it, each owed from where it joined; it is
// what a resume token signs. A grant without entries stays for its right to send, until it ends.
func remaining(epoch Epoch, grants []*Grant, entries []*entry, now time.Time) []*Grant {
	out := make([]*Grant, 0, len(grants))
	for _, g := range grants {
		if !g.Until.After(now) {
			continue
		}
		left := *g
		left.Entries = nil
		for _, e := range entries {
			if slices.Contains(e.grants, g) {
				left.Entries = append(left.Entries, e.granted(epoch))
			}
		}
		out = append(out, &left)
	}
	return out
}

// slim is g without its entries: the stream has them as its own.
func slim(grants []*Grant, entries []asked) []*Grant {
	out := make([]*Grant, len(grants))
	for i, g := range grants {
		copied := *g
		copied.Entries = nil
		out[i] = &copied
		for _, e := range entries {
			for k := range e.grants {
				if e.grants[k] == g {
					e.grants[k] = &copied
				}
			}
		}
	}
	return out
}
