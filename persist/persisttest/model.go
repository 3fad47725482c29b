package persisttest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"backchannel/broker"

	"pgregory.net/rapid"
)

// model is the log as a slice: slow, and plainly right.
type model struct {
	settings Settings
	created  int64
	now      int64
	records  []modelRecord // index is Seq-1
	keys     map[string]modelRecord
}

type modelRecord struct {
	broker.Event
	key     string
	ordinal int
	expires int64
	purged  bool
}

func (m *model) kept(r *modelRecord) bool { return m.unmoved(r) && !m.expired(r) }

func (m *model) expired(r *modelRecord) bool { return r.expires > 0 && r.expires <= m.now }

// unmoved tells whether neither a purge nor the count has removed r.
func (m *model) unmoved(r *modelRecord) bool {
	return !r.purged &&
		(r.Revocation != nil || m.settings.PerChannel == 0 || r.ordinal+m.settings.PerChannel > m.ordinal(r.Channel))
}

func (m *model) ordinal(ch broker.Channel) int {
	n := 0
	for i := range m.records {
		if m.records[i].Channel == ch && m.records[i].Revocation == nil {
			n++
		}
	}
	return n
}

func (m *model) last(ch broker.Channel, through int) uint64 {
	for i := through - 1; i >= 0; i-- {
		if r := &m.records[i]; r.Channel == ch && r.Counted {
			return r.Seq
		}
	}
	return 0
}

func (m *model) time() int64 {
	if len(m.records) == 0 {
		return m.now
	}
	return max(m.now, m.records[len(m.records)-1].Time)
}

func (m *model) add(d broker.Draft) broker.Appended {
	if d.Key != "" {
		if r, ok := m.keys[d.Channel.String()+" "+d.Key]; ok && r.Time+broker.KeyLife.Microseconds() > m.now {
			return broker.Appended{Cursor: broker.Cursor{Seq: r.Seq}, Repeated: true}
		}
	}
	r := modelRecord{Event: broker.Event{
		Seq: uint64(len(m.records) + 1), Time: m.time(), Channel: d.Channel, Data: d.Data, Counted: d.TTL == 0,
		Prev: m.last(d.Channel, len(m.records)),
	}, key: d.Key, ordinal: m.ordinal(d.Channel) + 1}
	life := m.settings.Age
	if d.TTL > 0 && (life == 0 || d.TTL < life) {
		life = d.TTL
	}
	if life > 0 {
		r.expires = r.Time + life.Microseconds()
	}
	m.records = append(m.records, r)
	if d.Key != "" {
		m.keys[d.Channel.String()+" "+d.Key] = r
	}
	return broker.Appended{Cursor: broker.Cursor{Seq: r.Seq}}
}

func (m *model) pick(want func(*modelRecord) bool) []uint64 {
	var out []uint64
	for i := range m.records {
		if r := &m.records[i]; m.kept(r) && want(r) {
			out = append(out, r.Seq)
		}
	}
	return out
}

// machine drives a store and the model side by side.
type machine struct {
	*bench
	model model
	ids   []string
}

func testModel(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		clock := NewClock()
		s := Settings{
			Age:        rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour}).Draw(rt, "age"),
			PerChannel: rapid.SampledFrom([]int{0, 1, 3, 10}).Draw(rt, "per channel"),
			Now:        clock.Now,
		}
		b := &bench{Subject: open(t, s), t: t, ctx: t.Context(), clock: clock}
		defer b.Close()
		m := &machine{bench: b, ids: []string{"a", "b", "c"}, model: model{
			settings: s, created: clock.Now().UnixMicro(), now: clock.Now().UnixMicro(), keys: map[string]modelRecord{},
		}}
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append, "advance": m.advance, "purge": m.purge, "revoke": m.revoke, "reopen": m.reopen,
			"at": m.at, "": m.check,
		})
	})
}

