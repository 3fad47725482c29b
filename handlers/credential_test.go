package handlers

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"backchannel/broker"
)

const (
	vectorGrant = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJtb29kbGUiLCJhdWQiOiJiYWNrY2hhbm5lbCIsInN1YiI6IjUiLCJzaWQiOiJzMSIsImlhdCI6MTc5MDAwMDAwMCwiZXhwIjoxNzkwMDAwNjAwLCJ1bnRpbCI6MTc5MDAyODgwMCwianRpIjoidjEiLCJjaCI6W3siaCI6ImFNYW9JSEpFc2ZFSWpvXzZhazVBOFEiLCJmcm9tIjoxNzkwMDAwMDAwfV0sInNlbmQiOlsibW9kX2thaG9vZGxlIl19.xkpfxciRrtxPxMgIRKqO8MxCbSQOaYCrZPKk8xlu3bo"
	vectorHash  = broker.ChannelID("aMaoIHJEsfEIjo_6ak5A8Q")
	schoolSite  = "https://school.example"
)

func (d *desk) key(site broker.SiteID, i int) *broker.Key { return d.sites.Get(site).Keys[i] }

// claims are good ones of user 5 that a test changes.
func (d *desk) claims(change ...func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": "moodle", "aud": "backchannel", "sub": "5", "sid": "s1", "jti": "j1",
		"iat": d.now.Unix(), "exp": d.now.Unix() + 600, "until": d.now.Unix() + 28800,
		"ch": []any{map[string]any{"h": "c1"}}, "send": []string{"mod_kahoodle"},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func sign(t testing.TB, secret []byte, header map[string]any, claims jwt.Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	for k, v := range header {
		token.Header[k] = v
	}
	if header["typ"] == nil {
		delete(token.Header, "typ")
	}
	text, err := token.SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// grant signs good claims after change with the first key of moodle.
func (d *desk) grant(t testing.TB, change ...func(jwt.MapClaims)) string {
	t.Helper()
	return sign(t, d.key("moodle", 0).Grant, map[string]any{"kid": "k1", "typ": "JWT"}, d.claims(change...))
}

func with(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
}

func wantCode(t *testing.T, err error, want broker.Code) {
	t.Helper()
	if got := broker.CodeOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

func TestTheVectorGrantIsGoodUntilItExpires(t *testing.T) {
	d := newDesk(t)
	got, err := d.authenticate(presented{Grants: []string{vectorGrant}}, "")
	if err != nil {
		t.Fatal(err)
	}
	g := got.Grants[0]
	if got.Site.ID != "moodle" || g.User != "5" || g.Session != "s1" || g.ID != "v1" || !g.Until.Equal(time.Unix(1790028800, 0)) ||
		len(g.Entries) != 1 || g.Entries[0].Channel != vectorHash || !g.Entries[0].From.Time.Equal(start) || !g.MaySend("mod_kahoodle") {
		t.Fatalf("the vector means something else: %+v", g)
	}
	d.now = time.Unix(1790000700, 0)
	_, err = d.authenticate(presented{Grants: []string{vectorGrant}}, "")
	wantCode(t, err, broker.CodeGrantExpired)
}

func TestBothLiveKeysVerifyAndADroppedOneDoesNot(t *testing.T) {
	d := newDesk(t)
	old := sign(t, d.key("moodle", 1).Grant, map[string]any{"kid": "k0", "typ": "JWT"}, d.claims())
	if _, err := d.authenticate(presented{Grants: []string{old}}, ""); err != nil {
		t.Fatal(err)
	}
	site := *d.sites.Get("moodle")
	site.Keys = site.Keys[:1]
	d.sites.Replace(map[broker.SiteID]*broker.Site{"moodle": &site})
	_, err := d.authenticate(presented{Grants: []string{old}}, "")
	wantCode(t, err, broker.CodeGrantInvalid)
}

func TestForgedGrantsAreInvalidAndTheErrorShowsNoToken(t *testing.T) {
	d := newDesk(t)
	k := d.key("moodle", 0)
	hs256 := map[string]any{"kid": "k1", "typ": "JWT"}
	good := d.grant(t)
	none := jwt.NewWithClaims(jwt.SigningMethodNone, d.claims())
	none.Header["kid"] = "k1"
	noneText, err := none.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	hs384 := jwt.NewWithClaims(jwt.SigningMethodHS384, d.claims())
	hs384.Header["kid"] = "k1"
	hs384Text, err := hs384.SignedString(k.Grant)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(good, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	for name, token := range map[string]string{
		"alg none":              noneText,
		"alg HS384":             hs384Text,
		"no kid":                sign(t, k.Grant, map[string]any{"typ": "JWT"}, d.claims()),
		"kid is a number":       sign(t, k.Grant, map[string]any{"kid": 1, "typ": "JWT"}, d.claims()),
		"unknown kid":           sign(t, k.Grant, map[string]any{"kid": "k9", "typ": "JWT"}, d.claims()),
		"crit":                  sign(t, k.Grant, map[string]any{"kid": "k1", "typ": "JWT", "crit": []string{"x"}}, d.claims()),
		"another typ":           sign(t, k.Grant, map[string]any{"kid": "k1", "typ": "bc-resume"}, d.claims()),
		"other site's key":      sign(t, d.key("tsugi", 0).Grant, hs256, d.claims()),
		"other site's name":     sign(t, k.Grant, hs256, d.claims(with("iss", "tsugi"))),
		"no such site":          sign(t, k.Grant, hs256, d.claims(with("iss", "nowhere"))),
		"the api's key":         sign(t, k.API, hs256, d.claims()),
		"the resume key":        sign(t, k.Resume, hs256, d.claims()),
		"the secret itself":     sign(t, k.Secret, hs256, d.claims()),
		"empty key":             sign(t, []byte{}, hs256, d.claims()),
		"other aud":             d.grant(t, with("aud", "mercure")),
		"no aud":                d.grant(t, with("aud", nil)),
		"two auds":              d.grant(t, with("aud", []string{"backchannel", "mercure"})),
		"nbf ahead":             d.grant(t, with("nbf", d.now.Unix()+120)),
		"iat ahead":             d.grant(t, with("iat", d.now.Unix()+120)),
		"no exp":                d.grant(t, with("exp", nil)),
		"truncated":             good[:len(good)-1],
		"no signature":          head + "." + claims + ".",
		"two parts":             head + "." + claims,
		"four parts":            good + ".x",
		"a line end in it":      head + "." + claims + ".\n" + signature,
		"padding":               good + "=",
		"signature of another":  head + "." + claims + "." + strings.Repeat("A", 43),
		"not base64":            "a.b.c",
		"empty parts":           "..",
		"a type with line ends": d.grant(t, with("ch", []any{map[string]any{"h": "c\n1"}})),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.authenticate(presented{Grants: []string{token}}, "")
			wantCode(t, err, broker.CodeGrantInvalid)
			if len(signature) > 0 && (strings.Contains(err.Error(), signature) || strings.Contains(err.Error(), claims)) {
				t.Fatalf("the error shows the token: %v", err)
			}
		})
	}
}

func TestAGrantInWhichAClaimStandsTwiceIsInvalid(t *testing.T) {
	d := newDesk(t)
	k := d.key("moodle", 0)
	for _, extra := range []string{`,"sub":"6"`, `,"Sub":"6"`, `,"ch":[]`} {
		token := signText(t, k.Grant, `{"alg":"HS256","kid":"k1"}`,
			`{"iss":"moodle","aud":"backchannel","sub":"5","iat":1790000000,"exp":1790000600,"ch":[]`+extra+`}`)
		_, err := d.authenticate(presented{Grants: []string{token}}, "")
		wantCode(t, err, broker.CodeGrantInvalid)
	}
}

// signText signs what no encoder would write.
func signText(t testing.TB, secret []byte, header, claims string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	sig, err := jwt.SigningMethodHS256.Sign(text, secret)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestLengthIsCheckedBeforeAnythingIsParsed(t *testing.T) {
	d := newDesk(t)
	_, err := d.authenticate(presented{Grants: []string{strings.Repeat("a", maxGrantBytes+1)}}, "")
	wantCode(t, err, broker.CodeGrantInvalid)
	if !strings.Contains(err.Error(), "131072") {
		t.Fatalf("the limit is not in the text: %v", err)
	}
	_, err = d.authenticate(presented{Grants: make([]string, maxCredentials+1)}, "")
	wantCode(t, err, broker.CodeTooLarge)
}

func TestABadGrantBesideAGoodOneIsNamedAndTheGoodOneHolds(t *testing.T) {
	d := newDesk(t)
	expired := d.grant(t, with("iat", d.now.Unix()-1000), with("exp", d.now.Unix()-900), with("until", d.now.Unix()+900))
	got, err := d.authenticate(presented{Grants: []string{expired, d.grant(t), "junk"}}, schoolSite)
	if err != nil {
		t.Fatal(err)
	}
	want := []refusal{{0, broker.CodeGrantExpired}, {2, broker.CodeGrantInvalid}}
	if len(got.Grants) != 1 || !slices.Equal(got.Refused, want) {
		t.Fatalf("got %d grants and %v, want one and %v", len(got.Grants), got.Refused, want)
	}
	_, err = d.authenticate(presented{Grants: []string{expired, "junk"}}, schoolSite)
	wantCode(t, err, broker.CodeGrantExpired)
	_, err = d.authenticate(presented{Grants: []string{"junk", expired}}, schoolSite)
	wantCode(t, err, broker.CodeGrantInvalid)
	_, err = d.authenticate(presented{}, schoolSite)
	wantCode(t, err, broker.CodeGrantInvalid)
}

func TestCredentialsOfOneStreamShareSiteUserAndSession(t *testing.T) {
	d := newDesk(t)
	other := sign(t, d.key("tsugi", 0).Grant, map[string]any{"kid": "k1", "typ": "JWT"}, d.claims(with("iss", "tsugi")))
	for name, token := range map[string]string{
		"site": other, "user": d.grant(t, with("sub", "6")), "session": d.grant(t, with("sid", "s2")),
		"nobody": d.grant(t, with("sub", "")),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.authenticate(presented{Grants: []string{d.grant(t), token}}, "")
			wantCode(t, err, broker.CodeSubjectMismatch)
		})
	}
}

func TestOnlyAnOriginThatTheSiteListsIsTaken(t *testing.T) {
	d := newDesk(t)
	for origin, want := range map[string]broker.Code{
		"": "", schoolSite: "", "https://tsugi.example": broker.CodeOriginDenied, "null": broker.CodeOriginDenied,
		"https://school.example.evil": broker.CodeOriginDenied, "http://school.example": broker.CodeOriginDenied,
	} {
		_, err := d.authenticate(presented{Grants: []string{d.grant(t)}}, origin)
		wantCode(t, err, want)
	}
}

func TestRevocationTakesAwayWhatItNames(t *testing.T) {
	two := with("ch", []any{map[string]any{"h": "c1"}, map[string]any{"h": "c2"}})
	later := start.Add(time.Hour).UnixMicro()
	for name, c := range map[string]struct {
		r       broker.Revocation
		want    broker.Code
		entries int
	}{
		"jti":           {broker.Revocation{Kind: broker.RevokeJTI, Value: "j1"}, broker.CodeRevoked, 0},
		"session":       {broker.Revocation{Kind: broker.RevokeSession, Value: "s1"}, broker.CodeRevoked, 0},
		"user":          {broker.Revocation{Kind: broker.RevokeUser, Value: "5", Before: later}, broker.CodeRevoked, 0},
		"older user":    {broker.Revocation{Kind: broker.RevokeUser, Value: "5", Before: start.UnixMicro()}, "", 2},
		"channel":       {broker.Revocation{Kind: broker.RevokeChannel, Value: "c1", Before: later}, "", 1},
		"another's jti": {broker.Revocation{Kind: broker.RevokeJTI, Value: "j2"}, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			c.r.Site = "moodle"
			d.hub.revoked = append(d.hub.revoked, c.r)
			got, err := d.authenticate(presented{Grants: []string{d.grant(t, two)}}, "")
			wantCode(t, err, c.want)
			if err == nil && len(got.Grants[0].Entries) != c.entries {
				t.Fatalf("got entries %v, want %d", got.Grants[0].Entries, c.entries)
			}
		})
	}
}

