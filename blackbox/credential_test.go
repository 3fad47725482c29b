package blackbox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// badGrants are grants that must open nothing, and the answer to each.
func badGrants(s, other *site, h string) map[string]struct{ grant, want string } {
	at := func(d time.Duration) float64 { return unix(time.Now().Add(d)) }
	with := func(name string, v any) string {
		return s.grant([]entry{{"h": h}}, func(g claims) {
			if g[name] = v; v == nil {
				delete(g, name)
			}
		})
	}
	inEntry := func(name string, v any) string { return s.grant([]entry{{"h": h, name: v}}) }
	header := func(h map[string]any) string { return s.keys[0].signWith(h, s.claims(entry{"h": h})) }
	good := s.hears(h)
	parts := strings.Split(good, ".")
	otherSite := s.claims(entry{"h": h})
	otherSite["iss"] = other.name
	many := make([]string, 201)
	for i := range many {
		many[i] = s.hash(fmt.Sprint("many", i))
	}
	none := base64url([]byte(`{"alg":"none","kid":"k1"}`)) + "." + parts[1] + "."
	all := map[string]struct{ grant, want string }{
		"expired": {s.grant([]entry{{"h": h}}, func(g claims) {
			g["iat"], g["exp"] = at(-time.Hour), at(-90*time.Second)
		}), "401 grant_expired"},
		"too many channels": {s.hears(many...), "413 too_large | 401 grant_invalid"},
		"huge":              {parts[0] + "." + strings.Repeat("A", 300<<10) + "." + parts[2], "401 grant_invalid | 413 too_large"},
	}
	for name, g := range map[string]string{
		"empty": "", "no token": "x", "two parts": parts[0] + "." + parts[1], "four parts": good + ".x", "truncated": good[:len(good)-10],
		"signature of another":      parts[0] + "." + parts[1] + "." + strings.Split(other.hears(h), ".")[2],
		"payload of another":        parts[0] + "." + strings.Split(s.hears(s.hash("x")), ".")[1] + "." + parts[2],
		"standard base64":           strings.NewReplacer("-", "+", "_", "/").Replace(good) + "==",
		"alg none":                  none,
		"alg none, signed":          header(map[string]any{"alg": "none", "kid": "k1", "typ": "JWT"}),
		"alg HS512":                 header(map[string]any{"alg": "HS512", "kid": "k1", "typ": "JWT"}),
		"alg RS256":                 header(map[string]any{"alg": "RS256", "kid": "k1", "typ": "JWT"}),
		"unknown kid":               header(map[string]any{"alg": "HS256", "kid": "k9", "typ": "JWT"}),
		"kid as a path":             header(map[string]any{"alg": "HS256", "kid": "../k1", "typ": "JWT"}),
		"no kid":                    header(map[string]any{"alg": "HS256", "typ": "JWT"}),
		"signed with the api key":   signedWith(s, "api", h),
		"signed with the secret":    signedWith(s, "", h),
		"our key, another's issuer": s.keys[0].sign(otherSite),
		"another's key, our issuer": other.keys[0].sign(s.claims(entry{"h": h})),
		"unknown issuer":            with("iss", "nobody"), "no issuer": with("iss", nil), "issuer with a line feed": with("iss", "school\n"),
		"another audience": with("aud", "mercure"), "no audience": with("aud", nil),
		"iat ahead": with("iat", at(2*time.Minute)), "no iat": with("iat", nil), "no exp": with("exp", nil), "exp as text": with("exp", "tomorrow"),
		"until before exp": with("until", at(time.Minute)), "until after 8 days": with("until", at(8*24*time.Hour)),
		"ch is a text": with("ch", h), "channel with CR": s.hears("a\rb"), "channel with NUL": s.hears("a\x00b"),
		"channel too long": s.hears(strings.Repeat("a", 65)), "empty channel": s.hears(""),
		"filter with an object": inEntry("f", entry{"a": entry{}}), "last too many": inEntry("last", 101), "last negative": inEntry("last", -1),
		"unknown presence": inEntry("p", "all"), "ref too long": inEntry("ref", strings.Repeat("r", 257)), "component with a line feed": inEntry("c", "a\nb"),
		"seal too long": with("seal", strings.Repeat("s", 513)), "info too long": with("info", entry{"x": strings.Repeat("i", 256)}), "info a list": with("info", []int{1}),
		"sub as a number": with("sub", 5), "send to nobody's name": with("send", []string{"a b"}),
	} {
		all[name] = struct{ grant, want string }{g, "401 grant_invalid"}
	}
	return all
}

func signedWith(s *site, use, h string) string {
	text := base64url([]byte(`{"alg":"HS256","kid":"k1","typ":"JWT"}`)) + "." + base64url(mustJSON(s.claims(entry{"h": h})))
	k := s.keys[0].secret
	if use != "" {
		k = s.keys[0].sub(use)
	}
	return text + "." + base64url(mac(k, text))
}

