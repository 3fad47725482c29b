package handlers

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"backchannel/broker"
)

// Bounds of a poll's patience: below what front ends grant an answer.
const (
	defaultPollWait = 25 * time.Second
	maxPollWait     = 55 * time.Second
)

// pollAnswer is the frames of a stream in a response that ends.
type pollAnswer struct {
	Cursor  broker.Cursor         `json:"cursor"`
	Resume  string                `json:"resume"`
	Key     string                `json:"key"`
	Frames  []pollFrame           `json:"frames"`
	Refused []broker.RefusedGrant `json:"refused,omitempty"`
}

type pollFrame struct {
	ID    *broker.Cursor  `json:"id,omitempty"`
	Event string          `json:"event,omitempty"`
	Data  json.RawMessage `json:"data"`
}

// poll answers POST /v1/poll: without a resume token at once with hello, with one as soon as there is a frame.
func (s *Server) poll(w http.ResponseWriter, r *http.Request) {
	body, err := readOpen(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	wait, err := pollWait(body.Wait)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	origin := r.Header.Get("Origin")
	if body.Resume != "" {
		base, err := s.authenticate(presented{Resume: body.Resume}, origin)
		if err == nil {
			s.pollOn(w, r, body, base, wait)
			return
		}
		if len(body.Grants) == 0 {
			s.fail(w, r, err)
			return
		}
	}
	s.pollFirst(w, r, body, origin)
}

func pollWait(seconds *float64) (time.Duration, error) {
	if seconds == nil {
		return defaultPollWait, nil
	}
	if *seconds < 0 || *seconds > maxPollWait.Seconds() {
		return 0, broker.Errorf(broker.CodeBadRequest, "wait: want 0 to %d seconds", int(maxPollWait.Seconds()))
	}
	return time.Duration(*seconds * float64(time.Second)), nil
}

// pollFirst answers with hello. The stream begins with the next poll.
func (s *Server) pollFirst(w http.ResponseWriter, r *http.Request, body openBody, origin string) {
	session, err := s.authenticate(presented{Grants: body.Grants, Resume: body.Resume, Rooms: body.Rooms}, origin)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	opening, err := s.cfg.Hub.Open(r.Context(), broker.OpenRequest{
		Site: session.Site, Grants: session.Grants, Cursor: body.Cursor, Refused: refusedGrants(session.Refused), Pad: body.Pad,
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer opening.GiveUp()
	writeJSON(w, http.StatusOK, "application/json", pollAnswer{Cursor: opening.Cursor, Resume: opening.Resume, Key: opening.Key, Frames: pollFrames(opening.First(), opening.Cursor.Epoch)})
}

// pollOn goes on with the stream of a resume token.
func (s *Server) pollOn(w http.ResponseWriter, r *http.Request, body openBody, base *session, wait time.Duration) {
	add, refused, err := s.joining(base, presented{Grants: body.Grants, Resume: body.Resume, Rooms: body.Rooms}, r.Header.Get("Origin"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	opening, err := s.cfg.Hub.Open(r.Context(), broker.OpenRequest{
		Site: base.Site, Stream: base.Stream, Grants: base.Grants, Back: true, Cursor: body.Cursor, Add: add, Remove: body.Remove,
	})
	if err != nil {
		s.failOpen(w, r, err, true)
		return
	}
	sink := broker.NewPoll()
	opening.Attach(sink, nil, true)
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	select {
	case <-sink.Done():
	case <-ctx.Done():
		opening.End()
	}
	frames, pos, err := sink.Wait(r.Context())
	if err != nil {
		return // the client has gone
	}
	resume, key, err := opening.Current()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", pollAnswer{
		Cursor: broker.Cursor{Epoch: opening.Cursor.Epoch, Seq: pos}, Resume: resume, Key: key,
		Frames: pollFrames(frames, opening.Cursor.Epoch), Refused: refused,
	})
}

func pollFrames(frames []*broker.Frame, epoch broker.Epoch) []pollFrame {
	out := make([]pollFrame, 0, len(frames))
	for _, f := range frames {
		p := pollFrame{Event: f.Event, Data: f.Data}
		if f.HasID {
			p.ID = &broker.Cursor{Epoch: epoch, Seq: f.Seq}
		}
		out = append(out, p)
	}
	return out
}
