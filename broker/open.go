package broker

import (
	"context"
	"encoding/json"
	"strings"
)

// MaxPad bounds the padding of a hello frame, in bytes.
const MaxPad = 64 << 10

// OpenRequest says what a page wants to hear.
type OpenRequest struct {
	Site *Site
	// Stream is set where a credential carries one already: a poll goes on with it. Zero makes a new one.
	Stream StreamID
	// Grants share site, user and session; rooms are entries of theirs already.
	Grants []*Grant
	// Back says that a resume token was among the credentials: the stream was accepted before.
	Back bool
	// Cursor as the client sent it, "" for none.
	Cursor string
	// Add and Remove change the entries as Change does, before anything is read: that is how polls change theirs.
	Add    []*Grant
	Remove []string
	// Refused lists the credentials that came beside good ones and were not.
	Refused []RefusedGrant
	// Pad is how many bytes of padding the hello frame gets, at most MaxPad.
	Pad int
}

// RefusedGrant names a grant that gave nothing, by its index in the request.
type RefusedGrant struct {
	Grant int  `json:"grant"`
	Code  Code `json:"code"`
}

// Opening is a stream that has been accepted and is not attached yet. It must be attached, or given up.
type Opening struct {
	st    *stream
	hub   *Hub
	first []*Frame
	// Cursor is the position from which everything is owed.
	Cursor Cursor
	// Resume and Key are the stream's tokens.
	Resume, Key string
	Stream      StreamID
}

// First are the frames that a stream begins with: hello, then what entries with last replay.
func (o *Opening) First() []*Frame { return o.first }

