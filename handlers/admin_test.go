package handlers

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"backchannel/broker"
)

// adminAsk asks the admin listener from an address; header is pairs of name and value.
func (d *desk) adminAsk(method, path, from, host string, header ...string) reply {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr, r.Host = from, host
	return exchange(d.Admin(), r, header...)
}

const (
	here  = "127.0.0.1:5555"
	there = "10.0.0.7:5555"
)

func password(t testing.TB, word string) []string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth("admin", word)
	return []string{"Authorization", r.Header.Get("Authorization")}
}

func TestHealthAndMetricsAreOpenFromThisMachineAndTheRestWantsThePassword(t *testing.T) {
	d := newDesk(t)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if r := d.adminAsk(http.MethodGet, path, here, "127.0.0.1:8481"); r.status != 200 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		if r := d.adminAsk(http.MethodGet, path, "[::1]:5", "localhost"); r.status != 200 {
			t.Errorf("%s over IPv6: %d", path, r.status)
		}
		if r := d.adminAsk(http.MethodGet, path, there, "10.0.0.1:8481"); r.status != 401 || r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s from elsewhere: %d", path, r.status)
		}
		if r := d.adminAsk(http.MethodGet, path, here, "localhost", "X-Forwarded-For", "10.0.0.7"); r.status != 401 {
			t.Errorf("%s through a proxy on this machine: %d", path, r.status)
		}
		if r := d.adminAsk(http.MethodGet, path, there, "10.0.0.1", password(t, "correct horse")...); r.status != 200 {
			t.Errorf("%s with the password: %d", path, r.status)
		}
	}
	for _, from := range []string{here, there} {
		if r := d.adminAsk(http.MethodGet, "/", from, "localhost"); r.status != 401 {
			t.Errorf("the page without the password from %s: %d", from, r.status)
		}
		if r := d.adminAsk(http.MethodGet, "/", from, "localhost", password(t, "wrong")...); r.status != 401 {
			t.Errorf("the page with a wrong password: %d", r.status)
		}
	}
}

func TestThePageOfStateShowsStreamsSitesAndDeliveries(t *testing.T) {
	d := newDesk(t)
	d.hub.HubStats = broker.HubStats{Streams: 4711}
	d.hub.live = []broker.LiveChannel{{Channel: "c1", Streams: 1}}
	r := d.adminAsk(http.MethodGet, "/", here, "localhost", password(t, "correct horse")...)
	for _, want := range []string{"4711", "moodle", "tsugi", "mod_kahoodle", "v1.2.3", "Ready."} {
		if !strings.Contains(r.body, want) {
			t.Errorf("%q is not on the page:\n%s", want, r.body)
		}
	}
	if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
		t.Errorf("got %d %s", r.status, r.header.Get("Content-Type"))
	}
	d.health = errors.New(`less than 1 GiB <b>is</b> free`)
	r = d.adminAsk(http.MethodGet, "/", here, "localhost", password(t, "correct horse")...)
	if !strings.Contains(r.body, "less than 1 GiB") || strings.Contains(r.body, "<b>") {
		t.Errorf("the page when it is not ready:\n%s", r.body)
	}
}

func TestReadinessSaysWhyNot(t *testing.T) {
	d := newDesk(t)
	d.health = broker.Errorf(broker.CodeStoreFull, "less than 1 GiB is free")
	d.adminAsk(http.MethodGet, "/readyz", here, "localhost").want(t, 503, broker.CodeStoreFull)
	if r := d.adminAsk(http.MethodGet, "/healthz", here, "localhost"); r.status != 200 {
		t.Errorf("a process that answers is alive: %d", r.status)
	}
}

func TestTheAdminListenerAnswersToAddressesAndLocalhostOnly(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.AdminHosts = []string{"broker.internal"} })
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:8481": 200, "127.0.0.1": 200, "[::1]:8481": 200, "192.168.1.5:8481": 200, "broker.internal:8481": 200,
		"evil.example": 421, "evil.example:8481": 421, "localhost.evil.example": 421, "": 421, "127.0.0.1.evil.example": 421,
	} {
		if r := d.adminAsk(http.MethodGet, "/healthz", here, host); r.status != want {
			t.Errorf("%q: %d, want %d", host, r.status, want)
		}
	}
}

func TestAnotherSitesWritesAreRefused(t *testing.T) {
	d := newDesk(t)
	header := append(password(t, "correct horse"), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	if r := d.adminAsk(http.MethodPost, "/", here, "localhost", header...); r.status != 403 {
		t.Errorf("got %d %s", r.status, r.body)
	}
}

func TestProfilesAreServedOnlyIfConfigured(t *testing.T) {
	for _, on := range []bool{false, true} {
		d := newDesk(t, func(c *Config) { c.Pprof = on })
		want := map[bool]int{false: 404, true: 200}[on]
		if r := d.adminAsk(http.MethodGet, "/debug/pprof/cmdline", here, "localhost", password(t, "correct horse")...); r.status != want {
			t.Errorf("configured %v: %d, want %d", on, r.status, want)
		}
		if r := d.adminAsk(http.MethodGet, "/debug/pprof/cmdline", here, "localhost"); r.status != 401 {
			t.Errorf("without the password: %d", r.status)
		}
	}
}

func TestMetricsCountWhatHappenedAndNameNoUser(t *testing.T) {
	d := newDesk(t, func(c *Config) {
		c.Metrics = []Metric{{Name: "backchannel_store_free_bytes", Help: "Free space.", Value: func() float64 { return 12345 }}}
	})
	d.hub.HubStats = broker.HubStats{Streams: 7, Opened: 9}
	d.publishN(t, "secretchannel", 3)
	d.send(http.MethodGet, "/v1/madeup/by/a/client", "")
	d.send("MADEUP", "/v1/publish", "")
	d.queueUp(t, "m1", "waiting", "mod_a")
	page := d.adminAsk(http.MethodGet, "/metrics", here, "localhost").body
	for _, want := range []string{
		`backchannel_streams 7`, `backchannel_streams_opened_total 9`, `backchannel_sites 2`, `backchannel_store_free_bytes 12345`,
		`backchannel_http_requests_total{method="POST",route="/v1/publish",status="200"} 3`,
		`backchannel_http_requests_total{method="GET",route="",status="404"} 1`,
		`backchannel_queue_deliveries{state="waiting"} 1`, `backchannel_webhook_attempts_total{result="delivered",site="moodle"} 3`,
		`backchannel_build_info{version="v1.2.3"} 1`, "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(page, want+"\n") && !strings.Contains(page, want+" ") {
			t.Errorf("%s is not among the metrics", want)
		}
	}
	for _, never := range []string{"secretchannel", "madeup", "MADEUP", "mod_kahoodle"} {
		if strings.Contains(page, never) {
			t.Errorf("%q is a label", never)
		}
	}
}
