package handlers

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

const (
	defaultDeadline = 10 * time.Second
	maxDeadline     = 60 * time.Second
)

// sender brings messages to components.
type sender interface {
	// Send returns a job once it is durable and a call once it has an outcome, after 20 s at the latest. Ending ctx
	// ends the waiting alone: a page that goes away cancels nothing.
	Send(ctx context.Context, m webhooks.Message) (webhooks.Delivery, error)
	// Ask waits up to 20 s for the outcome of a message and never runs anything. CodeNotFound if the id is unknown or
	// another caller's. With settle, what was not sent becomes not_delivered for good.
	Ask(ctx context.Context, ref webhooks.Ref, caller string, settle bool) (webhooks.Delivery, error)
}

// pageCredential is what stands in the bodies of messages: one of three.
type pageCredential struct {
	Grant  string `json:"grant"`
	Resume string `json:"resume"`
	Key    string `json:"key"`
}

func (s *Server) sessionOf(c pageCredential, r *request) (*session, error) {
	p := presented{Resume: c.Resume, Key: c.Key}
	if c.Grant != "" {
		p.Grants = []string{c.Grant}
	}
	return s.authenticate(p, r.Header.Get("Origin"))
}

// postedMessage is a message as a page sends it.
type postedMessage struct {
	pageCredential
	ID        string          `json:"id"`
	Component string          `json:"component"`
	Data      json.RawMessage `json:"data"`
	Kind      webhooks.Kind   `json:"kind"`
	Deadline  *float64        `json:"deadline"` // s; of a call
}

// outcomeView is what a page is told of a message.
type outcomeView struct {
	ID      webhooks.ID      `json:"id"`
	Outcome webhooks.Outcome `json:"outcome"`
	Reply   json.RawMessage  `json:"reply,omitempty"`
	Error   json.RawMessage  `json:"error,omitempty"`
}

func (s *Server) sendMessage(ctx context.Context, r *request) (answer, error) {
	var body postedMessage
	if err := readBody(r.w, r.Request, maxPageBody, lenient, &body); err != nil {
		return answer{}, err
	}
	who, err := s.sessionOf(body.pageCredential, r)
	if err != nil {
		return answer{}, err
	}
	m, err := s.messageOf(&body, who)
	if err != nil {
		return answer{}, err
	}
	if err := s.rates.take(rateKey{m.Site, m.Caller}, who.Site.Limits.WithDefaults().CallerMessages, s.cfg.Now()); err != nil {
		return answer{}, err
	}
	d, err := s.cfg.Messages.Send(ctx, m)
	if err != nil {
		return answer{}, err
	}
	return outcomeAnswer(&d), nil
}

// messageOf checks what a page sent. Nothing of it but the data reaches the component: who sends is what the grant says.
func (s *Server) messageOf(p *postedMessage, who *session) (webhooks.Message, error) {
	none := webhooks.Message{}
	id, err := parseUUID(p.ID)
	if err != nil {
		return none, err
	}
	component, err := broker.ParseComponentID(p.Component)
	if err != nil {
		return none, err
	}
	g := grantFor(who, component)
	if g == nil {
		return none, broker.Errorf(broker.CodeComponentDenied, "no grant allows messages to component %s", component)
	}
	data, err := messageData(p.Data, who.Site.Limits.WithDefaults().MessageBytes)
	if err != nil {
		return none, err
	}
	now := s.cfg.Now()
	m := webhooks.Message{
		Ref: webhooks.Ref{Site: who.Site.ID, ID: id}, Component: component, Kind: p.Kind, Caller: g.Caller(), Order: g.Caller(),
		Accepted: now, User: g.User, Session: g.Session, Seal: g.Seal, Data: data,
	}
	switch p.Kind {
	case webhooks.KindCall:
		m.Type = webhooks.TypeCall
		m.Deadline, err = deadlineOf(p.Deadline, now)
	case webhooks.KindJob:
		m.Type = webhooks.TypeJob
	default:
		err = broker.Errorf(broker.CodeBadRequest, "kind %q: want call or job", clip(string(p.Kind)))
	}
	return m, err
}

// grantFor finds the grant that allows messages to component and lasts longest.
func grantFor(who *session, component broker.ComponentID) *broker.Grant {
	var best *broker.Grant
	for _, g := range who.Grants {
		if g.MaySend(component) && (best == nil || g.Until.After(best.Until)) {
			best = g
		}
	}
	return best
}

