package webhooks_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"backchannel/broker"
	"backchannel/webhooks"
)

func TestCallIsAnsweredWithTheComponentsJSON(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		body    string
		header  map[string]string
		outcome webhooks.Outcome
		text    string
	}{
		{"reply", 200, `{"a": [1, 2]}`, nil, webhooks.OutcomeDelivered, `{"a":[1,2]}`},
		{"created", 201, `"x"`, nil, webhooks.OutcomeDelivered, `"x"`},
		{"empty body", 200, ``, nil, webhooks.OutcomeDelivered, `null`},
		{"no content", 204, ``, nil, webhooks.OutcomeDelivered, `null`},
		{"newline after PHP's end tag", 200, "\n", nil, webhooks.OutcomeDelivered, `null`},
		{"refusal with JSON", 403, `{"why":"no"}`, nil, webhooks.OutcomeRejected, `{"why":"no"}`},
		{"refusal with a page", 404, `<html>`, nil, webhooks.OutcomeRejected, `{"status":404}`},
		{"gone", 410, ``, nil, webhooks.OutcomeRejected, `{"status":410}`},
		{"warning before the JSON", 200, "<br>Notice: x\n{}", nil, webhooks.OutcomeUnknown, ``},
		{"byte order mark", 200, "\xef\xbb\xbf{}", nil, webhooks.OutcomeUnknown, ``},
		{"not UTF-8", 200, "\"\xff\"", nil, webhooks.OutcomeUnknown, ``},
		{"too large", 200, `"` + strings.Repeat("x", 2000) + `"`, nil, webhooks.OutcomeUnknown, ``},
		{"redirect", 302, ``, map[string]string{"Location": "http://127.0.0.1:1/"}, webhooks.OutcomeUnknown, ``},
		{"server error", 500, `{}`, nil, webhooks.OutcomeUnknown, ``},
		{"unavailable", 503, ``, map[string]string{"Retry-After": "1"}, webhooks.OutcomeUnknown, ``},
		{"too many", 429, ``, nil, webhooks.OutcomeUnknown, ``},
		{"too early", 425, ``, nil, webhooks.OutcomeUnknown, ``},
		{"timeout", 408, ``, nil, webhooks.OutcomeUnknown, ``},
		{"did not run", 503, ``, map[string]string{"Backchannel-Ran": "no"}, webhooks.OutcomeNotDelivered, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			var hits atomic.Int32
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				hits.Add(1)
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			cfg := config(newStore(), oneEndpoint(endpoint(t, s.URL)))
			cfg.MaxReply = func(broker.SiteID) int { return 1000 }
			d, _ := start(t, cfg)
			rec := mustSend(t, d, call("m1", time.Second))
			wantOutcome(t, rec, c.outcome)
			if got := string(rec.Reply) + string(rec.Error); got != c.text {
				t.Errorf("answer %s, want %s", got, c.text)
			}
			if c.outcome != webhooks.OutcomeNotDelivered && hits.Load() != 1 {
				t.Errorf("the component was asked %d times, want once", hits.Load())
			}
			if rec.Reason == "" || len(rec.Log) == 0 || rec.Log[0].Status != c.status {
				t.Errorf("reason %q and log %+v do not tell what happened", rec.Reason, rec.Log)
			}
			again, err := d.Send(context.Background(), call("m1", time.Second))
			if err != nil || again.Outcome != rec.Outcome || string(again.Reply) != string(rec.Reply) {
				t.Errorf("sent again: %v, %v", again.Outcome, err)
			}
		})
	}
}

func TestRequestIsSignedByEveryLiveSecretAndSaysWhatItIs(t *testing.T) {
	other := []byte("fedcba9876543210fedcba9876543210")
	var problems []string
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		_, _ = bufio.NewReader(r.Body).Read(body)
		for _, key := range [][]byte{secret, other} {
			wh, _ := standardwebhooks.NewWebhookRaw(key)
			if err := wh.Verify(body, r.Header); err != nil {
				problems = append(problems, err.Error())
			}
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Backchannel-Site": "moodle", "Backchannel-Component": "mod_kahoodle",
			"Backchannel-Attempt": "1", "Webhook-Id": "m1", "Accept-Encoding": "", "User-Agent": "Backchannel",
		} {
			if got := r.Header.Get(name); got != want {
				problems = append(problems, fmt.Sprintf("%s: %q", name, got))
			}
		}
		if ms := r.Header.Get("Backchannel-Deadline"); len(ms) != 4 {
			problems = append(problems, "deadline "+ms)
		}
		want := `{"type":"message.call","id":"m1","site":"moodle","component":"mod_kahoodle","time":1790000000.250000,` +
			`"user":"5","session":"sid","seal":"opaque","channel":"c1","ref":"r1","data":{"html":"<b>&"}}`
		if string(body) != want {
			problems = append(problems, "body "+string(body))
		}
	})
	e := endpoint(t, s.URL)
	e.Secrets = append(e.Secrets, other)
	d, _ := start(t, config(newStore(), oneEndpoint(e)))
	m := call("m1", 5*time.Second)
	m.Accepted = time.UnixMicro(1790000000250000)
	m.Session, m.Seal, m.Channel, m.ChannelRef, m.Data = "sid", "opaque", "c1", "r1", []byte(`{"html":"<b>&"}`)
	wantOutcome(t, mustSend(t, d, m), webhooks.OutcomeDelivered)
	if len(problems) > 0 {
		t.Error(strings.Join(problems, "\n"))
	}
}

