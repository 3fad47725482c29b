package broker

import (
	"encoding/json"
	"math/rand/v2"
	"time"
)

// Codes of entries that leave, in the frame channels; codeRevoked is also the reason of a bye.
const (
	codeRevoked = "revoked"
	codeExpired = "expired"
	reasonDrain = "drain"
)

// remove takes entries away that drop names; the change is not queued if there were none.
func (s *shard) remove(st *stream, drop func(*entry) bool) (removed []string) {
	kept := st.entries[:0:0]
	for _, e := range st.entries {
		if drop(e) {
			s.unsubscribe(e)
			removed = append(removed, e.as())
		} else {
			kept = append(kept, e)
		}
	}
	for _, c := range st.changes { // an entry that is not live yet is taken away as well
		added := c.added[:0:0]
		for _, e := range c.added {
			if drop(e) {
				removed = append(removed, e.as())
			} else {
				added = append(added, e)
			}
		}
		c.added = added
	}
	if len(removed) > 0 {
		st.entries = kept
		st.version++
	}
	return removed
}

// purgeGrants takes away what gone says of the stream's grants and tells the page why. hit says that something went,
// ended that nothing is left and the stream is being ended.
func (s *shard) purgeGrants(st *stream, gone func(*Grant, ChannelID) bool, code string) (hit, ended bool) {
	if st.state == stateClosed || st.farewell != nil {
		return false, false
	}
	kept := st.grants[:0:0]
	sends := false
	for _, g := range st.grants {
		if !gone(g, "") {
			kept = append(kept, g)
			sends = sends || len(g.Send) > 0
		}
	}
	hit = len(kept) < len(st.grants)
	st.grants = kept
	removed := s.remove(st, func(e *entry) bool {
		left := e.grants[:0:0]
		for _, g := range e.grants {
			if !gone(g, e.channel) {
				left = append(left, g)
			}
		}
		hit = hit || len(left) < len(e.grants)
		e.grants = left
		return len(left) == 0
	})
	if !hit {
		return false, false
	}
	if len(kept) == 0 || len(removed) > 0 && len(st.entries) == 0 && len(st.changes) == 0 && !sends {
		s.dismiss(st, code, comeBack())
		return true, true
	}
	if len(removed) > 0 {
		s.change(st, &change{removed: removed, code: code})
	}
	return true, false
}

func (s *shard) expire(st *stream, now time.Time) {
	for _, g := range st.grants {
		if !g.Until.After(now) {
			s.purgeGrants(st, func(g *Grant, _ ChannelID) bool { return !g.Until.After(now) }, codeExpired)
			return
		}
	}
}

// revoke applies r to every stream of the shard.
func (s *shard) revoke(r Revocation) {
	n := 0
	for _, st := range s.streams {
		if st.site != r.Site {
			continue
		}
		if hit, _ := s.purgeGrants(st, r.Hits, codeRevoked); hit {
			n++
		}
	}
	s.hub.countRevoked(r, n)
}

func byeFrame(reason string, retry time.Duration) *Frame {
	ms := int(retry / time.Millisecond)
	data, _ := json.Marshal(struct { // a struct of a string and an int cannot fail
		Reason string `json:"reason"`
		Retry  int    `json:"retry"`
	}{reason, ms})
	return controlFrame(nil, FrameBye, data, retryField(ms))
}

// comeBack is how long a page is told to wait before it opens a stream again, spread so that those who left together
// do not come back together.
func comeBack() time.Duration {
	return time.Second + rand.N(2*time.Second) //nolint:gosec // audited: jitter, no secret
}
