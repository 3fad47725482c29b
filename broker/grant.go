package broker

import (
	"encoding/json"
	"time"
	"unicode/utf8"
)

// Limits of a grant that are part of the contract.
const (
	// Leeway is how far clocks may differ: on iat, exp and until.
	Leeway = time.Minute
	// MaxGrantLife bounds until, from iat.
	MaxGrantLife = 7 * 24 * time.Hour
	// DefaultGrantLife is until, from iat, if a grant does not say.
	DefaultGrantLife = 8 * time.Hour
	// MaxLast bounds an entry's last.
	MaxLast = 100

	maxIDBytes   = 255 // sub, sid, jti: what LMSs use as keys, and an index can hold
	maxRefBytes  = 256
	maxInfoBytes = 256
	maxSealBytes = 512
	maxAsBytes   = 256
)

// Grant is what a credential turned out to allow. Nothing behind the verifier knows of which kind the credential was.
// It is immutable and may be shared.
type Grant struct {
	Site SiteID
	// ID is the jti, User the sub and Session the sid; each may be "".
	ID, User, Session string
	IssuedAt          time.Time
	// Until is when streams born of the grant lose what it gave.
	Until   time.Time
	Entries []Entry
	Send    []ComponentID
	// Info is presence info, a JSON object or nil.
	Info json.RawMessage
	// Seal is opaque and must never be logged.
	Seal string
}

// Entry is one channel of a grant. As names it on its stream.
type Entry struct {
	Channel   ChannelID
	As        string
	Component ComponentID // owner, "" for none
	Ref       string
	Filter    Filter
	Presence  Presence
	Write     bool // peers may publish
	Rooms     bool // every room under Channel is granted too
	Last      int
	From      Start
	// RoomFrom is the From of rooms that are named later: the grant's own, whatever From has become since.
	RoomFrom Start
}

// Presence says what an entry does with members: "", "member", "watch" or "both".
type Presence string

// Start is where a page says its own knowledge ends: a cursor as it was sent, or a moment of the broker's clock. The
// zero value is no start. A cursor is kept unread, because an unreadable one is no error: it is "not recovered".
type Start struct {
	Cursor string
	Time   time.Time
}

// IsZero tells whether nothing was said.
func (s Start) IsZero() bool { return s.Cursor == "" && s.Time.IsZero() }

// Caller is who sends messages under g: order, rates and remembered ids are per caller. All guests of a Moodle share
// one user id, so the session comes first.
func (g *Grant) Caller() string {
	switch {
	case g.Session != "":
		return "s:" + g.Session
	case g.User != "":
		return "u:" + g.User
	default:
		return "j:" + g.ID
	}
}

// MaySend tells whether g allows messages to c.
func (g *Grant) MaySend(c ComponentID) bool {
	for _, s := range g.Send {
		if s == c {
			return true
		}
	}
	return false
}

// Claims are a grant on the wire: the claim set of a JWT (RFC 7519) with our own claims beside the registered ones.
type Claims struct {
	Issuer   string        `json:"iss"`
	Audience string        `json:"aud"`
	Subject  string        `json:"sub,omitempty"`
	Session  string        `json:"sid,omitempty"`
	IssuedAt NumericDate   `json:"iat"`
	Expires  NumericDate   `json:"exp"`
	ID       string        `json:"jti,omitempty"`
	Until    NumericDate   `json:"until,omitzero"`
	From     StartClaim    `json:"from,omitzero"`
	Channels []EntryClaim  `json:"ch"`
	Send     []ComponentID `json:"send,omitempty"`
	// Info and Seal as in Grant.
	Info json.RawMessage `json:"info,omitempty"`
	Seal string          `json:"seal,omitempty"`
}

// EntryClaim is an element of the claim ch.
type EntryClaim struct {
	Channel   ChannelID   `json:"h"`
	Component ComponentID `json:"c,omitempty"`
	Ref       string      `json:"ref,omitempty"`
	Filter    Filter      `json:"f,omitempty"`
	Presence  Presence    `json:"p,omitempty"`
	Write     bool        `json:"w,omitempty"`
	Rooms     bool        `json:"rooms,omitempty"`
	Last      int         `json:"last,omitempty"`
	From      StartClaim  `json:"from,omitzero"`
}

