package main

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// tidyEvery is how often the broker looks whether a storm of streams is over.
	tidyEvery = 4 * time.Second
	// tidyAfter is how many streams must have come or gone to make it worth the while: each leaves some kilobytes of
	// requests behind that are garbage from the moment the stream is detached.
	tidyAfter = 500
)

// tidy gives memory back after streams have come or gone in numbers. An idle broker allocates nothing, so the garbage
// of a storm would stay until the runtime's own clock, minutes later, and the machine is shared with an LMS.
func (a *App) tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	var storm storm
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		s := a.hub.Stats()
		if storm.over(2*s.Opened - int64(s.Streams)) { // opened and closed, together
			debug.FreeOSMemory()
		}
	}
}

// storm notices when many streams have come or gone and it has become quiet again.
type storm struct{ tidied, before int64 }

// over takes how many streams have come and gone since the start, once a period.
func (s *storm) over(moves int64) bool {
	quiet := moves-s.before < tidyAfter/10
	s.before = moves
	if !quiet || moves-s.tidied < tidyAfter {
		return false
	}
	s.tidied = moves
	return true
}
