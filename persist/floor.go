package persist

import (
	"time"
)

// age is the age in force, 0 for no bound.
func (st *state) age() time.Duration {
	if len(st.ages) == 0 {
		return 0
	}
	return st.ages[len(st.ages)-1].age
}

// changeAge begins a regime at a moment. Older ones are kept, because what a smaller age has removed stays removed when
// the age grows, and what was given a greater one stays kept when it shrinks.
func changeAge(all []regime, now int64, age time.Duration) []regime {
	out := append([]regime(nil), all...)
	if n := len(out); n > 0 {
		out[n-1].until = now
	}
	out = append(out, regime{since: now, until: never, age: age})
	for len(out) > maxRegimes {
		// Merged, two regimes claim as removed what either may have removed: more, never less.
		out[1].since = out[0].since
		if a := out[0].age; out[1].age == 0 || a > 0 && a < out[1].age {
			out[1].age = a
		}
		out = out[1:]
	}
	return out
}

// ageFloor is the time of the newest record that age may have removed by now: before it, the log may lack something.
func ageFloor(all []regime, now int64) int64 {
	floor := int64(0)
	for _, r := range all {
		if r.age <= 0 {
			continue
		}
		if gone := min(r.until, now-r.age.Microseconds()); gone >= r.since {
			floor = max(floor, gone)
		}
	}
	return floor
}

// view is what readers may know without reading: all of it is durable. It is immutable.
type view struct {
	last   position
	floor  position
	store  storeRecord
	ages   []regime
	total  int64
	oldest uint64
	usage  usage
}

func (s *Store) publishView(st *state) {
	v := &view{last: st.last.position, floor: st.floor, store: st.store, ages: st.ages, total: st.total, usage: st.usage}
	if len(st.buckets) > 0 {
		v.oldest = st.buckets[0].id * bucketSpan
	}
	s.view.Store(v)
}

// floorTime is the moment before which something may have been removed by age or total. What a purge or the count has
// removed shows on its channel alone.
func (v *view) floorTime(now int64) int64 {
	return max(v.store.created, v.floor.time, min(ageFloor(v.ages, now), v.last.time))
}
