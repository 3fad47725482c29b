package broker

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The vectors are made by a program that knows the contract alone (testdata/vectors/generate) and are checked by PHP
// and Node as well: here the broker is held against them.
func vectors[T any](t *testing.T, name string) T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if CodeOf(err) != CodeBadRequest {
		t.Errorf("%s: got %v, want a refusal with bad_request", what, err)
	}
}

func decoded(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeysDeriveAsTheVectorsSay(t *testing.T) {
	file := vectors[struct {
		Cases []struct {
			Site, Kid, Secret, Bearer string
			Subkeys                   map[string]string
			WebhookSecret             string `json:"webhook_secret"`
		}
	}](t, "keys.json")
	for _, c := range file.Cases {
		k, err := NewKey(c.Kid, decoded(t, c.Secret))
		if err != nil {
			t.Fatal(err)
		}
		same(t, "grant", hex.EncodeToString(k.Grant), c.Subkeys["grant"])
		same(t, "api", hex.EncodeToString(k.API), c.Subkeys["api"])
		same(t, "webhook", hex.EncodeToString(k.Webhook), c.Subkeys["webhook"])
		same(t, "resume", hex.EncodeToString(k.Resume), c.Subkeys["resume"])
		same(t, "bearer", k.Bearer(SiteID(c.Site)), c.Bearer)
		same(t, "webhook secret", k.WebhookSecret(), c.WebhookSecret)
	}
}

func TestChannelsHashAsTheVectorsSay(t *testing.T) {
	type named struct {
		ID      string
		Channel ChannelID
	}
	file := vectors[struct {
		Salt  string
		Cases []struct {
			Properties [5]string
			Channel    ChannelID
		}
		Users, Sessions []named
		Invalid         [][5][]byte `json:"invalid_properties_base64"`
	}](t, "channels.json")
	salt := decoded(t, file.Salt)
	for _, c := range file.Cases {
		p := c.Properties
		got, err := Properties{p[0], p[1], p[2], p[3], p[4]}.Hash(salt)
		if err != nil {
			t.Errorf("%q: %v", p, err)
		}
		same(t, strings.Join(p[:], "|"), got, c.Channel)
	}
	for _, c := range file.Users {
		got, _ := UserChannel(salt, c.ID)
		same(t, "user "+c.ID, got, c.Channel)
	}
	for _, c := range file.Sessions {
		got, _ := SessionChannel(salt, c.ID)
		same(t, "session "+c.ID, got, c.Channel)
	}
	for _, p := range file.Invalid {
		_, err := Properties{string(p[0]), string(p[1]), string(p[2]), string(p[3]), string(p[4])}.Hash(salt)
		refused(t, "invalid UTF-8", err)
	}
}

func TestRoomsHashAsTheVectorsSay(t *testing.T) {
	file := vectors[struct {
		Cases []struct {
			Parent, Channel ChannelID
			Room            string
		}
		Invalid [][]byte `json:"invalid_rooms_base64"`
	}](t, "rooms.json")
	for _, c := range file.Cases {
		got, err := RoomChannel(c.Parent, c.Room)
		if err != nil {
			t.Errorf("room %q: %v", c.Room, err)
		}
		same(t, "room "+c.Room, got, c.Channel)
	}
	for _, room := range file.Invalid {
		_, err := RoomChannel("parent", string(room))
		refused(t, "room", err)
	}
}

type badText struct{ Text, Why string }

func TestDSNsParseAsTheVectorsSay(t *testing.T) {
	file := vectors[struct {
		Good []struct{ DSN, Site, Kid, Secret, Salt, Public, Via, Server string }
		Bad  []badText
	}](t, "dsn.json")
	for _, c := range file.Good {
		d, err := ParseDSN(c.DSN)
		if err != nil {
			t.Errorf("%s: %v", c.DSN, err)
			continue
		}
		same(t, "site", string(d.Site), c.Site)
		same(t, "kid", d.Key.ID, c.Kid)
		same(t, "secret", base64.RawURLEncoding.EncodeToString(d.Key.Secret), c.Secret)
		same(t, "salt", base64.RawURLEncoding.EncodeToString(d.Salt), c.Salt)
		same(t, "public", d.Public, c.Public)
		same(t, "via", d.Via, c.Via)
		same(t, "server", d.Server(), c.Server)
		again, err := ParseDSN(d.String())
		if err != nil {
			t.Errorf("%s does not parse again: %v", d.String(), err)
			continue
		}
		same(t, "printed", again.String(), d.String())
	}
	for _, c := range file.Bad {
		_, err := ParseDSN(c.Text)
		refused(t, "DSN with "+c.Why, err)
	}
}

func TestCursorsParseAsTheVectorsSay(t *testing.T) {
	file := vectors[struct {
		Good []struct {
			Cursor string
			Epoch  Epoch
			Seq    uint64 `json:",string"`
		}
		Bad []badText
	}](t, "cursors.json")
	for _, c := range file.Good {
		got, err := ParseCursor(c.Cursor)
		if err != nil {
			t.Errorf("%s: %v", c.Cursor, err)
		}
		same(t, c.Cursor, got, Cursor{c.Epoch, c.Seq})
		same(t, "printed", got.String(), c.Cursor)
	}
	for _, c := range file.Bad {
		_, err := ParseCursor(c.Text)
		refused(t, "cursor with "+c.Why, err)
	}
}

func TestFiltersMatchAsTheVectorsSay(t *testing.T) {
	file := vectors[struct {
		Cases []struct {
			Name, Filter, Data string
			Matches            bool
		}
	}](t, "filters.json")
	for _, c := range file.Cases {
		var f Filter
		if err := json.Unmarshal([]byte(c.Filter), &f); err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		same(t, c.Name, f.Match([]byte(c.Data)), c.Matches)
	}
}

func TestFramesAreTheBytesOfTheVectors(t *testing.T) {
	file := vectors[struct {
		Events []struct {
			Name, Cursor, Time, Type, Data, User, Client, Wire string
			Channel                                            ChannelID
			Replay                                             bool
		}
		RefusedTypes []string `json:"refused_types"`
		RefusedData  [][]byte `json:"refused_data_base64"`
	}](t, "frames.json")
	ch := Channel{Site: "moodle", ID: "aMaoIHJEsfEIjo_6ak5A8Q"}
	for _, c := range file.Events {
		typ := c.Type
		if c.Client != "" {
			typ = "" // no publisher may say peer: the broker does
		}
		d, err := NewDraft(Channel{Site: "moodle", ID: c.Channel}, typ, []byte(c.Data), "", 0)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		at, _ := ParseCursor(c.Cursor)
		e := Event{Seq: at.Seq, Time: micros(t, c.Time), Channel: d.Channel, Type: c.Type, Data: d.Data, User: c.User, Client: c.Client}
		frame := eventFrame(at.Epoch, &e)
		if c.Replay {
			frame = replayFrame(at.Epoch, &e)
		}
		same(t, c.Name, string(frame.Wire()), c.Wire)
		if !strings.Contains(c.Wire, "data: "+string(frame.Data)+"\n") {
			t.Errorf("%s: Data %q is not the data of the frame", c.Name, frame.Data)
		}
	}
	for _, typ := range file.RefusedTypes {
		_, err := NewDraft(ch, typ, []byte("1"), "", 0)
		refused(t, "type "+typ, err)
	}
	for _, data := range file.RefusedData {
		_, err := NewDraft(ch, "", data, "", 0)
		refused(t, "data "+string(data), err)
	}
}

func micros(t *testing.T, s string) int64 {
	t.Helper()
	var n NumericDate
	if err := n.UnmarshalJSON([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return int64(n)
}
