package handlers

import (
	"sync"
	"time"

	"backchannel/broker"
)

// keyUse says what a key was used for.
type keyUse uint8

const (
	useGrant keyUse = iota
	useResume
	useAPI
	keyUseCount
)

// keyUses remembers when each key was used last since the start, so that an admin sees when an old key can be dropped.
// Only keys of the configuration get in, which bounds it.
type keyUses struct {
	mu   sync.Mutex
	last map[usedKey][keyUseCount]time.Time // guarded by mu
}

type usedKey struct {
	site broker.SiteID
	kid  string
}

func newKeyUses() *keyUses { return &keyUses{last: make(map[usedKey][keyUseCount]time.Time)} }

func (u *keyUses) note(site broker.SiteID, kid string, use keyUse, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := usedKey{site, kid}
	times := u.last[k]
	times[use] = now
	u.last[k] = times
}

// of gives the last use of a key; the zero time if there was none.
func (u *keyUses) of(site broker.SiteID, kid string, use keyUse) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last[usedKey{site, kid}][use]
}
