package persist

import (
	"math"
	"time"

	"backchannel/broker"
)

// schema is the layout that this code reads and writes. A store of a later one is refused.
const schema = 1

// storeRecord is written when the store is made.
type storeRecord struct {
	schema  uint64
	epoch   broker.Epoch
	created int64 // microseconds
}

func encodeStore(r storeRecord) []byte {
	out := newEncoder(32)
	out.uint(r.schema)
	out.string(string(r.epoch))
	out.int(r.created)
	return out.b
}

func decodeStore(b []byte) (storeRecord, error) {
	d := newDecoder(b)
	r := storeRecord{schema: d.uint()}
	if r.schema > schema {
		return r, nil // a later layout may hold more: the caller refuses it by its number
	}
	r.epoch, r.created = broker.Epoch(d.string()), d.int()
	return r, d.err("store record")
}

// lastRecord holds the counters of which no value may ever be given twice.
type lastRecord struct {
	position
	accepted uint64 // number of the newest delivery
}

func encodeLast(r lastRecord) []byte {
	out := newEncoder(28)
	out.uint(r.seq)
	out.int(r.time)
	out.uint(r.accepted)
	return out.b
}

func decodeLast(b []byte) (lastRecord, error) {
	d := newDecoder(b)
	r := lastRecord{position{d.uint(), d.int()}, d.uint()}
	return r, d.err("last position")
}

// headRecord is what outlives a channel's events.
type headRecord struct {
	channel broker.Channel
	ordinal uint64 // events ever
	seq     uint64 // of the newest
	counted uint64 // position of the newest counted one
	time    int64  // of the newest
	low     uint64 // no event at or before this position is kept
	lowOrd  uint64 // and none at or before this ordinal
}

func encodeHead(h *headRecord) []byte {
	out := newEncoder(96)
	out.string(string(h.channel.Site))
	out.string(string(h.channel.ID))
	for _, v := range []uint64{h.ordinal, h.seq, h.counted, h.low, h.lowOrd} {
		out.uint(v)
	}
	out.int(h.time)
	return out.b
}

func decodeHead(b []byte) (headRecord, error) {
	d := newDecoder(b)
	var h headRecord
	h.channel.Site, h.channel.ID = broker.SiteID(d.string()), broker.ChannelID(d.string())
	for _, v := range []*uint64{&h.ordinal, &h.seq, &h.counted, &h.low, &h.lowOrd} {
		*v = d.uint()
	}
	h.time = d.int()
	return h, d.err("channel head")
}

// bucket counts the bytes of 1,024 positions. What has a life of its own is counted apart, because it goes earlier.
type bucket struct {
	id           uint64
	bytes        int64
	expires      int64 // when the last of bytes has expired
	shortBytes   int64
	shortExpires int64
	newest       int64 // time of the last record
	dirty        bool  // to be written by the group being staged
}

func (b *bucket) live(now int64) int64 {
	n := int64(0)
	if b.expires > now {
		n += b.bytes
	}
	if b.shortExpires > now {
		n += b.shortBytes
	}
	return n
}

func encodeBucket(b *bucket) []byte {
	out := newEncoder(40)
	for _, v := range []int64{b.bytes, b.expires, b.shortBytes, b.shortExpires, b.newest} {
		out.int(v)
	}
	return out.b
}

func decodeBucket(id uint64, rec []byte) (bucket, error) {
	d := newDecoder(rec)
	b := bucket{id: id}
	for _, v := range []*int64{&b.bytes, &b.expires, &b.shortBytes, &b.shortExpires, &b.newest} {
		*v = d.int()
	}
	return b, d.err("bucket")
}

// regime is a time during which events were given one age. The last one is in force: its until is math.MaxInt64.
type regime struct {
	since, until int64
	age          time.Duration // 0 for no bound
}

func encodeAges(all []regime) []byte {
	out := newEncoder(24 * len(all))
	out.uint(uint64(len(all)))
	for _, r := range all {
		out.int(r.since)
		out.int(r.until)
		out.int(int64(r.age))
	}
	return out.b
}

func decodeAges(b []byte) ([]regime, error) {
	d := newDecoder(b)
	n := d.uint()
	if n > maxRegimes {
		d.fail()
	}
	var all []regime
	for range n {
		if d.bad {
			break
		}
		all = append(all, regime{d.int(), d.int(), time.Duration(d.int())})
	}
	return all, d.err("ages")
}

// maxRegimes bounds the history of configured ages; more changes than this within one age merge the oldest two.
const maxRegimes = 32

// never is a time that does not come.
const never = math.MaxInt64
