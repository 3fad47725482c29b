package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"backchannel/broker"
)

// running is a broker inside the test's process.
type running struct {
	*App
	t      *testing.T
	config string
	dsn    string
	log    *logBuffer
	stop   context.CancelFunc
	ended  chan error
}

// logBuffer may be written from many goroutines.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// startApp runs a broker on port 0 with one site; more is put at the beginning of its configuration.
func startApp(t *testing.T, more, webhook string) *running {
	t.Helper()
	r := &running{t: t, config: filepath.Join(t.TempDir(), "backchannel.toml"), log: &logBuffer{}, ended: make(chan error, 1)}
	write(t, r.config, "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ninclude = \"sites/*.toml\"\nlog_level = \"debug\"\n"+more)
	addSite(t, r.config, "moodle", webhook)
	app, err := NewApp(AppConfig{
		Load: Source{Path: r.config}.Load, Version: "test",
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.App = app
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.ended <- app.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-app.Stopped()
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
		if strings.Contains(r.log.String(), "eyJ") {
			t.Error("a token was logged")
		}
	})
	select {
	case <-app.Ready():
	case err := <-r.ended:
		t.Fatalf("did not start: %v\n%s", err, r.log)
	}
	d, err := app.Config().DSN("moodle")
	if err != nil {
		t.Fatal(err)
	}
	r.dsn = d.String()
	return r
}

func addSite(t *testing.T, config, name, webhook string) {
	t.Helper()
	s := newSiteConfig(name, []string{"https://school.example"})
	if s.Webhook = webhook; webhook != "" {
		var loopback CIDR
		if err := loopback.UnmarshalText([]byte("127.0.0.0/8")); err != nil {
			t.Fatal(err)
		}
		s.AllowCIDR = []CIDR{loopback}
	}
	if err := writeSiteFile(filepath.Join(filepath.Dir(config), "sites", name+".toml"), s); err != nil {
		t.Fatal(err)
	}
}

// end stops the broker and fails the test if it does not end well within the limit.
func (r *running) end(within time.Duration) {
	r.t.Helper()
	r.stop()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("ended with %v", err)
		}
	case <-timer.C:
		r.t.Errorf("did not end within %s", within)
	}
}

// stream opens a stream for a channel with a client of its own.
func (r *running) stream(base, channel string) *http.Response {
	r.t.Helper()
	grant := strings.TrimSpace(mustRun(r.t, "grant", "--dsn", r.dsn, "--user", "5", "--channel", channel))
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	r.t.Cleanup(transport.CloseIdleConnections)
	body, err := json.Marshal(map[string]any{"grants": []string{grant}})
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, base+"/v1/stream", strings.NewReader(string(body)))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		r.t.Fatalf("stream: %s %s", resp.Status, text)
	}
	return resp
}

// readUntil reads lines of a stream until one has want in it, and returns what it read.
func readUntil(t *testing.T, lines *bufio.Reader, want string) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := lines.ReadString('\n')
		all.WriteString(line)
		if strings.Contains(line, want) {
			return all.String()
		}
		if err != nil {
			t.Fatalf("no %q before %v in:\n%s", want, err, all.String())
		}
	}
}

