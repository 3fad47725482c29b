package persist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"backchannel/broker"
)

// version is the first byte of every record. A record of another version is an error, never a guess.
const version = 1

var errRecord = errors.New("record is damaged or of a later version")

// encoder builds records: integers as varints, strings with their length.
type encoder struct{ b []byte }

func newEncoder(size int) *encoder { return &encoder{append(make([]byte, 0, size+1), version)} }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) bytes(s []byte) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

// decoder reads what encoder wrote. After the first mistake it gives zeros; the error is asked for at the end.
type decoder struct {
	b   []byte
	bad bool
}

func newDecoder(b []byte) *decoder {
	if len(b) == 0 || b[0] != version {
		return &decoder{bad: true}
	}
	return &decoder{b: b[1:]}
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// raw gives bytes of the record itself, or nil for none.
func (d *decoder) raw() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
	}
	if d.bad || n == 0 {
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) string() string { return string(d.raw()) }

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) err(what string) error {
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("decode %s: %w", what, errRecord)
	}
	return nil
}

const (
	flagCounted = 1 << iota
	flagRevocation
	flagNoExpiry
)

// pointer is what stands at one position of the log: a revocation, or where the event is. The events themselves lie in
// their channel's index, because a channel is read by thousands who come back and the whole log by one.
type pointer struct {
	site       broker.SiteID
	time       int64 // microseconds, as all times here
	before     int64 // time of the record before it in the log, kept or not
	expires    int64 // never for no end
	channel    hash
	revocation *broker.Revocation
}

// The site stands first, so that a scan of one site can skip others cheaply.
func encodePointer(p *pointer) []byte {
	out := newEncoder(64 + len(p.site))
	out.string(string(p.site))
	flags := byte(0)
	if p.revocation != nil {
		flags |= flagRevocation
	}
	if p.expires == never {
		flags |= flagNoExpiry
	}
	out.b = append(out.b, flags)
	out.int(p.time)
	out.int(p.time - p.before)
	if p.expires != never {
		out.int(p.expires - p.time)
	}
	if p.revocation != nil {
		encodeRevocationInto(out, p.revocation)
	} else {
		out.bytes(p.channel[:])
	}
	return out.b
}

func decodePointer(b []byte) (pointer, error) {
	d := newDecoder(b)
	p := pointer{site: broker.SiteID(d.string()), expires: never}
	flags := d.byte()
	p.time = d.int()
	p.before = p.time - d.int()
	if flags&flagNoExpiry == 0 {
		p.expires = p.time + d.int()
	}
	if flags&flagRevocation != 0 {
		r := decodeRevocationFrom(d, p.site)
		p.revocation = &r
	} else if copy(p.channel[:], d.raw()) != len(p.channel) {
		d.fail()
	}
	return p, d.err("log record")
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// siteOf reads only whose record it is.
func siteOf(b []byte) broker.SiteID { return broker.SiteID(newDecoder(b).raw()) }

func encodeRevocationInto(out *encoder, r *broker.Revocation) {
	out.string(string(r.Kind))
	out.string(r.Value)
	out.int(r.Before)
}

func decodeRevocationFrom(d *decoder, site broker.SiteID) broker.Revocation {
	return broker.Revocation{Site: site, Kind: broker.RevocationKind(d.string()), Value: d.string(), Before: d.int()}
}

// encodeRevocation makes the record that lasts as long as the revocation, beside the one in the log.
func encodeRevocation(r *broker.Revocation, expires int64) []byte {
	out := newEncoder(64)
	out.string(string(r.Site))
	out.int(expires)
	encodeRevocationInto(out, r)
	return out.b
}

func decodeRevocation(b []byte) (r broker.Revocation, expires int64, err error) {
	d := newDecoder(b)
	site := broker.SiteID(d.string())
	expires = d.int()
	r = decodeRevocationFrom(d, site)
	return r, expires, d.err("revocation")
}

// entry is an event as trimming knows it: the first part of its record.
type entry struct {
	seq     uint64 // in the key
	ordinal uint64 // in the channel, from 1
	expires int64
	cost    int64 // what it counts in its bucket
	short   bool  // it has a life of its own
}

// encodeEvent makes the record of an event in its channel's index.
func encodeEvent(en *entry, e *broker.Event) []byte {
	out := newEncoder(64 + len(e.Channel.Site) + len(e.Channel.ID) + len(e.Type) + len(e.User) + len(e.Client) + len(e.Data))
	flags := byte(0)
	if e.Counted {
		flags |= flagCounted
	}
	if en.expires == never {
		flags |= flagNoExpiry
	}
	out.b = append(out.b, flags)
	out.uint(en.ordinal)
	out.int(en.cost)
	out.int(e.Time)
	if en.expires != never {
		out.int(en.expires - e.Time)
	}
	out.uint(e.Prev)
	for _, s := range []string{string(e.Channel.Site), string(e.Channel.ID), e.Type, e.User, e.Client} {
		out.string(s)
	}
	out.bytes(e.Data)
	return out.b
}

// decodeEntryFrom reads the first part; the time of the event comes with it.
func decodeEntryFrom(d *decoder, seq uint64) (en entry, flags byte, at int64) {
	flags = d.byte()
	en = entry{seq: seq, ordinal: d.uint(), cost: d.int(), short: flags&flagCounted == 0, expires: never}
	at = d.int()
	if flags&flagNoExpiry == 0 {
		en.expires = at + d.int()
	}
	return en, flags, at
}

func decodeEntry(seq uint64, b []byte) (entry, error) {
	d := newDecoder(b)
	en, _, _ := decodeEntryFrom(d, seq)
	d.b = nil // the rest is not looked at
	return en, d.err("channel index")
}

// decodeEvent reads the whole record. The event's data is the memory of b.
func decodeEvent(seq uint64, b []byte) (broker.Event, entry, error) {
	d := newDecoder(b)
	en, flags, at := decodeEntryFrom(d, seq)
	e := broker.Event{Seq: seq, Time: at, Counted: flags&flagCounted != 0}
	if en.short && en.expires != never {
		e.Expires = en.expires
	}
	e.Prev = d.uint()
	e.Channel.Site, e.Channel.ID = broker.SiteID(d.string()), broker.ChannelID(d.string())
	e.Type, e.User, e.Client = d.string(), d.string(), d.string()
	e.Data = d.raw()
	return e, en, d.err("event")
}

// position is a place in the log and its moment in microseconds.
type position struct {
	seq  uint64
	time int64
}

func encodePosition(p position) []byte {
	out := newEncoder(20)
	out.uint(p.seq)
	out.int(p.time)
	return out.b
}

func decodePosition(b []byte) (position, error) {
	d := newDecoder(b)
	p := position{d.uint(), d.int()}
	return p, d.err("position")
}

// untilTime is when a life that begins now ends; no life is endless.
func untilTime(now int64, life time.Duration) int64 {
	if life <= 0 {
		return never
	}
	return now + life.Microseconds()
}
