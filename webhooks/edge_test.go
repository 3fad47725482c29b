package webhooks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

func TestOwnCertificatesAndConnectKeepTheNameOfTheURL(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(r.Host + " " + r.TLS.ServerName)
	}))
	defer s.Close()
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	e := endpoint(t, "https://example.com/hook") // the name in httptest's certificate
	e.Connect, e.Allow = s.Listener.Addr().String(), nil
	for file, want := range map[string]webhooks.Outcome{
		ca: webhooks.OutcomeDelivered, "": webhooks.OutcomeNotDelivered, ca + "x": webhooks.OutcomeNotDelivered,
	} {
		e.CAFile = file
		d, stop := start(t, config(newStore(), oneEndpoint(e)))
		rec := mustSend(t, d, call("m1", time.Second))
		wantOutcome(t, rec, want)
		if want == webhooks.OutcomeDelivered && string(rec.Reply) != `"example.com example.com"` {
			t.Errorf("the receiver saw %s", rec.Reply)
		}
		stop()
	}
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") })
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("ALL_PROXY", proxy.URL)
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	d, _ := start(t, config(newStore(), oneEndpoint(endpoint(t, s.URL))))
	wantOutcome(t, mustSend(t, d, call("m1", 5*time.Second)), webhooks.OutcomeDelivered)
}

func TestRedirectIsNotFollowed(t *testing.T) {
	other := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	d, _ := start(t, config(newStore(), oneEndpoint(endpoint(t, s.URL))))
	rec := mustSend(t, d, call("m1", 5*time.Second))
	wantOutcome(t, rec, webhooks.OutcomeUnknown)
	if !strings.Contains(rec.Reason, "redirect") {
		t.Errorf("reason %q", rec.Reason)
	}
}

func TestOwnAdminListenerIsNeverReached(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the admin listener was reached") })
	cfg := config(newStore(), oneEndpoint(endpoint(t, s.URL)))
	cfg.AdminAddr = func() netip.AddrPort { return netip.MustParseAddrPort(s.Listener.Addr().String()) }
	d, _ := start(t, cfg)
	rec := mustSend(t, d, call("m1", 5*time.Second))
	wantOutcome(t, rec, webhooks.OutcomeNotDelivered)
	if !strings.Contains(rec.Reason, "admin") {
		t.Errorf("reason %q", rec.Reason)
	}
}

func TestCanaryStandsNeitherInTheDeliveryLogNorInTheLog(t *testing.T) {
	const canary = "CaNaRy0123456789"
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "s="+canary)
		w.Header().Set("Location", "/login?token="+canary)
		if r.Header.Get("webhook-id") == "m1" {
			_, _ = w.Write([]byte(`{"token":"` + canary + `"}`))
			return
		}
		w.WriteHeader(500)
		_, _ = w.Write([]byte(`<a href="/x?sesskey=` + canary + `">`))
	})
	var lines bytes.Buffer
	q := newStore()
	e := endpoint(t, strings.Replace(s.URL, "http://", "http://u:"+canary+"@", 1)+"/hook?key="+canary)
	cfg := config(q, oneEndpoint(e))
	cfg.Schedule = []time.Duration{0, time.Millisecond}
	cfg.Logger = slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d, stop := start(t, cfg)
	for _, m := range []webhooks.Message{call("m1", 5*time.Second), job("j1")} {
		m.Seal, m.Data = canary, json.RawMessage(`{"args":{"sesskey":"`+canary+`"}}`)
		mustSend(t, d, m)
	}
	for _, id := range []string{"m1", "j1"} {
		rec := ended(t, q, id)
		if len(rec.Log) == 0 || rec.Log[0].Request == "" || rec.Log[0].Response == "" {
			t.Fatalf("%s: nothing logged: %+v", id, rec.Log)
		}
		text, _ := json.Marshal([]any{rec.Log, rec.Reason})
		if strings.Contains(string(text), canary) {
			t.Errorf("%s: %s", id, text)
		}
	}
	stop()
	if strings.Contains(lines.String(), canary) {
		t.Errorf("log: %s", lines.String())
	}
}

// flaky is a store whose updates fail for a while.
type flaky struct {
	webhooks.Queue
	failures atomic.Int32
}

func (q *flaky) Update(ctx context.Context, d webhooks.Delivery) error {
	if q.failures.Add(-1) >= 0 {
		return broker.Errorf(broker.CodeUnavailable, "the disk hangs")
	}
	return q.Queue.Update(ctx, d)
}

func TestOutcomeIsToldWhenTheStoreHasHealed(t *testing.T) {
	q := &flaky{}
	q.failures.Store(5)
	inBubble(t, func(c *webhooks.Config, _ *webhooks.Endpoint) { q.Queue, c.Queue = c.Queue, q }, status(200), func(b *bubble) {
		begun := time.Now()
		wantOutcome(t, mustSend(t, b.d, call("m1", 15*time.Second)), webhooks.OutcomeDelivered)
		if took := time.Since(begun); took == 0 {
			t.Error("told before it was stored")
		}
		if n := len(b.seen()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

func TestManyPagesAtOnceAgreeOnEveryOutcome(t *testing.T) {
	effects := new(sync.Map)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := effects.LoadOrStore(r.Header.Get("webhook-id"), new(atomic.Int32))
		n.(*atomic.Int32).Add(1) //nolint:forcetypeassert // stored above
		switch r.Header.Get("webhook-id")[1] % 3 {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.WriteHeader(http.StatusConflict)
		}
	})
	d, _ := start(t, config(newStore(), oneEndpoint(endpoint(t, s.URL))))
	const ids = 60
	outcomes := make([][]webhooks.Outcome, ids)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n := range ids {
		m := call(fmt.Sprintf("m%d", n), 10*time.Second)
		m.Order = fmt.Sprint(n % 7)
		for k := range 4 {
			wg.Go(func() {
				var rec webhooks.Delivery
				var err error
				if k == 3 {
					rec, err = d.Ask(context.Background(), m.Ref, m.Caller, true)
				} else {
					rec, err = d.Send(context.Background(), m)
				}
				if err != nil {
					t.Errorf("%s: %v", m.ID, err)
				}
				mu.Lock()
				outcomes[n] = append(outcomes[n], rec.Outcome)
				mu.Unlock()
			})
		}
	}
	wg.Wait()
	for n, all := range outcomes {
		runs := 0
		if v, ok := effects.Load(fmt.Sprintf("m%d", n)); ok {
			runs = int(v.(*atomic.Int32).Load()) //nolint:forcetypeassert // as above
		}
		for _, o := range all {
			if o != all[0] || (o == webhooks.OutcomeNotDelivered) != (runs == 0) || runs > 1 {
				t.Errorf("m%d ran %d times and was told %v", n, runs, all)
				break
			}
		}
	}
}

func TestURLWithUserAndQueryIsCalledAsConfigured(t *testing.T) {
	got := make(chan string, 1)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		got <- user + " " + r.URL.RequestURI()
	})
	u, err := url.Parse(strings.Replace(s.URL, "http://", "http://u:p@", 1) + "/hook.php?a=b&c")
	if err != nil {
		t.Fatal(err)
	}
	e := endpoint(t, s.URL)
	e.URL = u
	d, _ := start(t, config(newStore(), oneEndpoint(e)))
	wantOutcome(t, mustSend(t, d, call("m1", 5*time.Second)), webhooks.OutcomeDelivered)
	if line := <-got; line != "u /hook.php?a=b&c" {
		t.Errorf("called %q", line)
	}
}
