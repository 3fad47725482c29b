package broker

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"
)

const (
	maxTypeBytes = 64
	// MaxKeyBytes bounds the idempotency id of a publish.
	MaxKeyBytes = 256
	// MaxTTL is the longest life an event can be given of its own.
	MaxTTL = 7 * 24 * time.Hour
	// KeyLife is how long an idempotency id is remembered.
	KeyLife = 24 * time.Hour
)

// Draft is an event before it has a place in the log. NewDraft makes a checked one.
type Draft struct {
	Channel Channel
	// Type is the event's type, "" for none.
	Type string
	// Data is compact JSON: one line, valid UTF-8.
	Data []byte
	// Key makes a repeat within KeyLife on the same channel return the first position; "" for none.
	Key string
	// TTL of its own; 0 means that the log's retention decides. An event with a TTL is not counted: its expiry is no
	// loss.
	TTL time.Duration
	// User and Client mark a peer event: who sent it, and the page's mark. Both "" otherwise.
	User, Client string
}

// NewDraft checks and compacts what a publisher sent; the error has CodeBadRequest and says what is wrong. The size
// of data is the caller's to limit before.
func NewDraft(ch Channel, typ string, data []byte, key string, ttl time.Duration) (Draft, error) {
	if err := CheckType(typ); err != nil {
		return Draft{}, err
	}
	if err := checkKey(key); err != nil {
		return Draft{}, err
	}
	if ttl < 0 || ttl > MaxTTL {
		return Draft{}, Errorf(CodeBadRequest, "ttl: want 0 to %d seconds", int(MaxTTL/time.Second))
	}
	compact, err := CompactJSON(data)
	if err != nil {
		return Draft{}, err
	}
	return Draft{Channel: ch, Type: typ, Data: compact, Key: key, TTL: ttl}, nil
}

// CompactJSON returns data without insignificant space; what is not one JSON value in valid UTF-8 is CodeBadRequest.
func CompactJSON(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, Errorf(CodeBadRequest, "data: missing; want a JSON value")
	}
	if !utf8.Valid(data) {
		return nil, Errorf(CodeBadRequest, "data: not valid UTF-8")
	}
	var out bytes.Buffer
	out.Grow(len(data))
	if err := json.Compact(&out, data); err != nil {
		return nil, Errorf(CodeBadRequest, "data: not one JSON value")
	}
	return out.Bytes(), nil
}

// CheckType accepts "" and [A-Za-z0-9_.-]{1,64} but for the names that control frames and browsers use.
func CheckType(typ string) error {
	if typ == "" {
		return nil
	}
	switch typ {
	case FrameHello, FrameHeartbeat, FrameChannels, FrameGap, FramePresence, FrameBye, FramePeer, "open", "error", "message":
		return Errorf(CodeBadRequest, "type %q is reserved", typ)
	}
	return checkName("type", typ, maxTypeBytes, "-_.")
}

func checkKey(key string) error {
	if len(key) > MaxKeyBytes || !utf8.ValidString(key) {
		return Errorf(CodeBadRequest, "id: want at most %d bytes of UTF-8", MaxKeyBytes)
	}
	for i := range len(key) {
		if key[i] < 0x20 || key[i] == 0x7f {
			return Errorf(CodeBadRequest, "id: control character at byte %d", i+1)
		}
	}
	return nil
}

// Event is what the log holds at one position. It is immutable and shared.
type Event struct {
	// Seq is the position in the epoch, from 1, without gaps over the whole log.
	Seq uint64
	// Prev is the position of the counted event before it on its channel, 0 for none.
	Prev uint64
	// Time is when the committer numbered it, in microseconds since 1970. It never falls from one Seq to the next.
	Time    int64
	Channel Channel
	Type    string
	Data    []byte
	// Counted is false for an event with a TTL of its own.
	Counted bool
	// Expires is when an event with a TTL of its own is gone, in microseconds since 1970; 0 for any other. Tail sets
	// it; in a Page it may be 0, since a page holds nothing that has expired.
	Expires int64
	// User and Client are set for peer events.
	User, Client string
	// Revocation is set on a record that is no event: it is heard by hubs, never by streams, and has no ChannelID.
	Revocation *Revocation
}
