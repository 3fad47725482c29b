package blackbox_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client speaks to a broker for one site: as its LMS with the bearer, as its pages without. Safe for use by many
// goroutines.
type client struct {
	b      *brokerProcess
	s      *site
	prefix string // of the path, "" or that of public_url
	base   string // in place of the broker's public listener, if set
	http   *http.Client
}

func newClient(t testing.TB, b *brokerProcess, s *site) *client {
	t.Helper()
	return &client{b: b, s: s, http: newHTTP(t)}
}

// newHTTP is a client without time-out whose connections end with the test.
func newHTTP(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// answer is a whole response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string {
	return fmt.Sprintf("%d %s", a.status, bytes.TrimSpace(a.body[:min(len(a.body), 400)]))
}

func (a answer) ok() bool { return a.status/100 == 2 }

// decode reads the JSON of the body.
func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
}

// send makes a request; body is sent as it is if it is a string, else as JSON; header is pairs of name and value.
func (c *client) send(ctx context.Context, method, path string, body any, header ...string) (*http.Response, error) {
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(v)
	default:
		r = bytes.NewReader(mustJSON(v))
	}
	req, err := http.NewRequestWithContext(ctx, method, cmp.Or(c.base, c.b.url())+c.prefix+path, r)
	if err != nil {
		return nil, err
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.http.Do(req)
}

// do is send with the whole answer read.
func (c *client) do(ctx context.Context, method, path string, body any, header ...string) (answer, error) {
	resp, err := c.send(ctx, method, path, body, header...)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: b}, err
}

// as is do with the site's bearer.
func (c *client) as(ctx context.Context, method, path string, body any) (answer, error) {
	return c.do(ctx, method, path, body, "Authorization", "Bearer "+c.s.bearer())
}

// server asks the server API and fails the test unless it answers 2xx.
func (c *client) server(t testing.TB, method, path string, body any) answer {
	t.Helper()
	a, err := c.as(timeout(t, 20*time.Second), method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if !a.ok() {
		t.Fatalf("%s %s: %s", method, path, a)
	}
	return a
}

// page posts as a page does, and fails the test if no answer comes.
func (c *client) page(t testing.TB, path string, body any, header ...string) answer {
	t.Helper()
	a, err := c.do(timeout(t, 90*time.Second), http.MethodPost, path, body, header...)
	if err != nil {
		t.Fatalf("POST %s: %v", path, err)
	}
	return a
}

func timeout(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// published is the answer to a publish.
type published struct {
	ID       string `json:"id"`
	Repeated bool   `json:"repeated"`
}

// publish stores one event and returns its cursor; fields override or add to channel and data.
func (c *client) publish(t testing.TB, channel string, data any, fields ...map[string]any) cursor {
	t.Helper()
	return c.publishBody(t, publishBody(channel, data, fields...)).cursor(t)
}

func publishBody(channel string, data any, fields ...map[string]any) map[string]any {
	body := map[string]any{"channel": channel, "data": data}
	for _, f := range fields {
		for k, v := range f {
			body[k] = v
		}
	}
	return body
}

func (c *client) publishBody(t testing.TB, body any) published {
	t.Helper()
	var p published
	c.server(t, http.MethodPost, "/v1/publish", body).decode(t, &p)
	return p
}

func (p published) cursor(t testing.TB) cursor {
	t.Helper()
	at, err := parseCursor(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// cursor is a position: epoch and seq.
type cursor struct {
	epoch string
	seq   uint64
}

func (c cursor) String() string { return c.epoch + "-" + strconv.FormatUint(c.seq, 10) }

func parseCursor(s string) (cursor, error) {
	epoch, digits, ok := strings.Cut(s, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || len(epoch) != 8 || strings.Trim(epoch, "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
		return cursor{}, fmt.Errorf("%q is no cursor", s)
	}
	if strconv.FormatUint(seq, 10) != digits {
		return cursor{}, fmt.Errorf("%q is a cursor in another spelling than decimal", s)
	}
	return cursor{epoch, seq}, nil
}

// expectProblem fails the test unless a is problem JSON (RFC 9457) with this status and code.
func expectProblem(t testing.TB, a answer, status int, code string) {
	t.Helper()
	var p struct {
		Code, Title, Detail string
		Status              *int
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Errorf("got %s, want problem JSON %d %s", a, status, code)
		return
	}
	if a.status != status || p.Code != code {
		t.Errorf("got %s, want %d %s", a, status, code)
	}
	if ct, _, _ := strings.Cut(a.header.Get("Content-Type"), ";"); ct != "application/problem+json" {
		t.Errorf("%d %s: Content-Type %q, want application/problem+json", a.status, p.Code, ct)
	}
	if p.Status != nil && *p.Status != a.status {
		t.Errorf("%s: the body's status is another than the answer's", a)
	}
	if p.Title == "" && p.Detail == "" {
		t.Errorf("%s: says nothing to a person", a)
	}
	if status == http.StatusTooManyRequests && a.header.Get("Retry-After") == "" {
		t.Errorf("%s: without Retry-After", a)
	}
}

// expectOneOf is expectProblem where the protocol leaves a choice: "401 grant_invalid | 400 bad_request".
func expectOneOf(t testing.TB, a answer, wants string) {
	t.Helper()
	var p struct{ Code string }
	json.Unmarshal(a.body, &p) //nolint:errcheck // expectProblem tells
	all := strings.Split(wants, " | ")
	want := all[0]
	if got := strconv.Itoa(a.status) + " " + p.Code; slices.Contains(all, got) {
		want = got
	}
	status, code, _ := strings.Cut(want, " ")
	n, err := strconv.Atoi(status)
	if err != nil {
		t.Fatal(err)
	}
	expectProblem(t, a, n, code)
}
