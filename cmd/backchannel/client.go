package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"backchannel/broker"
)

// maxAnswerBytes bounds what is read of an answer: a page of history is at most 1 MiB of data beside its envelope.
const maxAnswerBytes = 16 << 20

// client calls a broker's API for one site.
type client struct {
	dsn  broker.DSN
	http *http.Client
	now  func() time.Time
}

func (c *connection) client() (*client, error) {
	d, err := c.resolve()
	if err != nil {
		return nil, err
	}
	return &client{dsn: d, http: &http.Client{Timeout: 90 * time.Second}, now: c.u.now}, nil
}

// apiError is a refusal of the broker.
type apiError struct {
	Status int
	Code   broker.Code `json:"code"`
	Detail string      `json:"detail"`
	Title  string      `json:"title"`
}

// Error implements error: the broker's sentence, its code and status.
func (e *apiError) Error() string {
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	if text == "" {
		text = http.StatusText(e.Status)
	}
	if e.Code == "" {
		return fmt.Sprintf("the broker answered: %s (%d)", text, e.Status)
	}
	return fmt.Sprintf("the broker refused: %s (%s, %d)", text, e.Code, e.Status)
}

// call does one request with the site's bearer. body nil sends none; out nil drops the answer.
func (c *client) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	return c.do(ctx, method, path, query, body, out, "Bearer "+c.dsn.Key.Bearer(c.dsn.Site))
}

// asPage does one request as a browser does: the credential is in the body.
func (c *client) asPage(ctx context.Context, path string, body, out any) error {
	return c.do(ctx, http.MethodPost, path, nil, body, out, "")
}

func (c *client) do(ctx context.Context, method, path string, query url.Values, body, out any, authorization string) error {
	target := c.dsn.Server() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(c.dsn, err)
	}
	defer func() { _ = resp.Body.Close() }()
	return readAnswer(resp, out)
}

// temporary tells whether trying again later may help: the broker is away, full, or asked to slow down.
func temporary(err error) bool {
	e, refused := errors.AsType[*apiError](err)
	return !refused || e.Status >= 500 || e.Status == http.StatusTooManyRequests
}

// readAnswer decodes an answer into out; any status but 2xx is an *apiError.
func readAnswer(resp *http.Response, out any) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("read the broker's answer: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		e := &apiError{}
		_ = json.Unmarshal(text, e) // an answer of something in between may be anything
		e.Status = resp.StatusCode
		return e
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the answer of %s is not what a broker sends: %w", resp.Request.URL.Host, err)
	}
	return nil
}

// unreachable says where the broker was looked for. The URL inside err is dropped: it may hold a grant.
func unreachable(d broker.DSN, err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return fmt.Errorf("reach the broker at %s: %w (is it running?)", d.Server(), err)
}
