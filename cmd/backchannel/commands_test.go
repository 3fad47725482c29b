package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"backchannel/broker"
)

// designDSN is the one of the design's vectors.
const designDSN = "https://moodle:k1.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8.ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8@rt.school.example"

func TestGrantIsWhatAnotherLibraryVerifies(t *testing.T) {
	out := mustRun(t, "grant", "--dsn", designDSN, "--user", "5", "--session", "s1", "--channel", "room1",
		"--context", "42", "--component", "mod_kahoodle", "--area", "game", "--item", "7", "--send", "mod_kahoodle", "--from", "5m",
		"--filter", `{"id":5}`, "--presence", "both", "--write", "--last", "3", "--info", `{"name":"Ada"}`, "--until", "2h")
	d, err := broker.ParseDSN(designDSN)
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.MapClaims
	token, err := jwt.ParseWithClaims(strings.TrimSpace(out), &claims, func(*jwt.Token) (any, error) { return d.Key.Grant, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience("backchannel"), jwt.WithIssuer("moodle"), jwt.WithExpirationRequired())
	if err != nil || token.Header["kid"] != "k1" {
		t.Fatalf("%v %v", token, err)
	}
	raw, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	var wire broker.Claims
	if err := json.Unmarshal(raw, &wire); err != nil {
		t.Fatal(err)
	}
	g, err := wire.Grant(time.Now(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if g.User != "5" || g.Session != "s1" || len(g.Entries) != 2 || !g.MaySend("mod_kahoodle") {
		t.Errorf("grant %+v", g)
	}
	if e := g.Entries[1]; e.Channel != "aMaoIHJEsfEIjo_6ak5A8Q" || e.Filter["id"] != "5" || e.Presence != "both" || !e.Write || e.Last != 3 {
		t.Errorf("entry by properties: %+v", e)
	}
	if ago := time.Since(g.Entries[0].From.Time); ago < 4*time.Minute || ago > 6*time.Minute {
		t.Errorf("from is %s ago", ago)
	}
}

func TestCommandsSayWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{"which channel?", []string{"tail", "--dsn", designDSN}},
		{"where to?", []string{"publish", "--dsn", designDSN}},
		{"give one of: channel, properties", []string{"publish", "--dsn", designDSN, "--user", "5", "--session", "6", "1"}},
		{"the channel is given twice", []string{"publish", "--dsn", designDSN, "--user", "5", "room1", "1"}},
		{"a text needs its quotes", []string{"publish", "--dsn", designDSN, "room1", "hello"}},
		{"character 2 is not one of", []string{"grant", "--dsn", designDSN, "--channel", "a b"}},
		{"want a cursor, a time or a duration", []string{"grant", "--dsn", designDSN, "--from", "yesterday"}},
		{"p: want member", []string{"grant", "--dsn", designDSN, "--channel", "a", "--presence", "no"}},
		{"give one of --jti", []string{"revoke", "--dsn", designDSN}},
		{"give an id, or --component", []string{"deliveries", "retry", "--dsn", designDSN}},
		{"want a UUID", []string{"send", "--dsn", designDSN, "x", "--ask", "1"}},
		{"DSN: want http", []string{"streams", "--dsn", "school.example"}},
		{"give --dsn or --site, not both", []string{"streams", "--dsn", designDSN, "--site", "moodle"}},
		{"unknown command", []string{"serv"}},
		{"unknown flag", []string{"serve", "--lissten", ":1"}},
		{"accepts 1 arg", []string{"site", "add"}},
	} {
		r := run(t, "", nil, c.args...)
		if r.code != exitUsage || !strings.Contains(r.err, c.want) {
			t.Errorf("%v: code %d, %s", c.args, r.code, r.err)
		}
		if strings.Contains(r.err, "AAECAwQF") {
			t.Errorf("%v: the secret was printed: %s", c.args, r.err)
		}
	}
}

func TestRefusalsAreSentencesWithTheirCode(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, `{"title":"Too large","code":"too_large","detail":"the event has 300000 bytes; at most 262144 are allowed"}`)
	}))
	defer server.Close()
	dsn := strings.Replace(designDSN, "https://", "http://", 1)
	dsn = strings.Replace(dsn, "rt.school.example", strings.TrimPrefix(server.URL, "http://"), 1)
	r := run(t, "", nil, "publish", "room1", "1", "--dsn", dsn)
	if r.code != exitFailed || !strings.Contains(r.err, "the broker refused: the event has 300000 bytes; at most 262144 are allowed (too_large, 413)") {
		t.Errorf("code %d: %s", r.code, r.err)
	}
	server.Close()
	r = run(t, "", nil, "publish", "room1", "1", "--dsn", dsn)
	if r.code != exitFailed || !strings.Contains(r.err, "is it running?") || !strings.Contains(r.err, server.URL) {
		t.Errorf("code %d: %s", r.code, r.err)
	}
}

func TestLinesArePublishedInBatchesInTheirOrder(t *testing.T) {
	var sizes []int
	total := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Events []publishItem }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		sizes = append(sizes, len(body.Events))
		var results []map[string]string
		for _, e := range body.Events {
			total++
			if e.Channel != "room1" {
				t.Errorf("channel %v", e.Channel)
			}
			if string(e.Data) == "13" {
				results = append(results, map[string]string{"code": "bad_request", "detail": "unlucky"})
			} else {
				results = append(results, map[string]string{"id": "x7k2m9qa-" + string(e.Data)})
			}
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"results": results}); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	dsn := strings.Replace(strings.Replace(designDSN, "https://", "http://", 1), "rt.school.example", strings.TrimPrefix(server.URL, "http://"), 1)
	var in strings.Builder
	for n := range 1500 {
		_ = json.NewEncoder(&in).Encode(n)
	}
	r := run(t, in.String(), nil, "publish", "room1", "--lines", "--dsn", dsn)
	if r.code != exitFailed || !strings.Contains(r.err, "1 events were refused") || !strings.Contains(r.err, "unlucky (bad_request") {
		t.Errorf("code %d: %s", r.code, r.err)
	}
	if total != 1500 || len(sizes) != 2 || sizes[0] != 1000 {
		t.Errorf("batches %v", sizes)
	}
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if len(lines) != 1499 || lines[0] != "x7k2m9qa-0" || lines[1498] != "x7k2m9qa-1499" {
		t.Errorf("%d lines, from %s to %s", len(lines), lines[0], lines[len(lines)-1])
	}
}

func TestVersionNamesTheProgram(t *testing.T) {
	if out := mustRun(t, "version"); !strings.HasPrefix(out, "backchannel ") {
		t.Errorf("printed %q", out)
	}
}
