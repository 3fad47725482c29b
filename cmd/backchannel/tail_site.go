package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"backchannel/broker"
)

// siteWidePause is how long a tail of a whole site waits at its end: the log is read, not listened to.
const siteWidePause = time.Second

// sitePage is a page of GET /v1/events.
type sitePage struct {
	Events []json.RawMessage `json:"events"`
	Next   string            `json:"next"`
}

// siteWide prints the events of every channel from the log, page by page, for ever. A broker that is away is waited
// for.
func (t *tail) siteWide(ctx context.Context) error {
	start, err := parseStart(t.f.from, t.u.now())
	if err != nil {
		return err
	}
	if t.f.from == "" {
		start.Time = t.u.now()
	}
	var filter broker.Filter
	if t.f.filter != "" && json.Unmarshal([]byte(t.f.filter), &filter) != nil {
		return usagef("--filter: want a JSON object of scalars, such as {\"id\":5}")
	}
	t.cursor = start.Cursor
	for ctx.Err() == nil {
		var page sitePage
		q := url.Values{}
		if t.cursor != "" {
			q.Set("after", t.cursor)
		}
		err := t.c.call(ctx, http.MethodGet, "/v1/events", q, nil, &page)
		if err != nil && (ctx.Err() != nil || !temporary(err)) {
			return err
		}
		if err != nil {
			t.u.note("coming back: %s", err)
		}
		if err := t.printPage(page, start.Time, filter); err != nil {
			return err
		}
		if page.Next != "" {
			t.cursor = page.Next
		}
		if len(page.Events) == 0 {
			pause(ctx, siteWidePause)
		}
	}
	return ctx.Err()
}

func (t *tail) printPage(page sitePage, from time.Time, filter broker.Filter) error {
	for _, line := range page.Events {
		var e struct {
			ID   string             `json:"id"`
			Time broker.NumericDate `json:"time"`
			Data json.RawMessage    `json:"data"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("the broker sent an event that cannot be read: %w", err)
		}
		t.cursor = e.ID
		if e.Time.Time().Before(from) || !filter.Match(e.Data) {
			continue
		}
		if err := t.u.print(string(line)); err != nil {
			return err
		}
		if t.seen++; t.f.count > 0 && t.seen >= t.f.count {
			return errEnough
		}
	}
	return nil
}
