package persist

import (
	"encoding/json"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// deliveryRecord is a delivery without its bodies, which have records of their own so that the start need not read
// them, and changing a state does not write them again.
type deliveryRecord struct {
	webhooks.Delivery        // without Data, Reply, Error and Log
	number            uint64 // in the order of acceptance
	dataBytes         int64  // of the data record
	bodyBytes         int64  // of the body record
}

func encodeDelivery(r *deliveryRecord) []byte {
	out := newEncoder(256)
	out.uint(r.number)
	out.int(r.dataBytes)
	out.int(r.bodyBytes)
	for _, s := range []string{
		string(r.Site), string(r.ID), string(r.Component), string(r.Kind), string(r.Type), r.Caller, r.Order,
		r.User, r.Session, r.Seal, string(r.Channel), r.ChannelRef, string(r.State), string(r.Outcome), r.Reason,
	} {
		out.string(s)
	}
	for _, t := range []time.Time{r.Accepted, r.Deadline, r.Due, r.Ended} {
		out.time(t)
	}
	out.uint(uint64(max(r.Attempts, 0)))
	out.uint(uint64(max(r.RetriedAfter, 0)))
	out.bool(r.Settled)
	return out.b
}

func decodeDelivery(b []byte) (*deliveryRecord, error) {
	d := newDecoder(b)
	r := &deliveryRecord{number: d.uint(), dataBytes: d.int(), bodyBytes: d.int()}
	r.Site, r.ID = broker.SiteID(d.string()), webhooks.ID(d.string())
	r.Component, r.Kind, r.Type = broker.ComponentID(d.string()), webhooks.Kind(d.string()), webhooks.Type(d.string())
	r.Caller, r.Order, r.User, r.Session, r.Seal = d.string(), d.string(), d.string(), d.string(), d.string()
	r.Channel, r.ChannelRef = broker.ChannelID(d.string()), d.string()
	r.State, r.Outcome, r.Reason = webhooks.State(d.string()), webhooks.Outcome(d.string()), d.string()
	r.Accepted, r.Deadline, r.Due, r.Ended = d.time(), d.time(), d.time(), d.time()
	r.Attempts = int(d.uint())     //nolint:gosec // written from an int
	r.RetriedAfter = int(d.uint()) //nolint:gosec // written from an int
	r.Settled = d.bool()
	return r, d.err("delivery")
}

func encodeBody(d *webhooks.Delivery) []byte {
	if d.Reply == nil && d.Error == nil && len(d.Log) == 0 {
		return nil
	}
	out := newEncoder(64 + len(d.Reply) + len(d.Error))
	out.bytes(d.Reply)
	out.bytes(d.Error)
	out.uint(uint64(len(d.Log)))
	for i := range d.Log {
		a := &d.Log[i]
		out.int(int64(a.Number))
		out.time(a.Started)
		out.int(int64(a.Duration))
		out.int(int64(a.Status))
		for _, s := range []string{a.URL, a.Error, a.Request, a.Response} {
			out.string(s)
		}
	}
	return out.b
}

// decodeBody fills the bodies of to. b must not be used afterwards.
func decodeBody(b []byte, to *webhooks.Delivery) error {
	d := newDecoder(b)
	to.Reply, to.Error = json.RawMessage(d.raw()), json.RawMessage(d.raw())
	for n := d.uint(); n > 0 && !d.bad; n-- {
		a := webhooks.Attempt{
			Number: int(d.int()), Started: d.time(), Duration: time.Duration(d.int()), Status: int(d.int()),
		}
		for _, s := range []*string{&a.URL, &a.Error, &a.Request, &a.Response} {
			*s = d.string()
		}
		to.Log = append(to.Log, a)
	}
	return d.err("reply and log")
}

// time writes microseconds since 1970, and whether there is a time at all.
func (e *encoder) time(t time.Time) {
	e.bool(!t.IsZero())
	if !t.IsZero() {
		e.int(t.UnixMicro())
	}
}

func (d *decoder) time() time.Time {
	if !d.bool() {
		return time.Time{}
	}
	return time.UnixMicro(d.int())
}

func (e *encoder) bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	e.b = append(e.b, b)
}

func (d *decoder) bool() bool { return d.byte() == 1 }

// class is what a delivery counts as.
type class byte

const (
	classQueue class = iota // waiting or being sent
	classDone
	classDead
	// classBody is in the index of ended deliveries alone: done ones that still have bodies.
	classBody
	classes = 3
)

// usage counts deliveries and the bytes held against the bounds.
type usage struct {
	waiting, sending, done, dead int64
	bytes                        [classes]int64
}

func encodeUsage(u usage) []byte {
	out := newEncoder(48)
	for _, v := range []int64{u.waiting, u.sending, u.done, u.dead, u.bytes[0], u.bytes[1], u.bytes[2]} {
		out.int(v)
	}
	return out.b
}

func decodeUsage(b []byte) (usage, error) {
	d := newDecoder(b)
	var u usage
	for _, v := range []*int64{&u.waiting, &u.sending, &u.done, &u.dead, &u.bytes[0], &u.bytes[1], &u.bytes[2]} {
		*v = d.int()
	}
	return u, d.err("usage of the queue")
}