func (m *machine) append(t *rapid.T) {
	var drafts []broker.Draft
	var want []broker.Appended
	for i := range rapid.IntRange(1, 5).Draw(t, "drafts") {
		d := draft(rapid.SampledFrom(m.ids).Draw(t, "channel"), fmt.Sprintf(`"%s"`, strings.Repeat("x", i*7)))
		d.Key = rapid.SampledFrom([]string{"", "", "k1", "k2"}).Draw(t, "key")
		d.TTL = rapid.SampledFrom([]time.Duration{0, 0, time.Second, 10 * time.Minute}).Draw(t, "ttl")
		drafts = append(drafts, d)
		want = append(want, m.model.add(d))
	}
	got, err := m.Log.Append(m.ctx, drafts)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	for i := range got {
		if got[i].Cursor.Seq != want[i].Cursor.Seq || got[i].Repeated != want[i].Repeated {
			t.Fatalf("draft %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}

func (m *machine) advance(t *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Microsecond, time.Second, 5 * time.Minute, 30 * time.Minute, 25 * time.Hour}).Draw(t, "by")
	m.clock.Move(d)
	m.model.now += d.Microseconds()
}

func (m *machine) purge(t *rapid.T) {
	ch := channel(rapid.SampledFrom(m.ids).Draw(t, "channel"))
	want := 0
	for i := range m.model.records {
		if r := &m.model.records[i]; r.Channel == ch && r.Revocation == nil {
			if m.model.kept(r) {
				want++
			}
			r.purged = true
		}
	}
	if n, err := m.Log.Purge(m.ctx, ch); err != nil || n != want {
		t.Fatalf("purge %s: %d, %v; want %d", ch, n, err, want)
	}
}

func (m *machine) revoke(t *rapid.T) {
	r := broker.Revocation{Site: "moodle", Kind: broker.RevokeJTI, Value: "j"}
	rec := modelRecord{Event: broker.Event{Seq: uint64(len(m.model.records) + 1), Time: m.model.time(), Revocation: &r}}
	if m.model.settings.Age > 0 {
		rec.expires = rec.Time + m.model.settings.Age.Microseconds()
	}
	m.model.records = append(m.model.records, rec)
	if at, err := m.Log.Revoke(m.ctx, r); err != nil || at.Seq != rec.Seq {
		t.Fatalf("revoke: %v, %v; want %d", at, err, rec.Seq)
	}
}

func (m *machine) reopen(t *rapid.T) {
	if m.Reopen == nil {
		t.Skip("this store keeps nothing")
	}
	if rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
		t.Skip("opening takes longer than all else")
	}
	m.Reopen()
}

// at checks what must hold for every honest store, however exact its floor is.
func (m *machine) at(t *rapid.T) {
	span := max(m.model.now-m.model.created, 1)
	at := m.model.created - 2 + rapid.Int64Range(0, span+4).Draw(t, "at")
	seq, known, err := m.Log.At(m.ctx, time.UnixMicro(at))
	if err != nil {
		t.Fatalf("at: %v", err)
	}
	oldest := m.model.created
	if age := m.model.settings.Age.Microseconds(); age > 0 && m.model.now-age > oldest {
		oldest = m.model.now - age
	}
	if at >= oldest && !known {
		t.Fatalf("at %d is not known, although nothing after %d was removed by age", at, oldest)
	}
	for i := range m.model.records {
		r := &m.model.records[i]
		if r.Time > at && r.Seq <= seq && known {
			t.Fatalf("at %d gives %d, which skips the later event %d", at, seq, r.Seq)
		}
		if r.Time <= at && r.Seq > seq && known && m.model.kept(r) {
			t.Fatalf("at %d gives %d, although %d had happened", at, seq, r.Seq)
		}
		if r.Time > at && known && r.Counted && m.model.unmoved(r) && m.model.expired(r) {
			t.Fatalf("at %d is known, although event %d after it was removed by age", at, r.Seq)
		}
	}
}

func (m *machine) check(t *rapid.T) {
	for _, id := range m.ids {
		ch := channel(id)
		after := uint64(rapid.IntRange(0, len(m.model.records)+1).Draw(t, "after")) //nolint:gosec // not negative
		limit := broker.PageLimit{Events: rapid.IntRange(0, 4).Draw(t, "limit")}
		want := m.model.pick(func(r *modelRecord) bool { return r.Channel == ch && r.Seq > after })
		more := limit.Events > 0 && len(want) > limit.Events
		if more {
			want = want[:limit.Events]
		}
		page, err := m.Log.Range(m.ctx, ch, after, limit)
		if err != nil || !slices.Equal(seqs(page.Events), want) || page.More != more {
			t.Fatalf("range %s after %d: %v more=%v, %v; want %v more=%v", id, after, seqs(page.Events), page.More, err, want, more)
		}
		if last := m.model.last(ch, len(m.model.records)); page.Last != last {
			t.Fatalf("last counted event of %s: %d, want %d", id, page.Last, last)
		}
		for _, e := range page.Events {
			if r := m.model.records[e.Seq-1]; e.Prev != r.Prev || e.Time != r.Time || string(e.Data) != string(r.Data) {
				t.Fatalf("event %d: %+v, want %+v", e.Seq, e, r.Event)
			}
		}
		m.checkContinues(t, ch, after)
	}
}

// checkContinues holds the rule behind "recovered" against what the model knows of the missing events.
func (m *machine) checkContinues(t *rapid.T, ch broker.Channel, after uint64) {
	page, err := m.Log.Range(m.ctx, ch, after, broker.PageLimit{})
	if err != nil {
		t.Fatalf("range: %v", err)
	}
	lost := false
	for i := range m.model.records {
		r := &m.model.records[i]
		lost = lost || r.Channel == ch && r.Counted && r.Seq > after && !m.model.kept(r)
	}
	if _, ok := page.Continues(after); ok == lost {
		t.Fatalf("%s after %d: continues=%v, but an event missing=%v", ch, after, ok, lost)
	}
}
