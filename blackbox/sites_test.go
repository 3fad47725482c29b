package blackbox_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTwoSitesShareNothing(t *testing.T) {
	t.Parallel()
	one, two := newSite("one"), newSite("two")
	b := startBroker(t, config{sites: []*site{one, two}})
	c1, c2 := newClient(t, b, one), newClient(t, b, two)
	const h = "same-name"
	s1 := c1.open(t, map[string]any{"grants": []string{one.grant([]entry{{"h": h}}, func(g claims) { g["sid"], g["send"] = "s1", []string{"mod_test"} })}})
	s2 := c2.open(t, map[string]any{"grants": []string{two.grant([]entry{{"h": h}}, func(g claims) { g["sid"] = "s1" })}})
	h1 := s1.hello()
	s2.hello()
	first := c1.publishBody(t, publishBody(h, "of one", map[string]any{"id": "k"}))
	second := c2.publishBody(t, publishBody(h, "of two", map[string]any{"id": "k"}))
	if second.Repeated || first.ID == second.ID {
		t.Errorf("the sites share idempotency ids: %+v, %+v", first, second)
	}
	for s, want := range map[*stream]string{s1: `"of one"`, s2: `"of two"`} {
		s.awaitEvents(1)
		if events, _ := s.caughtUp(); len(events) != 1 || string(events[0].Data) != want {
			t.Errorf("heard %v, want %s", datas(events), want)
		}
	}
	for path, secret := range map[string]string{
		"/v1/channels/" + h + "/events": "of one", "/v1/events": "of one", "/v1/streams": h1.Stream,
	} {
		if a := c2.server(t, http.MethodGet, path, nil); strings.Contains(string(a.body), secret) {
			t.Errorf("%s of site two has %q of site one: %s", path, secret, a)
		}
	}
	if n := c2.revoke(t, map[string]any{"sid": "s1"}); n != 1 {
		t.Errorf("site two cut %d streams, want its own", n)
	}
	c2.server(t, http.MethodPost, "/v1/channels/"+h+"/purge", nil)
	c1.publish(t, h, "again")
	if got := s1.awaitEvents(2); string(got[1].Data) != `"again"` {
		t.Errorf("site one heard %v", datas(got))
	}
	back := c1.open(t, map[string]any{"resume": h1.Resume, "cursor": first.ID})
	if !*back.hello().Channels[0].Recovered {
		t.Error("site two purged a channel of site one")
	}
	foreign := map[string]any{"resume": h1.Resume, "grants": []string{two.hears(h)}}
	expectOneOf(t, c2.refusal(t, http.MethodPost, "/v1/stream", foreign), "403 subject_mismatch")
}

func TestTheServerAPIWantsTheSitesBearer(t *testing.T) {
	t.Parallel()
	one, two := newSite("one"), newSite("two")
	c := newClient(t, startBroker(t, config{sites: []*site{one, two}}), one)
	at := c.publish(t, "a", 1)
	for name, auth := range map[string]string{
		"none": "", "no scheme": one.bearer(), "basic": "Basic " + one.bearer(), "cut": "Bearer " + one.bearer()[:40],
		"another's secret": "Bearer " + two.keys[0].bearer("one"), "unknown kid": "Bearer " + strings.Replace(one.bearer(), ".k1.", ".k2.", 1),
		"unknown site": "Bearer " + one.keys[0].bearer("three"), "a grant": "Bearer " + one.hears("a"),
		"the secret itself": "Bearer one.k1." + base64url(one.keys[0].secret), "huge": "Bearer " + strings.Repeat("x", 9000),
	} {
		t.Run(name, func(t *testing.T) {
			var header []string
			if auth != "" {
				header = []string{"Authorization", auth}
			}
			for _, r := range []struct{ method, path string }{
				{http.MethodPost, "/v1/publish"},
				{http.MethodPost, "/v1/revoke"},
				{http.MethodGet, "/v1/channels"},
				{http.MethodGet, "/v1/channels/a"},
				{http.MethodGet, "/v1/channels/a/events"},
				{http.MethodPost, "/v1/channels/a/purge"},
				{http.MethodPost, "/v1/users/5/purge"},
				{http.MethodGet, "/v1/events"},
				{http.MethodGet, "/v1/streams"},
				{http.MethodGet, "/v1/deliveries"},
				{http.MethodPost, "/v1/deliveries/retry"},
				{http.MethodGet, "/v1/self"},
			} {
				var body any
				if r.method == http.MethodPost {
					body = map[string]any{"channel": "a", "data": "forged", "sid": "x"}
				}
				if a := c.refusal(t, r.method, r.path, body, header...); a.status != 401 {
					t.Errorf("%s %s: %s, want 401", r.method, r.path, a)
				} else {
					expectOneOf(t, a, "401 grant_invalid")
				}
			}
		})
	}
	if next := c.publish(t, "a", 2); next.seq != at.seq+1 {
		t.Errorf("the log went from %s to %s", at, next)
	}
}

