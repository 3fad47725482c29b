package persisttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// RunQueue tests that a store keeps the contract of webhooks.Queue.
func RunQueue(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"AcceptedComesBackWhole", testAccept},
		{"KnownIdIsAcceptedOnce", testKnown},
		{"UpdateReplacesAllButTheMessage", testUpdate},
		{"UpdateOfTheUnknownIsNotFound", testUpdateUnknown},
		{"SealIsErasedAtTheEnd", testSeal},
		{"PendingComesInOrderOfAcceptance", testPending},
		{"UnknownCallsStayPending", testPendingUnknown},
		{"OutcomeIsRememberedForItsLife", testOutcomeLife},
		{"DeadLetterIsKeptForItsLifeAndCanGoBack", testDead},
		{"RetryByHandIsRemembered", testRetried},
		{"IntakeIsRefusedAtTheBound", testQueueBound},
		{"OldRepliesGoAndOutcomesStay", testReplyBound},
		{"OldestDeadLettersGo", testDeadBound},
		{"IntakeOfASiteIsRefusedAtItsOwnBound", testSiteQueueBound},
		{"OldestDeadLettersOfASiteGo", testSiteDeadBound},
		{"OldRepliesOfASiteGo", testSiteReplyBound},
		{"OldestLogsGoAndTheRestStays", testLogBound},
		{"LogsOfWhatGoesOnStay", testLogOfTheLiving},
		{"OldestLogsOfASiteGo", testSiteLogBound},
		{"OldestOfAllSitesGoFirst", testOldestOfAllSites},
		{"UsageEndsWithTheRecords", testUsageEnds},
		{"ListPagesFromTheNewest", testList},
		{"ForgetErasesOneUsersBodies", testForget},
		{"UsageCountsStates", testUsage},
		{"ReopenedQueueIsTheSame", testQueueReopen},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

// job is a delivery with every field of a message set.
func (b *bench) job(id string) webhooks.Delivery {
	return webhooks.Delivery{
		Message: webhooks.Message{
			Ref: webhooks.Ref{Site: "moodle", ID: webhooks.ID(id)}, Component: "mod_kahoodle", Kind: webhooks.KindJob,
			Type: webhooks.TypeJob, Caller: "u:5", Order: "u:5", Accepted: b.clock.Now(), User: "5", Session: "s1",
			Seal: "sealed", Channel: "ch", ChannelRef: "ref", Data: json.RawMessage(`{"answer":42}`),
		},
		State: webhooks.StateWaiting, Due: b.clock.Now().Add(time.Second),
	}
}

func (b *bench) accept(d webhooks.Delivery) webhooks.Delivery {
	b.t.Helper()
	stored, known, err := b.Queue.Accept(b.ctx, d)
	if err != nil || known {
		b.t.Fatalf("accept %s: known=%v, %v", d.ID, known, err)
	}
	return stored
}

func (b *bench) update(d webhooks.Delivery) {
	b.t.Helper()
	if err := b.Queue.Update(b.ctx, d); err != nil {
		b.t.Fatalf("update %s: %v", d.ID, err)
	}
}

func (b *bench) get(id string) webhooks.Delivery {
	b.t.Helper()
	d, err := b.Queue.Get(b.ctx, webhooks.Ref{Site: "moodle", ID: webhooks.ID(id)})
	if err != nil {
		b.t.Fatalf("get %s: %v", id, err)
	}
	return d
}

func (b *bench) gone(id string) {
	b.t.Helper()
	_, err := b.Queue.Get(b.ctx, webhooks.Ref{Site: "moodle", ID: webhooks.ID(id)})
	if broker.CodeOf(err) != broker.CodeNotFound {
		b.t.Errorf("get %s: %v, want not_found", id, err)
	}
}

// end makes d done as delivered, now.
func (b *bench) end(d webhooks.Delivery) webhooks.Delivery {
	d.State, d.Outcome, d.Ended, d.Attempts = webhooks.StateDone, webhooks.OutcomeDelivered, b.clock.Now(), 1
	d.Reply = json.RawMessage(`{"points":3}`)
	d.Log = []webhooks.Attempt{{
		Number: 1, Started: b.clock.Now(), Duration: 12 * time.Millisecond, URL: "https://school.example/hook", Status: 200,
		Request: "{}", Response: `{"points":3}`,
	}}
	return d
}

