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
	var last string
	for range 20 {
		p := c.sender("mod_hangs")
		last = newUUID()
		p.post(t, p.message(last, "mod_hangs", "job", 1, 0))
	}
	eventually(t, waitLimit, "eight hang", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.calls) >= 8
	})
	quick := c.sender("mod_quick")
	for range 10 {
		begun := time.Now()
		a, o := quick.post(t, quick.message(newUUID(), "mod_quick", "call", 1, 5))
		if d := time.Since(begun); o.Outcome != "delivered" || d > time.Second {
			t.Errorf("after %s: %s", d, a)
		}
	}
	if n := len(r.received(last)); n > 1 {
		t.Errorf("more than eight hang at once")
	}
}
