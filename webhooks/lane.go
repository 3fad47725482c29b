package webhooks

import (
	"container/heap"
	"time"

	"backchannel/broker"
)

// itemState says who may change a delivery's record.
type itemState uint8

const (
	itemAccepting itemState = iota // Send or Ask, which is storing it
	itemQueued                     // nobody: it waits for its turn
	itemDelayed                    // nobody: it waits for item.due
	itemFlight                     // its attempt
	itemClosing                    // whoever ends it without an attempt
	itemGone                       // nobody: it has ended
)

// priority orders the lanes of a URL.
type priority uint8

const (
	callsFirst priority = iota
	jobsSecond
	priorities
)

// item is a delivery that has not ended, without its contents. A full queue holds a million of them, so times are
// microseconds and what only calls need is apart. All fields are guarded by Dispatcher.mu.
type item struct {
	id           ID
	comp         *component // nil while an unknown id is settled
	lane         *lane      // nil while accepting and once it has left the order
	next         *item      // in the lane
	older, newer *item      // in the component
	accepted     int64
	due          int64
	call         *callPart     // nil for jobs and notices
	watch        *watch        // nil if nobody waits
	gate         chan struct{} // closed when acceptance is decided; nil afterwards
	host         *host         // whose slot it holds
	tries        int32
	state        itemState
	kind         Kind
	// doubtful: a job that may have run before the broker was started.
	doubtful bool
	// homeless: the last try found no endpoint, so a reload may help.
	homeless bool
}

type callPart struct {
	deadline int64
	tainted  bool // an attempt may have run
}

func (it *item) priority() priority {
	if it.call != nil {
		return callsFirst
	}
	return jobsSecond
}

// unsent tells whether it is certain that nothing ran and nobody has begun an attempt.
func (it *item) unsent() bool {
	if it.state != itemQueued && it.state != itemDelayed {
		return false
	}
	if it.call != nil {
		return !it.call.tainted
	}
	return it.tries == 0 && !it.doubtful
}

// lane is a FIFO: the deliveries of one order key of a component, or a single one that was parked.
type lane struct {
	key        laneKey
	comp       *component
	prio       priority
	head, tail *item
	listed     bool // stands in comp.ready
	parked     bool // not in scheduler.lanes
}

type laneKey struct {
	comp  *component
	kind  Kind
	order string
}

func (l *lane) push(it *item) {
	it.lane = l
	if l.tail == nil {
		l.head, l.tail = it, it
		return
	}
	l.tail.next = it
	l.tail = it
}

// pop removes the head and everything behind it that has ended meanwhile.
func (l *lane) pop() {
	for first := true; l.head != nil && (first || l.head.state == itemGone || l.head.state == itemClosing); first = false {
		gone := l.head
		l.head, gone.next = gone.next, nil
		if gone.lane == l {
			gone.lane = nil
		}
	}
	if l.head == nil {
		l.tail = nil
	}
}

type componentKey struct {
	site broker.SiteID
	id   broker.ComponentID
}

// component holds what waits for one component. There are no more of them than were ever configured.
type component struct {
	key   componentKey
	host  *host
	limit int // attempts under way at the URL up to which it may start one
	ready [priorities]queue[*lane]
	// listed says in which rings of host it stands.
	listed         [priorities]bool
	oldest, newest *item // all that has not ended, in the order of acceptance
	count          int
	inflight       int
	parked         int
	results        Results
	// shape is what a reload compares.
	shape string
}

func (c *component) add(it *item) {
	it.comp = c
	it.older = c.newest
	if c.newest != nil {
		c.newest.newer = it
	} else {
		c.oldest = it
	}
	c.newest = it
	c.count++
}

func (c *component) remove(it *item) {
	if it.older != nil {
		it.older.newer = it.newer
	} else {
		c.oldest = it.newer
	}
	if it.newer != nil {
		it.newer.older = it.older
	} else {
		c.newest = it.older
	}
	it.older, it.newer = nil, nil
	c.count--
}

// host is a URL of a site: the attempts under way there are shared by its components.
type host struct {
	key      hostKey
	ring     [priorities]queue[*component]
	inflight int
	jobs     int // of inflight, those that are not calls
	members  int // components that have this URL
	active   bool
}

type hostKey struct {
	site broker.SiteID
	url  string
}

// share is how many attempts c may have under way: where others have the URL too, some slots are kept for them, so
// that a component that hangs cannot hold every one.
func (h *host) share(c *component) int {
	return max(1, c.limit-min(h.members-1, c.limit/2))
}

// admits tells whether c may start an attempt. Jobs leave a quarter of the slots to calls: a call must not wait until
// one of eight hanging jobs has timed out.
func (h *host) admits(c *component, prio priority) bool {
	if h.inflight >= c.limit || c.inflight >= h.share(c) {
		return false
	}
	return prio == callsFirst || c.limit == 1 || h.jobs < c.limit-max(1, c.limit/4)
}

// queue is a FIFO that reuses its array.
type queue[T any] struct {
	items []T
	first int
}

func (q *queue[T]) len() int { return len(q.items) - q.first }

func (q *queue[T]) push(v T) { q.items = append(q.items, v) }

func (q *queue[T]) pop() T {
	var zero T
	v := q.items[q.first]
	q.items[q.first] = zero
	q.first++
	switch {
	case q.first == len(q.items):
		q.items, q.first = q.items[:0], 0
	case q.first > 64 && q.first > len(q.items)/2:
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	return v
}

// alarm makes the scheduler look at an item. One that is early, late or repeated does no harm.
type alarm struct {
	at int64
	it *item
}

type alarms []alarm

// Len implements heap.Interface.
func (a alarms) Len() int { return len(a) }

// Less implements heap.Interface.
func (a alarms) Less(i, j int) bool { return a[i].at < a[j].at }

// Swap implements heap.Interface.
func (a alarms) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *alarms) Push(x any) { *a = append(*a, x.(alarm)) } //nolint:forcetypeassert // only set pushes

// Pop implements heap.Interface.
func (a *alarms) Pop() any {
	last := len(*a) - 1
	out := (*a)[last]
	(*a)[last] = alarm{}
	*a = (*a)[:last]
	return out
}

func (a *alarms) set(at int64, it *item) { heap.Push(a, alarm{at, it}) }

// pop gives the next item whose time has come, or nil.
func (a *alarms) pop(now int64) *item {
	if len(*a) == 0 || (*a)[0].at > now {
		return nil
	}
	return heap.Pop(a).(alarm).it //nolint:forcetypeassert // only set pushes
}

// next is the time of the first alarm; ok is false if there is none.
func (a *alarms) next() (t time.Time, ok bool) {
	if len(*a) == 0 {
		return time.Time{}, false
	}
	return time.UnixMicro((*a)[0].at), true
}