// raw is a receiver below HTTP: it does to each connection what a test says.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return "http://" + l.Addr().String() + "/"
}

func readRequest(c net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = bufio.NewReader(r.Body).Peek(1)
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func TestCallThatMayHaveRunIsUnknownWhateverBreaks(t *testing.T) {
	for name, behave := range map[string]func(net.Conn){
		"reset after reading":  func(c net.Conn) { readRequest(c); reset(c) },
		"closed after reading": readRequest,
		"garbage":              func(c net.Conn) { readRequest(c); _, _ = c.Write([]byte("SSH-2.0-x\r\n")) },
		"answer breaks off": func(c net.Conn) {
			readRequest(c)
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"))
		},
		"endless header": func(c net.Conn) {
			readRequest(c)
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10)))
		},
		"switching protocols": func(c net.Conn) {
			readRequest(c)
			_, _ = c.Write([]byte("HTTP/1.1 101 X\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n"))
		},
		"status out of any range": func(c net.Conn) {
			readRequest(c)
			_, _ = c.Write([]byte("HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := start(t, config(newStore(), oneEndpoint(endpoint(t, raw(t, behave)))))
			wantOutcome(t, mustSend(t, d, call("m1", 5*time.Second)), webhooks.OutcomeUnknown)
		})
	}
}

func TestCallThatReachedNobodyIsNotDelivered(t *testing.T) {
	closed := serve(t, func(http.ResponseWriter, *http.Request) {})
	url := closed.URL
	closed.Close()
	tls := raw(t, func(c net.Conn) { _, _ = c.Write([]byte("no TLS here\n")) })
	for name, target := range map[string]string{
		"refused":         url,
		"no such name":    "http://no-such-host.invalid/",
		"TLS breaks":      strings.Replace(tls, "http:", "https:", 1),
		"address refused": "http://10.1.2.3/",
		"link-local":      "http://169.254.169.254/latest/meta-data",
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := start(t, config(newStore(), oneEndpoint(endpoint(t, target))))
			begun := time.Now()
			rec := mustSend(t, d, call("m1", time.Second))
			wantOutcome(t, rec, webhooks.OutcomeNotDelivered)
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("took %v, more than the deadline and a second", took)
			}
			if strings.Contains(name, "address refused") && !strings.Contains(rec.Reason, `allow_cidr = ["10.1.2.3/32"]`) {
				t.Errorf("reason %q does not name the line to add", rec.Reason)
			}
		})
	}
}

func TestCallIsRetriedInsideItsDeadlineWhileItCannotHaveRun(t *testing.T) {
	var hits atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if hits.Add(1) < 3 {
			w.Header().Set("Backchannel-Ran", "no")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	d, _ := start(t, config(newStore(), oneEndpoint(endpoint(t, s.URL))))
	rec := mustSend(t, d, call("m1", 5*time.Second))
	wantOutcome(t, rec, webhooks.OutcomeDelivered)
	if rec.Attempts != 3 || len(rec.Log) != 3 {
		t.Errorf("%d attempts, %d logged, want 3", rec.Attempts, len(rec.Log))
	}
}

func TestIdempotentCallIsRetriedAfterItWasSent(t *testing.T) {
	var hits atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if hits.Add(1) < 3 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte("1"))
	})
	e := endpoint(t, s.URL)
	e.Idempotent = true
	d, _ := start(t, config(newStore(), oneEndpoint(e)))
	rec := mustSend(t, d, call("m1", 5*time.Second))
	wantOutcome(t, rec, webhooks.OutcomeDelivered)
	if hits.Load() != 3 {
		t.Errorf("asked %d times, want 3", hits.Load())
	}
}

func TestIdempotentCallThatRanOnceIsNeverNotDelivered(t *testing.T) {
	var hits atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if hits.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Backchannel-Ran", "no")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	e := endpoint(t, s.URL)
	e.Idempotent = true
	d, _ := start(t, config(newStore(), oneEndpoint(e)))
	wantOutcome(t, mustSend(t, d, call("m1", time.Second)), webhooks.OutcomeUnknown)
	if hits.Load() < 2 {
		t.Error("it was not tried again")
	}
}

func TestStaleKeepAliveIsNotResentByTheTransport(t *testing.T) {
	var requests atomic.Int32
	url := raw(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for i := range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = r.Discard(int(req.ContentLength))
			requests.Add(1)
			if i == 0 {
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			}
		} // the second request of a connection is read and the connection closed
	})
	d, _ := start(t, config(newStore(), oneEndpoint(endpoint(t, url))))
	wantOutcome(t, mustSend(t, d, call("m1", 5*time.Second)), webhooks.OutcomeDelivered)
	wantOutcome(t, mustSend(t, d, call("m2", 5*time.Second)), webhooks.OutcomeUnknown)
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests arrived, want 2", n)
	}
}

func TestUnknownComponentIsRefusedAndNothingStored(t *testing.T) {
	q := newStore()
	d, _ := start(t, config(q, oneEndpoint(endpoint(t, "http://127.0.0.1:1/"))))
	m := call("m1", time.Second)
	m.Component = "mod_other"
	_, err := d.Send(context.Background(), m)
	if broker.CodeOf(err) != broker.CodeNotFound || !strings.Contains(err.Error(), "webhook") {
		t.Errorf("got %v", err)
	}
	if _, err := q.Get(context.Background(), m.Ref); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("stored: %v", err)
	}
}
