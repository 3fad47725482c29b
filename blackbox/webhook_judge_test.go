package blackbox_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	// callDeadline is that of every call of the torture.
	callDeadline = 4 * time.Second
	// settleLimit is what the broker has after the deadline, or after it is back.
	settleLimit = time.Second
	// machineSlack is for the test's own side of a busy machine.
	machineSlack = 500 * time.Millisecond
)

// settle posts a call once and asks until it is told a settled outcome, as a page does.
func (all *pages) settle(ctx context.Context, m *sent, body map[string]any) {
	due := time.Now().Add(callDeadline)
	all.p.mu.Lock()
	all.p.due[m.id] = due.Add(machineSlack)
	all.p.mu.Unlock()
	a, o, err := m.by.try(ctx, "/v1/messages", body)
	for err != nil || !a.ok() || o.Outcome == "pending" {
		if err == nil && a.status == 429 {
			all.refused(m, a, nil)
		} else if err == nil && !a.ok() && a.status/100 != 5 {
			all.breach("call %s was answered %s", m.id, a)
		}
		if !pause(ctx, 50*time.Millisecond) {
			return
		}
		a, o, err = m.by.try(ctx, "/v1/messages/"+m.id, m.by.question(true))
	}
	m.told, m.over = o, time.Since(latest(due, m.by.c.b.upSince()))
	all.mu.Lock()
	defer all.mu.Unlock()
	all.calls = append(all.calls, m)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// drain waits until the plugin has answered every job well.
func (all *pages) drain(limit time.Duration) {
	all.t.Helper()
	open := len(all.jobs)
	done := poll(all.t.Context(), limit, func() bool {
		open = 0
		for _, m := range all.jobs {
			if _, answer := all.p.state(m.id); answer != "2xx" {
				open++
			}
		}
		return open == 0
	})
	if !done {
		all.t.Errorf("%d of %d jobs are not done %s after the last was sent", open, len(all.jobs), limit)
	}
}

// judgeJobs wants each job received, each delivery carrying the same message, and the outcome known under its id.
func (all *pages) judgeJobs(r *receiver) {
	all.t.Helper()
	received, again := 0, 0
	for _, m := range all.jobs {
		calls := r.received(m.id)
		received += len(calls)
		for i, c := range calls {
			if string(c.body.Data) != string(calls[0].body.Data) || c.component != calls[0].component {
				all.breach("job %s was another at its try %d", m.id, i+1)
			}
		}
		ran, _ := all.p.state(m.id)
		again += max(0, ran-1)
		if len(calls) == 0 {
			all.breach("job %s was acknowledged and never received", m.id)
			continue
		}
		if o := all.outcome(m, func(o outcome) bool { return o.Outcome == "delivered" }); o.Outcome != "delivered" || !strings.Contains(string(o.Reply), m.id) {
			all.breach("job %s is done, and its outcome is %+v", m.id, o)
		}
	}
	all.t.Logf("jobs were received %d times, %d times again after they had run", received, again)
}

// outcome asks until good holds, for a while.
func (all *pages) outcome(m *sent, good func(outcome) bool) (o outcome) {
	poll(all.t.Context(), waitLimit, func() bool {
		a, err := m.by.c.do(all.t.Context(), http.MethodPost, "/v1/messages/"+m.id, m.by.question(false))
		if err != nil || !a.ok() {
			o = outcome{Outcome: fmt.Sprint(a, err)}
			return false
		}
		a.decode(all.t, &o)
		return good(o)
	})
	return o
}

// judgeCalls compares what pages were told with what the plugin did.
func (all *pages) judgeCalls() {
	all.t.Helper()
	told := map[string]int{}
	var slowest time.Duration
	for _, m := range all.calls {
		told[m.told.Outcome]++
		slowest = max(slowest, m.over)
		if m.over > settleLimit+machineSlack {
			all.breach("call %s settled %s too late, as %s", m.id, m.over-settleLimit, m.told.Outcome)
		}
		all.truth(m, m.told)
		if m.told.Outcome != "unknown" {
			if now := all.outcome(m, func(outcome) bool { return true }); now.Outcome != m.told.Outcome {
				all.breach("call %s was %s and is %s", m.id, m.told.Outcome, now.Outcome)
			}
		}
	}
	all.t.Logf("outcomes of calls: %v; the latest came %s after its deadline or the broker's return", told, slowest.Round(time.Millisecond))
	all.p.mu.Lock()
	all.breaches = append(all.breaches, all.p.late...)
	all.p.mu.Unlock()
	for _, b := range all.breaches[:min(len(all.breaches), 25)] {
		all.t.Error(b)
	}
	if n := len(all.breaches); n > 25 {
		all.t.Errorf("and %d more", n-25)
	}
}

// truth holds one outcome against what the plugin did. A call that is not idempotent runs once at most.
func (all *pages) truth(m *sent, o outcome) {
	ran, answer := all.p.state(m.id)
	good := false
	switch o.Outcome {
	case "delivered":
		good = answer == "2xx" && strings.Contains(string(o.Reply), m.id)
	case "rejected":
		good = answer == "4xx" && strings.Contains(string(o.Error), m.id)
	case "not_delivered":
		good = ran == 0
	case "unknown":
		good = true
	}
	if !good || ran > 1 {
		all.breach("call %s: told %s (%s%s), but it ran %d times and was answered %q", m.id, o.Outcome, o.Reply, o.Error, ran, answer)
	}
}