func TestAGrantOfWhichRevocationsLeaveNothingIsRefused(t *testing.T) {
	d := newDesk(t)
	d.hub.revoked = []broker.Revocation{{Site: "moodle", Kind: broker.RevokeChannel, Value: "c1", Before: start.Add(time.Hour).UnixMicro()}}
	_, err := d.authenticate(presented{Grants: []string{d.grant(t, with("send", nil))}}, "")
	wantCode(t, err, broker.CodeRevoked)
	got, err := d.authenticate(presented{Grants: []string{d.grant(t)}}, "")
	if err != nil || len(got.Grants[0].Entries) != 0 || !got.Grants[0].MaySend("mod_kahoodle") {
		t.Fatalf("the right to send was to stay: %+v, %v", got, err)
	}
}

func TestRoomsAreGivenOnlyUnderAnEntryWithRooms(t *testing.T) {
	d := newDesk(t)
	token := d.grant(t, with("ch", []any{
		map[string]any{"h": vectorHash, "rooms": true, "w": true, "c": "mod_kahoodle"}, map[string]any{"h": "plain"},
	}))
	ask := func(rooms map[broker.ChannelID][]string) (*session, error) {
		return d.authenticate(presented{Grants: []string{token}, Rooms: rooms}, "")
	}
	got, err := ask(map[broker.ChannelID][]string{vectorHash: {"place_42", "place_42"}})
	if err != nil {
		t.Fatal(err)
	}
	entries := got.Grants[0].Entries
	if len(entries) != 3 || entries[2].Channel != "YuD6ylIiRTlLWyalxm1yHA" || !entries[2].Write || entries[2].Rooms || entries[2].Component != "mod_kahoodle" {
		t.Fatalf("got %+v", entries)
	}
	for name, c := range map[string]struct {
		rooms map[broker.ChannelID][]string
		want  broker.Code
	}{
		"no rooms there":  {map[broker.ChannelID][]string{"plain": {"a"}}, broker.CodeChannelDenied},
		"not granted":     {map[broker.ChannelID][]string{"other": {"a"}}, broker.CodeChannelDenied},
		"empty name":      {map[broker.ChannelID][]string{vectorHash: {""}}, broker.CodeBadRequest},
		"long name":       {map[broker.ChannelID][]string{vectorHash: {strings.Repeat("x", 257)}}, broker.CodeBadRequest},
		"far too many":    {map[broker.ChannelID][]string{vectorHash: make([]string, 1001)}, broker.CodeTooLarge},
		"a room's rooms":  {map[broker.ChannelID][]string{"YuD6ylIiRTlLWyalxm1yHA": {"a"}}, broker.CodeChannelDenied},
		"nothing at all":  {map[broker.ChannelID][]string{}, ""},
		"none under it":   {map[broker.ChannelID][]string{vectorHash: {}}, ""},
		"none of another": {map[broker.ChannelID][]string{"other": {}}, broker.CodeChannelDenied},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ask(c.rooms)
			wantCode(t, err, c.want)
		})
	}
}

