package broker

import "time"

// RevocationKind says what a revocation names.
type RevocationKind string

// The kinds, as their names stand in POST /v1/revoke.
const (
	RevokeJTI     RevocationKind = "jti"
	RevokeSession RevocationKind = "sid"
	RevokeUser    RevocationKind = "user"
	RevokeChannel RevocationKind = "channel"
)

// RevocationLife is how long a revocation must be remembered: the longest life of a grant (7 days), the day in which
// an old grant may still be refreshed, and the leeway of clocks.
const RevocationLife = 8*24*time.Hour + 2*time.Minute

// Revocation takes away what grants gave.
type Revocation struct {
	Site  SiteID         `json:"site"`
	Kind  RevocationKind `json:"kind"`
	Value string         `json:"value"`
	// Before, in microseconds since 1970, bounds the kinds user and channel: only grants issued at or before it. jti
	// and sid are refused whatever their iat.
	Before int64 `json:"before,omitempty"`
}

// Hits tells whether r takes the entry for channel away that a grant with these claims gave; an empty channel asks
// for the grant as a whole.
func (r Revocation) Hits(g *Grant, channel ChannelID) bool {
	if r.Site != g.Site {
		return false
	}
	switch r.Kind {
	case RevokeJTI:
		return g.ID == r.Value
	case RevokeSession:
		return g.Session != "" && g.Session == r.Value
	case RevokeUser:
		return g.User != "" && g.User == r.Value && g.IssuedAt.UnixMicro() <= r.Before
	case RevokeChannel:
		return channel != "" && string(channel) == r.Value && g.IssuedAt.UnixMicro() <= r.Before
	}
	return false
}
