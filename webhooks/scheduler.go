package webhooks

import "time"

// maxFinishing bounds the attempts whose outcome is being stored: a store that stalls must stop the sending, or after
// a crash all of it would be sent again.
const maxFinishing = 512

// scheduler decides what is attempted next. It is a data structure: it does no I/O, starts nothing and has no clock.
// Dispatcher.mu guards it and everything in it.
//
// Order: each lane is worked off from its head, and the head holds the lane until it has ended, is told unknown or is
// parked. Fairness: a URL takes its components in turn, a component its lanes. Calls come first.
type scheduler struct {
	items     map[Ref]*item
	lanes     map[laneKey]*lane
	comps     map[componentKey]*component
	hosts     map[hostKey]*host
	active    queue[*host] // hosts that may have something to start
	alarms    alarms
	finishing int
	stopping  bool
}

func newScheduler() *scheduler {
	return &scheduler{
		items: make(map[Ref]*item), lanes: make(map[laneKey]*lane),
		comps: make(map[componentKey]*component), hosts: make(map[hostKey]*host),
	}
}

// component finds or makes a component. e is its endpoint, nil if it has none.
func (s *scheduler) component(key componentKey, e *Endpoint) *component {
	c := s.comps[key]
	if c == nil {
		c = &component{key: key}
		s.comps[key] = c
		s.route(c, e)
	}
	return c
}

// route puts c where its endpoint is; without one, it gets a host of its own whose attempts fail at once.
func (s *scheduler) route(c *component, e *Endpoint) (changed bool) {
	key, shape, limit := hostKey{c.key.site, "component:" + string(c.key.id)}, "", DefaultConcurrency
	if e != nil {
		key, shape, limit = hostKey{c.key.site, e.URL.String()}, e.shape(), e.limit()
	}
	changed = c.host != nil && c.shape != shape
	c.limit, c.shape = limit, shape
	if c.host != nil && c.host.key == key {
		return changed
	}
	h := s.hosts[key]
	if h == nil {
		h = &host{key: key}
		s.hosts[key] = h
	}
	s.leave(c)
	c.host, c.listed = h, [priorities]bool{} // its places in the old rings are passed over
	h.members++
	for prio := range priorities {
		s.list(c, prio)
	}
	return changed
}

func (s *scheduler) leave(c *component) {
	if c.host == nil {
		return
	}
	c.host.members--
	s.forgetHost(c.host)
}

func (s *scheduler) forgetHost(h *host) {
	if h.members == 0 && h.inflight == 0 {
		delete(s.hosts, h.key)
	}
}

// list puts c into the ring of its host if it has something ready.
func (s *scheduler) list(c *component, prio priority) {
	if c.ready[prio].len() > 0 && !c.listed[prio] {
		c.listed[prio] = true
		c.host.ring[prio].push(c)
	}
	s.activate(c.host)
}

func (s *scheduler) activate(h *host) {
	if !h.active {
		h.active = true
		s.active.push(h)
	}
}

// enqueue puts an item of comp at the end of its lane; parked is for a job that lost its place before a restart.
func (s *scheduler) enqueue(it *item, order string, parked bool) {
	l := &lane{comp: it.comp, prio: it.priority(), parked: true}
	if !parked {
		l = s.lane(it, order)
	} else {
		it.comp.parked++
	}
	it.state = itemQueued
	l.push(it)
	if it.call != nil {
		s.alarms.set(it.call.deadline, it)
	}
	if l.head == it {
		s.arm(l)
	}
}

func (s *scheduler) lane(it *item, order string) *lane {
	key := laneKey{it.comp, it.kind, order}
	l := s.lanes[key]
	if l == nil {
		l = &lane{key: key, comp: it.comp, prio: it.priority()}
		s.lanes[key] = l
	}
	return l
}

// arm makes a lane's head ready, now or when it is due. An alarm decides when; so a due time in the past is set too
// and no clock is needed.
func (s *scheduler) arm(l *lane) {
	head := l.head
	switch {
	case head == nil:
		if !l.parked && s.lanes[l.key] == l {
			delete(s.lanes, l.key)
		}
		return
	case head.state == itemFlight: // a place that was taken before acceptance
		return
	case head.due != 0:
		head.state = itemDelayed
		s.alarms.set(head.due, head)
		return
	}
	head.state = itemQueued
	s.ready(l)
}

func (s *scheduler) ready(l *lane) {
	if !l.listed {
		l.listed = true
		l.comp.ready[l.prio].push(l)
	}
	s.list(l.comp, l.prio)
}

// startAtOnce gives a new item a slot if it would be next anyway: nothing of its key is before it, and neither its
// component nor its URL has anything ready of its priority or above.
func (s *scheduler) startAtOnce(it *item, order string) bool {
	c := it.comp
	if s.stopping || s.finishing >= maxFinishing || s.lanes[laneKey{c, it.kind, order}] != nil || !c.host.admits(c, it.priority()) {
		return false
	}
	for prio := callsFirst; prio <= it.priority(); prio++ {
		if c.host.ring[prio].len() > 0 {
			return false
		}
	}
	it.state = itemFlight // before push: arm would list it
	s.lane(it, order).push(it)
	s.take(it)
	return true
}

