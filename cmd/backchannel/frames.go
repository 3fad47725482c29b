package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// maxFrameBytes bounds a frame that tail reads: an event of 1 MiB and what is around it.
const maxFrameBytes = 2 << 20

// frameGuard is an http.RoundTripper for event streams. It mends three things that the r3labs client does not do: it
// gives whole frames only, because that client takes what is before a broken connection for an event, and the half of
// an id for a cursor; it ends a stream that is silent for longer than heartbeats allow; and it remembers the server's
// retry. Its fields may be read from any goroutine.
type frameGuard struct {
	next    http.RoundTripper
	silence time.Duration
	retry   atomic.Int64 // milliseconds, as the server last said
}

var errSilent = errors.New("nothing heard, not even a heartbeat")

// RoundTrip implements http.RoundTripper.
func (g *frameGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := g.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if resp.StatusCode != http.StatusOK { // a problem is no stream
		resp.Body = closeToo{resp.Body, func() { cancel(nil) }}
		return resp, nil
	}
	resp.Body = &frameBody{
		guard: g, body: resp.Body, ctx: ctx, cancel: cancel,
		alarm: time.AfterFunc(g.silence, func() { cancel(errSilent) }),
	}
	return resp, nil
}

// closeToo ends what belongs to a body with it.
type closeToo struct {
	io.ReadCloser
	also func()
}

// Close implements io.Closer.
func (c closeToo) Close() error {
	defer c.also()
	return c.ReadCloser.Close()
}

// frameBody is read by one goroutine.
type frameBody struct {
	guard  *frameGuard
	body   io.ReadCloser
	ctx    context.Context //nolint:containedctx // the request's own, to tell why its body ended
	cancel context.CancelCauseFunc
	alarm  *time.Timer
	once   sync.Once

	held  []byte // read and not a whole frame yet
	whole []byte // whole frames not handed out yet
	chunk [16 << 10]byte
}

// Read gives bytes of whole frames; what is held when the stream ends is dropped.
func (b *frameBody) Read(p []byte) (int, error) {
	for len(b.whole) == 0 {
		n, err := b.body.Read(b.chunk[:])
		if n > 0 {
			b.alarm.Reset(b.guard.silence)
			b.take(b.chunk[:n])
		}
		if len(b.held) > maxFrameBytes {
			return 0, errors.New("a frame is longer than any broker sends")
		}
		if err != nil && len(b.whole) == 0 {
			if cause := context.Cause(b.ctx); cause != nil && !errors.Is(err, io.EOF) {
				err = cause
			}
			return 0, err
		}
	}
	n := copy(p, b.whole)
	b.whole = b.whole[n:]
	return n, nil
}

// take moves whole frames from held to whole. The broker ends lines with LF alone.
func (b *frameBody) take(chunk []byte) {
	b.held = append(b.held, chunk...)
	end := bytes.LastIndex(b.held, []byte("\n\n"))
	if end < 0 {
		return
	}
	frames := b.held[:end+2]
	for line := range bytes.Lines(frames) {
		if ms, found := bytes.CutPrefix(bytes.TrimSpace(line), []byte("retry:")); found {
			if n, err := strconv.ParseInt(string(bytes.TrimSpace(ms)), 10, 64); err == nil && n >= 0 {
				b.guard.retry.Store(n)
			}
		}
	}
	b.whole = append(b.whole[:0], frames...)
	b.held = append([]byte(nil), b.held[end+2:]...)
}

// Close ends the request.
func (b *frameBody) Close() error {
	b.once.Do(func() { b.alarm.Stop(); b.cancel(nil) })
	return b.body.Close()
}
