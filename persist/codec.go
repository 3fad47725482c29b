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

// logRecord is what stands at one position.
type logRecord struct {
	event   broker.Event // Data is the record's own memory when decoded
	before  int64        // time of the record before it in the log, kept or not
	expires int64        // microseconds, never for never
}

// The site stands first, so that a scan of one site can skip others cheaply.
func encodeEvent(r *logRecord) []byte {
	e := &r.event
	out := newEncoder(48 + len(e.Channel.Site) + len(e.Channel.ID) + len(e.Type) + len(e.User) + len(e.Client) + len(e.Data))
	out.string(string(e.Channel.Site))
	flags := byte(0)
	if e.Counted {
		flags |= flagCounted
	}
	if e.Revocation != nil {
		flags |= flagRevocation
	}
	if r.expires == never {
		flags |= flagNoExpiry
	}
	out.b = append(out.b, flags)
	out.int(e.Time)
	out.int(e.Time - r.before)
	if r.expires != never {
		out.int(r.expires - e.Time)
	}
	if e.Revocation != nil {
		encodeRevocationInto(out, e.Revocation)
		return out.b
	}
	out.uint(e.Prev)
	out.string(string(e.Channel.ID))
	out.string(e.Type)
	out.string(e.User)
	out.string(e.Client)
	out.bytes(e.Data)
	return out.b
}

func decodeEvent(seq uint64, b []byte) (logRecord, error) {
	d := newDecoder(b)
	r := logRecord{event: broker.Event{Seq: seq}, expires: never}
	e := &r.event
	e.Channel.Site = broker.SiteID(d.string())
	flags := d.byte()
	e.Counted = flags&flagCounted != 0
	e.Time = d.int()
	r.before = e.Time - d.int()
	if flags&flagNoExpiry == 0 {
		r.expires = e.Time + d.int()
	}
	if flags&flagRevocation != 0 {
		rev := decodeRevocationFrom(d, e.Channel.Site)
		e.Revocation = &rev
	} else {
		e.Prev = d.uint()
		e.Channel.ID = broker.ChannelID(d.string())
		e.Type = d.string()
		e.User = d.string()
		e.Client = d.string()
		e.Data = d.raw()
		if !e.Counted && r.expires != never {
			e.Expires = r.expires
		}
	}
	return r, d.err("log record")
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

// entry is an event as its channel's index knows it.
type entry struct {
	seq     uint64 // in the key
	ordinal uint64 // in the channel, from 1
	expires int64
	cost    int64 // what it counts in its bucket
	short   bool  // it has a life of its own
}

func encodeEntry(en *entry) []byte {
	out := newEncoder(24)
	flags := byte(0)
	if en.short {
		flags = 1
	}
	out.b = append(out.b, flags)
	out.uint(en.ordinal)
	out.int(en.expires)
	out.int(en.cost)
	return out.b
}

func decodeEntry(seq uint64, b []byte) (entry, error) {
	d := newDecoder(b)
	en := entry{seq: seq, short: d.byte() == 1}
	en.ordinal, en.expires, en.cost = d.uint(), d.int(), d.int()
	return en, d.err("channel index")
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