func TestBadGrantsOpenNothing(t *testing.T) {
	t.Parallel()
	s, other := newSite("school"), newSite("another")
	c := newClient(t, startBroker(t, config{sites: []*site{s, other}}), s)
	for name, w := range badGrants(s, other, s.hash("a")) {
		t.Run(name, func(t *testing.T) {
			expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"grants": []string{w.grant}}), w.want)
			if len(w.grant) < 8<<10 {
				expectOneOf(t, c.refusal(t, http.MethodGet, "/v1/stream?"+url.Values{"grant": {w.grant}}.Encode(), nil), w.want)
			}
			expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/poll", map[string]any{"grants": []string{w.grant}}), w.want)
			send := map[string]any{"grant": w.grant, "id": newUUID(), "component": "mod_test", "kind": "job", "data": 1}
			if w.grant != "" {
				expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/messages", send), w.want)
			}
		})
	}
}

func TestGrantsJustInsideTheLimitsAreGood(t *testing.T) {
	c := start(t)
	at := func(d time.Duration) float64 { return unix(time.Now().Add(d)) }
	many := make([]string, 200)
	for i := range many {
		many[i] = c.s.hash(fmt.Sprint("many", i))
	}
	h := c.s.hash("a")
	for name, g := range map[string]string{
		"expired within the leeway": c.s.grant([]entry{{"h": h}}, func(g claims) { g["iat"], g["exp"] = at(-time.Hour), at(-50*time.Second) }),
		"iat within the leeway":     c.s.grant([]entry{{"h": h}}, func(g claims) { g["iat"] = at(50 * time.Second) }),
		"until after 7 days":        c.s.grant([]entry{{"h": h}}, func(g claims) { g["until"] = g["iat"].(float64) + 7*86400 }),
		"200 channels":              c.s.hears(many...),
		"no until":                  c.s.grant([]entry{{"h": h}}, func(g claims) { delete(g, "until") }),
		"anonymous":                 c.s.grant([]entry{{"h": h}}, func(g claims) { delete(g, "sub") }),
		"unknown claims":            c.s.grant([]entry{{"h": h, "later": 1}}, func(g claims) { g["later"] = 1 }),
		"audience in a list":        c.s.grant([]entry{{"h": h}}, func(g claims) { g["aud"] = []string{"backchannel"} }),
		"no channels":               c.s.grant(nil),
	} {
		t.Run(name, func(t *testing.T) {
			s := c.open(t, map[string]any{"grants": []string{g}})
			s.hello()
			s.close()
		})
	}
}

func TestBadStreamRequestsAreRefused(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	g, resume := c.s.mates(entry{"h": h}), c.open(t, map[string]any{"grants": []string{c.s.mates(entry{"h": h})}}).hello().Resume
	for name, w := range map[string]struct {
		body any
		want string
	}{
		"no body":           {"", "400 bad_request | 401 grant_invalid"},
		"no JSON":           {"{", "400 bad_request"},
		"a list":            {"[]", "400 bad_request"},
		"no credential":     {"{}", "401 grant_invalid | 400 bad_request"},
		"grants as a text":  {map[string]any{"grants": g}, "400 bad_request"},
		"two subjects":      {map[string]any{"grants": []string{g, c.s.hears(h)}}, "403 subject_mismatch"},
		"resume of another": {map[string]any{"grants": []string{c.s.hears(h)}, "resume": resume}, "403 subject_mismatch"},
		"resume cut":        {map[string]any{"resume": resume[:len(resume)-5]}, "401 grant_invalid"},
		"resume changed":    {map[string]any{"resume": flip(resume)}, "401 grant_invalid"},
		"pad too large":     {map[string]any{"grants": []string{g}, "pad": 65537}, "400 bad_request | 413 too_large"},
		"pad negative":      {map[string]any{"grants": []string{g}, "pad": -1}, "400 bad_request"},
		"room empty":        {map[string]any{"grants": []string{g}, "rooms": map[string]any{h: []string{""}}}, "400 bad_request | 403 channel_denied"},
		"too large":         {`{"grants":["` + strings.Repeat("a", 5<<20) + `"]}`, "413 too_large"},
		"invalid UTF-8":     {"{\"client\":\"\xff\"}", "400 bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/stream", w.body), w.want)
			expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/poll", w.body), w.want)
		})
	}
	expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/poll", map[string]any{"grants": []string{g}, "wait": 56}), "400 bad_request")
	expectOneOf(t, c.refusal(t, http.MethodPost, "/v1/poll", map[string]any{"grants": []string{g}, "wait": -1}), "400 bad_request")
	expectOneOf(t, c.refusal(t, http.MethodGet, "/v1/stream", nil), "401 grant_invalid | 400 bad_request")
	for _, name := range []string{"grant", "resume"} { // tokens stand in bodies only: a URL ends up in logs
		expectOneOf(t, c.refusal(t, http.MethodGet, "/v1/stream?"+url.Values{name: {resume}}.Encode(), nil), "401 grant_invalid | 400 bad_request")
	}
}

// flip changes one character in the middle.
func flip(s string) string {
	i := len(s) / 2
	swap := byte('A')
	if s[i] == swap {
		swap = 'B'
	}
	return s[:i] + string(swap) + s[i+1:]
}