func TestUnknownPathsAndMethodsGetAProblem(t *testing.T) {
	c := start(t)
	for _, w := range []struct{ method, path, want string }{
		{http.MethodGet, "/v1/nothing", "404 not_found"},
		{http.MethodGet, "/", "404 not_found"},
		{http.MethodGet, "/v2/stream", "404 not_found"},
		{http.MethodGet, "/v1/publish", "404 not_found | 405 bad_request"},
		{http.MethodDelete, "/v1/stream", "404 not_found | 405 bad_request"},
		{http.MethodPut, "/v1/messages", "404 not_found | 405 bad_request"},
		{http.MethodGet, "/v1/../v1/self", "401 grant_invalid | 404 not_found"},
	} {
		t.Run(w.method+w.path, func(t *testing.T) { expectOneOf(t, c.refusal(t, w.method, w.path, nil), w.want) })
	}
}

func TestCORSAnswersListedOriginsOnly(t *testing.T) {
	t.Parallel()
	one, two := newSite("one"), newSite("two")
	one.origins, two.origins = []string{"https://one.example"}, []string{"https://two.example"}
	c := newClient(t, startBroker(t, config{sites: []*site{one, two}}), one)
	body := map[string]any{"grants": []string{one.hears("a")}}
	s := c.open(t, body, "Origin", "https://one.example")
	if got := s.resp.Header.Get("Access-Control-Allow-Origin"); got != "https://one.example" {
		t.Errorf("Access-Control-Allow-Origin: %q", got)
	}
	if got := s.resp.Header.Get("Access-Control-Expose-Headers"); got != "Backchannel-Time, Retry-After" {
		t.Errorf("Access-Control-Expose-Headers: %q", got)
	}
	if got := s.resp.Header.Get("Access-Control-Allow-Credentials"); got != "" {
		t.Errorf("Access-Control-Allow-Credentials: %q", got)
	}
	if !strings.Contains(strings.Join(s.resp.Header.Values("Vary"), ","), "Origin") {
		t.Errorf("Vary: %q", s.resp.Header.Values("Vary"))
	}
	for _, w := range []struct {
		origin  string
		allowed bool
	}{{"https://two.example", true}, {"https://evil.example", false}, {"null", false}, {"https://one.example.evil.example", false}, {"http://one.example", false}, {"HTTPS://ONE.EXAMPLE", false}} {
		a := c.refusal(t, http.MethodPost, "/v1/stream", body, "Origin", w.origin)
		expectProblem(t, a, 403, "origin_denied")
		if got := a.header.Get("Access-Control-Allow-Origin"); (got == w.origin) != w.allowed || !w.allowed && got != "" {
			t.Errorf("from %s: Access-Control-Allow-Origin %q", w.origin, got)
		}
	}
	bad := c.refusal(t, http.MethodPost, "/v1/stream", map[string]any{"grants": []string{"x"}}, "Origin", "https://one.example")
	if bad.status != 401 || bad.header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("a page cannot read why it was refused: %s %v", bad, bad.header)
	}
	pre := c.refusal(t, http.MethodOptions, "/v1/stream", nil, "Origin", "https://one.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
	if pre.status/100 != 2 || pre.header.Get("Access-Control-Allow-Origin") != "https://one.example" || !strings.Contains(strings.ToLower(pre.header.Get("Access-Control-Allow-Headers")), "content-type") {
		t.Errorf("preflight: %s %v", pre, pre.header)
	}
}

func TestAWrongConfigurationIsRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	bin, err := brokerBinary()
	if err != nil {
		t.Fatal(err)
	}
	one, two := newSite("one"), newSite("two")
	two.keys = one.keys
	for name, w := range map[string]struct{ text, want string }{
		"an unknown key":          {strings.Replace(config{sites: []*site{one}}.toml(t.TempDir()), "listen =", "lisen =", 1), "listen"},
		"one secret in two sites": {config{sites: []*site{one, two}}.toml(t.TempDir()), "two"},
		"a key that is no secret": {strings.Replace(config{sites: []*site{one}}.toml(t.TempDir()), `"k1.`, `"k1.x`, 1), "k1"},
		"no TOML":                 {"data = ", ":1:"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "backchannel.toml")
			mustWrite(t, file, w.text)
			cmd := exec.CommandContext(timeout(t, waitLimit), bin, "serve", "--config", file)
			cmd.Env, cmd.Dir = append(cleanEnviron(), "HOME="+os.TempDir()), t.TempDir()
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), w.want) || strings.Contains(string(out), base64url(one.keys[0].secret)) {
				t.Errorf("%v: %s; want it to name %q, and no secret", err, out, w.want)
			}
		})
	}
}
