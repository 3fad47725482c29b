package blackbox_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestJobsOfACallerRunInTheirOrderThoughOneFailsAtFirst(t *testing.T) {
	var mu sync.Mutex
	var done []string
	c, _ := withReceiver(t, func(w http.ResponseWriter, c call) {
		if string(c.body.Data) == "1" && c.attempt == 1 {
			http.Error(w, "oops", http.StatusInternalServerError)
			return
		}
		mu.Lock()
		done = append(done, string(c.body.Data))
		mu.Unlock()
		answerJSON(w, 200, 1)
	})
	p := c.sender("mod_test")
	var want []string
	for i := range 9 {
		p.post(t, p.message(newUUID(), "mod_test", "job", i, 0))
		want = append(want, string(rune('0'+i)))
	}
	all := func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(done) }
	eventually(t, waitLimit, "all jobs are done", func() bool { return len(all()) == len(want) })
	if !slices.Equal(all(), want) {
		t.Errorf("they ran as %v", all())
	}
}

func TestAComponentThatHangsDelaysNoOther(t *testing.T) {
	hang := make(chan struct{})
	c, r := withReceiver(t, func(w http.ResponseWriter, c call) {
		if c.component == "mod_hangs" {
			select {
			case <-hang:
			case <-t.Context().Done():
			}
		}
		answerJSON(w, 200, 1)
	}, func(conf *config) {
		s := conf.sites[0]
		s.components = []component{{name: "mod_hangs", webhook: s.webhook + "/hangs"}, {name: "mod_quick", webhook: s.webhook + "/quick"}}
	})
	defer close(hang)
	for range 20 {
		p := c.sender("mod_hangs")
		p.post(t, p.message(newUUID(), "mod_hangs", "job", 1, 0))
	}
	hanging := func() int { r.mu.Lock(); defer r.mu.Unlock(); return len(r.calls) }
	eventually(t, waitLimit, "several hang", func() bool { return hanging() >= 4 })
	quick := c.sender("mod_quick")
	for range 10 {
		begun := time.Now()
		a, o := quick.post(t, quick.message(newUUID(), "mod_quick", "call", 1, 5))
		if d := time.Since(begun); o.Outcome != "delivered" || d > time.Second {
			t.Errorf("after %s: %s", d, a)
		}
	}
	hangs := c.sender("mod_hangs") // its jobs hang, and leave room for a call, which then hangs itself
	if _, o := hangs.post(t, hangs.message(newUUID(), "mod_hangs", "call", 1, 1)); o.Outcome != "unknown" {
		t.Errorf("a call behind hanging jobs was %s: it was not sent", o.Outcome)
	}
	if n := hanging(); n > 8+10 { // the ten quick ones are counted too
		t.Errorf("%d attempts hang at once, want 8 at most", n-10)
	}
}
