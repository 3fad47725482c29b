package webhooks

import "time"

// Bounds of the rules for retries.
const (
	// orderedTries is how many tries of a job hold its order key; a job that failed them all is parked.
	orderedTries = 5
	// jitterShare spreads retries, so that what failed together does not come back together.
	jitterShare = 0.2
)

// DefaultSchedule is what a job waits before each of its tries, about two and a half days in all.
func DefaultSchedule() []time.Duration {
	return []time.Duration{
		0, time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute,
		time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	}
}

// DefaultCallWaits is what a call waits between tries inside its deadline. The last one repeats.
func DefaultCallWaits() []time.Duration {
	return []time.Duration{200 * time.Millisecond, 600 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second}
}

// verdict is what one attempt proves about its delivery.
type verdict int

const (
	// failed: a job's attempt that is to be tried again.
	failed verdict = iota
	// delivered: 2xx with JSON or an empty body.
	delivered
	// rejected: a final 4xx.
	rejected
	// unsent: certain that the component did not run.
	unsent
	// forbidden: unsent, and trying again inside a deadline cannot help: the configuration refuses the address.
	forbidden
	// unsure: a call's request may have been read, and no usable answer came.
	unsure
)

func (v verdict) certain() bool { return v == unsent || v == forbidden }

// judge says what an attempt proves.
func judge(kind Kind, r result) verdict {
	if kind != KindCall {
		return judgeJob(r)
	}
	switch {
	case !r.sent && r.final:
		return forbidden
	case !r.sent, r.ranNo:
		return unsent
	case r.success():
		return delivered
	case r.refusal():
		return rejected
	}
	return unsure
}

func judgeJob(r result) verdict {
	switch {
	case r.sent && r.success():
		return delivered
	case r.sent && r.refusal():
		return rejected
	}
	return failed
}

// stepKind is what becomes of a delivery after an attempt.
type stepKind int

const (
	stepEnd   stepKind = iota // done, with step.outcome
	stepRetry                 // waits until step.due
	stepDead                  // the dead letter
)

type step struct {
	kind    stepKind
	outcome Outcome
	due     time.Time
	park    bool // leaves the order of its key
}

// standing is what the rules need to know of a delivery, the attempt just made included.
type standing struct {
	kind       Kind
	tries      int  // attempts since the schedule began
	tainted    bool // a call of which an earlier attempt may have run
	idempotent bool
	deadline   time.Time
}

// plan holds the delays; it is immutable.
type plan struct {
	jobs, calls []time.Duration
}

// next applies the rules. random is uniform in [0,1).
func (p plan) next(s standing, v verdict, retryAfter time.Duration, now time.Time, random float64) step {
	switch v {
	case delivered:
		return step{kind: stepEnd, outcome: OutcomeDelivered}
	case rejected:
		return step{kind: stepEnd, outcome: OutcomeRejected}
	}
	if s.kind == KindCall {
		return p.nextCall(s, v, retryAfter, now, random)
	}
	return p.nextJob(s, retryAfter, now, random)
}

func (p plan) nextCall(s standing, v verdict, retryAfter time.Duration, now time.Time, random float64) step {
	end := step{kind: stepEnd, outcome: OutcomeNotDelivered}
	if s.tainted || v == unsure {
		end.outcome = OutcomeUnknown
	}
	if v == forbidden || v == unsure && !s.idempotent {
		return end
	}
	wait := max(jitter(at(p.calls, s.tries-1), random), retryAfter)
	due := now.Add(wait)
	if !due.Before(s.deadline) {
		return end
	}
	return step{kind: stepRetry, due: due}
}

func (p plan) nextJob(s standing, retryAfter time.Duration, now time.Time, random float64) step {
	if s.tries >= len(p.jobs) {
		return step{kind: stepDead}
	}
	wait := max(jitter(p.jobs[s.tries], random), retryAfter)
	return step{kind: stepRetry, due: now.Add(wait), park: s.tries >= orderedTries}
}

// at is waits[i], the last one repeating.
func at(waits []time.Duration, i int) time.Duration {
	if len(waits) == 0 {
		return 0
	}
	return waits[min(max(i, 0), len(waits)-1)]
}

func jitter(d time.Duration, random float64) time.Duration {
	return d + time.Duration(float64(d)*jitterShare*(2*random-1))
}
