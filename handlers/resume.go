package handlers

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"backchannel/broker"
)

// maxKeyBytes is what a key stays under: pages send it with every message, also in the last moment of their life,
// where browsers allow little.
const maxKeyBytes = 1 << 10

// resumeToken is the claim set of a resume token and of a key. Names are short because a page carries a thousand
// entries. It is nobody's to read but ours, so it may change from one version to the next if old ones are still read.
type resumeToken struct {
	unsigned
	Site    broker.SiteID `json:"iss"`
	Stream  string        `json:"st"`
	Epoch   broker.Epoch  `json:"ep"`
	User    string        `json:"sub,omitempty"`
	Session string        `json:"sid,omitempty"`
	Parts   []resumePart  `json:"g"`
}

// resumePart is what is left of one grant.
type resumePart struct {
	ID       string               `json:"j,omitempty"`
	IssuedAt broker.NumericDate   `json:"i"`
	Until    broker.NumericDate   `json:"u"`
	Send     []broker.ComponentID `json:"s,omitempty"`
	Info     json.RawMessage      `json:"p,omitempty"`
	Seal     string               `json:"x,omitempty"`
	// Seq is the position of every entry that has none of its own: on a live stream that is all of them.
	Seq     uint64        `json:"n,omitempty"`
	Entries []resumeEntry `json:"e,omitempty"`
}

// resumeEntry is an entry of a grant. Last is not in it: a stream that goes on has a position instead.
type resumeEntry struct {
	Channel   broker.ChannelID   `json:"h"`
	As        string             `json:"a,omitempty"` // if it is not Channel
	Component broker.ComponentID `json:"c,omitempty"`
	Ref       string             `json:"r,omitempty"`
	Filter    broker.Filter      `json:"f,omitempty"`
	Presence  broker.Presence    `json:"p,omitempty"`
	Write     bool               `json:"w,omitempty"`
	Rooms     bool               `json:"m,omitempty"`
	Seq       uint64             `json:"n,omitempty"`
	From      broker.StartClaim  `json:"t,omitzero"` // if it is not a position of the epoch
	RoomFrom  broker.StartClaim  `json:"k,omitzero"`
}

// Mint signs what is left of a stream's grants with the first key of the site; it is a broker.Mint. The error is
// CodeUnavailable if a reload has removed the site, CodeTooLarge if the token would not be read again. It may be called
// from many goroutines.
func (s *Server) Mint(site broker.SiteID, stream broker.StreamID, grants []*broker.Grant) (resume, key string, err error) {
	st := s.cfg.Sites.Get(site)
	if st == nil || len(st.Keys) == 0 {
		return "", "", broker.Errorf(broker.CodeUnavailable, "site %s is not configured any more", site)
	}
	token := resumeToken{Site: site, Stream: stream.String(), Epoch: s.cfg.Epoch()}
	if len(grants) > 0 {
		token.User, token.Session = grants[0].User, grants[0].Session
	}
	token.Parts = make([]resumePart, len(grants))
	for i, g := range grants {
		token.Parts[i] = partOf(g, token.Epoch)
	}
	if resume, err = signToken(st.Keys[0], typeResume, &token); err != nil {
		return "", "", err
	}
	if len(resume) > maxResumeBytes {
		return "", "", broker.Errorf(broker.CodeTooLarge, "the stream's entries need a resume token of %d bytes; at most %d are allowed", len(resume), maxResumeBytes)
	}
	key, err = mintKey(st.Keys[0], token)
	return resume, key, err
}

func partOf(g *broker.Grant, epoch broker.Epoch) resumePart {
	p := resumePart{
		ID: g.ID, IssuedAt: broker.NumericDateOf(g.IssuedAt), Until: broker.NumericDateOf(g.Until),
		Send: g.Send, Info: g.Info, Seal: g.Seal,
	}
	for i := range g.Entries {
		e := &g.Entries[i]
		r := resumeEntry{
			Channel: e.Channel, Component: e.Component, Ref: e.Ref, Filter: e.Filter,
			Presence: e.Presence, Write: e.Write, Rooms: e.Rooms, RoomFrom: broker.StartClaim(e.RoomFrom),
		}
		if e.As != string(e.Channel) {
			r.As = e.As
		}
		if c, err := broker.ParseCursor(e.From.Cursor); err == nil && c.Epoch == epoch && c.Seq > 0 {
			r.Seq = c.Seq
		} else {
			r.From = broker.StartClaim(e.From)
		}
		p.Entries = append(p.Entries, r)
	}
	p.shareSeq()
	return p
}

// shareSeq says the position of the first entry once, if every entry has one.
func (p *resumePart) shareSeq() {
	for i := range p.Entries {
		if p.Entries[i].Seq == 0 {
			return
		}
	}
	for i := range p.Entries {
		if i == 0 {
			p.Seq = p.Entries[0].Seq
		}
		if p.Entries[i].Seq == p.Seq {
			p.Entries[i].Seq = 0
		}
	}
}

