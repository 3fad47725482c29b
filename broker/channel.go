package broker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of names. They are part of the contract, so they are not configurable.
const (
	maxSiteBytes      = 32
	maxChannelBytes   = 64
	maxComponentBytes = 64
	// MaxRoomBytes bounds the name of a room, in bytes of UTF-8.
	MaxRoomBytes = 256
	// hashBytes is how much of an HMAC names a channel: 128 bits cannot be guessed and fit 22 characters.
	hashBytes = 16
)

// SiteID names a tenant: [a-z0-9][a-z0-9-]{0,31}. Nothing crosses from one site to another.
type SiteID string

// ParseSiteID checks the form of a site's name; the error has CodeBadRequest.
func ParseSiteID(s string) (SiteID, error) {
	if len(s) < 1 || len(s) > maxSiteBytes || s[0] == '-' {
		return "", Errorf(CodeBadRequest, "site %q: want 1 to %d characters of a-z, 0-9 and -, not starting with -", clip(s), maxSiteBytes)
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return "", Errorf(CodeBadRequest, "site %q: character %d is not one of a-z, 0-9 and -", clip(s), i+1)
		}
	}
	return SiteID(s), nil
}

// ChannelID is the opaque name of a channel inside its site: [A-Za-z0-9_-]{1,64}.
type ChannelID string

// ParseChannelID checks the form of a channel's name; the error has CodeBadRequest.
func ParseChannelID(s string) (ChannelID, error) {
	if err := checkName("channel", s, maxChannelBytes, "-_"); err != nil {
		return "", err
	}
	return ChannelID(s), nil
}

// ComponentID names a plugin of a site: [A-Za-z0-9_.-]{1,64}.
type ComponentID string

// ParseComponentID checks the form of a component's name; the error has CodeBadRequest.
func ParseComponentID(s string) (ComponentID, error) {
	if err := checkName("component", s, maxComponentBytes, "-_."); err != nil {
		return "", err
	}
	return ComponentID(s), nil
}

// Channel is a channel's full name: the same ChannelID on two sites is two channels.
type Channel struct {
	Site SiteID
	ID   ChannelID
}

// String is for logs and errors, not a wire format.
func (c Channel) String() string { return string(c.Site) + "/" + string(c.ID) }

// Properties describe a channel as an LMS thinks of it.
type Properties struct {
	Context   string `json:"context"`
	Component string `json:"component"`
	Area      string `json:"area"`
	Item      string `json:"item"`
	Details   string `json:"details"`
}

// Hash derives the channel's name from its properties, keyed by the site's salt: the first 16 bytes of
// HMAC-SHA256(salt, JSON array of the five strings) in base64url. Invalid UTF-8 is CodeBadRequest.
func (p Properties) Hash(salt []byte) (ChannelID, error) {
	text := make([]byte, 0, 128)
	for i, s := range []string{p.Context, p.Component, p.Area, p.Item, p.Details} {
		if !utf8.ValidString(s) {
			return "", Errorf(CodeBadRequest, "channel property %d is not valid UTF-8", i+1)
		}
		if i == 0 {
			text = append(text, '[')
		} else {
			text = append(text, ',')
		}
		text = appendCanonicalString(text, s)
	}
	return shortMAC(salt, append(text, ']')), nil
}

// UserChannel names the channel that belongs to one user of a site.
func UserChannel(salt []byte, user string) (ChannelID, error) {
	return Properties{Component: "@user", Item: user}.Hash(salt)
}

// SessionChannel names the channel that belongs to one LMS session of a site.
func SessionChannel(salt []byte, session string) (ChannelID, error) {
	return Properties{Component: "@session", Item: session}.Hash(salt)
}

// RoomChannel names the channel of a room under parent. The room is compared byte for byte.
func RoomChannel(parent ChannelID, room string) (ChannelID, error) {
	if room == "" || len(room) > MaxRoomBytes || !utf8.ValidString(room) {
		return "", Errorf(CodeBadRequest, "room %q: want 1 to %d bytes of UTF-8", clip(room), MaxRoomBytes)
	}
	return shortMAC([]byte(parent), []byte(room)), nil
}

func shortMAC(key, text []byte) ChannelID {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return ChannelID(base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:hashBytes]))
}

// appendCanonicalString writes s as the one JSON form that every client language can produce: only the quote, the
// backslash and U+0000 to U+001F are escaped, the controls with a short form in it and the others as \u00xx.
func appendCanonicalString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			if c < 0x20 {
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				dst = append(dst, c)
			}
		}
	}
	return append(dst, '"')
}

func checkName(what, s string, maxBytes int, punctuation string) error {
	if s == "" || len(s) > maxBytes {
		return Errorf(CodeBadRequest, "%s %q: want 1 to %d characters, got %d", what, clip(s), maxBytes, len(s))
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && !strings.ContainsRune(punctuation, rune(c)) {
			return Errorf(CodeBadRequest, "%s %q: character %d is not one of A-Z, a-z, 0-9 and %s", what, clip(s), i+1, punctuation)
		}
	}
	return nil
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// clip keeps what a client sent from filling a log line or an answer.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
}
