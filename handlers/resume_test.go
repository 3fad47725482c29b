package handlers

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"backchannel/broker"
)

const tokenEpoch = "x7k2m9qa"

// newTokenDesk is a desk whose cursors can be written down.
func newTokenDesk(t testing.TB) *desk {
	t.Helper()
	d := newDesk(t)
	d.epoch = tokenEpoch
	return d
}

// grants are two of user 5 as a stream would hand them to Mint.
func (d *desk) grants() []*broker.Grant {
	at := broker.Start{Cursor: "x7k2m9qa-1042"}
	return []*broker.Grant{
		{
			Site: "moodle", ID: "j1", User: "5", Session: "s1", IssuedAt: d.now, Until: d.now.Add(8 * time.Hour),
			Entries: []broker.Entry{
				{Channel: "c1", As: "c1", Component: "mod_kahoodle", Ref: "r", Presence: "both", Write: true, Rooms: true, From: at},
				{Channel: "c1", As: "mine", Filter: broker.Filter{"id": "5"}, From: broker.Start{Cursor: "x7k2m9qa-7"}},
			},
			Send: []broker.ComponentID{"mod_kahoodle"}, Info: json.RawMessage(`{"name":"Ü"}`), Seal: "c2VhbA",
		},
		{
			Site: "moodle", ID: "j2", User: "5", Session: "s1", IssuedAt: d.now.Add(time.Microsecond), Until: d.now.Add(time.Hour),
			Entries: []broker.Entry{{Channel: "c2", As: "c2", From: broker.Start{Time: d.now}}, {Channel: "c3", As: "c3", From: at}},
		},
	}
}

func (d *desk) mint(t testing.TB, grants []*broker.Grant) (stream broker.StreamID, resume, key string) {
	t.Helper()
	stream = broker.NewStreamID()
	resume, key, err := d.Mint("moodle", stream, grants)
	if err != nil {
		t.Fatal(err)
	}
	return stream, resume, key
}

func TestAResumeTokenGivesBackWhatTheGrantsGave(t *testing.T) {
	d := newTokenDesk(t)
	want := d.grants()
	stream, resume, _ := d.mint(t, want)
	got, err := d.authenticate(presented{Resume: resume}, schoolSite)
	if err != nil {
		t.Fatal(err)
	}
	if got.Stream != stream || got.User != "5" || got.Session != "s1" {
		t.Fatalf("got %+v", got)
	}
	sameGrants(t, got.Grants, want)
}

func sameGrants(t rapid.TB, got, want []*broker.Grant) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d grants, want %d", len(got), len(want))
	}
	for i, g := range got {
		w := *want[i]
		if !g.IssuedAt.Equal(w.IssuedAt) || !g.Until.Equal(w.Until) {
			t.Fatalf("grant %d: got iat %v until %v, want %v and %v", i, g.IssuedAt, g.Until, w.IssuedAt, w.Until)
		}
		for j := range g.Entries {
			if !g.Entries[j].From.Time.Equal(w.Entries[j].From.Time) {
				t.Fatalf("entry %d from %v, want %v", j, g.Entries[j].From, w.Entries[j].From)
			}
			g.Entries[j].From.Time, w.Entries[j].From.Time = time.Time{}, time.Time{}
		}
		g.IssuedAt, g.Until, w.IssuedAt, w.Until = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		if fmt.Sprintf("%+v", *g) != fmt.Sprintf("%+v", w) || !reflect.DeepEqual(g.Send, w.Send) {
			t.Fatalf("grant %d:\ngot  %+v\nwant %+v", i, *g, w)
		}
	}
}

func TestAnyGrantsSurviveTheResumeToken(t *testing.T) {
	d := newTokenDesk(t)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(d.drawGrant), 1, 5).Draw(t, "grants")
		resume, key, err := d.Mint("moodle", broker.NewStreamID(), want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.authenticate(presented{Resume: resume}, "")
		if err != nil {
			t.Fatal(err)
		}
		sameGrants(t, got.Grants, want)
		if _, err := d.authenticate(presented{Key: key}, ""); err != nil {
			t.Fatal(err)
		}
	})
}

