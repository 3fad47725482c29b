package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	// defaultTimeout bounds an attempt that no deadline bounds.
	defaultTimeout = 15 * time.Second
	// headerRan is how a component says that it refused before it did anything.
	headerRan = "Backchannel-Ran"
)

// result is what one attempt came to.
type result struct {
	// sent: a byte of the request may have left.
	sent bool
	// final: nothing was sent and the configuration has to change before anything can be.
	final bool
	// ranNo: the answer swears that the component did not run.
	ranNo      bool
	status     int // 0 without an answer
	reply      json.RawMessage
	json       bool // the answer was read whole and is JSON or empty
	retryAfter time.Duration
	err        error // why there is no usable answer
	cancelled  bool  // the broker stopped
	entry      Attempt
}

// success is 2xx with JSON or an empty body.
func (r result) success() bool { return r.status >= 200 && r.status < 300 && r.json }

// refusal is a final 4xx.
func (r result) refusal() bool {
	switch r.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return r.status >= 400 && r.status < 500
}

// explain says in a clause what happened, for admins.
func (r result) explain() string {
	switch {
	case r.err != nil && r.status != 0:
		return fmt.Sprintf("the component answered %d, but %s", r.status, describe(r.err))
	case r.err != nil:
		return describe(r.err)
	case r.ranNo:
		return fmt.Sprintf("the component answered %d and that it did not run", r.status)
	case r.status >= 300 && r.status < 400:
		return fmt.Sprintf("the component answered with the redirect %d, and redirects are not followed: correct the webhook's URL", r.status)
	}
	return fmt.Sprintf("the component answered %d", r.status)
}

// try is an attempt about to be made.
type try struct {
	d        *Delivery
	endpoint *Endpoint
	number   int
	left     time.Duration // what the component is told as Backchannel-Deadline
	maxReply int
	agent    string
	now      func() time.Time
}

// do makes the one request. It always gives an entry for the log. The client reads no more than maxReply.
func (t try) do(ctx context.Context, clients *clients, w *wire) result {
	started := t.now()
	rec := recorder{entry: Attempt{Number: t.number, Started: started, URL: redactURL(t.endpoint.URL)}}
	r := t.exchange(ctx, clients, w, &rec)
	if r.err != nil && r.sent {
		r.sent = !w.stop()
	}
	rec.entry.Duration = t.now().Sub(started)
	rec.entry.Status = r.status
	if r.err != nil {
		rec.entry.Error = describe(r.err)
	}
	r.entry = rec.entry
	return r
}

func (t try) exchange(ctx context.Context, clients *clients, w *wire, rec *recorder) result {
	if len(t.endpoint.Secrets) == 0 {
		return result{final: true, err: errors.New("the site has no key to sign with: add one to its file")}
	}
	client, err := clients.get(t.endpoint, t.now())
	if err != nil {
		return result{final: true, err: err}
	}
	req, err := t.request(httptrace.WithClientTrace(ctx, w.trace()), rec)
	if err != nil {
		return result{final: true, err: err}
	}
	resp, err := client.Do(req)
	if err != nil {
		if resp != nil {
			_ = resp.Body.Close()
		}
		_, refused := errors.AsType[*addressError](err)
		return result{sent: true, final: refused, err: err, cancelled: errors.Is(context.Cause(ctx), errStopped)}
	}
	defer func() { _ = resp.Body.Close() }()
	return t.read(ctx, resp, rec)
}

// request is sent once: without GetBody, net/http cannot send it again on its own over a fresh connection.
func (t try) request(ctx context.Context, rec *recorder) (*retryablehttp.Request, error) {
	body, err := encodeBody(&t.d.Message)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.endpoint.URL.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.GetBody = nil
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json")
	h.Set("User-Agent", t.agent)
	h.Set("Backchannel-Site", string(t.d.Site))
	h.Set("Backchannel-Component", string(t.d.Component))
	h.Set("Backchannel-Attempt", strconv.Itoa(t.number))
	h.Set("Backchannel-Deadline", strconv.FormatInt(max(t.left.Milliseconds(), 0), 10))
	sign(h, t.endpoint.Secrets, t.d.ID, t.now(), body)
	rec.request(req, body)
	wrapped, err := retryablehttp.FromRequest(req)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	return wrapped, nil
}

func (t try) read(ctx context.Context, resp *http.Response, rec *recorder) result {
	r := result{
		sent: true, status: resp.StatusCode, ranNo: resp.Header.Get(headerRan) == "no",
		retryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), t.now()),
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(t.maxReply)+1))
	rec.response(resp, body)
	switch {
	case err != nil:
		r.err = fmt.Errorf("its answer broke off: %w", err)
		r.cancelled = errors.Is(context.Cause(ctx), errStopped)
	case len(body) > t.maxReply:
		r.err = fmt.Errorf("its answer is larger than the limit of %d bytes (reply_bytes of the site)", t.maxReply)
	default:
		r.reply, r.json = compact(body)
		if !r.json && r.status >= 200 && r.status < 300 {
			r.err = notJSON(resp, body)
		}
	}
	return r
}

// compact gives a JSON answer without spaces; an empty body is null.
func compact(body []byte) (json.RawMessage, bool) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return json.RawMessage("null"), true
	}
	if !utf8.Valid(body) {
		return nil, false
	}
	var b bytes.Buffer
	if err := json.Compact(&b, body); err != nil {
		return nil, false
	}
	return b.Bytes(), true
}

func notJSON(resp *http.Response, body []byte) error {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return errors.New("its answer starts with a byte order mark, which is not JSON: save the component's files without it")
	case !utf8.Valid(body):
		return errors.New("its answer is not UTF-8")
	}
	return fmt.Errorf("its answer is not JSON (content type %.80q)", resp.Header.Get("Content-Type"))
}

// describe gives an error without the URL that net/http puts into it: a webhook's URL may hold a secret.
func describe(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if a, ok := errors.AsType[*addressError](err); ok {
		return a.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return "could not connect: " + redactText(err.Error())
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer came in time"
	case errors.Is(err, errStopped), errors.Is(err, context.Canceled):
		return "the attempt was ended before an answer came"
	}
	return redactText(err.Error())
}
