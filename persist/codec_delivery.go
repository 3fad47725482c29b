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
	logBytes          int64  // of those, what goes with Log
}

func encodeDelivery(r *deliveryRecord) []byte {
	out := newEncoder(256)
	out.uint(r.number)
	out.int(r.dataBytes)
	out.int(r.bodyBytes)
	out.int(r.logBytes)
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
	r := &deliveryRecord{number: d.uint(), dataBytes: d.int(), bodyBytes: d.int(), logBytes: d.int()}
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

// bodies are the reply and the log of a delivery, encoded.
type bodies struct {
	b   []byte // nil for none
	log int64  // how much of b goes with the log
}

func encodeBody(d *webhooks.Delivery) bodies {
	if d.Reply == nil && d.Error == nil && len(d.Log) == 0 {
		return bodies{}
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
	if len(d.Log) == 0 {
		return bodies{b: out.b}
	}
	return bodies{out.b, int64(len(out.b) - len(d.Reply) - len(d.Error))}
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
