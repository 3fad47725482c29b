package webhooks

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const canary = "CaNaRy0123456789"

func TestSecretsNeverReachTheLog(t *testing.T) {
	for name, body := range map[string]string{
		"seal":               `{"seal":"CaNaRy0123456789","data":1}`,
		"deep":               `{"data":[{"args":{"sesskey":"CaNaRy0123456789"}}]}`,
		"spaces":             `{ "token" :  "CaNaRy0123456789" }`,
		"number":             `{"password":[1,"CaNaRy0123456789",{"a":"CaNaRy0123456789"}],"b":2}`,
		"object":             `{"tokens":{"a":"CaNaRy0123456789"},"b":2}`,
		"escaped key":        `{"sess\u006bey":"CaNaRy0123456789"}`,
		"case":               `{"SessKey":"CaNaRy0123456789","Access_Token":"CaNaRy0123456789","client-secret":"CaNaRy0123456789"}`,
		"query in a string":  `{"url":"https://s.example/x?a=1&sesskey=CaNaRy0123456789&b=2"}`,
		"JSON in a string":   `{"args":"{\"password\":\"CaNaRy0123456789\"}"}`,
		"header in a string": `{"h":"Authorization: Bearer CaNaRy0123456789"}`,
		"bearer":             `{"h":"Bearer CaNaRy0123456789"}`,
		"quote in the value": `{"token":"a\"CaNaRy0123456789","x":"}"}`,
		"cut":                `{"a":{"token":"CaNaRy0123456789`,
		"page":               `<input type="hidden" name="x"><script>M.cfg={"sesskey":"CaNaRy0123456789"}</script>`,
		"form":               `a=b&password=CaNaRy0123456789`,
		"cookie text":        "Cookie: MoodleSession=x; token=CaNaRy0123456789",
		"JWT":                `{"x":"eyJhbGciOiJIUzI1NiJ9.CaNaRy0123456789.CaNaRy0123456789"}`,
	} {
		for _, limit := range []int{maxLogBytes, 40, 20} {
			if got := string(redactBody([]byte(body), limit)); strings.Contains(got, canary) {
				t.Errorf("%s, limit %d: %s", name, limit, got)
			}
			if got := string(redactJSON([]byte(body), limit)); strings.Contains(got, canary) && strings.HasPrefix(body, "{") {
				t.Errorf("%s as JSON, limit %d: %s", name, limit, got)
			}
		}
	}
}

func TestRedactionLeavesEverythingElse(t *testing.T) {
	for _, body := range []string{`{"a":[1,2,{"b":"x\"y"}],"user":"5","session":"s"}`, `[]`, `"sealing wax"`, `null`, `{"name":"Tom: a=b"}`} {
		if got := string(redactBody([]byte(body), maxLogBytes)); got != body {
			t.Errorf("%s became %s", body, got)
		}
	}
	if got := string(redactBody([]byte(`{"seal":"x","a":1}`), maxLogBytes)); got != `{"seal":"[redacted]","a":1}` {
		t.Errorf("got %s", got)
	}
}

func TestRedactionKeepsJSONValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SampledFrom([]string{"a", "seal", "token", "x y", `q"`, "password"})
		var value func(depth int) any
		value = func(depth int) any {
			switch k := rapid.IntRange(0, 4).Draw(t, "kind"); {
			case depth > 3 || k == 0:
				return rapid.StringN(0, 10, 40).Draw(t, "s")
			case k == 1:
				return rapid.Int().Draw(t, "n")
			case k == 2:
				return []any{value(depth + 1), value(depth + 1)}
			}
			return map[string]any{keys.Draw(t, "key"): value(depth + 1), keys.Draw(t, "key"): canary}
		}
		text, err := json.Marshal(map[string]any{"seal": value(0), "v": value(0)})
		if err != nil {
			t.Fatal(err)
		}
		if out := redactJSON(text, 1<<20); !json.Valid(out) && !mayHoldSecret(text) {
			t.Fatalf("%s became %s", text, out)
		}
	})
}

func TestRedactionOfURLsAndHeaders(t *testing.T) {
	u, err := url.Parse("https://user:CaNaRy0123456789@school.example/hook.php?key=CaNaRy0123456789&b=CaNaRy0123456789#x")
	if err != nil {
		t.Fatal(err)
	}
	if got := redactURL(u); strings.Contains(got, canary) || !strings.Contains(got, "school.example/hook.php?b=[redacted]&key=[redacted]") {
		t.Errorf("got %s", got)
	}
	var b strings.Builder
	writeHeader(&b, http.Header{
		"Set-Cookie": {canary}, "Authorization": {canary}, "X-Auth-Token": {canary}, "Webhook-Signature": {canary},
		"Location": {"/x?token=" + canary}, "X-Debug": {"sesskey=" + canary}, "Content-Type": {"text/html"},
	})
	if strings.Contains(b.String(), canary) || !strings.Contains(b.String(), "Content-Type: text/html") {
		t.Errorf("got %s", b.String())
	}
}

func TestLogIsBounded(t *testing.T) {
	var d Delivery
	for i := range 30 {
		d.log(Attempt{Number: i})
	}
	if len(d.Log) != maxLogged || d.Log[0].Number != 30-maxLogged {
		t.Errorf("%d kept from %d", len(d.Log), d.Log[0].Number)
	}
	long := `{"a":"` + strings.Repeat("x", 100<<10) + `"}`
	if n := len(redactBody([]byte(long), maxLogBytes)); n != maxLogBytes {
		t.Errorf("%d bytes of JSON kept, want %d", n, maxLogBytes)
	}
	if n := len(redactBody([]byte(strings.Repeat("<p>", 1000)), maxLogBytes)); n != maxTextBytes {
		t.Errorf("%d bytes of text kept, want %d", n, maxTextBytes)
	}
}

func FuzzRedactJSON(f *testing.F) {
	f.Add([]byte(`{"seal":"x"}`), 100)
	f.Add([]byte(`{"a":"\`), 3)
	f.Add([]byte(`{"token"`), 3)
	f.Fuzz(func(t *testing.T, text []byte, limit int) {
		limit = min(max(limit, 0), 1<<16)
		if out := redactJSON(text, limit); len(out) > limit {
			t.Errorf("%d bytes, limit %d", len(out), limit)
		}
	})
}
