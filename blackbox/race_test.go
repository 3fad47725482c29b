package blackbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestARevocationBesideAnOpeningCutsItAllTheSame revokes sessions in the very moments in which their streams open:
// each is refused, or is cut within a second.
func TestARevocationBesideAnOpeningCutsItAllTheSame(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	var all sync.WaitGroup
	for i := range 60 {
		sid := fmt.Sprint("racer-", i)
		g := c.s.grant([]entry{{"h": h}}, func(g claims) { g["sid"] = sid })
		all.Go(func() {
			pause(t.Context(), rand.N(8*time.Millisecond))
			if a, err := c.as(t.Context(), http.MethodPost, "/v1/revoke", map[string]any{"sid": sid}); err != nil || !a.ok() {
				t.Errorf("revoke: %v %v", a, err)
			}
		})
		all.Go(func() {
			pause(t.Context(), rand.N(8*time.Millisecond))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			resp, err := c.send(ctx, http.MethodPost, "/v1/stream", map[string]any{"grants": []string{g}})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); err != nil {
				t.Errorf("%s lives on after its revocation: %v\n%s", sid, err, text)
			}
		})
	}
	all.Wait()
}

// wanderer is a page that takes channels up and lets them go on one live stream while others publish.
type wanderer struct {
	s      *stream
	stream string
	resume string
}

// TestChannelsTakenUpAndLetGoUnderLoadAreHeardWhole takes channels up late from a known place: what is replayed and
// what comes live are one run of the channel without a hole, whatever is published meanwhile.
func TestChannelsTakenUpAndLetGoUnderLoadAreHeardWhole(t *testing.T) {
	c := start(t)
	base, names := c.s.hash("base"), make([]string, 4)
	for i := range names {
		names[i] = c.s.hash(fmt.Sprint("w", i))
	}
	origin := c.publish(t, base, 0)
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	var mu sync.Mutex
	all := map[string][]uint64{} // positions by channel, of one publisher each, so in order
	for _, h := range names {
		publishing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				a, err := c.as(t.Context(), http.MethodPost, "/v1/publish", publishBody(h, n))
				var p published
				if err != nil || json.Unmarshal(a.body, &p) != nil {
					t.Errorf("publish: %v %v", a, err)
					return
				}
				at, _ := parseCursor(p.ID)
				mu.Lock()
				all[h] = append(all[h], at.seq)
				mu.Unlock()
				pause(t.Context(), rand.N(6*time.Millisecond))
			}
		})
	}
	s := c.open(t, map[string]any{"grants": []string{c.s.mates(entry{"h": base})}})
	hello := s.hello()
	w := &wanderer{s: s, stream: hello.Stream, resume: hello.Resume}
	var runs []run
	for round := range 25 {
		h := names[round%len(names)]
		runs = append(runs, w.take(t, c, h, origin, round%len(names) != 3))
	}
	close(stop)
	publishing.Wait()
	for i, r := range runs {
		if want := all[r.channel]; len(r.got) == 0 || len(r.got) > len(want) || !slices.Equal(r.got, want[:len(r.got)]) {
			t.Errorf("run %d on %s: heard %v, published %v", i, r.channel, r.got, want)
		}
	}
}

// run is what was heard of a channel between taking it up and letting it go.
type run struct {
	channel string
	got     []uint64
}

// take takes a channel up from a position, hears it for a while and lets it go.
func (w *wanderer) take(t *testing.T, c *client, h string, from cursor, waitForLive bool) run {
	t.Helper()
	before := len(w.s.heard())
	g := c.s.mates(entry{"h": h, "from": from.String()})
	c.change(t, w.stream, map[string]any{"resume": w.resume, "add": []map[string]any{{"grant": g}}})
	f := w.s.await("channels")
	ch := f.change(t)
	if len(ch.Channels) != 1 || ch.Channels[0].Recovered == nil || !*ch.Channels[0].Recovered {
		t.Fatalf("acknowledged: %s", f.data)
	}
	joined, err := parseCursor(f.id)
	if err != nil {
		t.Fatal(err)
	}
	w.resume = ch.Resume
	if waitForLive {
		eventually(t, waitLimit, "a live event", func() bool {
			events := w.s.heard()
			return len(events) > before && events[len(events)-1].id.seq > joined.seq
		})
	}
	c.change(t, w.stream, map[string]any{"resume": w.resume, "remove": []string{h}})
	w.resume = w.s.await("channels").change(t).Resume
	r := run{channel: h}
	for _, e := range w.s.heard()[before:] {
		if e.Channel != h || e.Replay != (e.id.seq <= joined.seq) {
			t.Errorf("joined at %s: %+v", joined, e)
		}
		r.got = append(r.got, e.id.seq)
	}
	return r
}