func messageData(data json.RawMessage, most int) (json.RawMessage, error) {
	if data == nil {
		return nil, nil
	}
	if len(data) > most {
		return nil, broker.Errorf(broker.CodeTooLarge, "data has %d bytes; at most %d are allowed", len(data), most)
	}
	return broker.CompactJSON(data)
}

func deadlineOf(seconds *float64, now time.Time) (time.Time, error) {
	if seconds == nil {
		return now.Add(defaultDeadline), nil
	}
	if *seconds <= 0 || *seconds > maxDeadline.Seconds() {
		return time.Time{}, broker.Errorf(broker.CodeBadRequest, "deadline: want more than 0 and at most %g seconds", maxDeadline.Seconds())
	}
	return now.Add(time.Duration(*seconds * float64(time.Second))), nil
}

func (s *Server) askMessage(ctx context.Context, r *request) (answer, error) {
	var body struct {
		pageCredential
		Settle bool `json:"settle"`
	}
	if err := readBody(r.w, r.Request, maxPageBody, lenient, &body); err != nil {
		return answer{}, err
	}
	id, err := parseUUID(r.param("id"))
	if err != nil {
		return answer{}, err
	}
	who, err := s.sessionOf(body.pageCredential, r)
	if err != nil {
		return answer{}, err
	}
	d, err := s.ask(ctx, webhooks.Ref{Site: who.Site.ID, ID: id}, callers(who), body.Settle)
	if err != nil {
		return answer{}, err
	}
	return outcomeAnswer(&d), nil
}

// callers lists who a session may have sent as: one, but for an anonymous page with several grants.
func callers(who *session) []string {
	var out []string
	seen := make(map[string]bool, 1)
	for _, g := range who.Grants {
		if c := g.Caller(); !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	}
	return out
}

// ask asks as each caller in turn, and settles only as the one whose message it is, or as the first if it is nobody's.
func (s *Server) ask(ctx context.Context, ref webhooks.Ref, callers []string, settle bool) (webhooks.Delivery, error) {
	if len(callers) > 1 {
		for _, c := range callers {
			if _, err := s.cfg.Queue.Get(ctx, ref); err != nil {
				break // nobody's
			}
			d, err := s.cfg.Messages.Ask(ctx, ref, c, settle)
			if code := broker.CodeOf(err); code != broker.CodeNotFound && code != broker.CodeIDTaken {
				return d, err
			}
		}
	}
	return s.cfg.Messages.Ask(ctx, ref, callers[0], settle)
}

// outcomeAnswer says what became of a message; 202 means that there is more to come.
func outcomeAnswer(d *webhooks.Delivery) answer {
	v := outcomeView{ID: d.ID, Outcome: d.Outcome}
	if v.Outcome == webhooks.OutcomeNone {
		v.Outcome = unsettled(d)
	}
	status := http.StatusOK
	switch v.Outcome {
	case webhooks.OutcomePending, webhooks.OutcomeQueued:
		status = http.StatusAccepted
	case webhooks.OutcomeDelivered:
		if v.Reply = d.Reply; v.Reply == nil {
			v.Reply = json.RawMessage("null")
		}
	case webhooks.OutcomeRejected:
		if v.Error = d.Error; v.Error == nil {
			v.Error = json.RawMessage("null")
		}
	}
	return answer{status, v}
}

// unsettled is what a page is told of a delivery without outcome. A job that ran out of tries may have run.
func unsettled(d *webhooks.Delivery) webhooks.Outcome {
	switch {
	case d.State == webhooks.StateDead:
		return webhooks.OutcomeUnknown
	case d.Kind == webhooks.KindCall:
		return webhooks.OutcomePending
	}
	return webhooks.OutcomeQueued
}

// parseUUID takes the canonical form (RFC 9562, section 4) in either case; the id is in lower case, so that one UUID is
// one message.
func parseUUID(s string) (webhooks.ID, error) {
	if len(s) != 36 {
		return "", errUUID(s)
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return "", errUUID(s)
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return "", errUUID(s)
			}
		}
	}
	return webhooks.ID(strings.ToLower(s)), nil
}

func errUUID(s string) error {
	return broker.Errorf(broker.CodeBadRequest, "id %q: want a UUID, such as 018f3c9e-7b1a-7c3e-9f00-1234567890ab", clip(s))
}
