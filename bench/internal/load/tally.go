package load

import (
	"bytes"
	"fmt"
)

// marker stands before an event's number in its payload; digits follow.
const (
	marker = `{"n":"`
	digits = 10
	// overhead is more than any server writes after an event's data in the same line.
	overhead = 64
)

// Channel is a channel of the server with the one order in which all its subscribers must hear its events.
type Channel struct {
	Name        string
	Subscribers int
	tally       *Tally
	order       []uint32
	publishers  map[int32]uint32 // the newest of each that was heard
}

// event is what is known of a published event.
type event struct {
	due       int64 // ns since the loop's start
	channel   *Channel
	publisher int32
	left      int32 // subscribers that have not heard it
}

// Account is what became of deliveries.
type Account struct {
	Published  int `json:"published"`
	Expected   int `json:"expected"`
	Delivered  int `json:"delivered"`
	Missing    int `json:"missing"`
	Repeated   int `json:"repeated"`
	OutOfOrder int `json:"out_of_order"`
	Foreign    int `json:"foreign"` // of another channel, or never published
}

// Exact tells whether every delivery was made once and in order.
func (a Account) Exact() bool {
	return a.Missing == 0 && a.Repeated == 0 && a.OutOfOrder == 0 && a.Foreign == 0
}

// String says it in a word or in figures.
func (a Account) String() string {
	if a.Exact() {
		return "exact"
	}
	return fmt.Sprintf("%d missing, %d repeated, %d out of order, %d foreign of %d", a.Missing, a.Repeated, a.OutOfOrder, a.Foreign, a.Expected)
}

// Add sums accounts.
func (a *Account) Add(b Account) {
	a.Published += b.Published
	a.Expected += b.Expected
	a.Delivered += b.Delivered
	a.Missing += b.Missing
	a.Repeated += b.Repeated
	a.OutOfOrder += b.OutOfOrder
	a.Foreign += b.Foreign
}

// Tally keeps the account of a run: who has heard what, in which order and how late.
type Tally struct {
	Account
	// Latency is measured from the time an event was due to the end of the read that brought it; nil for none.
	Latency *Histogram
	// InFlight counts events that some subscriber has not heard.
	InFlight int
	// Reached counts streams that have heard as many events as their Goal.
	Reached int

	loop   *Loop
	events []event
	offset int // where the marker was found last
	size   int // of a payload
}

// NewTally makes an empty account for the streams of loop.
func NewTally(loop *Loop) *Tally { return &Tally{loop: loop} }

// Channel adds a channel.
func (t *Tally) Channel(name string) *Channel {
	return &Channel{Name: name, tally: t, publishers: make(map[int32]uint32)}
}

// Payload registers an event that publisher sends to c and appends its data to dst: JSON of size bytes, the same for
// every server.
func (t *Tally) Payload(dst []byte, c *Channel, publisher int32, due int64, size int) []byte {
	n := len(t.events)
	left := int32(c.Subscribers) // #nosec G115 -- bounded by the limit of descriptors
	t.events = append(t.events, event{due: due, channel: c, publisher: publisher, left: left})
	t.size = size
	t.Published++
	t.Expected += c.Subscribers
	if left > 0 {
		t.InFlight++
	}
	return appendPayload(dst, n, size)
}

func appendPayload(dst []byte, n, size int) []byte {
	const tail = `"}`
	start := len(dst)
	dst = append(dst, marker+"0000000000"...)
	for i := len(dst) - 1; n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	dst = append(dst, `","p":"`...)
	for len(dst)-start < size-len(tail) {
		dst = append(dst, "abcdefghijklmnopqrstuvwxyz"[len(dst)%26])
	}
	return append(dst, tail...)
}

// number finds an event's number in a data line.
func (t *Tally) number(line []byte) (uint32, bool) {
	at := t.offset
	if len(line) < at+len(marker)+digits || string(line[at:at+len(marker)]) != marker {
		if at = bytes.Index(line, []byte(marker)); at < 0 || len(line) < at+len(marker)+digits {
			return 0, false // a control frame
		}
		t.offset = at
	}
	return parse(line[at+len(marker) : at+len(marker)+digits]), true
}

func parse(b []byte) (n uint32) {
	for _, c := range b {
		n = n*10 + uint32(c-'0')
	}
	return n
}

// heard counts what a data line carries: one event, or several where a server joins a replay into one line.
func (t *Tally) heard(s *Stream, line []byte) {
	n, ok := t.number(line)
	if !ok {
		return
	}
	t.one(s, n)
	at := t.offset + len(marker) + digits
	for len(line)-at > t.size+overhead {
		next := bytes.Index(line[at:], []byte(marker))
		if next < 0 || len(line) < at+next+len(marker)+digits {
			return
		}
		at += next + len(marker)
		t.one(s, parse(line[at:at+digits]))
	}
}

func (t *Tally) one(s *Stream, n uint32) {
	c := s.Channel
	if int(n) >= len(t.events) || t.events[n].channel != c {
		t.Foreign++
		return
	}
	e := &t.events[n]
	if s.pos < len(c.order) && c.order[s.pos] != n || s.missed != nil {
		if !t.stray(s, n) {
			return
		}
	} else if s.pos == len(c.order) {
		c.append(t, n, e)
	}
	s.pos++
	t.Delivered++
	if s.pos == s.Goal {
		t.Reached++
	}
	if t.Latency != nil {
		t.Latency.Add(t.loop.Now - e.due)
	}
	if e.left--; e.left == 0 {
		t.InFlight--
	}
}

// append makes n the next in the channel's order. One publisher's events, sent each after the acknowledgement of the
// one before, must rise.
func (c *Channel) append(t *Tally, n uint32, e *event) {
	if newest, ok := c.publishers[e.publisher]; ok && newest > n {
		t.OutOfOrder++
	}
	c.publishers[e.publisher] = n
	c.order = append(c.order, n)
}

// stray is for a stream that has left the common order: from then on all that it hears is remembered. It reports
// whether n is heard for the first time.
func (t *Tally) stray(s *Stream, n uint32) bool {
	if s.missed == nil {
		s.missed = make(map[uint32]bool)
		for _, o := range s.Channel.order[:s.pos] {
			s.missed[o] = true
		}
	}
	if s.missed[n] {
		t.Repeated++
		return false
	}
	s.missed[n] = true
	if s.pos >= len(s.Channel.order) || s.Channel.order[s.pos] != n {
		t.OutOfOrder++
	}
	return true
}

// Follow makes s a subscriber of c that has heard the first events of its order already.
func (c *Channel) Follow(s *Stream, heard int) {
	s.Channel, s.pos, s.missed = c, heard, nil
}

// Expect adds deliveries of events published before their subscribers came: a replay.
func (t *Tally) Expect(deliveries int) { t.Expected += deliveries }

// Close settles the account: what was not delivered by now is missing.
func (t *Tally) Close() Account {
	t.Missing = max(0, t.Expected-t.Delivered)
	return t.Account
}