func TestRoomsOfAGrantThatIsRefusedGoWithItAndNothingElse(t *testing.T) {
	d := newDesk(t)
	spent := d.grant(t, with("exp", d.now.Unix()-100), with("iat", d.now.Unix()-200), with("ch", []any{map[string]any{"h": "r", "rooms": true}}))
	got, err := d.authenticate(presented{Grants: []string{spent, d.grant(t)}, Rooms: map[broker.ChannelID][]string{"r": {"a"}}}, "")
	if err != nil || len(got.Grants) != 1 || len(got.Grants[0].Entries) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
}

// FuzzGrant looks for a token that is taken although nobody signed it, and for panics.
func FuzzGrant(f *testing.F) {
	d := newDesk(f)
	f.Add(vectorGrant)
	f.Add(strings.Replace(vectorGrant, "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0", "eyJhbGciOiJub25lIiwia2lkIjoiazEifQ", 1))
	f.Add("a.b.c")
	f.Add(d.grant(f))
	good := map[string]bool{vectorGrant: true, d.grant(f): true}
	f.Fuzz(func(t *testing.T, token string) {
		got, err := d.authenticate(presented{Grants: []string{token}}, "")
		if err == nil && !good[token] {
			t.Fatalf("taken although nobody signed it: %+v", got)
		}
		if _, err := d.authenticate(presented{Resume: token}, ""); err == nil {
			t.Fatal("taken as a resume token")
		}
	})
}
