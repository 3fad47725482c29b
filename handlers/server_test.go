package handlers

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

func TestABearerOfALiveKeyIsTakenAndNothingElse(t *testing.T) {
	d := newDesk(t)
	good := d.key("moodle", 0).Bearer("moodle")
	for name, header := range map[string]string{
		"none": "", "no scheme": good, "basic": "Basic " + good, "empty": "Bearer ", "cut": "Bearer " + good[:len(good)-1],
		"longer": "Bearer " + good + "A", "other site": "Bearer " + strings.Replace(good, "moodle", "tsugi", 1),
		"no such site": "Bearer " + strings.Replace(good, "moodle", "nowhere", 1), "other kid": "Bearer " + strings.Replace(good, "k1", "k0", 1),
		"a grant": "Bearer " + d.grant(t), "padding": "Bearer " + good + "=",
	} {
		t.Run(name, func(t *testing.T) {
			r := d.send(http.MethodPost, "/v1/publish", `{"channel":"c1","data":1}`, "Authorization", header)
			r.want(t, 401, broker.CodeGrantInvalid)
			if !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
				t.Error("401 without WWW-Authenticate")
			}
		})
	}
	for _, header := range []string{"Bearer " + good, "bearer  " + good, "Bearer " + d.key("moodle", 1).Bearer("moodle"), "Bearer moodle.k1.i4d2qUW_TTtPpLOw3I3E6vt4NQChvC7AwtYkV7FfFus"} {
		if r := d.send(http.MethodGet, "/v1/self", "", "Authorization", header); r.status != 200 {
			t.Errorf("%s: %d %s", header, r.status, r.body)
		}
	}
	if n := len(d.stored(t)); n != 0 {
		t.Errorf("%d events were stored", n)
	}
}

func TestAnOriginIsAnsweredIfAnySiteListsIt(t *testing.T) {
	d := newDesk(t)
	for origin, want := range map[string]string{
		schoolSite: schoolSite, "https://tsugi.example": "https://tsugi.example", "null": "", "https://evil.example": "",
		"https://school.example.evil.example": "", "https://SCHOOL.example": "", "": "",
	} {
		for _, path := range []string{"/v1/messages", "/v1/nowhere", "/v1/stream", "/healthz"} {
			r := d.send(http.MethodPost, path, "{}", "Origin", origin)
			if got := r.header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s from %q: allowed %q, want %q", path, origin, got, want)
			}
			if want != "" && r.header.Get("Access-Control-Expose-Headers") != "Backchannel-Time, Retry-After" {
				t.Errorf("%s exposes %q", path, r.header.Get("Access-Control-Expose-Headers"))
			}
			if r.header.Get("Vary") != "Origin" || r.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s: %v", path, r.header)
			}
			if r.header.Get("Backchannel-Time") != "1790000060.000000" {
				t.Errorf("%s: Backchannel-Time %q", path, r.header.Get("Backchannel-Time"))
			}
		}
	}
}

func TestAPreflightAllowsWhatPagesNeedAndNoAuthorization(t *testing.T) {
	d := newDesk(t)
	r := d.send(http.MethodOptions, "/v1/messages", "", "Origin", schoolSite, "Access-Control-Request-Method", "POST")
	if r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != schoolSite || r.header.Get("Access-Control-Allow-Methods") != "GET, POST" ||
		!strings.Contains(r.header.Get("Access-Control-Allow-Headers"), "Content-Type") || strings.Contains(r.header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("got %d %v", r.status, r.header)
	}
	r = d.send(http.MethodOptions, "/v1/messages", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	if r.header.Get("Access-Control-Allow-Origin")+r.header.Get("Access-Control-Allow-Headers") != "" {
		t.Errorf("a stranger is allowed %v", r.header)
	}
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	d := newDesk(t)
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/nothing", "/v1/publish/", "/metrics", "/readyz", "/debug/pprof/", "/v1/peer", "/v1/channels/c1/members"} {
		d.server(http.MethodGet, path, "").want(t, 404, broker.CodeNotFound)
	}
	for path, allow := range map[string]string{"/v1/publish": "POST", "/v1/stream": "GET, POST", "/v1/poll": "POST", "/v1/streams/x/channels": "POST", "/v1/self": "GET", "/v1/messages": "POST"} {
		r := d.server(http.MethodDelete, path, "")
		r.want(t, 405, broker.CodeBadRequest)
		if r.header.Get("Allow") != allow {
			t.Errorf("%s allows %q, want %q", path, r.header.Get("Allow"), allow)
		}
	}
}

func TestEverythingIsServedUnderThePathOfPublicURLToo(t *testing.T) {
	d := newDesk(t)
	for path, want := range map[string]int{
		"/rt/v1/self": 200, "/v1/self": 200, "/rt/healthz": 200, "/healthz": 200, "/rtx/v1/self": 404, "/rt/rt/v1/self": 404, "/rt": 404, "/rt/": 404,
		"/rt/v1/users/a%2Fb/purge": 405,
	} {
		if r := d.server(http.MethodGet, path, ""); r.status != want {
			t.Errorf("%s: %d %s, want %d", path, r.status, r.body, want)
		}
	}
}

