package blackbox_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tortureSize is how hard the torture is.
type tortureSize struct {
	publishers, followers, channels, each, kills int
	lasts                                        time.Duration
}

func sizeOfTorture() tortureSize {
	if *fullTorture {
		return tortureSize{publishers: 20, followers: 200, channels: 50, each: 5, kills: 10, lasts: time.Minute}
	}
	return tortureSize{publishers: 8, followers: 42, channels: 12, each: 3, kills: 2, lasts: 10 * time.Second}
}

// acked is what publishers were told: where each event stands.
type acked struct {
	mu       sync.Mutex
	at       map[string]place // guarded by mu; by the event's name
	breaches []string         // guarded by mu
	answers  map[string]int   // guarded by mu; refusals that were repeated
	lost     int              // guarded by mu; answers that never came
}

type place struct {
	channel string
	cursor  cursor
}

func TestTortureEveryAcknowledgedEventReachesEverySubscriberOnceAndInOrder(t *testing.T) {
	size := sizeOfTorture()
	c := startAlone(t, func(conf *config) { conf.perChannel = 1_000_000 })
	channels := make([]string, size.channels)
	for i := range channels {
		channels[i] = c.s.hash(fmt.Sprint("torture", i))
	}
	from := originOf(t, c)
	cut := newCutter(t, c.b.address)
	through := &client{b: c.b, s: c.s, http: newHTTP(t), base: cut.url()}
	followers := make([]*follower, size.followers)
	for i := range followers {
		mine := make([]string, size.each)
		for j, k := range rand.Perm(size.channels)[:size.each] {
			mine[j] = channels[k]
		}
		by := []*client{c, through}[i%2]
		followers[i] = newFollower(by, fmt.Sprint("follower ", i), from.String(), mine)
	}
	a := &acked{at: map[string]place{}, answers: map[string]int{}}
	torture(t, c, cut, size, channels, followers, a)
	judge(t, followers, a)
	t.Logf("%d events acknowledged, %d answers lost, refusals repeated: %v, starts: %d", len(a.at), a.lost, a.answers, c.b.starts)
}

// originOf is the position before all events of a fresh store.
func originOf(t testing.TB, c *client) cursor {
	t.Helper()
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(c.s.hash("probe"))}})
	defer s.close()
	head, err := parseCursor(s.hello().Channels[0].Head)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// torture runs all of it and returns when every follower has reached the last acknowledged event.
func torture(t *testing.T, c *client, cut *cutter, size tortureSize, channels []string, followers []*follower, a *acked) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var following, publishing sync.WaitGroup
	for _, f := range followers {
		following.Go(func() { f.run(ctx) })
	}
	stop := make(chan struct{})
	following.Go(func() {
		for pause(ctx, 300*time.Millisecond+rand.N(time.Second)) {
			cut.cut() // at any byte, half of the followers
		}
	})
	for i := range size.publishers {
		publishing.Go(func() { a.publish(ctx, c, fmt.Sprint("p", i), channels, stop) })
	}
	killAtRandom(t, c.b, size.kills, size.lasts)
	c.b.signal(syscall.SIGTERM) // and once in good order
	if code := c.b.waitExit(startLimit); code != 0 {
		t.Errorf("exit code %d at SIGTERM under load", code)
	}
	c.b.start()
	close(stop)
	publishing.Wait()
	last := a.last()
	eventually(t, 30*time.Second, fmt.Sprintf("all followers at %d", last), func() bool {
		return !slices.ContainsFunc(followers, func(f *follower) bool { return f.position() < last })
	})
	cancel()
	following.Wait()
}

// killAtRandom kills the broker once at a random moment of each of n equal parts of the time, and starts it again.
func killAtRandom(t testing.TB, b *brokerProcess, n int, lasts time.Duration) {
	t.Helper()
	part := lasts / time.Duration(n)
	for range n {
		begun := time.Now()
		pause(t.Context(), rand.N(part*3/4))
		b.kill()
		pause(t.Context(), rand.N(300*time.Millisecond))
		b.start()
		pause(t.Context(), part-time.Since(begun))
	}
}

// publish publishes to random channels until stop, each event with an id and again until it is acknowledged; now and
// then a batch, and now and then once more after the acknowledgement.
func (a *acked) publish(ctx context.Context, c *client, name string, channels []string, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		u := fmt.Sprintf("%s-%d", name, n)
		h := channels[rand.IntN(len(channels))]
		if rand.IntN(10) == 0 {
			a.batch(ctx, c, u, channels)
			continue
		}
		a.until(ctx, c, u, h)
		if rand.IntN(20) == 0 {
			a.until(ctx, c, u, h)
		}
		pause(ctx, rand.N(40*time.Millisecond))
	}
}

// until posts one event until it is acknowledged.
func (a *acked) until(ctx context.Context, c *client, u, channel string) {
	body := map[string]any{"channel": channel, "data": map[string]string{"u": u}, "id": u}
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, 15*time.Second)
		got, err := c.as(once, http.MethodPost, "/v1/publish", body)
		cancel()
		if err == nil && got.ok() {
			a.note(u, channel, got)
			return
		}
		a.noteFailure(got, err)
		pause(ctx, 30*time.Millisecond+rand.N(100*time.Millisecond))
	}
}

