package handlers

import (
	"time"

	"backchannel/broker"
)

const (
	// audienceName is what a grant's aud must be.
	audienceName = "backchannel"
	// maxCredentials bounds the grants of one request: each costs a signature check.
	maxCredentials = 100
)

// revocations are those in force.
type revocations interface {
	// Revoked tells whether a revocation takes away the entry for ch that g gave; ch "" asks for g as a whole.
	Revoked(g *broker.Grant, ch broker.ChannelID) bool
}

// verifier turns one kind of credential into grants. Nothing behind it knows the kind.
type verifier interface {
	// verify checks token at now. The error is CodeGrantInvalid, CodeGrantExpired or CodeTooLarge.
	verify(token string, now time.Time) (*verified, error)
}

// verified is what a credential turned out to be. All of it belongs to whoever asked.
type verified struct {
	site          *broker.Site
	user, session string
	// stream is the one the credential was made for, zero for a grant.
	stream broker.StreamID
	grants []*broker.Grant
}

// presented is what a page shows of itself in one request. Key opens no stream: whoever opens one leaves it empty.
type presented struct {
	Grants []string
	Resume string
	Key    string
	// Rooms names rooms under entries of these credentials.
	Rooms map[broker.ChannelID][]string
}

// session is what the credentials of one request amount to: one user of one site.
type session struct {
	Site *broker.Site
	// Stream is the one that the resume token or key was made for, zero if there was none.
	Stream broker.StreamID
	// User and Session are those of all Grants.
	User, Session string
	// Grants holds at least one. Those of the resume token come first; a revoked entry is not in them.
	Grants []*broker.Grant
	// Refused are those that are not in Grants, in the order they were presented.
	Refused []refusal
}

// refusal says why a credential beside good ones was not taken.
type refusal struct {
	// Grant is its index among the grants presented; fromResume for the resume token or key.
	Grant int
	Code  broker.Code
}

// fromResume is the index of a refused resume token or key.
const fromResume = -1

// authenticate turns what was presented into a session. Each credential stands alone: what is wrong with one is told in
// Refused, and is an error only if nothing is left; then the first grant's is told, since a grant is what a page can do
// something about. Errors: CodeGrantInvalid, CodeGrantExpired, CodeTooLarge, CodeRevoked, CodeSubjectMismatch if they
// are not of one site, user and session, CodeOriginDenied if that site does not list origin ("" is none and is fine),
// CodeChannelDenied for rooms nobody granted.
func (s *Server) authenticate(p presented, origin string) (*session, error) {
	if len(p.Grants) > maxCredentials {
		return nil, broker.Errorf(broker.CodeTooLarge, "%d grants; at most %d are allowed in one request", len(p.Grants), maxCredentials)
	}
	c := collector{server: s, now: s.cfg.Now()}
	if p.Resume != "" {
		c.add(fromResume, s.resumes, p.Resume)
	}
	if p.Key != "" {
		c.add(fromResume, s.keys, p.Key)
	}
	for i, token := range p.Grants {
		c.add(i, s.grants, token)
	}
	if c.mismatch {
		return nil, broker.Errorf(broker.CodeSubjectMismatch, "the credentials of one stream must have the same iss, sub and sid")
	}
	if c.out.Site == nil {
		return nil, c.nothing()
	}
	if origin != "" && !c.out.Site.AllowsOrigin(origin) {
		return nil, broker.Errorf(broker.CodeOriginDenied, "site %s does not list this origin; add it to the site's origins", c.out.Site.ID)
	}
	c.dropRevoked()
	if err := c.expandRooms(p.Rooms); err != nil {
		return nil, err
	}
	if len(c.out.Grants) == 0 {
		return nil, c.nothing()
	}
	return &c.out, nil
}

// collector gathers the credentials of one request.
type collector struct {
	server   *Server
	now      time.Time
	out      session
	index    []int // of the credential that gave out.Grants[i]
	mismatch bool
	// lost: something granted has been taken away, so rooms may name what is no longer there.
	lost bool
	// firstGrant and firstResume are the first errors of each.
	firstGrant, firstResume error
}

