package handlers

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"backchannel/broker"
)

// streamWriteTimeout is how long one write to a stream that could not be detached may take.
const streamWriteTimeout = 60 * time.Second

// streamHub is what the routes of streams need of broker.Hub.
type streamHub interface {
	Open(ctx context.Context, req broker.OpenRequest) (*broker.Opening, error)
	Change(ctx context.Context, site broker.SiteID, id broker.StreamID, grants []*broker.Grant, remove []string) error
}

// openBody is what a page sends to open a stream, and, with wait and remove, to poll.
type openBody struct {
	Grants []string                      `json:"grants"`
	Resume string                        `json:"resume"`
	Rooms  map[broker.ChannelID][]string `json:"rooms"`
	Cursor string                        `json:"cursor"`
	Client string                        `json:"client"`
	Pad    int                           `json:"pad"`
	Wait   *float64                      `json:"wait"`
	Remove []string                      `json:"remove"`
}

// openStream answers POST and GET /v1/stream with an event stream. What goes wrong before the stream has begun is a
// problem; afterwards it is a frame.
func (s *Server) openStream(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead { // the pattern of GET takes it too
		s.methodNotAllowed("GET, POST")(w, r)
		return
	}
	body, err := readOpen(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	session, err := s.authenticate(presented{Grants: body.Grants, Resume: body.Resume, Rooms: body.Rooms}, r.Header.Get("Origin"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	back := body.Resume != "" || r.Header.Get("Last-Event-ID") != ""
	opening, err := s.cfg.Hub.Open(r.Context(), broker.OpenRequest{
		Site: session.Site, Grants: session.Grants, Back: back, Cursor: body.Cursor,
		Refused: refusedGrants(session.Refused), Pad: body.Pad,
	})
	if err != nil {
		s.failOpen(w, r, err, back)
		return
	}
	streamHeader(w.Header())
	if s.detach(w, r, opening) {
		return
	}
	s.serveStream(w, r, opening)
}

// failOpen answers an opening that came to nothing. Who was accepted before and comes back while the broker is
// stopping gets a cut: a browser's EventSource gives up for good on any answer but 200, and tries again after a cut.
func (s *Server) failOpen(w http.ResponseWriter, r *http.Request, err error, back bool) {
	if back && broker.CodeOf(err) == broker.CodeUnavailable {
		panic(http.ErrAbortHandler)
	}
	s.fail(w, r, err)
}

// readOpen takes the request apart: the body of a POST, the query of a GET. Query strings are never logged.
func readOpen(w http.ResponseWriter, r *http.Request) (openBody, error) {
	var body openBody
	query := r.URL.Query()
	if r.Method == http.MethodPost {
		if err := readBody(w, r, maxPageBody, lenient, &body); err != nil {
			return body, err
		}
	} else {
		body.Grants = query["grant"]
	}
	// The first that is there: a page knows better than what stands between, and a browser's own header is newer than
	// the address it was given once.
	for _, cursor := range []string{body.Cursor, r.Header.Get("Last-Event-ID"), query.Get("last_event_id"), query.Get("lastEventId")} {
		if cursor != "" {
			body.Cursor = cursor
			break
		}
	}
	if body.Pad < 0 || body.Pad > broker.MaxPad {
		return body, broker.Errorf(broker.CodeBadRequest, "pad: want 0 to %d bytes", broker.MaxPad)
	}
	return body, nil
}

func refusedGrants(all []refusal) []broker.RefusedGrant {
	var out []broker.RefusedGrant
	for _, r := range all {
		out = append(out, broker.RefusedGrant{Grant: r.Grant, Code: r.Code})
	}
	return out
}

// streamHeader sets what keeps front ends from holding, storing, packing or changing a stream.
func streamHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

type detachableKey struct{}

// ConnContext is for http.Server: it notes whether streams on c can be detached. Without it none is.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, detachableKey{}, broker.CanDetach(c))
}

// detach takes the connection away from net/http where that is possible: HTTP/1 over TCP, with TLS or without. The
// header is written by the stream's shard then, together with hello.
func (s *Server) detach(w http.ResponseWriter, r *http.Request, opening *broker.Opening) bool {
	if can, _ := r.Context().Value(detachableKey{}).(bool); !can || r.ProtoMajor != 1 {
		return false
	}
	// The end of the connection ends the body: no chunks, so that a frame is the same bytes for everyone.
	w.Header().Set("Connection", "close")
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.Header().Del("Connection")
		return false
	}
	sink, ok, err := broker.Detach(conn)
	if !ok {
		// There is nothing left to answer on: the client sees a cut and comes back.
		opening.GiveUp()
		_ = conn.Close()
		s.cfg.Logger.LogAttrs(r.Context(), slog.LevelError, "connection not detached", slog.Any("error", err))
		return true
	}
	opening.Attach(sink, responseHead(w.Header()), false)
	return true
}

// responseHead is the head of a 200 as net/http would write it.
func responseHead(h http.Header) []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	_ = h.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// serveStream writes the stream from this goroutine: HTTP/2, and whatever else cannot be detached.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, opening *broker.Opening) {
	out := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	sink := broker.NewBuffered()
	opening.Attach(sink, nil, false)
	defer opening.End()
	// An error means that the client has gone or takes nothing: there is nobody to tell.
	_ = sink.Serve(r.Context(), deadlineWriter{w, out}, out.Flush)
}

// deadlineWriter gives each write a time of its own, so that a stuck client cannot hold the goroutine for ever.
type deadlineWriter struct {
	io.Writer
	control *http.ResponseController
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	// A writer without deadlines is one of a test.
	_ = d.control.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
	return d.Writer.Write(p)
}