func (r *running) get(url string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestMessageOfAPageReachesTheWebhookAndItsReplyComesBack(t *testing.T) {
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var body struct{ Data json.RawMessage }
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil || req.Header.Get("Webhook-Signature") == "" {
			t.Errorf("webhook: %v, %v", err, req.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"heard":` + string(body.Data) + `}`))
	}))
	defer hook.Close()
	r := startApp(t, "", hook.URL)
	out := mustRun(t, "send", "mod_kahoodle", `{"answer":3}`, "--dsn", r.dsn)
	if !strings.Contains(out, `"outcome":"delivered","reply":{"heard":{"answer":3}}`) {
		t.Errorf("call: %s", out)
	}
	out = mustRun(t, "send", "mod_kahoodle", `4`, "--job", "--wait", "--dsn", r.dsn)
	if !strings.Contains(out, `"outcome":"delivered"`) {
		t.Errorf("job: %s", out)
	}
	if out = mustRun(t, "deliveries", "list", "--state", "done", "--dsn", r.dsn); strings.Count(out, "mod_kahoodle") != 2 {
		t.Errorf("deliveries: %s", out)
	}
	r.end(20 * time.Second)
}

func TestDrainSaysByeToStreamsAndEnds(t *testing.T) {
	r := startApp(t, "", "")
	resp := r.stream("http://"+r.Addresses().Public, "room1")
	lines := bufio.NewReader(resp.Body)
	readUntil(t, lines, "event: hello")
	mustRun(t, "publish", "room1", `"before"`, "--dsn", r.dsn)
	readUntil(t, lines, `"before"`)
	if out := mustRun(t, "streams", "--dsn", r.dsn); !strings.Contains(out, `"room1"`) {
		t.Errorf("streams: %s", out)
	}
	if code, text := r.get("http://" + r.Addresses().Admin + "/readyz"); code != http.StatusOK {
		t.Errorf("readyz before: %d %s", code, text)
	}
	r.end(20 * time.Second)
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.Contains(string(rest), "event: bye") || !strings.Contains(string(rest), `"reason":"drain"`) {
		t.Errorf("the stream ended with %v after:\n%s", err, rest)
	}
	// Everything is given back: the same directory and a new broker.
	lock, err := lockData(filepath.Join(filepath.Dir(r.config), "data"))
	if err != nil {
		t.Fatal(err)
	}
	_ = lock.Close()
}

func TestStoreIsSeenInTheMetrics(t *testing.T) {
	r := startApp(t, "", "")
	mustRun(t, "publish", "room1", "1", "--dsn", r.dsn)
	code, text := r.get("http://" + r.Addresses().Admin + "/metrics")
	if code != http.StatusOK || !strings.Contains(text, "backchannel_store_records_total 1\n") || !strings.Contains(text, "backchannel_store_position 1\n") {
		t.Errorf("metrics: %d\n%s", code, text)
	}
}

func TestReloadKeepsStreamsAndTakesNewSites(t *testing.T) {
	r := startApp(t, "", "")
	resp := r.stream("http://"+r.Addresses().Public, "room1")
	lines := bufio.NewReader(resp.Body)
	readUntil(t, lines, "event: hello")
	addSite(t, r.config, "tsugi", "")
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := r.Config().DSN("tsugi")
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, "publish", "room1", `"other site"`, "--dsn", d.String())
	mustRun(t, "publish", "room1", `"same stream"`, "--dsn", r.dsn)
	if heard := readUntil(t, lines, `"same stream"`); strings.Contains(heard, "other site") {
		t.Errorf("an event of another site was heard:\n%s", heard)
	}
	write(t, filepath.Join(filepath.Dir(r.config), "sites", "tsugi.toml"), "[[site]]\nname = 5\n")
	before := r.Config()
	if err := r.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "tsugi.toml:2") || r.Config() != before {
		t.Errorf("a reload of a wrong file: %v", err)
	}
	mustRun(t, "publish", "room1", `"still there"`, "--dsn", d.String())
}

func TestChangedSettingsThatWaitForARestartAreNamed(t *testing.T) {
	r := startApp(t, "", "")
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.config, "public_url = \"https://school.example/rt\"\n"+string(text))
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); !strings.Contains(log, "a changed setting waits for a restart") || !strings.Contains(log, "key=public_url") {
		t.Errorf("log:\n%s", log)
	}
}

func TestTLSListenerSpeaksHTTP2AndTakesARenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	r := startApp(t, "tls_listen = \"127.0.0.1:0\"\ntls_cert = "+strconv.Quote(cert)+"\ntls_key = "+strconv.Quote(key)+"\n", "")
	resp := r.stream("https://"+r.Addresses().TLS, "room1")
	if resp.ProtoMajor != 2 {
		t.Errorf("the stream came over %s", resp.Proto)
	}
	lines := bufio.NewReader(resp.Body)
	readUntil(t, lines, "event: hello")
	mustRun(t, "publish", "room1", `"over h2"`, "--dsn", r.dsn)
	readUntil(t, lines, `"over h2"`)
	r.end(20 * time.Second)
	if rest, err := io.ReadAll(lines); err != nil || !strings.Contains(string(rest), "event: bye") {
		t.Errorf("the stream ended with %v after:\n%s", err, rest)
	}
}

func TestServiceManagerIsToldAndItsWatchdogFed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "150000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	r := startApp(t, "", "")
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	next := func() string {
		t.Helper()
		buf := make([]byte, 256)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	if got := next(); got != "READY=1" {
		t.Errorf("first: %s", got)
	}
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("then: %s", got)
		}
	}
	r.end(20 * time.Second)
	for got := next(); got != "STOPPING=1"; got = next() {
		if got != "WATCHDOG=1" {
			t.Fatalf("at the end: %s", got)
		}
	}
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	r := startApp(t, "", "")
	other := filepath.Join(t.TempDir(), "backchannel.toml")
	write(t, other, "listen = "+strconv.Quote(r.Addresses().Public)+"\nadmin = \"127.0.0.1:0\"\n")
	app, err := NewApp(AppConfig{Load: Source{Path: other}.Load, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the same port: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	write(t, other, "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n")
	if app, err = NewApp(AppConfig{Load: Source{Path: other}.Load, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	if err := app.Run(ctx); err != nil {
		t.Errorf("a start that was interrupted: %v", err)
	}
}

func TestLimitsOfASiteReachTheBroker(t *testing.T) {
	r := startApp(t, "[limits]\nevent = \"1KiB\"\n", "")
	got := run(t, "", nil, "publish", "room1", `"`+strings.Repeat("x", 2000)+`"`, "--dsn", r.dsn)
	if got.code != exitFailed || !strings.Contains(got.err, "too_large, 413") {
		t.Errorf("code %d: %s", got.code, got.err)
	}
	if l := r.limits(broker.SiteID("nobody")); l != broker.DefaultLimits() {
		t.Errorf("limits of a site that is not there: %+v", l)
	}
}
