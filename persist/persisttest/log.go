package persisttest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
)

// RunLog tests that a store keeps the contract of broker.Log.
func RunLog(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"PositionsRiseByOneOverAllChannels", testPositions},
		{"TimeNeverFalls", testTimeNeverFalls},
		{"EventComesBackAsItWasDrafted", testContent},
		{"PrevNamesTheCountedEventBefore", testPrev},
		{"RepeatedKeyGivesTheFirstPosition", testKeys},
		{"PageStopsAtEitherBoundAndGoesOn", testPages},
		{"LastGivesTheNewest", testLast},
		{"PurgeIsForGoodAndShows", testPurge},
		{"CountKeepsExactlyTheNewest", testPerChannel},
		{"CountKeepsExactlyTheNewestOfOneCall", testPerChannelInOneCall},
		{"AgeRemovesAndMovesTheFloor", testAge},
		{"QuietChannelStaysRecovered", testQuiet},
		{"OwnTTLExpiresWithoutLoss", testOwnTTL},
		{"TotalRemovesTheOldestAndMovesTheFloor", testTotal},
		{"MomentGivesItsPosition", testAt},
		{"ScanReadsOneSiteInOrder", testScan},
		{"ChannelsAreListedById", testChannels},
		{"SitesDoNotMeet", testSites},
		{"RevocationsAreKeptAndTailed", testRevocations},
		{"TailJoinsLiveWithNoGapAndNoRepeat", testTail},
		{"TailEndsWithItsContext", testTailEnds},
		{"ReopenedStoreIsTheSame", testReopen},
		{"AnyHistoryMatchesTheModel", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

func testPositions(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	if got := b.position(); got != 0 {
		t.Fatalf("an empty log is at %d, want 0", got)
	}
	if got, want := b.append(draft("a", `1`), draft("b", `2`), draft("a", `3`)), []uint64{1, 2, 3}; !slices.Equal(got, want) {
		t.Fatalf("positions %v, want %v", got, want)
	}
	batch, err := b.Log.Append(b.ctx, []broker.Draft{draft("c", `4`), draft("a", `5`), draft("c", `6`)})
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range batch {
		if a.Cursor.Seq != uint64(4+i) || a.Repeated {
			t.Errorf("draft %d of the batch: %+v, want position %d", i, a, 4+i)
		}
	}
	head, err := b.Log.Position(b.ctx)
	if err != nil || head != batch[2].Cursor {
		t.Errorf("position %v, %v; want %v", head, err, batch[2].Cursor)
	}
	if none, err := b.Log.Append(b.ctx, nil); err != nil || len(none) != 0 || b.position() != 6 {
		t.Errorf("appending nothing gave %v, %v at %d", none, err, b.position())
	}
}

func testTimeNeverFalls(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	b.append(draft("a", `1`))
	b.clock.Move(-time.Hour)
	b.append(draft("a", `2`))
	b.clock.Move(2 * time.Hour)
	b.append(draft("a", `3`))
	got := b.page("a", 0, broker.PageLimit{}).Events
	if len(got) != 3 || got[0].Time > got[1].Time || got[1].Time >= got[2].Time {
		t.Fatalf("times of the events: %+v", got)
	}
	if want := b.clock.Now().UnixMicro(); got[2].Time != want {
		t.Errorf("time %d, want the clock's %d", got[2].Time, want)
	}
}

func testContent(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	big := []byte(`"` + strings.Repeat("x", 256<<10) + `"`)
	drafts := []broker.Draft{
		{Channel: channel("a"), Type: "score", Data: []byte(`{"ü":[1,2]}`), Key: "k"},
		{Channel: channel("a"), Type: "peer", Data: []byte(`null`), User: "5", Client: "mark"},
		{Channel: channel("a"), Data: big},
		{Channel: channel("a"), Data: []byte(`7`), TTL: time.Hour},
	}
	if _, err := b.Log.Append(b.ctx, drafts); err != nil {
		t.Fatal(err)
	}
	for _, from := range []struct {
		name   string
		events []broker.Event
	}{{"range", b.page("a", 0, broker.PageLimit{}).Events}, {"tail", b.tail(0)}} {
		if len(from.events) != len(drafts) {
			t.Fatalf("%s: %d events, want %d", from.name, len(from.events), len(drafts))
		}
		for i, e := range from.events {
			d := drafts[i]
			if e.Channel != d.Channel || e.Type != d.Type || !bytes.Equal(e.Data, d.Data) || e.User != d.User ||
				e.Client != d.Client || e.Counted != (d.TTL == 0) || e.Revocation != nil {
				t.Errorf("%s: event %d came back as %.200v", from.name, i, e)
			}
			if ends := b.clock.Now().Add(d.TTL).UnixMicro(); from.name == "tail" && e.Expires != ends*min(int64(d.TTL), 1) {
				t.Errorf("tail: event %d expires at %d, its ttl is %s", i, e.Expires, d.TTL)
			}
		}
	}
}

func testPrev(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	short := draft("a", `2`)
	short.TTL = time.Hour
	b.append(draft("a", `1`), draft("b", `0`), short, draft("a", `3`), draft("a", `4`))
	var prev []uint64
	for _, e := range b.page("a", 0, broker.PageLimit{}).Events {
		prev = append(prev, e.Prev)
	}
	if want := []uint64{0, 1, 1, 4}; !slices.Equal(prev, want) {
		t.Errorf("prev %v, want %v: an event with a TTL points back but is not pointed to", prev, want)
	}
}

func testKeys(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	keyed := draft("a", `1`)
	keyed.Key = "k"
	other := draft("b", `1`)
	other.Key = "k"
	got, err := b.Log.Append(b.ctx, []broker.Draft{keyed, keyed, other})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Repeated || !got[1].Repeated || got[1].Cursor != got[0].Cursor || got[2].Repeated {
		t.Fatalf("answers to one call: %+v", got)
	}
	b.clock.Move(broker.KeyLife - time.Second)
	again, err := b.Log.Append(b.ctx, []broker.Draft{keyed})
	if err != nil || !again[0].Repeated || again[0].Cursor != got[0].Cursor {
		t.Fatalf("within its life: %+v, %v", again, err)
	}
	if b.position() != 2 {
		t.Errorf("the log is at %d, want 2: repeats take no position", b.position())
	}
	b.clock.Move(time.Second)
	late, err := b.Log.Append(b.ctx, []broker.Draft{keyed})
	if err != nil || late[0].Repeated || late[0].Cursor.Seq != 3 {
		t.Errorf("after its life: %+v, %v", late, err)
	}
}

func testPages(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	for range 5 {
		b.append(draft("a", `"0123456789"`), draft("b", `1`))
	}
	p := b.page("a", 0, broker.PageLimit{Events: 2})
	if !slices.Equal(seqs(p.Events), []uint64{1, 3}) || !p.More || p.Through != 3 {
		t.Fatalf("page of two: %v more=%v through=%d", seqs(p.Events), p.More, p.Through)
	}
	p = b.page("a", p.Through, broker.PageLimit{Bytes: 13})
	if !slices.Equal(seqs(p.Events), []uint64{5, 7}) || !p.More || p.Through != 7 {
		t.Fatalf("page of 13 bytes: %v more=%v through=%d", seqs(p.Events), p.More, p.Through)
	}
	p = b.page("a", p.Through, broker.PageLimit{Events: 1})
	if !slices.Equal(seqs(p.Events), []uint64{9}) || p.More || p.Through != 10 || p.Last != 9 {
		t.Fatalf("last page: %v more=%v through=%d last=%d", seqs(p.Events), p.More, p.Through, p.Last)
	}
	if p = b.page("nobody", 0, broker.PageLimit{}); len(p.Events) != 0 || p.More || p.Through != 10 || p.Last != 0 {
		t.Errorf("channel nobody published to: %+v", p)
	}
	if p = b.page("a", 1000, broker.PageLimit{}); len(p.Events) != 0 || p.More {
		t.Errorf("after a position ahead of the log: %+v", p)
	}
}

func testLast(t *testing.T, open Open) {
	b := start(t, open, Settings{})
	for range 4 {
		b.append(draft("a", `1`), draft("b", `1`))
	}
	for _, c := range []struct {
		n    int
		want []uint64
		more bool
	}{{2, []uint64{5, 7}, true}, {4, []uint64{1, 3, 5, 7}, false}, {9, []uint64{1, 3, 5, 7}, false}} {
		p, err := b.Log.Last(b.ctx, channel("a"), c.n)
		if err != nil || !slices.Equal(seqs(p.Events), c.want) || p.More != c.more || p.Through != 8 || p.Last != 7 {
			t.Errorf("last %d: %v more=%v through=%d last=%d, %v", c.n, seqs(p.Events), p.More, p.Through, p.Last, err)
		}
	}
}
