package broker_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/persist/memory"
)

func TestHelloComesFirstThenReplayThenAHeartbeatWithTheCursor(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	first := b.publish(numbers(3)...)
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}, Cursor: first[0].Cursor.String()})
	got := c.await(t, "a heartbeat", atLeast(1, "heartbeat"))
	if len(got) != 4 || got[0].event != "hello" || got[3].event != "heartbeat" {
		t.Fatalf("got %v", got)
	}
	if got[0].id != "" || got[1].seq() != 2 || got[2].seq() != 3 || got[3].seq() != 3 {
		t.Errorf("ids are wrong: %v", got)
	}
	entry := got[0].data["channels"].([]any)[0].(map[string]any)
	if entry["recovered"] != true || entry["head"] != first[2].Cursor.String() || entry["as"] != "a" {
		t.Errorf("hello says %v", entry)
	}
}

func TestWithoutCursorAStreamBeginsAtTheHead(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	b.publish(numbers(3)...)
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}})
	b.publish(draft("a", `"new"`))
	got := events(c.await(t, "an event", func(f []frame) bool { return len(events(f)) > 0 }))
	if got[0].data["data"] != "new" {
		t.Errorf("first event is %v", got[0])
	}
}

func TestCursorsThatCannotBeHonouredAreNotRecoveredAndNoError(t *testing.T) {
	log := memory.New(time.Now)
	b := startHub(t, log)
	head := b.publish(numbers(3)...)[2].Cursor
	for _, cursor := range []string{"zzzzzzzz-1", "nonsense", "-", strings.Repeat("x", 500), fmt.Sprintf("%s-%d", head.Epoch, head.Seq+1)} {
		c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}, Cursor: cursor})
		got := c.await(t, "a heartbeat", atLeast(1, "heartbeat"))
		entry := got[0].data["channels"].([]any)[0].(map[string]any)
		if entry["recovered"] != false || entry["head"] != head.String() || len(events(got)) != 0 {
			t.Errorf("cursor %q: %v", cursor, got)
		}
	}
}

func TestAQuietChannelStaysRecoveredThoughOthersMovedOn(t *testing.T) {
	b := startHub(t, memory.New(time.Now, memory.WithRetention(0, 5, 0)))
	at := b.publish(draft("quiet", "1"))[0].Cursor
	b.publish(numbers(50)...)
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("quiet", "a")}, Cursor: at.String()})
	got := c.await(t, "hello", atLeast(1, "hello"))
	for _, e := range got[0].data["channels"].([]any) {
		entry := e.(map[string]any)
		if want := entry["as"] == "quiet"; entry["recovered"] != want {
			t.Errorf("%v: recovered %v", entry["as"], entry["recovered"])
		}
	}
}

func TestEventsWithTheirOwnLifeAreNoLossWhenTheyAreGone(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	at := b.publish(draft("a", "1"))[0].Cursor
	short := draft("a", "2")
	short.TTL = time.Nanosecond
	b.publish(short, draft("a", "3"))
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}, Cursor: at.String()})
	got := c.await(t, "a heartbeat", atLeast(1, "heartbeat"))
	entry := got[0].data["channels"].([]any)[0].(map[string]any)
	if ev := events(got); entry["recovered"] != true || len(ev) != 1 || ev[0].data["data"] != 3.0 {
		t.Errorf("got %v", got)
	}
}

func TestAPurgeIsToldToWhoeverWasBehind(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	at := b.publish(numbers(3)...)[0].Cursor
	if _, err := b.log.Purge(context.Background(), ch("a")); err != nil {
		t.Fatal(err)
	}
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}, Cursor: at.String()})
	entry := c.await(t, "hello", atLeast(1, "hello"))[0].data["channels"].([]any)[0].(map[string]any)
	if entry["recovered"] != false {
		t.Errorf("hello says %v", entry)
	}
}

func TestALateEntrysReplayPrecedesItsAcknowledgement(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	before := b.publish(draft("late", "1"), draft("a", "2"))
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}})
	c.await(t, "a heartbeat", atLeast(1, "heartbeat"))
	b.publish(draft("late", "3"), draft("a", "4"))
	c.await(t, "the event after it", func(f []frame) bool { return len(events(f)) == 1 })
	g := grant("late")
	g.ID = "j2"
	g.Entries[0].From = broker.Start{Cursor: fmt.Sprintf("%s-0", before[0].Cursor.Epoch)}
	if err := b.hub.Change(context.Background(), testSite, c.opening.Stream, []*broker.Grant{g}, nil); err != nil {
		t.Fatal(err)
	}
	got := c.await(t, "the acknowledgement", atLeast(1, "channels"))
	ev := events(got)[1:]
	if len(ev) != 2 || ev[0].data["replay"] != true || ev[0].id != "" || ev[0].data["at"] != before[0].Cursor.String() {
		t.Fatalf("got %v", got)
	}
	ack := got[len(got)-1]
	if ack.event != "channels" || ack.seq() != 4 {
		t.Errorf("the acknowledgement is %v", ack)
	}
	b.publish(draft("late", "5"))
	live := events(c.await(t, "a live event", func(f []frame) bool { return len(events(f)) == 4 }))[3]
	if live.seq() != 5 || live.data["replay"] != nil {
		t.Errorf("live event %v", live)
	}
}

