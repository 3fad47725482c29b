package broker

import (
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"sync/atomic"
)

// secretBytes is the length of a site's secrets and salt.
const secretBytes = 32

// Key is one live key of a site: what its secret derives by HKDF-SHA256 (RFC 5869, no salt) for each use.
type Key struct {
	// ID is the kid: [a-z0-9]{1,16}.
	ID string
	// Secret is 32 random bytes. It must never be logged.
	Secret []byte
	// Grant signs grants (HS256), API is the bearer's secret, Webhook signs deliveries, Resume signs resume tokens.
	Grant, API, Webhook, Resume []byte
}

// NewKey derives the subkeys of a secret.
func NewKey(id string, secret []byte) (*Key, error) {
	if len(id) < 1 || len(id) > 16 {
		return nil, Errorf(CodeBadRequest, "key id %q: want 1 to 16 characters of a-z and 0-9", clip(id))
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return nil, Errorf(CodeBadRequest, "key id %q: want 1 to 16 characters of a-z and 0-9", clip(id))
		}
	}
	if len(secret) != secretBytes {
		return nil, Errorf(CodeBadRequest, "key %s: the secret has %d bytes, want %d", id, len(secret), secretBytes)
	}
	k := &Key{ID: id, Secret: secret}
	for _, sub := range []struct {
		info string
		to   *[]byte
	}{
		{"backchannel/v1/grant", &k.Grant},
		{"backchannel/v1/api", &k.API},
		{"backchannel/v1/webhook", &k.Webhook},
		{"backchannel/v1/resume", &k.Resume},
	} {
		b, err := hkdf.Key(sha256.New, secret, nil, sub.info, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive %s: %w", sub.info, err)
		}
		*sub.to = b
	}
	return k, nil
}

// Bearer is the Authorization value of the server API, without "Bearer ".
func (k *Key) Bearer(site SiteID) string {
	return string(site) + "." + k.ID + "." + base64.RawURLEncoding.EncodeToString(k.API)
}

// WebhookSecret is the Standard Webhooks form that receivers are given.
func (k *Key) WebhookSecret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString(k.Webhook)
}

// Limits of a site. A zero field is not set; see WithDefaults.
type Limits struct {
	Streams        int     // open streams and polls
	EventBytes     int     // data of one event
	MessageBytes   int     // data of one message
	ReplyBytes     int     // reply of a component
	GrantEntries   int     // channels of one grant
	StreamEntries  int     // channels of one stream
	CallerMessages float64 // messages a second and caller; bursts of twice as many
}

// DefaultLimits are the limits of a site that sets none.
func DefaultLimits() Limits {
	return Limits{
		Streams: 20_000, EventBytes: 256 << 10, MessageBytes: 64 << 10, ReplyBytes: 256 << 10,
		GrantEntries: 200, StreamEntries: 1000, CallerMessages: 20,
	}
}

// WithDefaults fills what l does not set from DefaultLimits.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	return Limits{
		Streams: cmp.Or(l.Streams, d.Streams), EventBytes: cmp.Or(l.EventBytes, d.EventBytes),
		MessageBytes: cmp.Or(l.MessageBytes, d.MessageBytes), ReplyBytes: cmp.Or(l.ReplyBytes, d.ReplyBytes),
		GrantEntries: cmp.Or(l.GrantEntries, d.GrantEntries), StreamEntries: cmp.Or(l.StreamEntries, d.StreamEntries),
		CallerMessages: cmp.Or(l.CallerMessages, d.CallerMessages),
	}
}

// Site is a tenant as configured. It is immutable: a reload makes a new one.
type Site struct {
	ID SiteID
	// Keys all verify and all sign webhooks; the first is in the DSN and signs resume tokens.
	Keys []*Key
	// Salt keys channel hashes and never rotates.
	Salt    []byte
	Origins []string
	Limits  Limits
}

// Key finds a live key by its id, or nil.
func (s *Site) Key(id string) *Key {
	for _, k := range s.Keys {
		if k.ID == id {
			return k
		}
	}
	return nil
}

// AllowsOrigin tells whether the site lists origin, compared exactly. "null" is never allowed.
func (s *Site) AllowsOrigin(origin string) bool {
	for _, o := range s.Origins {
		if o == origin && o != "null" {
			return true
		}
	}
	return false
}

// Sites is the set of configured sites. A reload replaces it as a whole; readers never wait. The zero value is empty.
type Sites struct {
	all atomic.Pointer[map[SiteID]*Site]
}

// Replace installs a new set; the map must not be changed afterwards.
func (s *Sites) Replace(sites map[SiteID]*Site) { s.all.Store(&sites) }

// All returns the current set; it must not be changed.
func (s *Sites) All() map[SiteID]*Site {
	if m := s.all.Load(); m != nil {
		return *m
	}
	return nil
}

// Get finds a site, or nil.
func (s *Sites) Get(id SiteID) *Site { return s.All()[id] }