func (d *desk) drawGrant(t *rapid.T) *broker.Grant {
	g := &broker.Grant{
		Site: "moodle", User: "5", Session: "s1", ID: rapid.StringMatching(`[a-z0-9]{0,22}`).Draw(t, "jti"), IssuedAt: d.now,
		Until: d.now.Add(time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "life")) * time.Microsecond),
		Seal:  rapid.StringMatching(`[A-Za-z0-9_-]{0,40}`).Draw(t, "seal"),
	}
	for range rapid.IntRange(0, 6).Draw(t, "entries") {
		g.Entries = append(g.Entries, drawEntry(t))
	}
	for range rapid.IntRange(0, 3).Draw(t, "components") {
		g.Send = append(g.Send, broker.ComponentID(rapid.StringMatching(`[A-Za-z0-9_.-]{1,64}`).Draw(t, "component")))
	}
	return g
}

func drawEntry(t *rapid.T) broker.Entry {
	e := broker.Entry{
		Channel: broker.ChannelID(rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "channel")),
		Ref:     rapid.StringN(0, 20, 256).Draw(t, "ref"), Write: rapid.Bool().Draw(t, "w"), Rooms: rapid.Bool().Draw(t, "rooms"),
	}
	e.As = string(e.Channel)
	if rapid.Bool().Draw(t, "named") {
		e.As = rapid.StringN(1, 20, 256).Draw(t, "as")
	}
	e.From.Cursor = rapid.SampledFrom([]string{"", "x7k2m9qa-0", "x7k2m9qa-1042", "x7k2m9qa-9", "zzzzzzzz-9", "nonsense"}).Draw(t, "from")
	return e
}

func TestPartsOfAResumeTokenEndAtTheirOwnUntil(t *testing.T) {
	d := newTokenDesk(t)
	_, resume, _ := d.mint(t, d.grants())
	d.now = d.now.Add(time.Hour)
	got, err := d.authenticate(presented{Resume: resume}, "")
	if err != nil || len(got.Grants) != 1 || got.Grants[0].ID != "j1" {
		t.Fatalf("one hour on j1 alone was to be left: %+v, %v", got, err)
	}
	d.now = d.now.Add(7 * time.Hour)
	_, err = d.authenticate(presented{Resume: resume}, "")
	wantCode(t, err, broker.CodeGrantExpired)
}

func TestARestoreAndADroppedKeyEndAResumeToken(t *testing.T) {
	d := newTokenDesk(t)
	_, resume, key := d.mint(t, d.grants())
	d.epoch = "aaaaaaaa"
	_, err := d.authenticate(presented{Resume: resume}, "")
	wantCode(t, err, broker.CodeGrantInvalid)
	_, err = d.authenticate(presented{Key: key}, "")
	wantCode(t, err, broker.CodeGrantInvalid)
	d.epoch = tokenEpoch
	site := *d.sites.Get("moodle")
	site.Keys = site.Keys[1:]
	d.sites.Replace(map[broker.SiteID]*broker.Site{"moodle": &site})
	_, err = d.authenticate(presented{Resume: resume}, "")
	wantCode(t, err, broker.CodeGrantInvalid)
}

func TestARotationLeavesResumeTokensGood(t *testing.T) {
	d := newTokenDesk(t)
	_, resume, _ := d.mint(t, d.grants())
	site := *d.sites.Get("moodle")
	site.Keys = []*broker.Key{newKey(t, "k2", 77), site.Keys[0]}
	d.sites.Replace(map[broker.SiteID]*broker.Site{"moodle": &site})
	if _, err := d.authenticate(presented{Resume: resume}, ""); err != nil {
		t.Fatal(err)
	}
}

func TestNoKindOfCredentialPassesForAnother(t *testing.T) {
	d := newTokenDesk(t)
	_, resume, key := d.mint(t, d.grants())
	grant := d.grant(t)
	for name, p := range map[string]presented{
		"a resume token as grant": {Grants: []string{resume}}, "a key as grant": {Grants: []string{key}},
		"a grant as resume token": {Resume: grant}, "a key as resume token": {Resume: key},
		"a grant as key": {Key: grant}, "a resume token as key": {Key: resume},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.authenticate(p, "")
			wantCode(t, err, broker.CodeGrantInvalid)
		})
	}
	t.Run("a grant signed with the resume key", func(t *testing.T) {
		forged := sign(t, d.key("moodle", 0).Resume, map[string]any{"kid": "k1", "typ": "JWT"}, d.claims())
		_, err := d.authenticate(presented{Grants: []string{forged}}, "")
		wantCode(t, err, broker.CodeGrantInvalid)
	})
	t.Run("a resume token signed with the grant key", func(t *testing.T) {
		forged := sign(t, d.key("moodle", 0).Grant, map[string]any{"kid": "k1", "typ": "bc-resume"}, jwt.MapClaims{"iss": "moodle"})
		_, err := d.authenticate(presented{Resume: forged}, "")
		wantCode(t, err, broker.CodeGrantInvalid)
	})
}

