package persisttest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
)

func testPurge(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	b.fill("a", 1500, `1`)
	b.append(draft("b", `2`))
	if n, err := b.Log.Purge(b.ctx, channel("a")); n != 1500 || err != nil {
		t.Fatalf("purged %d, %v; want 1500", n, err)
	}
	p := b.page("a", 0, broker.PageLimit{})
	if len(p.Events) != 0 || p.Last != 1500 {
		t.Fatalf("after the purge: %d events, last %d", len(p.Events), p.Last)
	}
	if _, ok := p.Continues(10); ok {
		t.Error("a reader that was behind is not told of the loss")
	}
	if _, ok := p.Continues(1500); !ok {
		t.Error("a reader that had everything is told of a loss")
	}
	if got := seqs(b.scan()); !slices.Equal(got, []uint64{1501}) {
		t.Errorf("the site has %d events after the purge, want the other channel's one", len(got))
	}
	if n, err := b.Log.Purge(b.ctx, channel("a")); n != 0 || err != nil {
		t.Errorf("a second purge removed %d, %v", n, err)
	}
	if n, err := b.Log.Purge(b.ctx, channel("nobody")); n != 0 || err != nil {
		t.Errorf("purge of a channel nobody published to: %d, %v", n, err)
	}
	next := b.append(draft("a", `3`))[0]
	p = b.page("a", 0, broker.PageLimit{})
	if len(p.Events) != 1 || p.Events[0].Seq != next || p.Events[0].Prev != 1500 {
		t.Errorf("published after the purge: %+v", p.Events)
	}
}

func testPerChannel(t *testing.T, open Open) {
	b := start(t, open, Settings{PerChannel: 3})
	for i := range 8 {
		b.append(draft("a", `1`), draft("b", `1`))
		got := seqs(b.page("a", 0, broker.PageLimit{}).Events)
		if len(got) != min(i+1, 3) || got[len(got)-1] != uint64(2*i+1) {
			t.Fatalf("after %d events the channel keeps %v", i+1, got)
		}
	}
	p := b.page("a", 0, broker.PageLimit{})
	if _, ok := p.Continues(9); !ok {
		t.Error("a reader at 9, which has all up to the first kept event, is told of a loss")
	}
	if _, ok := p.Continues(8); ok {
		t.Error("a reader at 8, which misses 9, is not told of it")
	}
}

func testPerChannelInOneCall(t *testing.T, open Open) {
	b := start(t, open, Settings{PerChannel: 3})
	drafts := make([]broker.Draft, 700)
	for i := range drafts {
		drafts[i] = draft("a", `1`)
	}
	if _, err := b.Log.Append(b.ctx, drafts); err != nil {
		t.Fatal(err)
	}
	if got, want := seqs(b.page("a", 0, broker.PageLimit{}).Events), []uint64{698, 699, 700}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	if got := seqs(b.tail(0)); !slices.Equal(got, []uint64{698, 699, 700}) && len(got) != 700 {
		t.Errorf("tail gives %d events", len(got))
	}
}

func testAge(t *testing.T, open Open) {
	b := start(t, open, Settings{Age: time.Hour})
	made := b.clock.Now()
	b.append(draft("a", `1`), draft("b", `1`))
	b.clock.Move(40 * time.Minute)
	middle := b.clock.Now()
	b.append(draft("a", `2`))
	if _, known := b.at(made); !known {
		t.Error("the making of the store is before its floor although nothing was removed")
	}
	if _, known := b.at(made.Add(-time.Second)); known {
		t.Error("a moment before the store was made is known")
	}
	b.clock.Move(20 * time.Minute)
	if got := seqs(b.page("a", 0, broker.PageLimit{}).Events); !slices.Equal(got, []uint64{3}) {
		t.Fatalf("an hour later the channel keeps %v, want [3]", got)
	}
	if got := seqs(b.scan()); !slices.Equal(got, []uint64{3}) {
		t.Errorf("the site has %v, want [3]", got)
	}
	if _, known := b.at(made.Add(-time.Microsecond)); known {
		t.Error("a moment before the removed events is still known")
	}
	if seq, known := b.at(middle.Add(-time.Microsecond)); seq != 2 || !known {
		t.Errorf("just before the kept event: %d, %v; want 2, known", seq, known)
	}
}