func (b *bench) same(got, want webhooks.Delivery) {
	b.t.Helper()
	for _, d := range []*webhooks.Delivery{&got, &want} {
		for _, at := range []*time.Time{&d.Accepted, &d.Deadline, &d.Due, &d.Ended} {
			*at = at.UTC()
		}
		d.Log = slices.Clone(d.Log)
		for i := range d.Log {
			d.Log[i].Started = d.Log[i].Started.UTC()
		}
	}
	if !reflect.DeepEqual(got, want) {
		b.t.Errorf("delivery %s:\ngot  %+v\nwant %+v", want.ID, got, want)
	}
}

func testAccept(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	want := b.job("1")
	b.same(b.accept(want), want)
	b.same(b.get("1"), want)

	sending := b.job("2")
	sending.Kind, sending.Type, sending.Deadline = webhooks.KindCall, webhooks.TypeCall, b.clock.Now().Add(10*time.Second)
	sending.State, sending.Attempts = webhooks.StateSending, 1
	b.accept(sending)
	b.same(b.get("2"), sending)

	settled := webhooks.Delivery{
		Message: webhooks.Message{Ref: webhooks.Ref{Site: "moodle", ID: "3"}, Kind: webhooks.KindCall, Caller: "u:5"},
		State:   webhooks.StateDone, Outcome: webhooks.OutcomeNotDelivered, Ended: b.clock.Now(), Settled: true, Reason: "settled",
	}
	b.accept(settled)
	b.same(b.get("3"), settled)
	b.gone("4")
}

func testKnown(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	first := b.job("1")
	b.accept(first)
	second := b.job("1")
	second.Caller, second.Data = "u:6", json.RawMessage(`7`)
	stored, known, err := b.Queue.Accept(b.ctx, second)
	if err != nil || !known {
		t.Fatalf("known=%v, %v", known, err)
	}
	b.same(stored, first)
	b.same(b.get("1"), first)
	other := b.job("1")
	other.Site = "tsugi"
	b.accept(other)
}

func testUpdate(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	d := b.job("1")
	b.accept(d)
	d.State, d.Attempts, d.Reason = webhooks.StateSending, 1, "on its way"
	b.update(d)
	b.same(b.get("1"), d)

	bare := d // as Pending gives it
	bare.Data, bare.Caller = nil, "u:7"
	bare.State, bare.Due = webhooks.StateWaiting, b.clock.Now().Add(time.Minute)
	b.update(bare)
	d.State, d.Due = bare.State, bare.Due
	b.same(b.get("1"), d)

	d = b.end(d)
	b.update(d)
	d.Seal = ""
	b.same(b.get("1"), d)
}

func testUpdateUnknown(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	if err := b.Queue.Update(b.ctx, b.job("1")); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("update of an unknown delivery: %v, want not_found", err)
	}
	b.gone("1")
}

func testSeal(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	for _, state := range []webhooks.State{webhooks.StateDone, webhooks.StateDead} {
		d := b.job(string(state))
		b.accept(d)
		if got := b.get(string(state)); got.Seal != "sealed" {
			t.Fatalf("seal %q before the end", got.Seal)
		}
		d.State, d.Ended = state, b.clock.Now()
		b.update(d)
		if got := b.get(string(state)); got.Seal != "" {
			t.Errorf("a %s delivery still has its seal", state)
		}
	}
}

func (b *bench) pending() []webhooks.Delivery {
	b.t.Helper()
	var out []webhooks.Delivery
	err := b.Queue.Pending(b.ctx, func(d webhooks.Delivery) error {
		out = append(out, d)
		return nil
	})
	if err != nil {
		b.t.Fatalf("pending: %v", err)
	}
	return out
}

