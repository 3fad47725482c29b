package broker

import (
	"crypto/rand"
	"encoding/base64"
	"time"
)

// StreamID names one stream: 128 random bits, so that knowing one is proof of having opened it, together with a
// credential that carries it.
type StreamID [16]byte

// NewStreamID makes a random one.
func NewStreamID() StreamID {
	var id StreamID
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails since Go 1.24
	return id
}

// ParseStreamID reads the wire form; the error has CodeNotFound, since no such stream can exist.
func ParseStreamID(s string) (StreamID, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(StreamID{}) {
		return StreamID{}, Errorf(CodeNotFound, "no stream %q", clip(s))
	}
	return StreamID(b), nil
}

// String gives the wire form: 22 characters of base64url.
func (id StreamID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// IsZero tells whether id names no stream.
func (id StreamID) IsZero() bool { return id == StreamID{} }

// Mint signs what is left of a stream's grants: resume holds all of it, key the same without channels. Every entry's
// From is the position from which its events are owed. It may be called from many goroutines.
type Mint func(site SiteID, stream StreamID, grants []*Grant) (resume, key string, err error)

// StreamInfo describes a live stream to its site's admin.
type StreamInfo struct {
	ID        StreamID
	User      string
	Session   string
	Transport string // "stream" (detached), "http" (HTTP/2), "poll"
	Opened    time.Time
	Channels  []ChannelID
	// Behind says that the stream is reading from the log, at Position.
	Behind   bool
	Position uint64
}
