package blackbox_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSIGTERMSaysByeToEveryStreamAndSpreadsTheirReturn(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	streams := make([]*stream, 12)
	for i := range streams {
		streams[i] = c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
		streams[i].caughtUp()
	}
	at := c.publish(t, h, "before")
	begun := time.Now()
	c.b.signal(syscall.SIGTERM)
	retries := map[int]bool{}
	for _, s := range streams {
		var bye struct {
			Reason string
			Retry  *int
		}
		f := s.await("bye")
		if err := json.Unmarshal([]byte(f.data), &bye); err != nil || bye.Reason != "drain" || bye.Retry == nil || *bye.Retry < 0 {
			t.Fatalf("bye: %s", f.data)
		}
		retries[*bye.Retry] = true
		s.ended(waitLimit)
		if got := s.heard(); len(got) != 1 {
			t.Errorf("heard %v before bye", datas(got))
		}
	}
	if len(retries) < len(streams)/2 {
		t.Errorf("%d streams are to come back at only %d moments: %v", len(streams), len(retries), retries)
	}
	if code := c.b.waitExit(startLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("drained in %s", time.Since(begun).Round(time.Millisecond))
	c.b.start()
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}, "cursor": at.String()})
	if !*s.hello().Channels[0].Recovered {
		t.Error("not recovered after an orderly restart")
	}
}

func TestAttemptsInFlightFinishOrGoBackAtSIGTERM(t *testing.T) {
	entered := make(chan struct{}, 8)
	c, r := withReceiver(t, func(w http.ResponseWriter, c call) {
		entered <- struct{}{}
		if c.attempt == 1 {
			pause(t.Context(), time.Second)
		}
		answerJSON(w, 200, "done")
	})
	p, id := c.sender("mod_test"), newUUID()
	p.post(t, p.message(id, "mod_test", "job", 1, 0))
	<-entered
	c.b.signal(syscall.SIGTERM)
	if code := c.b.waitExit(startLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
	c.b.start()
	var o outcome
	eventually(t, waitLimit, "the job is done", func() bool { _, o = p.ask(t, id, false); return o.Outcome == "delivered" })
	if n := len(r.received(id)); n > 2 {
		t.Errorf("it was received %d times", n)
	}
}

func TestSIGHUPTakesNewSitesAndKeysAndDropsNoStream(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	oldGrant := c.s.hears(h)
	s := c.open(t, map[string]any{"grants": []string{oldGrant}})
	hello := s.hello()
	old := c.s.keys[0]
	added, renewed := newSite("added"), newKey("k2")
	// The client's own view of the site changes with the file: the first key signs.
	c.s.keys = []key{renewed, old}
	c.b.conf.sites = append(c.b.conf.sites, added)
	c.reload(t, func() bool { return c.accepts(t, renewed.bearer("school")) })
	c2 := newClient(t, c.b, added)
	c2.publish(t, "x", 1)
	for _, k := range []key{old, renewed} {
		a, err := c.do(t.Context(), http.MethodPost, "/v1/publish", publishBody(h, k.kid), "Authorization", "Bearer "+k.bearer("school"))
		if err != nil || !a.ok() {
			t.Errorf("with key %s: %v %v", k.kid, a, err)
		}
	}
	if got := datas(s.awaitEvents(2)); !slices.Equal(got, []string{`"k1"`, `"k2"`}) {
		t.Errorf("the stream heard %v", got)
	}
	c.open(t, map[string]any{"grants": []string{oldGrant}}).hello()
	c.open(t, map[string]any{"grants": []string{c.s.hears(h)}}).hello()
	newer := c.open(t, map[string]any{"resume": hello.Resume}).hello()

	c.s.keys = []key{renewed}
	c.reload(t, func() bool { return !c.accepts(t, old.bearer("school")) })
	expectProblem(t, c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"grants": []string{oldGrant}}), 401, "grant_invalid")
	expectProblem(t, c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"resume": hello.Resume}), 401, "grant_invalid")
	c.open(t, map[string]any{"resume": newer.Resume}).hello()
	c.publish(t, h, "still on")
	if got := datas(s.awaitEvents(3)); got[2] != `"still on"` {
		t.Errorf("the stream heard %v", got)
	}
}

// reload writes the configuration, signals, and waits until it is in force.
func (c *client) reload(t testing.TB, inForce func() bool) {
	t.Helper()
	c.b.writeConfig()
	c.b.signal(syscall.SIGHUP)
	eventually(t, waitLimit, "the configuration is reloaded", inForce)
}

