package handlers

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"backchannel/broker"
)

// maxCallers bounds the callers whose rate is remembered: about 20 MB at the most.
const maxCallers = 100_000

// rates limits each caller. Whoever was not heard of for a while is forgotten, in two generations, and begins anew with
// a full burst.
type rates struct {
	most int

	mu       sync.Mutex
	now, old map[rateKey]*rate.Limiter // guarded by mu
}

type rateKey struct {
	site   broker.SiteID
	caller string
}

func newRates(most int) *rates {
	return &rates{most: most, now: make(map[rateKey]*rate.Limiter)}
}

// take takes one of a caller's turns at perSecond, in bursts of twice as many; the error is CodeRateLimited and says
// when to come back.
func (r *rates) take(k rateKey, perSecond float64, now time.Time) error {
	l := r.limiter(k, perSecond, now)
	turn := l.ReserveN(now, 1)
	if wait := turn.DelayFrom(now); !turn.OK() || wait > 0 {
		turn.CancelAt(now)
		return delayed{broker.Errorf(broker.CodeRateLimited, "more than %g messages a second of one caller", perSecond), wait}
	}
	return nil
}

func (r *rates) limiter(k rateKey, perSecond float64, now time.Time) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.now[k]
	if l == nil {
		if l = r.old[k]; l == nil {
			l = rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
		}
		if len(r.now) >= r.most/2 {
			r.old, r.now = r.now, make(map[rateKey]*rate.Limiter)
		}
		r.now[k] = l
	}
	if l.Limit() != rate.Limit(perSecond) { // a reload changed it
		l.SetLimitAt(now, rate.Limit(perSecond))
		l.SetBurstAt(now, max(1, int(2*perSecond)))
	}
	return l
}