func TestRemovedEntriesAreHeardNoMore(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a", "b")}})
	if err := b.hub.Change(context.Background(), testSite, c.opening.Stream, nil, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	got := c.await(t, "the acknowledgement", atLeast(1, "channels"))
	if r := got[len(got)-1].data["removed"]; fmt.Sprint(r) != "[a]" {
		t.Errorf("removed: %v", r)
	}
	b.publish(draft("a", "1"), draft("b", "2"))
	if ev := events(c.await(t, "an event", func(f []frame) bool { return len(events(f)) > 0 })); ev[0].data["channel"] != "b" {
		t.Errorf("got %v", ev)
	}
}

func TestOneEventGoesOnceHoweverManyEntriesMatch(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	g := grant("a", "a", "a")
	g.Entries[1].As, g.Entries[1].Filter = "x", broker.Filter{"k": "1"}
	g.Entries[2].As, g.Entries[2].Filter = "y", broker.Filter{"k": "2"}
	at := b.publish(draft("a", `{"k":1}`))[0].Cursor
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{g}, Cursor: fmt.Sprintf("%s-0", at.Epoch)})
	c.await(t, "a heartbeat", atLeast(1, "heartbeat"))
	b.publish(draft("a", `{"k":2}`), draft("a", `{"k":3}`))
	got := events(c.await(t, "three events", func(f []frame) bool { return len(events(f)) >= 3 }))
	for i, f := range got {
		if f.seq() != uint64(i+1) {
			t.Errorf("got %v", got)
		}
	}
}

func TestFiltersHoldBackWhatDoesNotMatchLiveAndInReplay(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	g := grant("a")
	g.Entries[0].Filter = broker.Filter{"k": "1"}
	at := b.publish(draft("a", `{"k":1}`), draft("a", `{"k":2}`), draft("a", `{"k":"1"}`))[0].Cursor
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{g}, Cursor: fmt.Sprintf("%s-0", at.Epoch)})
	beat := c.await(t, "a heartbeat", atLeast(1, "heartbeat"))
	if id := beat[len(beat)-1].seq(); id != 3 {
		t.Errorf("the heartbeat is at %d", id)
	}
	b.publish(draft("a", `{"k":2}`), draft("a", `{"k":1,"n":4}`))
	got := events(c.await(t, "three events", func(f []frame) bool { return len(events(f)) >= 3 }))
	if got[0].seq() != 1 || got[1].seq() != 3 || got[2].seq() != 5 {
		t.Errorf("got %v", got)
	}
}

func TestRevocationCutsWhatItNamesAndCountsStreams(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	whole := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}})
	other := grant("a", "b")
	other.ID, other.Session = "j9", "s9"
	part := b.open(broker.OpenRequest{Grants: []*broker.Grant{other}})
	whole.await(t, "hello", atLeast(1, "hello"))
	part.await(t, "hello", atLeast(1, "hello"))

	n, err := b.hub.Revoke(context.Background(), broker.Revocation{Site: testSite, Kind: broker.RevokeSession, Value: "s1"})
	if err != nil || n != 1 {
		t.Fatalf("revoke: %d streams, %v", n, err)
	}
	got := whole.await(t, "bye", atLeast(1, "bye"))
	if got[len(got)-1].data["reason"] != "revoked" {
		t.Errorf("bye says %v", got[len(got)-1])
	}
	if err := <-whole.done; err != nil {
		t.Errorf("the stream did not end cleanly: %v", err)
	}
	whole.done = nil
	if !b.hub.Revoked(grant("a"), "") {
		t.Error("the grant is still good")
	}

	r := broker.Revocation{Site: testSite, Kind: broker.RevokeChannel, Value: "a", Before: time.Now().Add(time.Minute).UnixMicro()}
	if n, err := b.hub.Revoke(context.Background(), r); err != nil || n != 1 {
		t.Fatalf("revoke: %d streams, %v", n, err)
	}
	got = part.await(t, "channels", atLeast(1, "channels"))
	if last := got[len(got)-1]; fmt.Sprint(last.data["removed"]) != "[a]" || last.data["code"] != "revoked" {
		t.Errorf("channels says %v", last)
	}
}

