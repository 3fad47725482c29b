package handlers

import (
	"cmp"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"backchannel/broker"
)

// hub is what requests need of broker.Hub.
type hub interface {
	// Revoked tells whether a revocation takes away the entry for ch that g gave; ch "" asks for g as a whole.
	Revoked(g *broker.Grant, ch broker.ChannelID) bool
}

// Config is what a Server works with.
type Config struct {
	Sites *broker.Sites
	Hub   hub
	// Epoch is that of the store.
	Epoch func() broker.Epoch
	// Now is the broker's clock.
	Now func() time.Time
}

// Server is HTTP in.
type Server struct {
	cfg    Config
	parser *jwt.Parser
	uses   *keyUses
	// The kinds of credential. resumes and keys differ in what they take, not in what they give.
	grants, resumes, keys verifier
}

// New makes a Server; it starts nothing.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, parser: newParser(), uses: newKeyUses()}
	s.grants = grantVerifier{s}
	s.resumes = resumeVerifier{s, "resume token", typeResume}
	s.keys = resumeVerifier{s, "key", typeKey}
	return s, nil
}

// limitsOf gives the limits of a site with the defaults where it sets none.
func limitsOf(site *broker.Site) broker.Limits {
	l, d := site.Limits, broker.DefaultLimits()
	return broker.Limits{
		Streams: cmp.Or(l.Streams, d.Streams), EventBytes: cmp.Or(l.EventBytes, d.EventBytes),
		MessageBytes: cmp.Or(l.MessageBytes, d.MessageBytes), ReplyBytes: cmp.Or(l.ReplyBytes, d.ReplyBytes),
		GrantEntries: cmp.Or(l.GrantEntries, d.GrantEntries), StreamEntries: cmp.Or(l.StreamEntries, d.StreamEntries),
		CallerMessages: cmp.Or(l.CallerMessages, d.CallerMessages),
	}
}