func TestJSONIsTakenUnderTheNamesThatPagesAndCurlGiveIt(t *testing.T) {
	d := newDesk(t)
	body := `{"channel":"c1","data":1}`
	auth := "Bearer " + d.key("moodle", 0).Bearer("moodle")
	for name, want := range map[string]int{
		"": 200, "application/json": 200, "text/plain": 200, "text/plain;charset=UTF-8": 200, "application/json; charset=utf-8": 200,
		"application/x-www-form-urlencoded": 200, "multipart/form-data; boundary=x": 400, "text/html": 400, "application/json; charset=latin1": 400, "nonsense/": 400,
	} {
		if r := d.send(http.MethodPost, "/v1/publish", body, "Authorization", auth, "Content-Type", name); r.status != want {
			t.Errorf("%q: %d %s, want %d", name, r.status, r.body, want)
		}
	}
	d.send(http.MethodPost, "/v1/publish", body, "Authorization", auth, "Content-Encoding", "gzip").want(t, 400, broker.CodeBadRequest)
}

// unread is a body that fails the test if it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, http.ErrBodyReadAfterClose
}

func TestABodyThatSaysItIsTooLargeIsNotRead(t *testing.T) {
	d := newDesk(t)
	r := httptest.NewRequest(http.MethodPost, "/v1/publish", unread{t})
	r.ContentLength = maxServerBody + 1
	exchange(d.Public(), r, "Authorization", "Bearer "+d.key("moodle", 0).Bearer("moodle")).want(t, 413, broker.CodeTooLarge)
}

// deadlines is a writer that keeps the read deadlines it was given.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// late is a body that does not come in time.
type late struct{}

func (late) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestABodyHasATimeToArriveAndTheConnectionIsFreeOfItAfterwards(t *testing.T) {
	d := newDesk(t)
	for _, path := range []string{"/v1/publish", "/v1/stream", "/v1/messages"} {
		r := httptest.NewRequest(http.MethodPost, path, late{})
		r.Header.Set("Authorization", "Bearer "+d.key("moodle", 0).Bearer("moodle"))
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		d.Public().ServeHTTP(w, r)
		if w.Code != 400 || !strings.Contains(w.Body.String(), "30s") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if len(w.set) != 2 || w.set[0].IsZero() || !w.set[1].IsZero() {
			t.Errorf("%s set the deadlines %v", path, w.set)
		}
	}
}

func TestAPageMaySendMembersThatTheBrokerDoesNotKnowAndAServerMayNot(t *testing.T) {
	d := newDesk(t)
	d.messages.answer = delivered
	if r := d.send(http.MethodPost, "/v1/messages", d.message(t, set("newer", 1))); r.status != 200 {
		t.Errorf("a page: %d %s", r.status, r.body)
	}
	d.server(http.MethodPost, "/v1/publish", `{"channel":"c1","data":1,"newer":1}`).want(t, 400, broker.CodeBadRequest)
}

func TestAPanicIsAnsweredLoggedAndEndsNothing(t *testing.T) {
	d := newDesk(t)
	d.messages.answer = func(webhooks.Message) (webhooks.Delivery, error) { panic("a bug with a secret") }
	r := d.send(http.MethodPost, "/v1/messages", d.message(t))
	r.want(t, 500, broker.CodeInternal)
	if strings.Contains(r.body, "secret") || !strings.Contains(d.logged.String(), "a bug") {
		t.Errorf("answered %s", r.body)
	}
	if r := d.send(http.MethodGet, "/healthz", ""); r.status != 200 {
		t.Errorf("afterwards: %d %s", r.status, r.body)
	}
}

func TestAPanicInAStreamEndsItsConnectionAndNothingElse(t *testing.T) {
	d := newDesk(t)
	d.hub.panics = true
	server := httptest.NewServer(d.Public())
	defer server.Close()
	resp, err := server.Client().Post(server.URL+"/v1/stream", "text/plain", strings.NewReader(text(t, map[string]any{"grants": []string{d.grant(t)}})))
	if err == nil {
		_ = resp.Body.Close()
		t.Fatalf("answered %d", resp.StatusCode)
	}
	if !strings.Contains(d.logged.String(), "/v1/stream") {
		t.Error("the panic was not logged")
	}
}

func TestTokensQueriesAndPayloadsAreNeverLogged(t *testing.T) {
	d := newDesk(t)
	d.messages.answer = func(webhooks.Message) (webhooks.Delivery, error) {
		return webhooks.Delivery{}, errors.New("the disk is gone")
	}
	grant := d.grant(t, with("seal", "c2VhbGNhbmFyeQ"))
	signature := grant[strings.LastIndexByte(grant, '.')+1:]
	d.send(http.MethodGet, "/v1/stream?grant="+url.QueryEscape(grant), "")
	d.send(http.MethodGet, "/v1/"+grant+"?canary=1", "")
	d.send(http.MethodPost, "/v1/messages", d.message(t, set("grant", grant), set("data", "datacanary"))).want(t, 500, broker.CodeInternal)
	d.server(http.MethodPost, "/v1/publish?querycanary=1", `{"channel":"c1","data":"datacanary"}`)
	for _, secret := range []string{signature, "canary", d.key("moodle", 0).Bearer("moodle")} {
		if strings.Contains(d.logged.String(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, d.logged.String())
		}
	}
	if !strings.Contains(d.logged.String(), "route=/v1/publish") {
		t.Errorf("the requests are not in the log at debug:\n%s", d.logged.String())
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a server of nothing was made")
	}
}