func TestEntriesEndWithTheirGrant(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	short, long := grant("a"), grant("b")
	short.Until, long.ID = time.Now().Add(300*time.Millisecond), "j2"
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{short, long}})
	got := c.await(t, "channels", atLeast(1, "channels"))
	if last := got[len(got)-1]; fmt.Sprint(last.data["removed"]) != "[a]" || last.data["code"] != "expired" {
		t.Errorf("channels says %v", last)
	}
	alone := grant("a")
	alone.Until = time.Now().Add(300 * time.Millisecond)
	c = b.open(broker.OpenRequest{Grants: []*broker.Grant{alone}})
	got = c.await(t, "bye", atLeast(1, "bye"))
	if got[len(got)-1].data["reason"] != "expired" {
		t.Errorf("bye says %v", got[len(got)-1])
	}
}

func TestDrainSaysByeWithASpreadRetry(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	var all []*conn
	for range 5 {
		c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}})
		c.await(t, "hello", atLeast(1, "hello"))
		all = append(all, c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.hub.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	retries := map[any]bool{}
	for _, c := range all {
		got := c.await(t, "bye", atLeast(1, "bye"))
		last := got[len(got)-1]
		if last.data["reason"] != "drain" {
			t.Errorf("bye says %v", last)
		}
		retries[last.data["retry"]] = true
	}
	if len(retries) < 2 {
		t.Errorf("all come back at once: %v", retries)
	}
	if _, err := b.hub.Open(ctx, broker.OpenRequest{Site: b.site, Grants: []*broker.Grant{grant("a")}}); broker.CodeOf(err) != broker.CodeUnavailable {
		t.Errorf("a draining hub answered %v", err)
	}
}

func TestAStreamThatIsAttachedIntoADrainEndsOnce(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	o, err := b.hub.Open(context.Background(), broker.OpenRequest{Site: b.site, Grants: []*broker.Grant{grant("a")}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- b.hub.Drain(ctx) }()
	for {
		_, err := b.hub.Open(ctx, broker.OpenRequest{Site: b.site, Grants: []*broker.Grant{grant("a")}})
		if broker.CodeOf(err) == broker.CodeUnavailable {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := broker.NewPoll()
	o.Attach(p, nil, true)
	if frames, _, err := p.Wait(ctx); err != nil || len(frames) != 0 {
		t.Fatalf("the poll ended with %v, %v", frames, err)
	}
	o.End()
	if _, err := b.hub.Audience(ctx, ch("a")); err != nil { // the shard has survived the end
		t.Fatal(err)
	}
	cancel() // the openings above are never attached, so there is no end to wait for
	if err := <-drained; err == nil {
		t.Error("the drain forgot the streams that were opened and not attached")
	}
}

func TestASiteThatIsRemovedTakesItsStreamsWithIt(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}})
	c.await(t, "hello", atLeast(1, "hello"))
	for _, site := range []broker.SiteID{"another", testSite} {
		if n := b.hub.Stats().Streams; n != 1 {
			t.Fatalf("%d streams before %s is ended", n, site)
		}
		if err := b.hub.EndSite(context.Background(), site); err != nil {
			t.Fatal(err)
		}
	}
	got := c.await(t, "bye", atLeast(1, "bye"))
	if got[len(got)-1].data["reason"] != "revoked" {
		t.Errorf("bye says %v", got[len(got)-1])
	}
}

func TestHeartbeatsFillSilence(t *testing.T) {
	b := startHub(t, memory.New(time.Now), func(c *broker.HubConfig) { c.Heartbeat = time.Second })
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}})
	got := c.await(t, "three heartbeats", atLeast(3, "heartbeat"))
	if got[0].data["heartbeat"] != 1.0 {
		t.Errorf("hello promises %v", got[0].data["heartbeat"])
	}
}

func TestADetachedSocketThatStopsReadingCostsNobodyAndLosesNothing(t *testing.T) {
	roads(t, stopsReading)
}

