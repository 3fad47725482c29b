package broker

import (
	"sync"
	"time"
)

// revocations is the set of revocations in force. Verifiers read it before they accept a credential, shards after
// they have registered a stream, so that one arriving in between is not missed.
type revocations struct {
	mu  sync.RWMutex
	all map[revocationKey]revocationState // guarded by mu
}

type revocationKey struct {
	site  SiteID
	kind  RevocationKind
	value string
}

type revocationState struct {
	before int64 // the latest of those with this key
	added  time.Time
}

func (r *revocations) add(rev Revocation, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[revocationKey]revocationState)
	}
	k := revocationKey{rev.Site, rev.Kind, rev.Value}
	r.all[k] = revocationState{before: max(rev.Before, r.all[k].before), added: now}
}

// sweep forgets those that no living grant can meet.
func (r *revocations) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, s := range r.all {
		if now.Sub(s.added) > RevocationLife {
			delete(r.all, k)
		}
	}
}

// hit tells whether the entry for ch that g gave is revoked; ch "" asks for the grant as a whole.
func (r *revocations) hit(g *Grant, ch ChannelID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.all) == 0 {
		return false
	}
	for _, k := range [...]revocationKey{
		{g.Site, RevokeJTI, g.ID},
		{g.Site, RevokeSession, g.Session},
		{g.Site, RevokeUser, g.User},
		{g.Site, RevokeChannel, string(ch)},
	} {
		if k.value == "" {
			continue
		}
		if s, found := r.all[k]; found {
			rev := Revocation{Site: k.site, Kind: k.kind, Value: k.value, Before: s.before}
			if rev.Hits(g, ch) {
				return true
			}
		}
	}
	return false
}
