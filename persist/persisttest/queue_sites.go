package persisttest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// bounded is a bound of one site alone.
func bounded(b webhooks.Bounds) Settings {
	return Settings{Bounds: webhooks.Bounds{Sites: map[broker.SiteID]webhooks.Bounds{"moodle": b}}}
}

// of makes d a delivery of another site.
func of(site broker.SiteID, d webhooks.Delivery) webhooks.Delivery {
	d.Site = site
	return d
}

// finish accepts d and ends it in a state a second later, with a reply and a log of a size each.
func (b *bench) finish(d webhooks.Delivery, state webhooks.State, reply, log int) {
	b.t.Helper()
	b.accept(d)
	b.clock.Move(time.Second)
	d = b.end(d)
	d.State, d.Log[0].Response = state, strings.Repeat("r", log)
	if d.Reply = nil; reply > 0 {
		d.Reply = large(reply)
	}
	if state == webhooks.StateDead {
		d.Outcome = webhooks.OutcomeNone
	}
	b.update(d)
}

// left lists the ids of a site's deliveries, oldest first, that keep what have says.
func (b *bench) left(site broker.SiteID, have func(*webhooks.Delivery) bool) string {
	b.t.Helper()
	page, _, err := b.Queue.List(b.ctx, site, webhooks.ListQuery{})
	if err != nil {
		b.t.Fatalf("list %s: %v", site, err)
	}
	var out []string
	for i := range page {
		if d := &page[len(page)-1-i]; have(d) {
			out = append(out, string(d.ID))
		}
	}
	return strings.Join(out, " ")
}

