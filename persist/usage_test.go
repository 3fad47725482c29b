package persist

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"

	"github.com/dgraph-io/badger/v4"
	"pgregory.net/rapid"
)

// TestCountersAndIndexesAgreeWithTheRecords does to deliveries whatever can be done, and then counts them.
func TestCountersAndIndexesAgreeWithTheRecords(t *testing.T) {
	now := time.Now()
	s, err := Open(Options{
		Dir: t.TempDir(), MinFree: 1 << 20, Ballast: 1 << 20, Now: func() time.Time { return now },
		Bounds: webhooks.Bounds{
			Dead: 12 << 10, Replies: 12 << 10, DeliveryLog: 12 << 10,
			Sites: map[broker.SiteID]webhooks.Bounds{"a": {Queue: 8 << 10, Dead: 4 << 10, Replies: 4 << 10, DeliveryLog: 4 << 10}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		c := &committer{s: s, state: mustState(t, s)}
		empty(t, c)
		for range rapid.IntRange(5, 20).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "later") == 0 {
				now = now.Add(webhooks.OutcomeLife / 3)
			}
			if err := step(c, drawDelivery(t, now), rapid.IntRange(0, 9).Draw(t, "chore")); err != nil {
				t.Fatal(err)
			}
		}
		checkQueue(t, c)
		checkBounds(t, c)
	})
}

// checkBounds asks for what is always so once the bounds were kept: replies may be too young to go.
func checkBounds(t *rapid.T, c *committer) {
	if err := c.keepBounds(); err != nil {
		t.Fatal(err)
	}
	all := c.s.limits().bounds
	for _, b := range []struct {
		got, bound int64
	}{
		{c.state.usage.bytes[classDead], all.Dead},
		{c.state.usage.bytes[classLog], all.DeliveryLog},
		{c.state.siteBytes("a", classDead), all.Sites["a"].Dead},
		{c.state.siteBytes("a", classLog), all.Sites["a"].DeliveryLog},
	} {
		if b.got > b.bound {
			t.Errorf("%d bytes are kept, the bound is %d", b.got, b.bound)
		}
	}
}

// step accepts or updates d, and lets a chore follow.
func step(c *committer, d webhooks.Delivery, chore int) error {
	body := encodeBody(&d)
	err := c.transact(func(g *group) error {
		_, known, err := g.accept(&d, body)
		if known {
			err = g.update(&d, body)
		}
		if broker.CodeOf(err) == broker.CodeStoreFull {
			return nil
		}
		return err
	})
	ended := d.State == webhooks.StateDone || d.State == webhooks.StateDead
	switch {
	case err != nil:
		return err
	case chore == 0 && ended:
		return c.eraseAll([]hash{refHash(d.Ref)})
	case chore == 1:
		return c.sweepEnded()
	default:
		return c.keepBounds()
	}
}

// empty drops every delivery, after which nothing may be left of any.
func empty(t *rapid.T, c *committer) {
	err := c.transact(func(g *group) error {
		return each(g.txn, kindDelivery, func(item *badger.Item) error {
			name := hash(item.KeyCopy(nil)[1:])
			r, err := g.delivery(name)
			if err != nil {
				return err
			}
			return g.drop(name, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if st := c.state; st.usage != (usage{}) || len(st.sites) != 0 || len(endedIndex(t, c.s)) != 0 {
		t.Errorf("an empty queue has %+v, %d sites, %d entries in the index", st.usage, len(st.sites), len(endedIndex(t, c.s)))
	}
}

func mustState(t *rapid.T, s *Store) *state {
	st, err := loadState(s.db)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func drawDelivery(t *rapid.T, now time.Time) webhooks.Delivery {
	size := rapid.IntRange(1, 2000)
	text := func(label string) string { return strings.Repeat("x", size.Draw(t, label)) }
	d := webhooks.Delivery{
		Message: webhooks.Message{
			Ref:  webhooks.Ref{Site: rapid.SampledFrom([]broker.SiteID{"a", "b", "c"}).Draw(t, "site"), ID: webhooks.ID(fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "id")))},
			Kind: webhooks.KindCall, Data: json.RawMessage(text("data")),
		},
		State: rapid.SampledFrom([]webhooks.State{
			webhooks.StateWaiting, webhooks.StateSending, webhooks.StateDone, webhooks.StateDead,
		}).Draw(t, "state"),
		Ended: now.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, "minutes")) * time.Minute),
	}
	if rapid.Bool().Draw(t, "answered") {
		d.Reply = json.RawMessage(text("reply"))
	}
	if rapid.Bool().Draw(t, "logged") {
		d.Log = []webhooks.Attempt{{Number: 1, Response: text("log")}}
	}
	return d
}

// checkQueue reads all records, and compares what they come to with the counters and indexes.
func checkQueue(t *rapid.T, c *committer) {
	counted := &committer{s: c.s, state: &state{sites: map[broker.SiteID]*siteUsage{}}}
	g := &group{c: counted}
	index := map[string]hash{}
	err := c.s.db.View(func(txn *badger.Txn) error {
		return each(txn, kindDelivery, func(item *badger.Item) error {
			name := hash(item.KeyCopy(nil)[1:])
			r, err := readDelivery(txn, name)
			if err != nil {
				return err
			}
			g.tally(r, 1)
			for _, key := range r.endedKeys() {
				index[string(key)] = name
			}
			measured := *r
			if err := loadBodies(txn, name, r); err != nil {
				return err
			}
			if measured.measure(encodeBody(&r.Delivery)); measured.bodyBytes != r.bodyBytes || measured.logBytes != r.logBytes || int64(len(r.Data)) != r.dataBytes {
				t.Errorf("record of %s says %d bytes of data, %d of body, %d of log; they are %d, %d, %d", r.ID,
					r.dataBytes, r.bodyBytes, r.logBytes, len(r.Data), measured.bodyBytes, measured.logBytes)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range []*state{c.state, mustState(t, c.s)} {
		if st.usage != counted.state.usage {
			t.Errorf("counters %+v, records come to %+v", st.usage, counted.state.usage)
		}
		if got, want := siteBytes(st), siteBytes(counted.state); !maps.Equal(got, want) {
			t.Errorf("counters of the sites %v, records come to %v", got, want)
		}
	}
	if got := endedIndex(t, c.s); !maps.Equal(got, index) {
		t.Errorf("the index of ended deliveries has %d entries, records ask for %d others", len(got), len(index))
	}
}

func siteBytes(st *state) map[broker.SiteID][classes]int64 {
	out := map[broker.SiteID][classes]int64{}
	for site, u := range st.sites {
		if u.bytes != [classes]int64{} {
			out[site] = u.bytes
		}
	}
	return out
}

func endedIndex(t *rapid.T, s *Store) map[string]hash {
	out := map[string]hash{}
	err := s.db.View(func(txn *badger.Txn) error {
		return each(txn, kindEnded, func(item *badger.Item) error {
			name, err := nameOf(item)
			out[string(item.KeyCopy(nil))] = name
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// each calls fn with every record of a kind.
func each(txn *badger.Txn, kind byte, fn func(*badger.Item) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kind}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := fn(it.Item()); err != nil {
			return err
		}
	}
	return nil
}
