package persisttest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// large is data of about a size.
func large(bytes int) json.RawMessage {
	return json.RawMessage(`"` + strings.Repeat("x", bytes-2) + `"`)
}

func testQueueBound(t *testing.T, open Open) {
	b := start(t, open, Settings{Bounds: webhooks.Bounds{Queue: 100 << 10}})
	var err error
	n := 0
	for ; err == nil; n++ {
		d := b.job(fmt.Sprint(n))
		d.Data = large(10 << 10)
		_, _, err = b.Queue.Accept(b.ctx, d)
	}
	if broker.CodeOf(err) != broker.CodeStoreFull || !strings.Contains(err.Error(), "[limits] queue") {
		t.Fatalf("refused with %v, want store_full and the name of the bound", err)
	}
	if n < 8 || n > 11 {
		t.Errorf("refused after %d messages of 10 KiB, want it at 100 KiB", n)
	}
	b.gone(fmt.Sprint(n - 1))
	if _, known, err := b.Queue.Accept(b.ctx, b.job("0")); err != nil || !known {
		t.Errorf("a known id at the bound: known=%v, %v", known, err)
	}
	settled := b.job("settled")
	settled.State, settled.Outcome, settled.Data = webhooks.StateDone, webhooks.OutcomeNotDelivered, nil
	b.accept(settled)
	b.update(b.end(b.get("0")))
	d := b.job("next")
	d.Data = large(8 << 10)
	b.accept(d)
}

func testReplyBound(t *testing.T, open Open) {
	b := start(t, open, Settings{Bounds: webhooks.Bounds{Replies: 100 << 10}})
	finish := func(from, to int) {
		for i := from; i < to; i++ {
			d := b.job(fmt.Sprint(i))
			b.accept(d)
			d = b.end(d)
			d.Reply = large(20 << 10)
			b.update(d)
			b.clock.Move(time.Second)
		}
	}
	finish(0, 10)
	b.settle()
	for i := range 10 {
		if got := b.get(fmt.Sprint(i)); len(got.Reply) == 0 {
			t.Fatalf("reply %d went although it is younger than ten minutes", i)
		}
	}
	b.clock.Move(11 * time.Minute)
	finish(10, 12)
	b.settle()
	u := b.usage()
	if u.ReplyBytes > 100<<10 || u.ReplyBytes < 60<<10 {
		t.Errorf("replies take %d bytes, want at most %d and not much less", u.ReplyBytes, 100<<10)
	}
	if u.Done != 12 {
		t.Errorf("%d outcomes are kept, want 12", u.Done)
	}
	if got := b.get("0"); len(got.Reply) > 0 || got.Outcome != webhooks.OutcomeDelivered {
		t.Errorf("the oldest: outcome %q, reply of %d bytes; want the outcome alone", got.Outcome, len(got.Reply))
	}
	if got := b.get("11"); len(got.Reply) == 0 {
		t.Error("the newest reply went")
	}
}

func testDeadBound(t *testing.T, open Open) {
	b := start(t, open, Settings{Bounds: webhooks.Bounds{Dead: 100 << 10}})
	for i := range 10 {
		d := b.job(fmt.Sprint(i))
		d.Data = large(20 << 10)
		b.accept(d)
		d.State, d.Ended = webhooks.StateDead, b.clock.Now()
		b.update(d)
		b.clock.Move(time.Second)
	}
	b.settle()
	u := b.usage()
	if u.DeadBytes > 100<<10 || u.Dead != 4 {
		t.Errorf("%d dead letters of %d bytes are kept, want 4 in %d", u.Dead, u.DeadBytes, 100<<10)
	}
	b.gone("5")
	if got := b.get("6"); got.State != webhooks.StateDead {
		t.Errorf("the fourth newest is %s", got.State)
	}
}

func testList(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	for i := range 7 {
		d := b.job(fmt.Sprint(i))
		if i%2 == 1 {
			d.Component = "block_live"
		}
		b.accept(d)
		if i == 3 {
			b.update(b.end(d))
		}
	}
	other := b.job("other")
	other.Site = "tsugi"
	b.accept(other)
	for _, c := range []struct {
		query webhooks.ListQuery
		want  string
	}{
		{webhooks.ListQuery{}, "6 5 4 3 2 1 0"},
		{webhooks.ListQuery{Limit: 3}, "6 5 4|3 2 1|0"},
		{webhooks.ListQuery{State: webhooks.StateDone}, "3"},
		{webhooks.ListQuery{Component: "block_live", Limit: 2}, "5 3|1"},
		{webhooks.ListQuery{State: webhooks.StateWaiting, Component: "block_live"}, "5 1"},
		{webhooks.ListQuery{State: webhooks.StateDead}, ""},
	} {
		if got := b.list(c.query); got != c.want {
			t.Errorf("list %+v: %q, want %q", c.query, got, c.want)
		}
	}
	if page, _, err := b.Queue.List(b.ctx, "moodle", webhooks.ListQuery{State: webhooks.StateDone}); err != nil || len(page) != 1 ||
		string(page[0].Reply) != `{"points":3}` || len(page[0].Log) != 1 {
		t.Errorf("a listed delivery lacks its reply or log: %+v, %v", page, err)
	}
	if _, _, err := b.Queue.List(b.ctx, "moodle", webhooks.ListQuery{After: "x"}); broker.CodeOf(err) != broker.CodeBadRequest {
		t.Errorf("an after that no page gave: %v, want bad_request", err)
	}
}

