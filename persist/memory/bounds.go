package memory

import (
	"backchannel/broker"
	"backchannel/webhooks"
)

// trimEnded keeps what has ended within the bounds: first those of each site, then those of all.
func (s *Store) trimEnded() {
	for site, b := range s.bounds.Sites {
		s.trim(site, b)
	}
	s.trim("", s.bounds)
}

// trim keeps dead letters, and the replies and logs of ended deliveries, within bounds, the oldest going first; site ""
// is all.
func (s *Store) trim(site broker.SiteID, b webhooks.Bounds) {
	used := s.usage(site)
	for b.Dead > 0 && used.DeadBytes > b.Dead {
		d := s.oldest(site, func(d *delivery) bool { return d.State == webhooks.StateDead })
		delete(s.deliveries, d.Ref)
		used.DeadBytes -= weight(&d.Delivery)
		used.LogBytes -= logged(&d.Delivery)
	}
	safe := s.now().Add(-replyLife)
	for b.Replies > 0 && used.ReplyBytes > b.Replies {
		d := s.oldest(site, func(d *delivery) bool {
			return d.State == webhooks.StateDone && body(&d.Delivery) > 0 && !d.Ended.After(safe)
		})
		if d == nil {
			break
		}
		used.ReplyBytes -= body(&d.Delivery)
		d.Data, d.Reply, d.Error = nil, nil, nil
	}
	for b.DeliveryLog > 0 && used.LogBytes > b.DeliveryLog {
		d := s.oldest(site, func(d *delivery) bool { return !active(d.State) && len(d.Log) > 0 })
		used.LogBytes -= logged(&d.Delivery)
		d.Log = nil
	}
}

func (s *Store) oldest(site broker.SiteID, want func(*delivery) bool) *delivery {
	var found *delivery
	for _, d := range s.deliveries {
		if (site == "" || d.Site == site) && want(d) && (found == nil || d.Ended.Before(found.Ended)) {
			found = d
		}
	}
	return found
}

func active(st webhooks.State) bool {
	return st == webhooks.StateWaiting || st == webhooks.StateSending
}

// body is what can go of a done delivery while its outcome and log stay.
func body(d *webhooks.Delivery) int64 { return int64(len(d.Data) + len(d.Reply) + len(d.Error)) }

func logged(d *webhooks.Delivery) int64 {
	n := 0
	for i := range d.Log {
		n += 128 + len(d.Log[i].URL) + len(d.Log[i].Error) + len(d.Log[i].Request) + len(d.Log[i].Response)
	}
	return int64(n)
}

// weight is what a delivery counts against the bounds of queue and dead letters. The log of one that has ended counts
// for itself.
func weight(d *webhooks.Delivery) int64 {
	n := body(d) + 256 + int64(len(d.ID)+len(d.Caller)+len(d.Order)+len(d.User)+len(d.Session)+len(d.Seal)+
		len(d.ChannelRef)+len(d.Reason))
	if active(d.State) {
		n += logged(d)
	}
	return n
}