func TestAKeyHoldsWhatMessagesNeedAndNoChannels(t *testing.T) {
	d := newTokenDesk(t)
	stream, _, key := d.mint(t, d.grants())
	got, err := d.authenticate(presented{Key: key}, "")
	if err != nil {
		t.Fatal(err)
	}
	g := got.Grants[0]
	if got.Stream != stream || len(g.Entries) != 0 || !g.MaySend("mod_kahoodle") || g.Seal != "c2VhbA" || g.Caller() != "s:s1" {
		t.Fatalf("got %+v", g)
	}
}

func TestAKeyStaysWithinAKibibyteAndKeepsTheRightToSend(t *testing.T) {
	d := newTokenDesk(t)
	var grants []*broker.Grant
	for i := range 40 {
		grants = append(grants, &broker.Grant{
			Site: "moodle", ID: fmt.Sprintf("jti-%016d", i), User: "5", Session: strings.Repeat("s", 43),
			IssuedAt: d.now, Until: d.now.Add(time.Duration(i+1) * time.Hour), Seal: strings.Repeat("x", 120),
			Send: []broker.ComponentID{"mod_kahoodle"},
		})
	}
	grants[7].Send = append(grants[7].Send, "mod_rplace")
	last, rplace := grants[39].Until, grants[7].Until
	for range 2 {
		_, _, key := d.mint(t, grants)
		got, err := d.authenticate(presented{Key: key}, "")
		if err != nil || len(key) > maxKeyBytes {
			t.Fatalf("%d bytes, %v", len(key), err)
		}
		rights := map[broker.ComponentID]time.Time{}
		for _, g := range got.Grants {
			for _, c := range g.Send {
				if g.Until.After(rights[c]) {
					rights[c] = g.Until
				}
			}
		}
		if !rights["mod_kahoodle"].Equal(last) || !rights["mod_rplace"].Equal(rplace) {
			t.Fatalf("rights got lost: %v", rights)
		}
		slices.Reverse(grants)
	}
}

func TestAThousandEntriesOnALiveStreamTakeAShortToken(t *testing.T) {
	d := newTokenDesk(t)
	g := d.grants()[0]
	g.Entries = nil
	for i := range 1000 {
		room, err := broker.RoomChannel(vectorHash, fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		g.Entries = append(g.Entries, broker.Entry{Channel: room, As: string(room), From: broker.Start{Cursor: "x7k2m9qa-123456789"}})
	}
	_, resume, key := d.mint(t, []*broker.Grant{g})
	if len(resume) > 48<<10 || len(key) > maxKeyBytes {
		t.Fatalf("resume token of %d bytes, key of %d", len(resume), len(key))
	}
}

func TestAResumeTokenBesideAGrantOfAnotherUserIsRefused(t *testing.T) {
	d := newTokenDesk(t)
	_, resume, _ := d.mint(t, d.grants())
	_, err := d.authenticate(presented{Resume: resume, Grants: []string{d.grant(t, with("sub", "6"))}}, "")
	wantCode(t, err, broker.CodeSubjectMismatch)
}

func TestASpentResumeTokenBesideAGoodGrantIsNamed(t *testing.T) {
	d := newTokenDesk(t)
	_, resume, _ := d.mint(t, d.grants())
	d.now = d.now.Add(24 * time.Hour)
	got, err := d.authenticate(presented{Resume: resume, Grants: []string{d.grant(t)}}, "")
	if err != nil || len(got.Refused) != 1 || got.Refused[0] != (refusal{fromResume, broker.CodeGrantExpired}) || !got.Stream.IsZero() {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestMintForASiteThatIsGoneIsRefused(t *testing.T) {
	d := newTokenDesk(t)
	_, _, err := d.Mint("gone", broker.NewStreamID(), d.grants())
	wantCode(t, err, broker.CodeUnavailable)
}

func TestAKeyWithTheLongestSealKeepsIt(t *testing.T) {
	d := newTokenDesk(t)
	g := d.grants()[0]
	g.Seal = strings.Repeat("x", 512)
	_, _, key := d.mint(t, []*broker.Grant{g, d.grants()[1]})
	got, err := d.authenticate(presented{Key: key}, "")
	if err != nil || got.Grants[0].Seal != g.Seal || len(key) > maxKeyBytes {
		t.Fatalf("a key of %d bytes, %v", len(key), err)
	}
}