// Open finds out from where each channel is owed and makes the hello frame. Errors: CodeRateLimited at the site's
// limit, CodeTooLarge beyond its entries, CodeUnavailable when the broker stops or the log cannot be read.
func (h *Hub) Open(ctx context.Context, req OpenRequest) (*Opening, error) {
	select {
	case <-h.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h.draining.Load() {
		return nil, errStopping
	}
	st := h.newStream(req)
	entries, err := mergeEntries(st, req.Grants, h.limits(req.Site.ID).StreamEntries)
	if err != nil {
		return nil, err
	}
	st.entries, st.grants = entriesOf(entries), slim(req.Grants, entries)
	release, err := h.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	pos, err := h.log.Position(ctx)
	if err != nil {
		return nil, err
	}
	st.pos = pos.Seq
	var history []*Frame
	for _, e := range entries {
		if err := h.resolve(ctx, e, req.Cursor, pos); err != nil {
			return nil, err
		}
		st.pos = min(st.pos, e.after)
		if e.last > 0 && req.Cursor == "" {
			last, err := h.lastOf(ctx, e)
			if err != nil {
				return nil, err
			}
			history = append(history, last...)
		}
	}
	if err := h.amendOpening(ctx, st, req, pos); err != nil {
		return nil, err
	}
	return h.welcome(st, req, pos, history)
}

func (h *Hub) amendOpening(ctx context.Context, st *stream, req OpenRequest, pos Cursor) error {
	if len(req.Add) == 0 && len(req.Remove) == 0 {
		return nil
	}
	added, slimmed, err := h.resolveAll(ctx, st, req.Add, pos)
	if err != nil {
		return err
	}
	c, err := st.shard.amend(st, added, slimmed, req.Remove)
	if err != nil {
		return err
	}
	st.changes = append(st.changes, c)
	return nil
}

func (h *Hub) newStream(req OpenRequest) *stream {
	st := &stream{id: req.Stream, site: req.Site.ID, opened: h.now()}
	if st.id.IsZero() {
		st.id = NewStreamID()
	}
	st.shard = h.shardOf(st.id)
	if len(req.Grants) > 0 {
		st.user, st.session = req.Grants[0].User, req.Grants[0].Session
	}
	return st
}

// acquire bounds how many openings read the log at once, so that a storm of them leaves the log to publishers.
func (h *Hub) acquire(ctx context.Context) (release func(), err error) {
	select {
	case h.opening <- struct{}{}:
		return func() { <-h.opening }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.stopped:
		return nil, errStopping
	}
}

// welcome mints the tokens and makes the first frames.
func (h *Hub) welcome(st *stream, req OpenRequest, pos Cursor, history []*Frame) (*Opening, error) {
	resume, key, err := h.mint(st.site, st.id, remaining(h.epoch, st.grants, st.entries, h.now()))
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(struct {
		Stream    string          `json:"stream"`
		Time      json.RawMessage `json:"time"`
		Heartbeat float64         `json:"heartbeat"`
		Resume    string          `json:"resume"`
		Key       string          `json:"key"`
		Channels  []channelJSON   `json:"channels"`
		Refused   []RefusedGrant  `json:"refused,omitempty"`
	}{
		st.id.String(), json.RawMessage(FormatTime(h.now())), h.heartbeat.Seconds(), resume, key,
		describe(h.epoch, st.entries, pos.Seq), req.Refused,
	})
	if err != nil {
		return nil, err
	}
	prefix := retryField(int(comeBack().Milliseconds())) + "\n" + padding(req.Pad)
	hello := controlFrame(nil, FrameHello, data, prefix)
	return &Opening{
		st: st, hub: h, first: append([]*Frame{hello}, history...), Cursor: Cursor{h.epoch, st.pos},
		Resume: resume, Key: key, Stream: st.id,
	}, h.admit(st.site, req.Back)
}

// padding is comment lines, which every client drops and every buffering proxy counts.
func padding(n int) string {
	if n <= 0 {
		return ""
	}
	const line = 1024
	n = min(n, MaxPad)
	var b strings.Builder
	for ; n > 0; n -= line {
		b.WriteString(": ")
		b.WriteString(strings.Repeat(" ", max(min(n, line)-3, 0)))
		b.WriteByte('\n')
	}
	return b.String()
}

// Attach gives the stream to its shard, which writes to sink from now on and closes it at the end. head goes before
// the first frame: the response header where sink is a socket. Polls that go on get no hello: skipHello.
func (o *Opening) Attach(sink Sink, head []byte, skipHello bool) {
	st := o.st
	st.sink = sink
	var first []*Frame
	if !skipHello {
		first = o.first
	}
	if len(head) > 0 {
		first = append([]*Frame{{wire: head}}, first...)
	}
	if !st.shard.do(func() { st.shard.attach(st, first) }) {
		sink.close(st.pos)
		o.hub.closed(st)
	}
}

// Current mints the tokens for what the stream has come to. It may be called only when the stream has ended: after
// Poll.Wait.
func (o *Opening) Current() (resume, key string, err error) {
	return o.hub.mint(o.st.site, o.st.id, remaining(o.hub.epoch, o.st.grants, o.st.entries, o.hub.now()))
}

// GiveUp is called in place of Attach.
func (o *Opening) GiveUp() { o.hub.closed(o.st) }

// End ends a stream from outside: the client has gone, or a poll's patience. It does not wait.
func (o *Opening) End() {
	s := o.st.shard
	s.do(func() { s.close(o.st) })
}

// resolve finds an entry's start: the later of cursor and from; with neither, the head. A start that cannot be read
// or lies outside the log's knowledge is no error: the entry is not recovered and goes on from the head.
func (h *Hub) resolve(ctx context.Context, e asked, cursor string, pos Cursor) error {
	start, known, err := h.startOf(ctx, e.from, cursor, pos)
	if err != nil {
		return err
	}
	if known {
		known, err = h.whole(ctx, Channel{e.st.site, e.channel}, start)
		if err != nil {
			return err
		}
	}
	if e.recovered = known; !known {
		start = pos.Seq
	}
	e.join(start)
	return nil
}

func (h *Hub) startOf(ctx context.Context, from Start, cursor string, pos Cursor) (start uint64, known bool, err error) {
	if cursor == "" && from.IsZero() {
		return pos.Seq, true, nil
	}
	given := false
	for _, text := range []string{cursor, from.Cursor} {
		if text == "" {
			continue
		}
		c, err := ParseCursor(text)
		if err != nil || c.Epoch != pos.Epoch || c.Seq > pos.Seq {
			return 0, false, nil //nolint:nilerr // an unreadable cursor is "not recovered", never an error
		}
		start, given = max(start, c.Seq), true
	}
	if from.Time.IsZero() {
		return start, true, nil
	}
	at, known, err := h.log.At(ctx, from.Time)
	if err != nil {
		return 0, false, err
	}
	if known {
		return max(start, at), true, nil
	}
	// The moment lies before what the log remembers. With a cursor the chain of the channel decides from there.
	return start, given, nil
}

// whole tells whether nothing counted is missing between start and the first counted event behind it.
func (h *Hub) whole(ctx context.Context, ch Channel, start uint64) (bool, error) {
	after := start
	for {
		p, err := h.log.Range(ctx, ch, after, PageLimit{Events: 8})
		if err != nil {
			return false, err
		}
		for i := range p.Events {
			if e := &p.Events[i]; e.Counted {
				return e.Prev <= start, nil
			}
			after = p.Events[i].Seq
		}
		if !p.More {
			return p.Last <= start, nil
		}
	}
}

// lastOf gives the newest events of an entry at or before its start, as history.
func (h *Hub) lastOf(ctx context.Context, e asked) ([]*Frame, error) {
	const lookAt = 1000
	p, err := h.log.Last(ctx, Channel{e.st.site, e.channel}, lookAt)
	if err != nil {
		return nil, err
	}
	var matching []*Event
	for i := range p.Events {
		if e.filter.Match(p.Events[i].Data) {
			matching = append(matching, &p.Events[i])
		}
	}
	var out []*Frame
	for _, ev := range matching[max(0, len(matching)-e.last):] {
		if ev.Seq <= e.after {
			out = append(out, replayFrame(h.epoch, ev))
		}
	}
	return out, nil
}