// list joins the pages by a bar; empty pages at the end do not count.
func (b *bench) list(q webhooks.ListQuery) string {
	b.t.Helper()
	var pages []string
	for {
		page, next, err := b.Queue.List(b.ctx, "moodle", q)
		if err != nil {
			b.t.Fatalf("list %+v: %v", q, err)
		}
		if len(page) > 0 {
			pages = append(pages, ids(page))
		}
		if next == "" {
			return strings.Join(pages, "|")
		}
		q.After = next
	}
}

func testForget(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	mine, waiting, theirs := b.job("mine"), b.job("waiting"), b.job("theirs")
	theirs.User = "6"
	elsewhere := b.job("mine")
	elsewhere.Site = "tsugi"
	for _, d := range []webhooks.Delivery{mine, waiting, theirs, elsewhere} {
		b.accept(d)
	}
	b.update(b.end(mine))
	b.update(b.end(theirs))
	b.update(b.end(elsewhere))
	if n, err := b.Queue.Forget(b.ctx, "moodle", "5"); n != 1 || err != nil {
		t.Fatalf("forgot %d, %v; want 1", n, err)
	}
	want := b.end(mine)
	want.Data, want.Reply, want.Log, want.Seal = nil, nil, nil, ""
	b.same(b.get("mine"), want)
	if got := b.get("waiting"); len(got.Data) == 0 {
		t.Error("a delivery on its way lost its data")
	}
	if got := b.get("theirs"); len(got.Reply) == 0 {
		t.Error("another user's reply went")
	}
	far, err := b.Queue.Get(b.ctx, elsewhere.Ref)
	if err != nil || len(far.Reply) == 0 {
		t.Errorf("another site's user of the same id: %+v, %v", far, err)
	}
}

func (b *bench) usage() webhooks.Usage {
	b.t.Helper()
	u, err := b.Queue.Usage(b.ctx)
	if err != nil {
		b.t.Fatalf("usage: %v", err)
	}
	return u
}

func testUsage(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	if u := b.usage(); u != (webhooks.Usage{}) {
		t.Fatalf("an empty queue: %+v", u)
	}
	for _, id := range []string{"waiting", "sending", "done", "dead"} {
		b.accept(b.job(id))
	}
	sending, dead := b.job("sending"), b.job("dead")
	sending.State = webhooks.StateSending
	dead.State, dead.Ended = webhooks.StateDead, b.clock.Now()
	b.update(sending)
	b.update(dead)
	b.update(b.end(b.job("done")))
	u := b.usage()
	if u.Waiting != 1 || u.Sending != 1 || u.Done != 1 || u.Dead != 1 {
		t.Errorf("counts %+v, want one of each", u)
	}
	if data := int64(len(b.job("x").Data)); u.QueueBytes < 2*data || u.ReplyBytes < data || u.DeadBytes < data {
		t.Errorf("bytes %+v hold less than the data", u)
	}
	if b.Reopen != nil {
		b.Reopen()
		if again := b.usage(); again != u {
			t.Errorf("reopened: %+v, was %+v", again, u)
		}
	}
}

func testQueueReopen(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	if b.Reopen == nil {
		t.Skip("this store keeps nothing")
	}
	for _, id := range []string{"c", "a", "b"} {
		b.accept(b.job(id))
	}
	b.update(b.end(b.job("a")))
	b.Reopen()
	if got := ids(b.pending()); got != "c b" {
		t.Errorf("pending %q after reopening, want %q", got, "c b")
	}
	b.accept(b.job("d"))
	if got, want := b.list(webhooks.ListQuery{}), "d b a c"; got != want {
		t.Errorf("list %q after reopening, want %q", got, want)
	}
	want := b.end(b.job("a"))
	want.Seal = ""
	b.same(b.get("a"), want)
}
