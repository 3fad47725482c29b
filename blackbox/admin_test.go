package blackbox_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheAdminListenerAsksForItsPassword(t *testing.T) {
	c := start(t)
	c.b.mu.Lock()
	admin := c.b.admin
	c.b.mu.Unlock()
	password := filepath.Join(c.b.dir, "data", "admin.password")
	if info, err := os.Stat(password); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password: %v %v, want mode 0600", info, err)
	}
	get := func(path, host string, header ...string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/": 401} {
		if got := get(path, ""); got != want {
			t.Errorf("GET %s: %d, want %d", path, got, want)
		}
	}
	if got := get("/debug/pprof/", ""); got == 200 {
		t.Error("pprof is on though nobody configured it")
	}
	if got := get("/", "evil.example"); got/100 != 4 {
		t.Errorf("Host evil.example: %d", got)
	}
	if got := get("/v1/self", "", "Authorization", "Bearer "+c.s.bearer()); got == 200 {
		t.Error("the server API answers on the admin listener")
	}
}

func TestALoopbackWebhookIsRefusedUnlessAllowed(t *testing.T) {
	c, r := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, 1) },
		func(conf *config) { conf.sites[0].closed = true })
	p, id := c.sender("mod_test"), newUUID()
	a, o := p.post(t, p.message(id, "mod_test", "call", 1, 2))
	if o.Outcome != "not_delivered" || len(r.received(id)) > 0 {
		t.Errorf("got %s", a)
	}
	if d := c.server(t, http.MethodGet, "/v1/deliveries/"+url.PathEscape(id), nil); !strings.Contains(string(d.body), "allow_cidr") {
		t.Errorf("the refusal does not name the line to add: %s", d)
	}
}