func (c *collector) add(index int, v verifier, token string) {
	got, err := v.verify(token, c.now)
	if err != nil {
		c.refuse(index, err)
		return
	}
	switch {
	case c.out.Site == nil:
		c.out.Site, c.out.User, c.out.Session = got.site, got.user, got.session
	case c.out.Site.ID != got.site.ID || c.out.User != got.user || c.out.Session != got.session:
		c.mismatch = true
		return
	}
	if !got.stream.IsZero() {
		c.out.Stream = got.stream
	}
	for _, g := range got.grants {
		c.out.Grants = append(c.out.Grants, g)
		c.index = append(c.index, index)
	}
}

func (c *collector) refuse(index int, err error) {
	c.lost = true
	c.out.Refused = append(c.out.Refused, refusal{Grant: index, Code: broker.CodeOf(err)})
	if index == fromResume && c.firstResume == nil {
		c.firstResume = err
	} else if index != fromResume && c.firstGrant == nil {
		c.firstGrant = err
	}
}

func (c *collector) nothing() error {
	switch {
	case c.firstGrant != nil:
		return c.firstGrant
	case c.firstResume != nil:
		return c.firstResume
	}
	return broker.Errorf(broker.CodeGrantInvalid, "no credential: want a grant from the LMS, or the resume token of a stream")
}

// dropRevoked takes away what revocations took away: grants as a whole, and entries by channel. A grant of which
// nothing is left is refused.
func (c *collector) dropRevoked() {
	kept := c.out.Grants[:0]
	left, gone := make(map[int]bool), make([]int, 0)
	for i, g := range c.out.Grants {
		if c.server.cfg.Hub.Revoked(g, "") || c.dropEntries(g) {
			gone = append(gone, c.index[i])
			continue
		}
		kept = append(kept, g)
		left[c.index[i]] = true
	}
	c.out.Grants = kept
	for _, index := range gone {
		// Of a resume token with several parts some may be left.
		c.lost = true
		if !left[index] {
			left[index] = true
			c.refuse(index, broker.Errorf(broker.CodeRevoked, "what this credential gave has been revoked"))
		}
	}
}

// dropEntries removes revoked entries; it tells whether that left g with nothing.
func (c *collector) dropEntries(g *broker.Grant) (empty bool) {
	if len(g.Entries) == 0 {
		return false
	}
	kept := make([]broker.Entry, 0, len(g.Entries))
	for _, e := range g.Entries {
		if !c.server.cfg.Hub.Revoked(g, e.Channel) {
			kept = append(kept, e)
		}
	}
	c.lost = c.lost || len(kept) < len(g.Entries)
	g.Entries = kept
	return len(kept) == 0 && len(g.Send) == 0
}

// expandRooms adds an entry for each room that a page names under an entry with the right to rooms. Under any other
// channel it is CodeChannelDenied, unless a grant or entry was lost on the way: then the room went with it.
func (c *collector) expandRooms(rooms map[broker.ChannelID][]string) error {
	total := 0
	for _, names := range rooms {
		total += len(names)
	}
	if most := c.out.Site.Limits.WithDefaults().StreamEntries; total > most {
		return broker.Errorf(broker.CodeTooLarge, "%d rooms; at most %d entries are allowed on a stream", total, most)
	}
	for parent, names := range rooms {
		found := false
		for _, g := range c.out.Grants {
			if err := c.expandIn(g, parent, names, &found); err != nil {
				return err
			}
		}
		if !found && !c.lost {
			return broker.Errorf(broker.CodeChannelDenied, "rooms: no grant gives rooms under channel %q", clip(string(parent)))
		}
	}
	return nil
}

func (c *collector) expandIn(g *broker.Grant, parent broker.ChannelID, names []string, found *bool) error {
	have := make(map[string]struct{}, len(g.Entries))
	for _, e := range g.Entries {
		have[e.As] = struct{}{}
	}
	for _, e := range g.Entries {
		if e.Channel != parent || !e.Rooms {
			continue
		}
		*found = true
		for _, name := range names {
			room, err := e.Room(name)
			if err != nil {
				return err
			}
			// A resume token holds the rooms of its stream already, at the positions reached in them.
			if _, twice := have[room.As]; twice || c.server.cfg.Hub.Revoked(g, room.Channel) {
				continue
			}
			have[room.As] = struct{}{}
			g.Entries = append(g.Entries, room)
		}
	}
	return nil
}
