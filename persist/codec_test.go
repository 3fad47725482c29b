package persist

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

func FuzzEventComesBack(f *testing.F) {
	f.Add("moodle", "ch", "score", "5", "mark", []byte(`{"a":1}`), int64(1790000000000000), int64(5), uint64(7), int64(3600000000), true)
	f.Add("", "", "", "", "", []byte{}, int64(-1), int64(1<<62), uint64(1<<63), int64(-5), false)
	f.Fuzz(func(t *testing.T, site, ch, typ, user, client string, data []byte, at, before int64, prev uint64, life int64, counted bool) {
		e := broker.Event{
			Seq: 9, Prev: prev, Time: at, Channel: broker.Channel{Site: broker.SiteID(site), ID: broker.ChannelID(ch)},
			Type: typ, Data: data, Counted: counted, User: user, Client: client,
		}
		en := entry{seq: 9, ordinal: prev, cost: before, short: !counted, expires: at + life}
		if life < 0 {
			en.expires = never
		}
		if len(data) == 0 {
			e.Data = nil
		}
		if !counted && en.expires != never {
			e.Expires = en.expires
		}
		b := encodeEvent(&en, &e)
		got, gotEntry, err := decodeEvent(9, b)
		if err != nil || !reflect.DeepEqual(got, e) || gotEntry != en {
			t.Fatalf("got %+v %+v, %v; want %+v %+v", got, gotEntry, err, e, en)
		}
		if alone, err := decodeEntry(9, b); err != nil || alone != en {
			t.Fatalf("entry %+v, %v; want %+v", alone, err, en)
		}
		for _, r := range []*broker.Revocation{nil, {Site: broker.SiteID(site), Kind: broker.RevocationKind(typ), Value: user, Before: before}} {
			p := pointer{site: broker.SiteID(site), time: at, before: before, expires: en.expires, revocation: r}
			if r == nil {
				p.channel = channelHash(e.Channel)
			}
			b := encodePointer(&p)
			back, err := decodePointer(b)
			if err != nil || !reflect.DeepEqual(back, p) || siteOf(b) != p.site {
				t.Fatalf("got %+v, %v; want %+v", back, err, p)
			}
		}
	})
}

func FuzzDeliveryComesBack(f *testing.F) {
	f.Add("moodle", "id", "sealed", "reason", []byte(`1`), []byte(`{}`), int64(1790000000000000), 3, true)
	f.Fuzz(func(t *testing.T, site, id, seal, reason string, reply, errBody []byte, at int64, attempts int, settled bool) {
		d := webhooks.Delivery{
			Message:  webhooks.Message{Ref: webhooks.Ref{Site: broker.SiteID(site), ID: webhooks.ID(id)}, Seal: seal, Kind: webhooks.KindJob},
			Attempts: max(attempts, 0), RetriedAfter: max(attempts/2, 0), Reason: reason, Settled: settled, Due: time.UnixMicro(at), State: webhooks.StateWaiting,
		}
		got, err := decodeDelivery(encodeDelivery(&deliveryRecord{Delivery: d, number: 7, dataBytes: 8, bodyBytes: 9, logBytes: 5}))
		if err != nil || !reflect.DeepEqual(got.Delivery, d) || got.number != 7 || got.dataBytes != 8 || got.bodyBytes != 9 || got.logBytes != 5 {
			t.Fatalf("got %+v, %v; want %+v", got, err, d)
		}
		d.Reply, d.Error = rawOrNil(reply), rawOrNil(errBody)
		d.Log = []webhooks.Attempt{{Number: attempts, Started: time.UnixMicro(at), URL: id, Request: seal, Response: reason}}
		back := got.Delivery
		if err := decodeBody(encodeBody(&d).b, &back); err != nil || !reflect.DeepEqual(back, d) {
			t.Fatalf("got %+v, %v; want %+v", back, err, d)
		}
	})
}

func rawOrNil(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	return b
}

// FuzzDecodersRefuseWhatIsNoRecord feeds every decoder with anything: it must neither panic nor take memory that the
// input does not have.
func FuzzDecodersRefuseWhatIsNoRecord(f *testing.F) {
	f.Add([]byte{version})
	f.Add([]byte{version, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add(encodeHead(&headRecord{channel: broker.Channel{Site: "moodle", ID: "a"}, ordinal: 3}))
	f.Add(encodeUsage(usage{waiting: 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, decode := range map[string]func([]byte) error{
			"event":      func(b []byte) error { _, _, err := decodeEvent(1, b); return err },
			"pointer":    func(b []byte) error { _, err := decodePointer(b); return err },
			"revocation": func(b []byte) error { _, _, err := decodeRevocation(b); return err },
			"position":   func(b []byte) error { _, err := decodePosition(b); return err },
			"last":       func(b []byte) error { _, err := decodeLast(b); return err },
			"head":       func(b []byte) error { _, err := decodeHead(b); return err },
			"bucket":     func(b []byte) error { _, err := decodeBucket(1, b); return err },
			"ages":       func(b []byte) error { _, err := decodeAges(b); return err },
			"delivery":   func(b []byte) error { _, err := decodeDelivery(b); return err },
			"body":       func(b []byte) error { return decodeBody(b, &webhooks.Delivery{}) },
			"usage":      func(b []byte) error { _, err := decodeUsage(b); return err },
			"site usage": func(b []byte) error { _, err := decodeSiteUsage(b); return err },
		} {
			err := decode(bytes.Clone(b))
			if err == nil && (len(b) == 0 || b[0] != version) {
				t.Errorf("%s: taken although its version is not ours", name)
			}
			if len(b) > 0 && decode(append(bytes.Clone(b), 0)) == nil && err == nil {
				t.Errorf("%s: taken with a byte too many", name)
			}
		}
	})
}

func TestRegimesRememberWhatASmallerAgeRemoved(t *testing.T) {
	const hour = int64(time.Hour / time.Microsecond)
	ages := changeAge(nil, 0, time.Hour)
	if got := ageFloor(ages, 10*hour); got != 9*hour {
		t.Errorf("one age: floor %d, want %d", got/hour, 9)
	}
	ages = changeAge(ages, 10*hour, 24*time.Hour) // it grows: what the hour removed stays removed
	for _, c := range []struct{ now, want int64 }{{10, 9}, {11, 10}, {30, 10}, {34, 10}, {40, 16}} {
		if got := ageFloor(ages, c.now*hour); got != c.want*hour {
			t.Errorf("grown, at %d h: floor %d h, want %d h", c.now, got/hour, c.want)
		}
	}
	ages = changeAge(ages, 40*hour, time.Hour) // it shrinks: what was given a day keeps it
	for _, c := range []struct{ now, want int64 }{{40, 16}, {41, 40}, {42, 41}, {70, 69}} {
		if got := ageFloor(ages, c.now*hour); got != c.want*hour {
			t.Errorf("shrunk, at %d h: floor %d h, want %d h", c.now, got/hour, c.want)
		}
	}
	for i := range int64(100) {
		ages = changeAge(ages, (70+i)*hour, time.Duration(i%7)*time.Hour)
	}
	if len(ages) > maxRegimes || ages[0].since != 0 {
		t.Errorf("%d regimes from %d, want at most %d from the start", len(ages), ages[0].since, maxRegimes)
	}
}