func (b *bench) want(what, got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func anything(*webhooks.Delivery) bool { return true }

func hasReply(d *webhooks.Delivery) bool { return len(d.Reply) > 0 }

func hasLog(d *webhooks.Delivery) bool { return len(d.Log) > 0 }

func testSiteQueueBound(t *testing.T, open Open) {
	b := start(t, open, bounded(webhooks.Bounds{Queue: 100 << 10}))
	job := func(id string) webhooks.Delivery {
		d := b.job(id)
		d.Data = large(10 << 10)
		return d
	}
	for i := range 8 {
		b.accept(job(fmt.Sprint(i)))
	}
	refused := func() {
		t.Helper()
		big := b.job("big")
		big.Data = large(30 << 10)
		_, _, err := b.Queue.Accept(b.ctx, big)
		for _, word := range []string{"[site.limits] queue", "moodle", "102400"} {
			if broker.CodeOf(err) != broker.CodeStoreFull || !strings.Contains(err.Error(), word) {
				t.Fatalf("refused with %v, want store_full that says %s", err, word)
			}
		}
		b.gone("big")
	}
	refused()
	for i := range 20 {
		b.accept(of("tsugi", job(fmt.Sprint(i))))
	}
	if b.Reopen != nil {
		b.Reopen()
		refused()
	}
	b.update(b.end(b.get("0")))
	b.update(b.end(b.get("1")))
	big := b.job("big")
	big.Data = large(30 << 10)
	b.accept(big)
}

func testSiteDeadBound(t *testing.T, open Open) {
	b := start(t, open, bounded(webhooks.Bounds{Dead: 100 << 10}))
	for i := range 10 {
		for _, site := range []broker.SiteID{"moodle", "tsugi"} {
			d := of(site, b.job(fmt.Sprint(i)))
			d.Data = large(20 << 10)
			b.finish(d, webhooks.StateDead, 0, 30<<10)
		}
	}
	b.settle()
	b.want("dead letters of the bounded site", b.left("moodle", anything), "6 7 8 9")
	b.want("dead letters of the other", b.left("tsugi", anything), "0 1 2 3 4 5 6 7 8 9")
}

func testSiteReplyBound(t *testing.T, open Open) {
	b := start(t, open, bounded(webhooks.Bounds{Replies: 100 << 10}))
	for i := range 10 {
		for _, site := range []broker.SiteID{"moodle", "tsugi"} {
			b.finish(of(site, b.job(fmt.Sprint(i))), webhooks.StateDone, 20<<10, 100)
		}
	}
	b.settle()
	b.want("young replies", b.left("moodle", hasReply), "0 1 2 3 4 5 6 7 8 9")
	b.clock.Move(11 * time.Minute)
	b.finish(b.job("10"), webhooks.StateDone, 20<<10, 100)
	b.settle()
	b.want("replies of the bounded site", b.left("moodle", hasReply), "7 8 9 10")
	b.want("logs, which have a bound of their own", b.left("moodle", hasLog), "0 1 2 3 4 5 6 7 8 9 10")
	b.want("replies of the other", b.left("tsugi", hasReply), "0 1 2 3 4 5 6 7 8 9")
}

func testLogBound(t *testing.T, open Open) {
	b := start(t, open, Settings{Bounds: webhooks.Bounds{DeliveryLog: 100 << 10}})
	for i := range 10 {
		site, state := broker.SiteID("moodle"), webhooks.StateDone
		if i%2 == 1 {
			site = "tsugi"
		}
		if i%3 == 1 {
			state = webhooks.StateDead
		}
		b.finish(of(site, b.job(fmt.Sprint(i))), state, 100, 20<<10)
	}
	b.settle()
	b.want("logs of one site", b.left("moodle", hasLog), "6 8")
	b.want("logs of the other", b.left("tsugi", hasLog), "7 9")
	b.want("replies", b.left("moodle", hasReply), "0 2 4 6 8")
	if u := b.usage(); u.LogBytes > 100<<10 || u.LogBytes < 80<<10 {
		t.Errorf("logs take %d bytes, want those of four deliveries", u.LogBytes)
	}
	if got := b.get("0"); got.Outcome != webhooks.OutcomeDelivered || string(got.Data) != `{"answer":42}` {
		t.Errorf("the oldest lost more than its log: %+v", got)
	}
	dead := b.get("4")
	if dead.State != webhooks.StateDead || len(dead.Data) == 0 {
		t.Errorf("a dead letter lost more than its log: %+v", dead)
	}
	dead.State, dead.Ended = webhooks.StateWaiting, time.Time{}
	b.update(dead)
	b.same(b.get("4"), dead)
}

func testLogOfTheLiving(t *testing.T, open Open) {
	b := start(t, open, Settings{Bounds: webhooks.Bounds{DeliveryLog: 10 << 10}})
	d := b.job("1")
	b.accept(d)
	d.Log = b.end(d).Log
	d.Log[0].Response = strings.Repeat("r", 20<<10)
	b.update(d)
	b.settle()
	b.want("the log of what goes on", b.left("moodle", hasLog), "1")
	if u := b.usage(); u.LogBytes != 0 || u.QueueBytes < 20<<10 {
		t.Errorf("usage %+v: the log of a delivery on its way belongs to the queue", u)
	}
}

func testSiteLogBound(t *testing.T, open Open) {
	b := start(t, open, bounded(webhooks.Bounds{DeliveryLog: 100 << 10}))
	for i := range 10 {
		for _, site := range []broker.SiteID{"moodle", "tsugi"} {
			b.finish(of(site, b.job(fmt.Sprint(i))), webhooks.StateDone, 100, 20<<10)
		}
	}
	b.settle()
	b.want("logs of the bounded site", b.left("moodle", hasLog), "6 7 8 9")
	b.want("its replies", b.left("moodle", hasReply), "0 1 2 3 4 5 6 7 8 9")
	b.want("logs of the other", b.left("tsugi", hasLog), "0 1 2 3 4 5 6 7 8 9")
}

func testOldestOfAllSites(t *testing.T, open Open) {
	b := start(t, open, Settings{Bounds: webhooks.Bounds{Dead: 250 << 10, Sites: map[broker.SiteID]webhooks.Bounds{"tsugi": {Dead: 60 << 10}}}})
	sites := []broker.SiteID{"moodle", "tsugi", "rspade"}
	for i := range 18 {
		d := of(sites[(i/2)%3], b.job(fmt.Sprint(i)))
		d.Data = large(20 << 10)
		b.finish(d, webhooks.StateDead, 0, 0)
	}
	b.settle()
	b.want("moodle", b.left("moodle", anything), "6 7 12 13")
	b.want("tsugi, whose own bound is the smaller", b.left("tsugi", anything), "14 15")
	b.want("rspade", b.left("rspade", anything), "4 5 10 11 16 17")
}

func testUsageEnds(t *testing.T, open Open) {
	b := start(t, open, bounded(webhooks.Bounds{Replies: 30 << 10, Dead: 30 << 10, DeliveryLog: 30 << 10}))
	for i := range 20 {
		state := webhooks.StateDone
		if i%2 == 1 {
			state = webhooks.StateDead
		}
		b.finish(b.job(fmt.Sprint(i)), state, 1000*i, 2000*i)
	}
	b.clock.Move(webhooks.DeadLife)
	if b.Reopen != nil {
		b.Reopen()
	}
	for deadline := time.Now().Add(time.Minute); ; b.settle() { // the store looks once a second for what is over
		u := b.usage()
		if u == (webhooks.Usage{}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is left, but usage is %+v", u)
		}
	}
}