func (s *scheduler) take(it *item) {
	it.state = itemFlight
	it.host = it.comp.host
	it.host.inflight++
	if it.priority() == jobsSecond {
		it.host.jobs++
	}
	it.comp.inflight++
}

// start gives the next item to attempt, in flight and holding a slot, or nil.
func (s *scheduler) start() *item {
	for s.active.len() > 0 && !s.stopping && s.finishing < maxFinishing {
		h := s.active.pop()
		h.active = false
		if it := s.pick(h); it != nil {
			s.activate(h) // to the end: other URLs come first
			return it
		}
	}
	return nil
}

func (s *scheduler) pick(h *host) *item {
	for prio := range priorities {
		ring := &h.ring[prio]
		for range ring.len() {
			c := ring.pop()
			if c.host != h {
				continue // it has moved to another URL
			}
			c.listed[prio] = false
			if !h.admits(c, prio) {
				c.listed[prio] = true
				ring.push(c)
				continue
			}
			it := s.pickLane(c, prio)
			if c.ready[prio].len() > 0 {
				c.listed[prio] = true
				ring.push(c)
			}
			if it != nil {
				s.take(it)
				return it
			}
		}
	}
	return nil
}

// pickLane gives the head of the first lane that still has one to start.
func (s *scheduler) pickLane(c *component, prio priority) *item {
	for c.ready[prio].len() > 0 {
		l := c.ready[prio].pop()
		l.listed = false
		if l.head != nil && l.head.state == itemQueued {
			return l.head
		}
	}
	return nil
}

// freeSlot ends an exchange: the URL may take the next one.
func (s *scheduler) freeSlot(it *item) {
	h := it.host
	if h == nil {
		return
	}
	it.host = nil
	h.inflight--
	if it.priority() == jobsSecond {
		h.jobs--
	}
	it.comp.inflight--
	s.activate(h)
	s.activate(it.comp.host)
	s.forgetHost(h)
}

// pass takes an item out of the order: what comes after it may start.
func (s *scheduler) pass(it *item) {
	l := it.lane
	if l == nil {
		return
	}
	it.lane = nil
	if l.parked {
		it.comp.parked--
	}
	if l.head == it {
		l.pop()
		s.arm(l)
	}
}

// retry puts an item back, to be due later; park takes it out of the order of its key.
func (s *scheduler) retry(it *item, due time.Time, park bool) {
	it.due = due.UnixMicro()
	it.state = itemDelayed
	l := it.lane
	if park && l != nil && !l.parked {
		s.pass(it)
		l = &lane{comp: it.comp, prio: it.priority(), parked: true}
		l.push(it)
		it.comp.parked++
	}
	if it.call != nil {
		s.alarms.set(it.call.deadline, it)
	}
	if l != nil && l.head == it {
		s.arm(l)
	}
}

// close claims an item that waits, for whoever ends it without an attempt. It leaves the order at once.
func (s *scheduler) close(it *item) {
	it.state = itemClosing
	s.pass(it)
}

// remove forgets an item that has ended, or whose acceptance failed.
func (s *scheduler) remove(ref Ref, it *item) {
	it.state = itemGone
	s.freeSlot(it)
	s.pass(it)
	if it.comp != nil && (it.older != nil || it.newer != nil || it.comp.oldest == it) {
		it.comp.remove(it)
	}
	if s.items[ref] == it {
		delete(s.items, ref)
	}
}

// ring acts on the alarms up to now and gives the calls whose deadline has passed unsent, claimed for the caller.
func (s *scheduler) ring(now time.Time) (expired []*item) {
	micros := now.UnixMicro()
	for it := s.alarms.pop(micros); it != nil; it = s.alarms.pop(micros) {
		if it.state != itemQueued && it.state != itemDelayed {
			continue
		}
		if it.call != nil && it.call.deadline <= micros {
			s.close(it)
			expired = append(expired, it)
			continue
		}
		if it.state == itemDelayed && it.due <= micros && it.lane != nil && it.lane.head == it {
			it.due = 0
			s.arm(it.lane)
		}
	}
	return expired
}

// hasten makes what waits for c's retries due: its endpoint has changed.
func (s *scheduler) hasten(c *component, all bool) {
	for it := c.oldest; it != nil; it = it.newer {
		if it.state == itemDelayed && (all || it.homeless) {
			it.due = 0
			if it.lane != nil && it.lane.head == it {
				s.arm(it.lane)
			}
		}
	}
}

// claimCalls gives every unsent call that nobody owns, claimed for the caller: the broker stops.
func (s *scheduler) claimCalls() []*item {
	var out []*item
	for _, it := range s.items {
		if it.call != nil && !it.call.tainted && (it.state == itemQueued || it.state == itemDelayed) {
			s.close(it)
			out = append(out, it)
		}
	}
	return out
}
