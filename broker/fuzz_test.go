package broker

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// parseSSE reads a stream by the rules of WHATWG HTML, 9.2.6.
func parseSSE(wire []byte) (out []struct{ id, event, data string }) {
	text := strings.ReplaceAll(strings.ReplaceAll(string(wire), "\r\n", "\n"), "\r", "\n")
	var id, event string
	var data []string
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			if data != nil {
				out = append(out, struct{ id, event, data string }{id, event, strings.Join(data, "\n")})
			}
			event, data = "", nil
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			if !strings.ContainsRune(value, 0) {
				id = value
			}
		case "event":
			event = value
		case "data":
			data = append(data, value)
		}
	}
	return out
}

func FuzzNoPublisherCanForgeAFrame(f *testing.F) {
	f.Add("score", []byte(`{"a":1}`), "key", "5", "client")
	f.Add("", []byte("\"a\\nb\""), "", "", "")
	f.Add("x\nid: 1", []byte("[1,\n2]"), "k\r", "u\n\ndata: x", "c")
	f.Add("heartbeat", []byte("\"\u2028\""), "", "", "")
	f.Fuzz(func(t *testing.T, typ string, data []byte, key, user, client string) {
		d, err := NewDraft(Channel{"moodle", "abc"}, typ, data, key, 0)
		if err != nil {
			if CodeOf(err) != CodeBadRequest {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		e := Event{Seq: 7, Time: 1790000000123456, Channel: d.Channel, Type: d.Type, Data: d.Data, User: user, Client: client}
		for _, frame := range []*Frame{eventFrame("x7k2m9qa", &e), replayFrame("x7k2m9qa", &e)} {
			got := parseSSE(frame.Wire())
			if len(got) != 1 || got[0].event != typ || got[0].data != string(frame.Data) {
				t.Fatalf("one event became %q", got)
			}
			var body struct {
				Channel string
				Time    json.Number
				Data    json.RawMessage
				Replay  bool
				At      string
			}
			if err := json.Unmarshal([]byte(got[0].data), &body); err != nil {
				t.Fatalf("%v in %q", err, got[0].data)
			}
			if body.Channel != "abc" || body.Time != "1790000000.123456" || !bytes.Equal(body.Data, d.Data) {
				t.Fatalf("the data became %+v", body)
			}
			if wantID := "x7k2m9qa-7"; frame.Seq != 0 && got[0].id != wantID || frame.Seq == 0 && (!body.Replay || body.At != wantID || got[0].id != "") {
				t.Fatalf("the position became %q, %+v", got[0].id, body)
			}
		}
	})
}

func FuzzCursorsHaveOneSpelling(f *testing.F) {
	for _, s := range []string{"x7k2m9qa-1042", "x7k2m9qa-0", "x7k2m9qa-01", "x7k2m9qa-+1", "X7k2m9qa-1", "x7k2m9qa-18446744073709551616", "-", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err != nil {
			if CodeOf(err) != CodeBadRequest {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if c.String() != s {
			t.Fatalf("%q came back as %q", s, c)
		}
	})
}

func FuzzClaimsNeverGiveMoreThanTheySay(f *testing.F) {
	f.Add([]byte(`{"iss":"moodle","aud":"backchannel","sub":"5","iat":1790000000,"exp":1790000600,"jti":"v1","ch":[{"h":"abc","from":1790000000.5,"f":{"id":5},"p":"both","last":3}],"send":["mod_a"]}`))
	f.Add([]byte(`{"iss":"moodle","sub":"5","iat":1790000000,"exp":1790000600,"until":1e300,"ch":null}`))
	now := time.Unix(1790000060, 0)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c Claims
		if json.Unmarshal(raw, &c) != nil {
			return
		}
		g, err := c.Grant(now, 200)
		if err != nil {
			if code := CodeOf(err); code != CodeGrantInvalid && code != CodeGrantExpired && code != CodeTooLarge {
				t.Fatalf("refused with %q: %v", code, err)
			}
			return
		}
		if g.Until.After(g.IssuedAt.Add(MaxGrantLife)) || g.IssuedAt.After(now.Add(Leeway)) || len(g.Entries) > 200 || g.Caller() == "" {
			t.Fatalf("too much: %+v", g)
		}
		for _, e := range g.Entries {
			if _, err := ParseChannelID(string(e.Channel)); err != nil || e.Last > MaxLast {
				t.Fatalf("entry %+v", e)
			}
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var c2 Claims
		if err := json.Unmarshal(again, &c2); err != nil {
			t.Fatalf("our own claims are unreadable: %v in %s", err, again)
		}
		if _, err := c2.Grant(now, 200); err != nil {
			t.Fatalf("our own claims are refused: %v in %s", err, again)
		}
	})
}