// mintKey makes the key: no entries, no presence, and only the parts that matter to who sends what.
func mintKey(k *broker.Key, token resumeToken) (string, error) {
	parts := make([]resumePart, 0, len(token.Parts))
	for _, p := range token.Parts {
		p.Entries, p.Seq, p.Info = nil, 0, nil
		parts = append(parts, p)
	}
	token.Parts = parts
	key, err := signToken(k, typeKey, &token)
	for err == nil && len(key) > maxKeyBytes && len(token.Parts) > 1 {
		// A lone part with a seal near its limit may still be longer: better than a message without its seal.
		token.Parts = dropLeast(token.Parts)
		key, err = signToken(k, typeKey, &token)
	}
	return key, err
}

// dropLeast removes one part: the first whose right to send another part gives for as long, else the one that ends
// first. The latter costs the page a message with a refreshed grant, and a page of so many grants has one.
func dropLeast(parts []resumePart) []resumePart {
	least := 0
	for i := range parts {
		for j := range parts {
			if i != j && covers(&parts[j], &parts[i]) && (i > j || !covers(&parts[i], &parts[j])) {
				return append(parts[:i], parts[i+1:]...)
			}
		}
		if parts[i].Until < parts[least].Until {
			least = i
		}
	}
	return append(parts[:least], parts[least+1:]...)
}

func covers(a, b *resumePart) bool {
	if a.Until < b.Until {
		return false
	}
	may := make(map[broker.ComponentID]struct{}, len(a.Send))
	for _, c := range a.Send {
		may[c] = struct{}{}
	}
	for _, c := range b.Send {
		if _, ok := may[c]; !ok {
			return false
		}
	}
	return true
}

func signToken(k *broker.Key, typ string, token *resumeToken) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, token)
	t.Header = map[string]any{"alg": jwt.SigningMethodHS256.Alg(), "kid": k.ID, "typ": typ}
	return t.SignedString(k.Resume)
}

// resumeVerifier reads resume tokens, or keys if typ is typeKey.
type resumeVerifier struct {
	s    *Server
	name string
	typ  string
}

func (v resumeVerifier) kind() tokenKind {
	return tokenKind{
		name: v.name, typ: v.typ, typNeed: true, maxBytes: maxResumeBytes,
		key: func(k *broker.Key) []byte { return k.Resume },
	}
}

func (v resumeVerifier) verify(token string, now time.Time) (*verified, error) {
	var claims resumeToken
	site, key, err := v.s.parseToken(token, v.kind(), &claims, func() string { return string(claims.Site) })
	if err != nil {
		return nil, err
	}
	if claims.Epoch != v.s.cfg.Epoch() {
		return nil, broker.Errorf(broker.CodeGrantInvalid, "%s: made before the store was restored; ask the LMS for a grant", v.name)
	}
	stream, err := broker.ParseStreamID(claims.Stream)
	if err != nil {
		return nil, broker.Errorf(broker.CodeGrantInvalid, "%s: %s", v.name, err)
	}
	v.s.uses.note(site.ID, key.ID, useResume, now)
	out := &verified{site: site, user: claims.User, session: claims.Session, stream: stream}
	for i := range claims.Parts {
		// No leeway: both times are this broker's.
		if p := &claims.Parts[i]; p.Until.Time().After(now) {
			out.grants = append(out.grants, claims.grant(p))
		}
	}
	if len(out.grants) == 0 {
		return nil, broker.Errorf(broker.CodeGrantExpired, "%s: everything it held has ended; ask the LMS for a grant", v.name)
	}
	return out, nil
}

func (t *resumeToken) grant(p *resumePart) *broker.Grant {
	g := &broker.Grant{
		Site: t.Site, ID: p.ID, User: t.User, Session: t.Session, IssuedAt: p.IssuedAt.Time(), Until: p.Until.Time(),
		Send: p.Send, Info: p.Info, Seal: p.Seal,
	}
	for _, r := range p.Entries {
		e := broker.Entry{
			Channel: r.Channel, As: r.As, Component: r.Component, Ref: r.Ref, Filter: r.Filter,
			Presence: r.Presence, Write: r.Write, Rooms: r.Rooms, From: broker.Start(r.From),
			RoomFrom: broker.Start(r.RoomFrom),
		}
		if e.As == "" {
			e.As = string(e.Channel)
		}
		if seq := cmp.Or(r.Seq, p.Seq); seq > 0 {
			e.From = broker.Start{Cursor: broker.Cursor{Epoch: t.Epoch, Seq: seq}.String()}
		}
		g.Entries = append(g.Entries, e)
	}
	return g
}
