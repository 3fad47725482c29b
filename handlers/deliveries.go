package handlers

import (
	"context"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

const (
	// maxRetries bounds how many dead letters one request puts back.
	maxRetries = 1000
	// maxDeliveryID bounds the ids that the queue is asked for.
	maxDeliveryID = 64
)

// deliveries is the queue as far as servers may read it.
type deliveries interface {
	// List pages through the records of a site, newest acceptance first.
	List(ctx context.Context, site broker.SiteID, q webhooks.ListQuery) (page []webhooks.Delivery, next string, err error)
	// Get returns the record, or CodeNotFound.
	Get(ctx context.Context, ref webhooks.Ref) (webhooks.Delivery, error)
}

// retrier puts dead letters back.
type retrier interface {
	// Retry puts a delivery that has ended without success back, with a fresh schedule. CodeNotFound; CodeBadRequest,
	// saying why, for what cannot be tried again.
	Retry(ctx context.Context, ref webhooks.Ref) (webhooks.Delivery, error)
}

// deliveryView is a delivery as servers see it. What was sent and answered stands in the attempts alone, redacted.
type deliveryView struct {
	ID        webhooks.ID        `json:"id"`
	Component broker.ComponentID `json:"component"`
	Kind      webhooks.Kind      `json:"kind"`
	Type      webhooks.Type      `json:"type"`
	State     webhooks.State     `json:"state"`
	Outcome   webhooks.Outcome   `json:"outcome,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	User      string             `json:"user,omitempty"`
	Session   string             `json:"session,omitempty"`
	Channel   broker.ChannelID   `json:"channel,omitempty"`
	Accepted  broker.NumericDate `json:"accepted,omitzero"`
	Deadline  broker.NumericDate `json:"deadline,omitzero"`
	Due       broker.NumericDate `json:"due,omitzero"`
	Ended     broker.NumericDate `json:"ended,omitzero"`
	Attempts  int                `json:"attempts"`
	Settled   bool               `json:"settled,omitempty"`
	Log       []attemptView      `json:"log,omitempty"`
}

// attemptView is one try; requests and responses were redacted before they were stored.
type attemptView struct {
	Number   int                `json:"number"`
	Started  broker.NumericDate `json:"started,omitzero"`
	Ms       int64              `json:"ms"`
	URL      string             `json:"url"`
	Status   int                `json:"status,omitempty"`
	Error    string             `json:"error,omitempty"`
	Request  string             `json:"request,omitempty"`
	Response string             `json:"response,omitempty"`
}

func dateOf(t time.Time) broker.NumericDate {
	if t.IsZero() {
		return 0
	}
	return broker.NumericDateOf(t)
}

// viewOf makes the form of lists, without the log of attempts.
func viewOf(d *webhooks.Delivery) deliveryView {
	v := deliveryView{
		ID: d.ID, Component: d.Component, Kind: d.Kind, Type: d.Type, State: d.State, Outcome: d.Outcome, Reason: d.Reason,
		User: d.User, Session: d.Session, Channel: d.Channel, Accepted: dateOf(d.Accepted), Deadline: dateOf(d.Deadline),
		Ended: dateOf(d.Ended), Attempts: d.Attempts, Settled: d.Settled,
	}
	if d.State == webhooks.StateWaiting {
		v.Due = dateOf(d.Due)
	}
	return v
}

func fullViewOf(d *webhooks.Delivery) deliveryView {
	v := viewOf(d)
	for _, a := range d.Log {
		v.Log = append(v.Log, attemptView{
			Number: a.Number, Started: dateOf(a.Started), Ms: a.Duration.Milliseconds(), URL: a.URL, Status: a.Status,
			Error: a.Error, Request: a.Request, Response: a.Response,
		})
	}
	return v
}

func (s *Server) listDeliveries(ctx context.Context, r *request) (answer, error) {
	q := query{r.Request}
	limit, err := q.limit()
	if err != nil {
		return answer{}, err
	}
	state := webhooks.State(q.get("state"))
	switch state {
	case "", webhooks.StateWaiting, webhooks.StateSending, webhooks.StateDone, webhooks.StateDead:
	default:
		return answer{}, broker.Errorf(broker.CodeBadRequest, "state %q: want waiting, sending, done or dead", clip(string(state)))
	}
	component, err := optionalComponent(q.get("component"))
	if err != nil {
		return answer{}, err
	}
	list, next, err := s.cfg.Queue.List(ctx, r.site.ID, webhooks.ListQuery{State: state, Component: component, After: q.get("after"), Limit: limit})
	if err != nil {
		return answer{}, err
	}
	views := make([]deliveryView, 0, len(list))
	for i := range list {
		views = append(views, viewOf(&list[i]))
	}
	page := map[string]any{"deliveries": views}
	if next != "" {
		page["next"] = next
	}
	return ok(page)
}

func optionalComponent(name string) (broker.ComponentID, error) {
	if name == "" {
		return "", nil
	}
	return broker.ParseComponentID(name)
}

// ref is the delivery that the path names. A page may have written its UUID in either case. CodeNotFound for what is no
// id of any.
func (r *request) ref() (webhooks.Ref, error) {
	id := r.param("id")
	if len(id) > maxDeliveryID {
		return webhooks.Ref{}, broker.Errorf(broker.CodeNotFound, "no delivery has an id of more than %d bytes", maxDeliveryID)
	}
	if uuid, err := parseUUID(id); err == nil {
		return webhooks.Ref{Site: r.site.ID, ID: uuid}, nil
	}
	return webhooks.Ref{Site: r.site.ID, ID: webhooks.ID(id)}, nil
}

func (s *Server) showDelivery(ctx context.Context, r *request) (answer, error) {
	ref, err := r.ref()
	if err != nil {
		return answer{}, err
	}
	d, err := s.cfg.Queue.Get(ctx, ref)
	if err != nil {
		return answer{}, err
	}
	return ok(fullViewOf(&d))
}

func (s *Server) retryDelivery(ctx context.Context, r *request) (answer, error) {
	ref, err := r.ref()
	if err != nil {
		return answer{}, err
	}
	d, err := s.cfg.Messages.Retry(ctx, ref)
	if err != nil {
		return answer{}, err
	}
	return ok(viewOf(&d))
}

// retryDeliveries puts the dead letters of a component, or of the site, back. More tells that there are others left.
func (s *Server) retryDeliveries(ctx context.Context, r *request) (answer, error) {
	var body struct {
		Component string `json:"component"`
	}
	if r.ContentLength != 0 {
		if err := r.read(&body); err != nil {
			return answer{}, err
		}
	}
	component, err := optionalComponent(body.Component)
	if err != nil {
		return answer{}, err
	}
	dead, next, err := s.cfg.Queue.List(ctx, r.site.ID, webhooks.ListQuery{State: webhooks.StateDead, Component: component, Limit: maxRetries})
	if err != nil {
		return answer{}, err
	}
	retried := 0
	for i := range dead {
		_, err := s.cfg.Messages.Retry(ctx, dead[i].Ref)
		switch broker.CodeOf(err) {
		case "":
			retried++
		case broker.CodeBadRequest, broker.CodeNotFound: // somebody was faster, or its time had come
		default:
			return answer{}, err
		}
	}
	return ok(map[string]any{"retried": retried, "more": next != ""})
}
