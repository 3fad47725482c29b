package broker

import (
	"strconv"
	"unicode/utf8"
)

// Names of control frames. No publisher may use them as an event type.
const (
	FrameHello     = "hello"
	FrameHeartbeat = "heartbeat"
	FrameChannels  = "channels"
	FrameGap       = "gap"
	FramePresence  = "presence"
	FrameBye       = "bye"
	FramePeer      = "peer"
)

// Frame is one frame of a stream, encoded once as text/event-stream (WHATWG HTML, 9.2.5) and shared by all who get
// it: it is immutable.
type Frame struct {
	// Seq is the position that the frame's id names, if HasID. It may be 0: an empty log has a position too.
	Seq   uint64
	HasID bool
	// Event is the frame's event type, "" for none.
	Event string
	// Data is the frame's JSON, on one line.
	Data []byte

	channel Channel // of an event; the zero value for control frames
	payload []byte  // the event's own JSON, part of Data
	expires int64   // microseconds since 1970, 0 for never by itself
	wire    []byte  // the whole frame; Data is part of it
}

// Wire is the frame as it goes over a stream. It must not be changed.
func (f *Frame) Wire() []byte { return f.wire }

// eventFrame encodes e as every subscriber gets it.
func eventFrame(epoch Epoch, e *Event) *Frame {
	f := &Frame{Seq: e.Seq, HasID: true, Event: e.Type, channel: e.Channel, expires: e.Expires}
	b := make([]byte, 0, 128+len(e.Type)+len(e.Channel.ID)+len(e.Data)+2*len(e.User)+len(e.Client))
	b = appendID(b, epoch, e.Seq)
	b = appendEventName(b, e.Type)
	f.encode(b, e, nil)
	return f
}

// replayFrame encodes e as history at or before the cursor: without id, and with its position in the data.
func replayFrame(epoch Epoch, e *Event) *Frame {
	f := &Frame{Event: e.Type, channel: e.Channel, expires: e.Expires}
	b := make([]byte, 0, 160+len(e.Type)+len(e.Channel.ID)+len(e.Data)+2*len(e.User)+len(e.Client))
	b = appendEventName(b, e.Type)
	at := append([]byte(`"replay":true,"at":"`), Cursor{epoch, e.Seq}.append(nil)...)
	f.encode(b, e, append(at, '"', ','))
	return f
}

// encode appends the data line. extra holds further members, each followed by a comma.
func (f *Frame) encode(b []byte, e *Event, extra []byte) {
	b = append(b, "data: "...)
	start := len(b)
	b = append(b, `{"channel":"`...)
	b = append(b, e.Channel.ID...)
	b = append(b, `","time":`...)
	b = appendTime(b, e.Time)
	b = append(b, ',')
	b = append(b, extra...)
	if e.Client != "" {
		b = append(b, `"user":`...)
		b = appendJSONString(b, e.User)
		b = append(b, `,"client":`...)
		b = appendJSONString(b, e.Client)
		b = append(b, ',')
	}
	b = append(b, `"data":`...)
	from := len(b)
	b = append(b, e.Data...)
	to := len(b)
	b = append(b, '}')
	end := len(b)
	f.wire = append(b, '\n', '\n')
	f.Data, f.payload = f.wire[start:end:end], f.wire[from:to:to]
}

// controlFrame encodes a frame of the broker's own, without id if at is nil. prefix stands before it (retry, padding)
// and must be whole lines.
func controlFrame(at *Cursor, event string, data []byte, prefix string) *Frame {
	f := &Frame{Event: event}
	b := make([]byte, 0, len(prefix)+64+len(data))
	b = append(b, prefix...)
	if at != nil {
		f.Seq, f.HasID = at.Seq, true
		b = appendID(b, at.Epoch, at.Seq)
	}
	b = appendEventName(b, event)
	b = append(b, "data: "...)
	start := len(b)
	b = append(b, data...)
	end := len(b)
	f.wire = append(b, '\n', '\n')
	f.Data = f.wire[start:end:end]
	return f
}

func appendID(b []byte, epoch Epoch, seq uint64) []byte {
	b = append(b, "id: "...)
	b = Cursor{epoch, seq}.append(b)
	return append(b, '\n')
}

func appendEventName(b []byte, name string) []byte {
	if name == "" {
		return b
	}
	b = append(b, "event: "...)
	b = append(b, name...)
	return append(b, '\n')
}

// appendJSONString writes s as a JSON string on one line; what is not UTF-8 becomes U+FFFD.
func appendJSONString(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	return appendCanonicalString(b, s)
}

// retryField tells a browser how long to wait, in milliseconds, before it comes back.
func retryField(ms int) string { return "retry: " + strconv.Itoa(ms) + "\n" }