func stopsReading(t *testing.T, secure *tls.Config) {
	b := startHub(t, memory.New(time.Now), func(c *broker.HubConfig) { c.RecentBytes = 1 << 20 })
	stuck, _ := b.openOn(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}}, secure)
	quick, _ := b.openOn(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}}, secure)
	raw := stuck
	if c, ok := stuck.(*tls.Conn); ok {
		raw = c.NetConn()
	}
	if err := raw.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	q, _ := follow(quick)
	q.await(t, "a heartbeat", atLeast(1, "heartbeat"))
	const n = 3000
	big := strings.Repeat("x", 2000)
	for i := range n {
		b.publish(draft("a", fmt.Sprintf(`{"n":%d,"x":%q}`, i, big)))
	}
	q.await(t, "all events on the quick stream", func(f []frame) bool { return len(events(f)) == n })
	if b.hub.Stats().Stalls == 0 {
		t.Fatal("the stuck socket never filled up: the test proves nothing")
	}
	s, _ := follow(stuck)
	got := events(s.await(t, "all events on the slow stream", func(f []frame) bool { return len(events(f)) == n }))
	for i, f := range got {
		if f.seq() != uint64(i+1) {
			t.Fatalf("event %d has id %s", i, f.id)
		}
	}
	if b.hub.Stats().Replayed == 0 {
		t.Error("nothing was read from the log: the ring was large enough to hide the path")
	}
}

func TestADetachedSocketThatLeavesIsForgotten(t *testing.T) {
	roads(t, leaves)
}

func TestADetachedSocketIsToldThatTheStreamHasEnded(t *testing.T) {
	roads(t, func(t *testing.T, secure *tls.Config) {
		b := startHub(t, memory.New(time.Now))
		client, _ := b.openOn(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}}, secure)
		r, done := follow(client)
		r.await(t, "a heartbeat", atLeast(1, "heartbeat"))
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.hub.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("the stream was cut, not ended: %v", err)
		}
		r.await(t, "bye", atLeast(1, "bye"))
	})
}

func leaves(t *testing.T, secure *tls.Config) {
	b := startHub(t, memory.New(time.Now))
	var all []net.Conn
	for range 50 {
		c, _ := b.openOn(broker.OpenRequest{Grants: []*broker.Grant{grant("a")}}, secure)
		all = append(all, c)
	}
	for _, c := range all {
		_ = c.Close()
	}
	end := time.Now().Add(patience)
	for b.hub.Stats().Streams > 0 {
		if time.Now().After(end) {
			t.Fatalf("%d streams are left", b.hub.Stats().Streams)
		}
		b.publish(draft("a", "1"))
	}
	if live, err := b.hub.Live(context.Background(), testSite); err != nil || len(live) != 0 {
		t.Errorf("live channels: %v, %v", live, err)
	}
}

func TestAPollAnswersWithTheFirstFramesAndGoesOnFromItsCursor(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	poll := func(cursor string) ([]*broker.Frame, uint64) {
		o, err := b.hub.Open(context.Background(), broker.OpenRequest{Site: b.site, Grants: []*broker.Grant{grant("a")}, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		p := broker.NewPoll()
		o.Attach(p, nil, true)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		frames, pos, err := p.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return frames, pos
	}
	epoch := b.publish(numbers(2)...)[0].Cursor.Epoch
	frames, pos := poll(fmt.Sprintf("%s-0", epoch))
	if len(frames) != 2 || pos != 2 {
		t.Fatalf("got %d frames up to %d", len(frames), pos)
	}
	answer := make(chan int, 1)
	go func() {
		frames, _ := poll(fmt.Sprintf("%s-2", epoch))
		answer <- len(frames)
	}()
	for b.hub.Stats().Streams == 0 {
		runtime.Gosched()
	}
	b.publish(draft("a", "3"))
	if n := <-answer; n != 1 {
		t.Errorf("the waiting poll got %d frames", n)
	}
}

func TestLastReplaysTheNewestMatchingEventsOnce(t *testing.T) {
	b := startHub(t, memory.New(time.Now))
	g := grant("a")
	g.Entries[0].Last, g.Entries[0].Filter = 2, broker.Filter{"k": "1"}
	var at broker.Cursor
	for i := range 6 {
		at = b.publish(draft("a", fmt.Sprintf(`{"k":%d,"n":%d}`, i%2, i)))[0].Cursor
	}
	c := b.open(broker.OpenRequest{Grants: []*broker.Grant{g}})
	ev := events(c.await(t, "a heartbeat", atLeast(1, "heartbeat")))
	if len(ev) != 2 || ev[0].data["at"] != fmt.Sprintf("%s-4", at.Epoch) || ev[1].data["replay"] != true || ev[1].id != "" {
		t.Errorf("got %v", ev)
	}
	c = b.open(broker.OpenRequest{Grants: []*broker.Grant{g}, Cursor: at.String()})
	if ev := events(c.await(t, "a heartbeat", atLeast(1, "heartbeat"))); len(ev) != 0 {
		t.Errorf("with a cursor last was repeated: %v", ev)
	}
}
