package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"backchannel/broker"
)

// Bounds of what is looked at before a signature has been checked, in bytes.
const (
	// maxGrantBytes holds 200 entries with a full ref each.
	maxGrantBytes = 128 << 10
	// maxResumeBytes holds 1,000 such entries. Mint refuses to make a longer one.
	maxResumeBytes = 1 << 20
)

// Values of the header typ. They keep the kinds apart where their keys would not: a resume token and a key are signed
// with the same one.
const (
	typeGrant  = "JWT"
	typeResume = "bc-resume"
	typeKey    = "bc-key"
)

// unsigned gives the claims that no kind of token of ours takes from the library: we check times ourselves, with our
// own leeway and errors.
type unsigned struct{}

func (unsigned) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (unsigned) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (unsigned) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (unsigned) GetIssuer() (string, error)                   { return "", nil }
func (unsigned) GetSubject() (string, error)                  { return "", nil }
func (unsigned) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// tokenKind is what parseToken has to know of a kind of token.
type tokenKind struct {
	name     string // in errors
	typ      string // the header's typ
	typNeed  bool   // typ must be given
	maxBytes int
	key      func(*broker.Key) []byte
}

// newParser makes the one parser: HS256 whatever a token says (RFC 8725, 3.1), and no second spelling of a token.
func newParser() *jwt.Parser {
	return jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
}

// parseToken checks form, key and signature of token and fills claims; issuer names the site that claims turned out to
// be of. The error is CodeGrantInvalid and never holds part of the token.
func (s *Server) parseToken(token string, kind tokenKind, claims jwt.Claims, issuer func() string) (*broker.Site, *broker.Key, error) {
	if len(token) > kind.maxBytes {
		return nil, nil, broker.Errorf(broker.CodeGrantInvalid, "%s: %d bytes; at most %d are allowed", kind.name, len(token), kind.maxBytes)
	}
	if !tokenCharacters(token) {
		// The base64 decoder passes over line ends, which would give a token a second spelling.
		return nil, nil, broker.Errorf(broker.CodeGrantInvalid, "%s: not a JWT in compact form", kind.name)
	}
	var site *broker.Site
	var key *broker.Key
	_, err := s.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		kid, err := checkHeader(t.Header, kind)
		if err != nil {
			return nil, err
		}
		if site = s.siteNamed(issuer()); site == nil {
			return nil, errors.New("iss names no site of this broker")
		}
		if key = site.Key(kid); key == nil {
			return nil, errors.New("kid names no live key of the site (was the key dropped?)")
		}
		return kind.key(key), nil
	})
	if err != nil {
		return nil, nil, broker.Errorf(broker.CodeGrantInvalid, "%s: %s", kind.name, tokenProblem(err))
	}
	return site, key, nil
}

func (s *Server) siteNamed(name string) *broker.Site { return s.cfg.Sites.Get(broker.SiteID(name)) }

func tokenCharacters(token string) bool {
	for i := range len(token) {
		c := token[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return token != ""
}

func checkHeader(header map[string]any, kind tokenKind) (kid string, err error) {
	// crit lists extensions that must be understood (RFC 7515, 4.1.11); we understand none.
	if _, found := header["crit"]; found {
		return "", errors.New("header crit is not supported")
	}
	typ, isString := header["typ"].(string)
	if _, found := header["typ"]; found && !isString || found && !strings.EqualFold(typ, kind.typ) || !found && kind.typNeed {
		return "", fmt.Errorf("header typ is not %s: this is another kind of token", kind.typ)
	}
	kid, isString = header["kid"].(string)
	if !isString || kid == "" {
		return "", errors.New("header kid is missing")
	}
	return kid, nil
}

// tokenProblem says what is wrong in words of ours: a library's message may hold parts of the token.
func tokenProblem(err error) string {
	if e, ok := errors.AsType[*broker.Error](err); ok {
		return e.Detail
	}
	var outer interface{ Unwrap() []error }
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "not a JWT of ours: three parts of base64url, of which the first two are JSON objects"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "the signature does not fit (HS256 with the site's key is the only one accepted)"
	case errors.Is(err, jwt.ErrTokenUnverifiable) && errors.As(err, &outer):
		if all := outer.Unwrap(); len(all) > 2 {
			return all[2].Error() // what our own key function said
		}
	}
	return "the algorithm is unknown; want HS256"
}

// grantToken is a grant on the wire, with what broker.Claims leaves to the reader of tokens.
type grantToken struct {
	broker.Claims
	unsigned
	Audience  audience           `json:"aud"`
	NotBefore broker.NumericDate `json:"nbf"`
}

// audience is a string or a list, as RFC 7519 has it.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return broker.Errorf(broker.CodeGrantInvalid, "aud: want a string")
	}
	*a = list
	return nil
}

// UnmarshalJSON implements json.Unmarshaler. A member that stands twice is refused: readers differ in which one they
// take, and a grant must mean one thing.
func (t *grantToken) UnmarshalJSON(b []byte) error {
	if !utf8.Valid(b) {
		return broker.Errorf(broker.CodeGrantInvalid, "not valid UTF-8")
	}
	if err := uniqueMembers(b); err != nil {
		return err
	}
	type plain grantToken
	return json.Unmarshal(b, (*plain)(t))
}

// uniqueMembers refuses an object in which a member of the top level stands twice; names that differ in case only are
// the same to Go's decoder.
func uniqueMembers(object []byte) error {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return broker.Errorf(broker.CodeGrantInvalid, "the claims are not a JSON object")
	}
	seen := make(map[string]struct{}, 16)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		lower := strings.ToLower(fmt.Sprint(name))
		if _, twice := seen[lower]; twice {
			return broker.Errorf(broker.CodeGrantInvalid, "a claim stands twice")
		}
		seen[lower] = struct{}{}
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return err
		}
	}
	return nil
}

// grantKind is the first kind of credential: signed by the LMS.
func grantKind() tokenKind {
	return tokenKind{
		name: "grant", typ: typeGrant, maxBytes: maxGrantBytes,
		key: func(k *broker.Key) []byte { return k.Grant },
	}
}

// grantVerifier reads grants.
type grantVerifier struct{ s *Server }

func (v grantVerifier) verify(token string, now time.Time) (*verified, error) {
	var claims grantToken
	site, key, err := v.s.parseToken(token, grantKind(), &claims, func() string { return claims.Issuer })
	if err != nil {
		return nil, err
	}
	if len(claims.Audience) != 1 || claims.Audience[0] != audienceName {
		return nil, broker.Errorf(broker.CodeGrantInvalid, "grant: aud is not %q", audienceName)
	}
	if claims.NotBefore.Time().After(now.Add(broker.Leeway)) {
		return nil, broker.Errorf(broker.CodeGrantInvalid, "grant: nbf lies ahead of the broker's clock")
	}
	g, err := claims.Grant(now, site.Limits.WithDefaults().GrantEntries)
	if err != nil {
		return nil, err
	}
	v.s.uses.note(site.ID, key.ID, useGrant, now)
	return &verified{site: site, user: g.User, session: g.Session, grants: []*broker.Grant{g}}, nil
}