// batch posts several events at once until they are acknowledged.
func (a *acked) batch(ctx context.Context, c *client, name string, channels []string) {
	events := make([]map[string]any, 2+rand.IntN(8))
	for i := range events {
		u := fmt.Sprintf("%s.%d", name, i)
		events[i] = map[string]any{"channel": channels[rand.IntN(len(channels))], "data": map[string]string{"u": u}, "id": u}
	}
	for ctx.Err() == nil {
		got, err := c.as(ctx, http.MethodPost, "/v1/publish", map[string]any{"events": events})
		var results struct{ Results []json.RawMessage }
		if err == nil && got.ok() && json.Unmarshal(got.body, &results) == nil && len(results.Results) == len(events) {
			for i, e := range events {
				a.note(e["id"].(string), e["channel"].(string), answer{status: 200, body: results.Results[i]}) //nolint:errcheck,forcetypeassert // made above
			}
			return
		}
		a.noteFailure(got, err)
		pause(ctx, 30*time.Millisecond+rand.N(100*time.Millisecond))
	}
}

func (a *acked) note(u, channel string, got answer) {
	var p published
	err := json.Unmarshal(got.body, &p)
	at, err2 := parseCursor(p.ID)
	a.mu.Lock()
	defer a.mu.Unlock()
	before, known := a.at[u]
	switch {
	case err != nil || err2 != nil:
		a.breaches = append(a.breaches, fmt.Sprintf("%s was acknowledged with %s", u, got))
	case known && (before.cursor != at || !p.Repeated):
		a.breaches = append(a.breaches, fmt.Sprintf("%s stands at %s, and its repeat was answered %s", u, before.cursor, got))
	}
	a.at[u] = place{channel, at}
}

func (a *acked) noteFailure(got answer, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.lost++
		return
	}
	a.answers[got.String()]++
	if got.status/100 != 5 {
		a.breaches = append(a.breaches, "a good publish was refused: "+got.String())
	}
}

func (a *acked) last() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var last uint64
	for _, p := range a.at {
		last = max(last, p.cursor.seq)
	}
	return last
}

// judge compares what every follower heard with what was acknowledged.
func judge(t *testing.T, followers []*follower, a *acked) {
	t.Helper()
	want := a.byChannel(t)
	breaches := slices.Clone(a.breaches)
	var connects [ways]int
	refusals := map[string]int{}
	for _, f := range followers {
		breaches = append(breaches, f.breaches...)
		for _, h := range f.channels {
			if diff := differ(f.got[h], want[h]); diff != "" {
				breaches = append(breaches, fmt.Sprintf("%s on %s: %s", f.name, h, diff))
			}
		}
		for w, n := range f.connects {
			connects[w] += n
		}
		for r, n := range f.refusals {
			refusals[r] += n
		}
	}
	t.Logf("connects by body, header, query, camel query, resume, poll, poll with resume: %v", connects)
	for _, r := range slices.Sorted(maps.Keys(refusals)) {
		breaches = append(breaches, fmt.Sprintf("refused %d times: %s", refusals[r], r))
	}
	for w, n := range connects {
		if n == 0 {
			breaches = append(breaches, fmt.Sprintf("no follower ever came by way %d: the test tests nothing", w))
		}
	}
	for _, b := range breaches[:min(len(breaches), 25)] {
		t.Error(b)
	}
	if n := len(breaches); n > 25 {
		t.Errorf("and %d more", n-25)
	}
}

// byChannel is the one order of each channel. No two events may stand at one place, and the epoch may not change.
func (a *acked) byChannel(t *testing.T) map[string][]mark {
	t.Helper()
	byChannel, byPlace := map[string][]mark{}, map[cursor]string{}
	epochs := map[string]bool{}
	for u, p := range a.at {
		if other, taken := byPlace[p.cursor]; taken {
			t.Errorf("cursor %s was given to %s and to %s", p.cursor, other, u)
		}
		byPlace[p.cursor], epochs[p.cursor.epoch] = u, true
		byChannel[p.channel] = append(byChannel[p.channel], mark{p.cursor.seq, u})
	}
	if len(epochs) != 1 {
		t.Errorf("the epoch changed: %v", epochs)
	}
	for _, marks := range byChannel {
		slices.SortFunc(marks, func(x, y mark) int { return cmp.Compare(x.seq, y.seq) })
	}
	return byChannel
}

// differ tells the first difference, "" if there is none.
func differ(got, want []mark) string {
	for i := range want {
		if i >= len(got) {
			return fmt.Sprintf("%d events are missing, the first is %v", len(want)-len(got), want[i])
		}
		if got[i] != want[i] {
			return fmt.Sprintf("event %d of %d is %v, want %v", i, len(want), got[i], want[i])
		}
	}
	if len(got) > len(want) {
		return fmt.Sprintf("heard %v, which nobody was told is stored", got[len(want)])
	}
	return ""
}
