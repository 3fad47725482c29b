package persisttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"backchannel/broker"

	"golang.org/x/sync/errgroup"
)

func testScan(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	other := draft("a", `9`)
	other.Channel.Site = "tsugi"
	b.append(draft("a", `1`), other, draft("b", `2`), draft("a", `3`), other)
	if _, err := b.Log.Revoke(b.ctx, broker.Revocation{Site: "moodle", Kind: broker.RevokeJTI, Value: "j"}); err != nil {
		t.Fatal(err)
	}
	p, err := b.Log.Scan(b.ctx, "moodle", 0, broker.PageLimit{Events: 2})
	if err != nil || !slices.Equal(seqs(p.Events), []uint64{1, 3}) || !p.More || p.Through != 3 {
		t.Fatalf("first page: %+v, %v", p, err)
	}
	p, err = b.Log.Scan(b.ctx, "moodle", p.Through, broker.PageLimit{Events: 2})
	if err != nil || !slices.Equal(seqs(p.Events), []uint64{4}) || p.More || p.Through != 6 || p.Last != 0 {
		t.Errorf("second page: %+v, %v", p, err)
	}
}

func testChannels(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	other := draft("A1", `9`)
	other.Channel.Site = "moodl"
	b.append(draft("b", `1`), draft("B", `1`), draft("-", `1`), draft("aa", `1`), draft("a", `1`), draft("b", `2`), other)
	var got []string
	after := broker.ChannelID("")
	for {
		page, err := b.Log.Channels(b.ctx, "moodle", after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, st := range page {
			got = append(got, fmt.Sprintf("%s %d-%d", st.Channel.ID, st.First, st.Newest))
			after = st.Channel.ID
		}
	}
	if want := []string{"- 3-3", "B 2-2", "a 5-5", "aa 4-4", "b 1-6"}; !slices.Equal(got, want) {
		t.Errorf("channels %q, want %q", got, want)
	}
	st, err := b.Log.Channel(b.ctx, channel("b"))
	want := broker.ChannelState{Channel: channel("b"), First: 1, Newest: 6, Last: 6, Time: b.clock.Now().UnixMicro()}
	if err != nil || st != want {
		t.Errorf("state %+v, %v; want %+v", st, err, want)
	}
	if st, err := b.Log.Channel(b.ctx, channel("nobody")); err != nil || st != (broker.ChannelState{}) {
		t.Errorf("a channel nobody published to: %+v, %v", st, err)
	}
}

func testSites(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	mine, theirs := draft("a", `1`), draft("a", `2`)
	mine.Key, theirs.Key = "k", "k"
	theirs.Channel.Site = "tsugi"
	if got, err := b.Log.Append(b.ctx, []broker.Draft{mine, theirs}); err != nil || got[1].Repeated {
		t.Fatalf("%+v, %v: an idempotency id crosses sites", got, err)
	}
	if _, err := b.Log.Purge(b.ctx, mine.Channel); err != nil {
		t.Fatal(err)
	}
	p, err := b.Log.Range(b.ctx, theirs.Channel, 0, broker.PageLimit{})
	if err != nil || len(p.Events) != 1 || p.Events[0].Prev != 0 {
		t.Errorf("the other site's channel of the same name: %+v, %v", p, err)
	}
}

func testRevocations(t *testing.T, open Open) {
	b := start(t, open, Settings{Age: time.Hour})
	byUser := broker.Revocation{Site: "moodle", Kind: broker.RevokeUser, Value: "5", Before: 77}
	bySession := broker.Revocation{Site: "tsugi", Kind: broker.RevokeSession, Value: "s"}
	b.append(draft("a", `1`))
	at, err := b.Log.Revoke(b.ctx, byUser)
	if err != nil || at.Seq != 2 {
		t.Fatalf("revoke: %v, %v; want position 2", at, err)
	}
	events := b.tail(0)
	if len(events) != 2 || events[1].Revocation == nil || *events[1].Revocation != byUser {
		t.Fatalf("tail gives %+v", events)
	}
	b.clock.Move(time.Hour)
	if _, err := b.Log.Revoke(b.ctx, bySession); err != nil {
		t.Fatal(err)
	}
	b.revoked(byUser, bySession)
	b.clock.Move(broker.RevocationLife - time.Hour)
	b.revoked(bySession)
	if b.Reopen != nil {
		b.Reopen()
		b.revoked(bySession)
	}
}

func (b *bench) revoked(want ...broker.Revocation) {
	b.t.Helper()
	got, err := b.Log.Revocations(b.ctx)
	if err != nil || !slices.Equal(got, want) {
		b.t.Errorf("revocations %+v, %v; want %+v", got, err, want)
	}
}

func testTail(t *testing.T, open Open) {
	const writers, each, tails = 4, 300, 3
	b := start(t, open, Settings{})
	b.fill("a", 150, `1`)
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	var group errgroup.Group
	for i := range tails {
		group.Go(func() error { return b.follow(ctx, uint64(i*60), 150+writers*each) }) //nolint:gosec // at most 120
	}
	for range writers {
		group.Go(func() error {
			for range each {
				if _, err := b.Log.Append(ctx, []broker.Draft{draft("a", `1`)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// follow tails until end and checks that every position comes once and in order.
func (b *bench) follow(ctx context.Context, after, end uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := after + 1
	var wrong error
	err := b.Log.Tail(ctx, after, func(events []broker.Event) {
		for _, e := range events {
			if e.Seq != next && wrong == nil {
				wrong = fmt.Errorf("tail after %d gave %d, want %d", after, e.Seq, next)
			}
			next++
		}
		if next > end || wrong != nil {
			cancel()
		}
	})
	if wrong == nil && next <= end {
		wrong = fmt.Errorf("tail after %d ended before %d: %w", after, next, err)
	}
	return wrong
}

func testTailEnds(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	err := b.Log.Tail(ctx, 0, func([]broker.Event) { t.Error("delivered from an empty log") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("tail returned %v, want its context's error", err)
	}
}

func testReopen(t *testing.T, open Open) {
	b := start(t, open, Settings{PerChannel: 50})
	if b.Reopen == nil {
		t.Skip("this store keeps nothing")
	}
	keyed := draft("a", `1`)
	keyed.Key = "k"
	b.fill("a", 60, `0`)
	b.append(keyed, draft("b", `2`))
	before, err := b.Log.Position(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := b.page("a", 0, broker.PageLimit{})
	b.Reopen()
	after, err := b.Log.Position(b.ctx)
	if err != nil || after != before {
		t.Fatalf("reopened at %v, %v; was %v", after, err, before)
	}
	got := b.page("a", 0, broker.PageLimit{})
	if !slices.Equal(seqs(got.Events), seqs(want.Events)) || got.Last != want.Last || got.Through != want.Through {
		t.Errorf("reopened channel: %v last %d, was %v last %d", seqs(got.Events), got.Last, seqs(want.Events), want.Last)
	}
	again, err := b.Log.Append(b.ctx, []broker.Draft{keyed, draft("a", `3`)})
	if err != nil || !again[0].Repeated || again[0].Cursor.Seq != 61 || again[1].Cursor.Seq != before.Seq+1 {
		t.Errorf("appended after reopening: %+v, %v", again, err)
	}
	if p := b.page("a", 0, broker.PageLimit{}); len(p.Events) != 50 {
		t.Errorf("%d events are kept after reopening, want 50", len(p.Events))
	}
}