func testQuiet(t *testing.T, open Open) {
	b := start(t, open, Settings{Age: time.Hour})
	b.append(draft("a", `1`))
	b.clock.Move(time.Minute)
	seen := b.clock.Now()
	b.clock.Move(100 * time.Hour)
	if seq, known := b.at(seen); seq != 1 || !known {
		t.Errorf("nothing was removed since: %d, %v; want 1, known", seq, known)
	}
	b.append(draft("b", `1`))
	p := b.page("a", 1, broker.PageLimit{})
	if _, ok := p.Continues(1); !ok || p.Last != 1 || p.Through != 2 {
		t.Errorf("a quiet channel: %+v", p)
	}
	if st, err := b.Log.Channel(b.ctx, channel("a")); err != nil || st.Last != 1 || st.First != 0 || st.Newest != 0 {
		t.Errorf("state %+v, %v", st, err)
	}
	// The page read its state just before the first event after the silence.
	if seq, known := b.at(b.clock.Now().Add(-time.Microsecond)); seq != 1 || !known {
		t.Errorf("before the first event after the silence: %d, %v; want 1, known", seq, known)
	}
}

func testOwnTTL(t *testing.T, open Open) {
	b := start(t, open, Settings{Age: time.Hour})
	short := draft("a", `2`)
	short.TTL = 5 * time.Second
	b.append(draft("a", `1`), short, draft("a", `3`))
	b.clock.Move(5 * time.Second)
	p := b.page("a", 0, broker.PageLimit{})
	if got := seqs(p.Events); !slices.Equal(got, []uint64{1, 3}) {
		t.Fatalf("kept %v, want [1 3]", got)
	}
	if next, ok := p.Continues(0); !ok || next != 3 {
		t.Errorf("the expiry shows as a loss: %d, %v", next, ok)
	}
	b.append(short)
	b.clock.Move(5 * time.Second)
	st, err := b.Log.Channel(b.ctx, channel("a"))
	if err != nil || st.First != 1 || st.Newest != 3 || st.Last != 3 {
		t.Errorf("state %+v, %v; want first 1, newest 3, last 3", st, err)
	}
	last, err := b.Log.Last(b.ctx, channel("a"), 1)
	if err != nil || !slices.Equal(seqs(last.Events), []uint64{3}) {
		t.Errorf("last 1 gives %v, %v", seqs(last.Events), err)
	}
	if _, known := b.at(b.clock.Now().Add(-10 * time.Second)); !known {
		t.Error("the expiry of an event with a TTL of its own moved the floor")
	}
}

func testTotal(t *testing.T, open Open) {
	const total = 1 << 20
	b := start(t, open, Settings{Total: total})
	data := `"` + strings.Repeat("x", 400) + `"`
	for range 60 {
		b.fill("a", 100, data)
		b.clock.Move(time.Second)
	}
	b.settle()
	kept := b.scan()
	var bytes int
	for _, e := range kept {
		bytes += len(e.Data)
	}
	if bytes > total || bytes < total/4 {
		t.Fatalf("%d bytes of data are kept, want below %d and not much less", bytes, total)
	}
	first := kept[0]
	if page := b.page("a", 0, broker.PageLimit{}); page.Events[0].Seq != first.Seq {
		t.Errorf("the channel starts at %d, the log at %d", page.Events[0].Seq, first.Seq)
	}
	if _, known := b.at(time.UnixMicro(first.Time - 1_000_001)); known {
		t.Error("a moment that the total has removed is known")
	}
	if _, known := b.at(time.UnixMicro(first.Time)); !known {
		t.Error("the moment of the first kept event is not known")
	}
	if page := b.page("a", 100, broker.PageLimit{Events: 1}); true {
		if _, ok := page.Continues(100); ok {
			t.Error("a reader behind the floor is not told of the loss")
		}
	}
}

// settle gives a store that removes behind its answers the occasion: it must have done so when the next but one call is
// answered.
func (b *bench) settle() {
	b.t.Helper()
	b.append(draft("settle", `0`), draft("settle", `0`))
}

func testAt(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	var times []time.Time
	for range 10 {
		b.clock.Move(time.Second)
		times = append(times, b.clock.Now())
		b.append(draft("a", `1`), draft("b", `1`))
	}
	for i, at := range times {
		if seq, known := b.at(at); seq != uint64(2*i+2) || !known {
			t.Errorf("at event %d: %d, %v; want %d", i, seq, known, 2*i+2)
		}
		if seq, known := b.at(at.Add(-time.Microsecond)); seq != uint64(2*i) || !known {
			t.Errorf("just before event %d: %d, %v; want %d", i, seq, known, 2*i)
		}
	}
	if seq, known := b.at(times[9].Add(time.Hour)); seq != 20 || !known {
		t.Errorf("in the future: %d, %v", seq, known)
	}
}
