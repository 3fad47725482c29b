package blackbox_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// webhookSize is how hard the torture of webhooks is.
type webhookSize struct {
	callers, jobsEach, callsEach, kills, restarts int
	fails                                         int
	lasts, drain                                  time.Duration
}

func sizeOfWebhookTorture() webhookSize {
	if *fullTorture {
		return webhookSize{callers: 250, jobsEach: 20, callsEach: 4, kills: 10, restarts: 3, fails: 2, lasts: time.Minute, drain: 6 * time.Minute}
	}
	return webhookSize{callers: 60, jobsEach: 4, callsEach: 2, kills: 2, restarts: 1, fails: 1, lasts: 10 * time.Second, drain: time.Minute}
}

// plugin is a receiver's memory: what ran, and what it answered last.
type plugin struct {
	fails int // how many tries of one message may fail

	mu      sync.Mutex
	ran     map[string]int    // guarded by mu; how often each id was executed, before any dedupe
	answers map[string]string // guarded by mu; "2xx" or "4xx" once such an answer was written
	late    []string          // guarded by mu; calls that came after their deadline
	due     map[string]time.Time
}

func newPlugin(fails int) *plugin {
	return &plugin{fails: fails, ran: map[string]int{}, answers: map[string]string{}, due: map[string]time.Time{}}
}

// does answers as plugins do on a bad day: a third of the answers fails, in every way there is. What fails is a
// function of id and attempt, and never a late attempt, so that the schedule of retries stays short.
func (p *plugin) does(w http.ResponseWriter, c call) {
	kind := "job"
	if c.body.Type == "message.call" {
		kind = "call"
	}
	h := fnv.New32a()
	fmt.Fprint(h, c.id, c.attempt) //nolint:errcheck // a hash never fails
	dice := h.Sum32() % 18
	if c.attempt > p.fails || dice >= 6 {
		dice = 17
	}
	if kind == "call" && dice == 5 {
		w.Header().Set("Backchannel-Ran", "no")
		answerJSON(w, 503, "not now")
		return
	}
	p.execute(c, kind)
	if kind == "call" && h.Sum32()%23 == 0 {
		pause(context.Background(), callDeadline+time.Second) // its page is told unknown at the deadline
	}
	switch dice {
	case 0:
		http.Error(w, "oops", 500)
	case 1:
		hangUp(w)
	case 2:
		w.Header().Set("Retry-After", "1")
		answerJSON(w, 503, "later")
	case 3:
		fmt.Fprint(w, "<html>") //nolint:errcheck // the broker may be gone
	case 4:
		if kind == "call" {
			p.answered(c.id, "4xx")
			answerJSON(w, 422, map[string]string{"no": c.id})
			return
		}
		answerJSON(w, 408, "slow")
	case 5:
		answerJSON(w, 425, "early")
	default:
		p.answered(c.id, "2xx")
		answerJSON(w, 200, map[string]string{"echo": c.id})
	}
}

func (p *plugin) execute(c call, kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ran[c.id]++
	if due, ok := p.due[c.id]; kind == "call" && ok && c.at.After(due) {
		p.late = append(p.late, fmt.Sprintf("call %s ran %s after its deadline", c.id, c.at.Sub(due)))
	}
}

func (p *plugin) answered(id, how string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[id] = how
}

func (p *plugin) state(id string) (ran int, answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ran[id], p.answers[id]
}

// sent is one message of the torture and who may ask for it.
type sent struct {
	by *caller
	id string
	// Of calls: what the page was told, and how long after the moment it had to be told at the latest.
	told outcome
	over time.Duration
}

// pages is everybody who sends, and what they were told.
type pages struct {
	t testing.TB
	p *plugin

	mu       sync.Mutex
	jobs     []*sent  // guarded by mu
	calls    []*sent  // guarded by mu
	breaches []string // guarded by mu
	limited  int      // guarded by mu
}

func TestTortureNoJobIsLostAndCallsSettleTruthfully(t *testing.T) {
	size := sizeOfWebhookTorture()
	p := newPlugin(size.fails)
	s := newSite("school")
	r := newReceiver(t, s, p.does)
	for i := range 4 {
		s.components = append(s.components, component{name: fmt.Sprint("mod_", i), webhook: r.url(fmt.Sprint("/hook/", i)), concurrency: 16})
	}
	c := newClient(t, startBroker(t, config{sites: []*site{s}}), s)
	all := &pages{t: t, p: p}
	var sending sync.WaitGroup
	for i := range size.callers {
		by := c.sender(fmt.Sprint("mod_", i%4))
		sending.Go(func() { all.send(t.Context(), by, fmt.Sprint("mod_", i%4), size) })
	}
	sending.Go(func() { restartAtRandom(t, r, size.restarts, size.lasts) })
	killAtRandom(t, c.b, size.kills, size.lasts)
	sending.Wait()
	begun := time.Now()
	all.drain(size.drain)
	t.Logf("%d jobs and %d calls; the last job was done %s after the last kill's part; 429: %d; starts: %d",
		len(all.jobs), len(all.calls), time.Since(begun).Round(time.Second), all.limited, c.b.starts)
	all.judgeJobs(r)
	all.judgeCalls()
}

func restartAtRandom(t testing.TB, r *receiver, n int, lasts time.Duration) {
	part := lasts / time.Duration(n)
	for range n {
		pause(t.Context(), rand.N(part))
		r.restart(300 * time.Millisecond)
	}
}

// send sends a caller's jobs and calls, spread over the time, and settles each call before the next.
func (all *pages) send(ctx context.Context, by *caller, component string, size webhookSize) {
	total := size.jobsEach + size.callsEach
	for i := range total {
		pause(ctx, rand.N(2*size.lasts/time.Duration(total)*9/10))
		m := &sent{by: by, id: newUUID()}
		if i%(total/size.callsEach) == 1 {
			all.settle(ctx, m, by.message(m.id, component, "call", i, callDeadline.Seconds()))
			continue
		}
		all.accept(ctx, m, by.message(m.id, component, "job", i, 0))
	}
}

// accept posts a job until it is acknowledged.
func (all *pages) accept(ctx context.Context, m *sent, body map[string]any) {
	for ctx.Err() == nil {
		a, o, err := m.by.try(ctx, "/v1/messages", body)
		if err == nil && a.ok() {
			all.mu.Lock()
			all.jobs = append(all.jobs, m)
			all.mu.Unlock()
			if o.Outcome == "not_delivered" || o.Outcome == "rejected" || o.ID != m.id {
				all.breach("job %s was answered %s", m.id, a)
			}
			return
		}
		all.refused(m, a, err)
		pause(ctx, 100*time.Millisecond)
	}
}

func (all *pages) refused(m *sent, a answer, err error) {
	switch {
	case err != nil: // the broker is down
	case a.status == 429:
		all.mu.Lock()
		all.limited++
		all.mu.Unlock()
	case a.status/100 != 5:
		all.breach("message %s was refused: %s", m.id, a)
	}
}

func (all *pages) breach(format string, args ...any) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.breaches = append(all.breaches, fmt.Sprintf(format, args...))
}