func (c *client) accepts(t testing.TB, bearer string) bool {
	t.Helper()
	a, err := c.do(t.Context(), http.MethodGet, "/v1/self", nil, "Authorization", "Bearer "+bearer)
	return err == nil && a.ok()
}

func TestAWrongFileAtSIGHUPChangesNothing(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	s.caughtUp()
	good := c.b.conf.toml(c.b.dir + "/data")
	mustWrite(t, c.b.configFile(), "lisen = 1\n"+good)
	before := len(c.b.lastLog(1 << 20))
	c.b.signal(syscall.SIGHUP)
	eventually(t, waitLimit, "it says what is wrong", func() bool { return strings.Contains(c.b.lastLog(1 << 20)[before:], "lisen") })
	c.publish(t, h, 1)
	s.awaitEvents(1)
	if !c.b.running() {
		t.Error("it ended")
	}
}

func TestBothLiveKeysSignWebhooks(t *testing.T) {
	t.Parallel()
	s := newSite("school")
	s.keys = append(s.keys, newKey("k0"))
	r := newReceiver(t, s, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, 1) }) // it wants one signature a key
	s.webhook = r.url("/hook")
	c := newClient(t, startBroker(t, config{sites: []*site{s}}), s)
	p := c.sender("mod_test")
	if a, o := p.post(t, p.message(newUUID(), "mod_test", "call", 1, 5)); o.Outcome != "delivered" {
		t.Errorf("got %s", a)
	}
}

func TestASecondBrokerOnTheSameDirectoryIsRefused(t *testing.T) {
	c := start(t)
	second := &brokerProcess{t: t, dir: c.b.dir, conf: c.b.conf}
	failed := second.tryStart()
	second.kill()
	if failed == "" || !strings.Contains(failed, "data") {
		t.Errorf("a second broker runs on the same directory; or it ended without naming it: %s", failed)
	}
	c.publish(t, c.s.hash("a"), 1)
}

func TestTheEpochChangesOnlyWithTheStore(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	first := c.publish(t, h, 1)
	for range 3 {
		c.b.kill()
		c.b.start()
		if next := c.publish(t, h, 2); next.epoch != first.epoch || next.seq <= first.seq {
			t.Errorf("after a kill: %s, before: %s", next, first)
		} else {
			first = next
		}
	}
	resume := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}}).hello().Resume
	c.b.kill()
	if err := os.RemoveAll(c.b.dir + "/data"); err != nil {
		t.Fatal(err)
	}
	c.b.start()
	if next := c.publish(t, h, 3); next.epoch == first.epoch {
		t.Errorf("a new store has the old epoch: %s", next)
	}
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}, "cursor": first.String()})
	if *s.hello().Channels[0].Recovered {
		t.Error("a cursor of the store before counts as recovered")
	}
	expectProblem(t, c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"resume": resume}), 401, "grant_invalid")
}

// TestAStreamThatComesBackIntoADrainIsNotRefused keeps the drain going with a slow attempt: a browser's EventSource
// gives up for good on any status but 200, so a stream that was accepted may be kept waiting or cut, and no more.
func TestAStreamThatComesBackIntoADrainIsNotRefused(t *testing.T) {
	entered := make(chan struct{}, 8)
	c, _ := withReceiver(t, func(w http.ResponseWriter, _ call) {
		entered <- struct{}{}
		pause(t.Context(), 1500*time.Millisecond)
		answerJSON(w, 200, "done")
	})
	h := c.s.hash("a")
	g := c.s.grant([]entry{{"h": h}}, func(g claims) { g["send"] = []string{"mod_test"} })
	s := c.open(t, map[string]any{"grants": []string{g}})
	hello := s.hello()
	p := &caller{c: c, grant: g}
	p.post(t, p.message(newUUID(), "mod_test", "job", 1, 0)) // and leaves a connection that is kept alive
	<-entered
	c.b.signal(syscall.SIGTERM)
	s.await("bye")
	tries := 0
	for c.b.running() {
		for path, body := range map[string]map[string]any{
			"/v1/stream": {"resume": hello.Resume}, "/v1/poll": {"resume": hello.Resume, "wait": 1},
		} {
			resp, err := c.send(timeout(t, 5*time.Second), http.MethodPost, path, body)
			if err != nil {
				continue // cut, or nobody listens any more
			}
			tries++
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s in the drain: %s", path, resp.Status)
			}
			resp.Body.Close()
		}
		pause(t.Context(), 20*time.Millisecond)
	}
	t.Logf("%d answers in the drain", tries)
}
