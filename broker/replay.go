package broker

import (
	"context"
	"encoding/json"
	"sort"
	"sync"
)

const (
	// replayersCount is how many pages of the log are read at once: more costs memory and is no faster.
	replayersCount = 4
	// A page of one channel; the merge over a stream's channels stops at the shortest.
	replayEvents = 256
	replayBytes  = 64 << 10
)

// replay asks for the next page of what a stream has to hear, from the log.
type replay struct {
	st      *stream // not touched by replayers
	version int
	pos     uint64
	// head is where an entry goes on whose history has a hole.
	head  uint64
	reads []read
	// late marks history at or before the cursor: frames without id, up to upTo.
	late bool
	upTo uint64
}

// read is one entry's part of a replay.
type read struct {
	channel     Channel
	as          string
	filter      Filter
	after, base uint64
}

// replayed is the answer: frames to write in their order, and what becomes true when they are written.
type replayed struct {
	version int
	frames  []*Frame
	through uint64
	marks   []mark
	err     error
}

// mark holds once that many frames are out: the entry's chain of events is whole up to base, and nothing up to after
// is owed to it.
type mark struct {
	frames, entry int
	base, after   uint64
	lost          bool
}

func readsOf(entries []*entry, pos uint64) []read {
	reads := make([]read, 0, len(entries))
	for _, e := range entries {
		reads = append(reads, read{
			channel: Channel{e.st.site, e.channel}, as: e.as(), filter: e.filter,
			after: max(e.after, pos), base: e.base,
		})
	}
	return reads
}

// replayers read the log for streams that are behind, a few at a time, first come first served.
type replayers struct {
	hub *Hub

	mu    sync.Mutex
	queue []func(context.Context) // guarded by mu
	wake  chan struct{}
}

// submit has job done; done is called from a replayer's goroutine. Nothing happens after the hub has stopped.
func (r *replayers) submit(job replay, done func(replayed)) {
	r.mu.Lock()
	r.queue = append(r.queue, func(ctx context.Context) { done(r.read(ctx, job)) })
	r.mu.Unlock()
	r.signal()
}

func (r *replayers) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run is one replayer.
func (r *replayers) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for job := r.next(); job != nil && ctx.Err() == nil; job = r.next() {
			job(ctx)
		}
	}
}

func (r *replayers) next() func(context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil
	}
	job := r.queue[0]
	r.queue[0] = nil
	if r.queue = r.queue[1:]; len(r.queue) > 0 {
		r.signal() // another replayer may help
	}
	return job
}

// found is one event of the merge, for one entry.
type found struct {
	event *Event
	entry int
	match bool
}

func (r *replayers) read(ctx context.Context, job replay) replayed {
	out := replayed{version: job.version, through: job.head}
	pages := make([]Page, len(job.reads))
	for i, rd := range job.reads {
		p, err := r.hub.log.Range(ctx, rd.channel, rd.after, PageLimit{Events: replayEvents, Bytes: replayBytes})
		if err != nil {
			return replayed{version: job.version, err: err}
		}
		if pages[i] = p; i == 0 || p.Through < out.through {
			out.through = p.Through
		}
	}
	if job.late {
		out.through = min(out.through, job.upTo)
	}
	var all []found
	for i := range pages {
		events, lost := walk(&pages[i], &job.reads[i], i, out.through)
		if lost {
			r.lose(&out, &job, i, pages[i].Through)
			continue
		}
		all = append(all, events...)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].event.Seq < all[j].event.Seq })
	r.encode(&out, &job, all)
	r.hub.stats.replayed.Add(int64(len(out.frames)))
	return out
}

// walk goes through an entry's page up to through. lost says that a counted event is missing there or right behind:
// the chain is followed one event further than what is sent, so that a hole shows at the first look.
func walk(p *Page, rd *read, entry int, through uint64) (events []found, lost bool) {
	base := rd.base
	for i := range p.Events {
		e := &p.Events[i]
		if e.Counted {
			if e.Prev > base {
				return nil, true
			}
			if e.Seq > through {
				return events, false
			}
			base = e.Seq
		}
		if e.Seq <= through {
			events = append(events, found{e, entry, rd.filter.Match(e.Data)})
		}
	}
	return events, !p.More && p.Last > base
}

// encode makes the frames of the merge, one for each event however many entries match.
func (r *replayers) encode(out *replayed, job *replay, all []found) {
	var last uint64
	for _, f := range all {
		if f.match && f.event.Seq != last {
			last = f.event.Seq
			if job.late {
				out.frames = append(out.frames, replayFrame(r.hub.epoch, f.event))
			} else {
				out.frames = append(out.frames, eventFrame(r.hub.epoch, f.event))
			}
		}
		m := mark{frames: len(out.frames), entry: f.entry}
		if f.event.Counted {
			m.base = f.event.Seq
		}
		if job.late {
			m.after = f.event.Seq
		}
		out.marks = append(out.marks, m)
	}
}

// lose says that an entry's history has a hole: it gets none of it and goes on from where the log is now. A late entry
// has its acknowledgement to say so, any other gets a gap. Gaps stand before the page's events: as long as one is not
// out, the stream's position has not moved, so what the ring holds cannot cover the hole up.
func (r *replayers) lose(out *replayed, job *replay, entry int, through uint64) {
	head := max(job.head, through)
	if !job.late {
		out.frames = append(out.frames, gapFrame(r.hub.epoch, job.reads[entry], head))
		r.hub.stats.gaps.Add(1)
	} else {
		head = job.upTo
	}
	out.marks = append(out.marks, mark{frames: len(out.frames), entry: entry, base: head, after: head, lost: true})
}

func gapFrame(epoch Epoch, rd read, head uint64) *Frame {
	data, _ := json.Marshal(struct { // strings and a cursor cannot fail
		Channel ChannelID `json:"channel"`
		As      string    `json:"as"`
		Head    Cursor    `json:"head"`
	}{rd.channel.ID, rd.as, Cursor{epoch, head}})
	return controlFrame(nil, FrameGap, data, "")
}