func ids(all []webhooks.Delivery) string {
	var out []string
	for i := range all {
		out = append(out, string(all[i].ID))
	}
	return strings.Join(out, " ")
}

func testPending(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	for i := range 1200 {
		b.accept(b.job(fmt.Sprint(1200 - i)))
	}
	for i := range 1200 {
		if id := 1200 - i; id > 3 {
			b.update(b.end(b.job(fmt.Sprint(id))))
		}
	}
	d := b.job("2")
	d.State, d.Attempts, d.Log = webhooks.StateSending, 1, []webhooks.Attempt{{Number: 1}}
	b.update(d)
	got := b.pending()
	if ids(got) != "3 2 1" {
		t.Fatalf("pending %q, want %q", ids(got), "3 2 1")
	}
	d.Data, d.Log = nil, nil
	b.same(got[1], d)
	stop := errors.New("stop")
	n := 0
	if err := b.Queue.Pending(b.ctx, func(webhooks.Delivery) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("pending returned %v after %d calls, want the callback's error after one", err, n)
	}
}

func testPendingUnknown(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	d := b.job("1")
	d.Kind = webhooks.KindCall
	b.accept(d)
	d.State, d.Outcome, d.Ended = webhooks.StateDone, webhooks.OutcomeUnknown, b.clock.Now()
	b.update(d)
	if got := ids(b.pending()); got != "1" {
		t.Fatalf("pending %q: an unknown call may still be answered", got)
	}
	d.Outcome = webhooks.OutcomeDelivered
	b.update(d)
	if got := ids(b.pending()); got != "" {
		t.Errorf("pending %q after the outcome became final", got)
	}
}

func testOutcomeLife(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	b.accept(b.job("1"))
	b.clock.Move(time.Hour)
	b.update(b.end(b.job("1")))
	b.clock.Move(webhooks.OutcomeLife - time.Microsecond)
	if got := b.get("1"); got.Outcome != webhooks.OutcomeDelivered {
		t.Fatalf("outcome %q at the end of its life", got.Outcome)
	}
	b.clock.Move(time.Microsecond)
	b.gone("1")
	if err := b.Queue.Update(b.ctx, b.job("1")); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("update after its life: %v, want not_found", err)
	}
	again := b.job("1")
	again.Data = json.RawMessage(`8`)
	b.accept(again)
	b.same(b.get("1"), again)
	b.clock.Move(100 * webhooks.OutcomeLife)
	b.same(b.get("1"), again)
}

func testDead(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	d := b.job("1")
	b.accept(d)
	d.State, d.Ended = webhooks.StateDead, b.clock.Now()
	b.update(d)
	if got := ids(b.pending()); got != "" {
		t.Errorf("pending %q: a dead letter does not wait", got)
	}
	b.clock.Move(webhooks.DeadLife - time.Microsecond)
	back := b.get("1")
	if string(back.Data) != string(d.Data) {
		t.Fatalf("a dead letter holds %q", back.Data)
	}
	back.State, back.Ended = webhooks.StateWaiting, time.Time{}
	b.update(back)
	b.clock.Move(webhooks.DeadLife)
	if got := ids(b.pending()); got != "1" {
		t.Errorf("pending %q: a dead letter that went back waits", got)
	}
	back.State, back.Ended = webhooks.StateDead, b.clock.Now()
	b.update(back)
	b.clock.Move(webhooks.DeadLife)
	b.gone("1")
}

func testRetried(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	d := b.job("1")
	b.accept(d)
	d.State, d.Attempts, d.Ended = webhooks.StateDead, 11, b.clock.Now()
	b.update(d)
	d = b.get("1")
	d.State, d.Ended, d.RetriedAfter = webhooks.StateWaiting, time.Time{}, d.Attempts
	b.update(d)
	d.Attempts++
	b.update(d)
	if b.Reopen != nil {
		b.Reopen()
	}
	b.same(b.get("1"), d)
	if got := b.pending(); len(got) != 1 || got[0].RetriedAfter != 11 || got[0].Attempts != 12 {
		t.Errorf("pending after a retry by hand: %+v, want the 12th attempt after the 11th", got)
	}
}