// Grant checks every rule of the claims but the signature and turns them into a Grant. The error is
// CodeGrantExpired if exp has passed, CodeTooLarge beyond maxEntries channels, else CodeGrantInvalid.
func (c *Claims) Grant(now time.Time, maxEntries int) (*Grant, error) {
	site, err := ParseSiteID(c.Issuer)
	if err != nil {
		return nil, invalidGrant("iss: %s", err)
	}
	g := &Grant{
		Site: site, ID: c.ID, User: c.Subject, Session: c.Session,
		IssuedAt: c.IssuedAt.Time(), Until: c.Until.Time(), Send: c.Send, Info: c.Info, Seal: c.Seal,
	}
	if err := c.checkTimes(g, now); err != nil {
		return nil, err
	}
	for name, id := range map[string]string{"sub": c.Subject, "sid": c.Session, "jti": c.ID} {
		if len(id) > maxIDBytes || !utf8.ValidString(id) {
			return nil, invalidGrant("%s: want at most %d bytes of UTF-8", name, maxIDBytes)
		}
	}
	if c.Subject == "" && c.Session == "" && c.ID == "" {
		return nil, invalidGrant("one of sub, sid and jti must be given")
	}
	if len(c.Seal) > maxSealBytes {
		return nil, invalidGrant("seal: want at most %d bytes", maxSealBytes)
	}
	if len(c.Info) > maxInfoBytes || len(c.Info) > 0 && c.Info[0] != '{' {
		return nil, invalidGrant("info: want a JSON object of at most %d bytes", maxInfoBytes)
	}
	if len(c.Channels) > maxEntries {
		return nil, Errorf(CodeTooLarge, "grant has %d channels; at most %d are allowed", len(c.Channels), maxEntries)
	}
	for _, s := range c.Send {
		if _, err := ParseComponentID(string(s)); err != nil {
			return nil, invalidGrant("send: %s", err)
		}
	}
	g.Entries = make([]Entry, 0, len(c.Channels))
	for i := range c.Channels {
		e, err := c.Channels[i].entry(c.From)
		if err != nil {
			return nil, invalidGrant("ch[%d]: %s", i, err)
		}
		g.Entries = append(g.Entries, e)
	}
	return g, nil
}

func (c *Claims) checkTimes(g *Grant, now time.Time) error {
	if c.IssuedAt == 0 || c.Expires == 0 {
		return invalidGrant("iat and exp must be given")
	}
	if g.IssuedAt.After(now.Add(Leeway)) {
		return invalidGrant("iat is %s ahead of the broker's clock; at most %s is allowed", g.IssuedAt.Sub(now).Round(time.Second), Leeway)
	}
	if c.Expires < c.IssuedAt {
		return invalidGrant("exp lies before iat")
	}
	if !c.Expires.Time().Add(Leeway).After(now) {
		return Errorf(CodeGrantExpired, "the grant expired %s ago", now.Sub(c.Expires.Time()).Round(time.Second))
	}
	if c.Until == 0 {
		g.Until = g.IssuedAt.Add(DefaultGrantLife)
		if e := c.Expires.Time(); g.Until.Before(e) {
			g.Until = e
		}
	}
	if g.Until.Before(c.Expires.Time()) {
		return invalidGrant("until lies before exp")
	}
	if g.Until.After(g.IssuedAt.Add(MaxGrantLife)) {
		return invalidGrant("until lies more than 7 days after iat")
	}
	return nil
}

func (c *EntryClaim) entry(from StartClaim) (Entry, error) {
	if _, err := ParseChannelID(string(c.Channel)); err != nil {
		return Entry{}, err
	}
	if c.Component != "" {
		if _, err := ParseComponentID(string(c.Component)); err != nil {
			return Entry{}, err
		}
	}
	if len(c.Ref) > maxRefBytes || !utf8.ValidString(c.Ref) {
		return Entry{}, Errorf(CodeBadRequest, "ref: want at most %d bytes of UTF-8", maxRefBytes)
	}
	switch c.Presence {
	case "", "member", "watch", "both":
	default:
		return Entry{}, Errorf(CodeBadRequest, "p: want member, watch or both, got %q", clip(string(c.Presence)))
	}
	if c.Last < 0 || c.Last > MaxLast {
		return Entry{}, Errorf(CodeBadRequest, "last: want 0 to %d", MaxLast)
	}
	if err := c.Filter.check(); err != nil {
		return Entry{}, err
	}
	if c.From != (StartClaim{}) {
		from = c.From
	}
	e := Entry{
		Channel: c.Channel, As: string(c.Channel), Component: c.Component, Ref: c.Ref, Filter: c.Filter,
		Presence: c.Presence, Write: c.Write, Rooms: c.Rooms, Last: c.Last, From: Start(from),
	}
	if e.Rooms {
		e.RoomFrom = e.From
	}
	return e, nil
}

// CheckAs checks a page's name for an entry; the error has CodeBadRequest.
func CheckAs(as string) error {
	if as == "" || len(as) > maxAsBytes || !utf8.ValidString(as) {
		return Errorf(CodeBadRequest, "as: want 1 to %d bytes of UTF-8", maxAsBytes)
	}
	return nil
}

// Room gives the entry for a room under e, with e's rights; e must have Rooms.
func (e Entry) Room(room string) (Entry, error) {
	if !e.Rooms {
		return Entry{}, Errorf(CodeChannelDenied, "channel %s has no rooms in this grant", e.Channel)
	}
	ch, err := RoomChannel(e.Channel, room)
	if err != nil {
		return Entry{}, err
	}
	e.Channel, e.As, e.Rooms = ch, string(ch), false
	e.From, e.RoomFrom = e.RoomFrom, Start{}
	return e, nil
}

func invalidGrant(format string, args ...any) error {
	return Errorf(CodeGrantInvalid, "grant: "+format, args...)
}
