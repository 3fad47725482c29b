package handlers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"backchannel/broker"
)

// problem is RFC 9457's form of a refusal, with the code that clients act on.
type problem struct {
	Type   string      `json:"type"`
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail"`
	Code   broker.Code `json:"code"`
}

// outcomeOf is the one table from codes to answers.
func outcomeOf(code broker.Code) (status int, title string) {
	switch code {
	case broker.CodeBadRequest:
		return http.StatusBadRequest, "The request is not as it must be"
	case broker.CodeGrantExpired:
		return http.StatusUnauthorized, "The grant has expired"
	case broker.CodeGrantInvalid:
		return http.StatusUnauthorized, "The credential is not valid"
	case broker.CodeRevoked:
		return http.StatusForbidden, "The grant has been revoked"
	case broker.CodeOriginDenied:
		return http.StatusForbidden, "The origin is not allowed"
	case broker.CodeChannelDenied:
		return http.StatusForbidden, "The channel is not granted"
	case broker.CodeComponentDenied:
		return http.StatusForbidden, "The component is not granted"
	case broker.CodeSubjectMismatch:
		return http.StatusForbidden, "The credentials are not of one user"
	case broker.CodeNotFound:
		return http.StatusNotFound, "There is no such thing"
	case codeMethod:
		return http.StatusMethodNotAllowed, "The method is not allowed"
	case broker.CodeIDTaken:
		return http.StatusConflict, "The id is in use"
	case broker.CodeTooLarge:
		return http.StatusRequestEntityTooLarge, "The request is too large"
	case broker.CodeRateLimited:
		return http.StatusTooManyRequests, "Too many requests"
	case broker.CodeUnavailable:
		return http.StatusServiceUnavailable, "The broker cannot do it now"
	case broker.CodeStoreFull:
		return http.StatusServiceUnavailable, "The store is full"
	}
	return http.StatusInternalServerError, "The broker failed"
}

// codeMethod is bad_request on the wire: clients act on codes, and both say that the caller must be mended.
const codeMethod broker.Code = "method_not_allowed"

// delayed is an error that says when to come back.
type delayed struct {
	error
	after time.Duration
}

// Unwrap gives the refusal itself.
func (d delayed) Unwrap() error { return d.error }

// defaultRetry is what 429 and 503 say if nothing knows better.
const defaultRetry = time.Second

// problemOf makes the answer to err. Text that is not a broker.Error stays here: it is for the log alone.
func problemOf(err error) problem {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		// The client has gone, which then does not matter, or the broker is being stopped.
		err = broker.Errorf(broker.CodeUnavailable, "the request was cut short, and may have taken effect; repeat it under the same id")
	}
	code := broker.CodeOf(err)
	status, title := outcomeOf(code)
	p := problem{Type: "urn:backchannel:" + string(code), Title: title, Status: status, Detail: title, Code: code}
	if e, ok := errors.AsType[*broker.Error](err); ok && code != broker.CodeInternal {
		p.Detail = e.Detail
	}
	if code == codeMethod {
		p.Code, p.Type = broker.CodeBadRequest, "urn:backchannel:"+string(broker.CodeBadRequest)
	}
	return p
}

// fail answers with err as problem JSON. What is not a refusal but a fault is logged under an id, and the answer has
// the id only.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p.Code == broker.CodeInternal {
		id := rand.Text()
		p.Detail = "an internal error; the broker's log has it under " + id
		s.cfg.Logger.LogAttrs(r.Context(), slog.LevelError, "request failed", slog.String("id", id),
			slog.String("method", r.Method), slog.String("route", routeOf(r)), slog.String("reason", err.Error()))
	}
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter(err))
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}

// retryAfter is in whole seconds, rounded up, as RFC 9110 has it.
func retryAfter(err error) string {
	after := defaultRetry
	if d, ok := errors.AsType[delayed](err); ok {
		after = max(d.after, defaultRetry)
	}
	return strconv.Itoa(int(math.Ceil(after.Seconds())))
}

// writeJSON writes v without escaping what HTML would need: data has to come back as it was published.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client has gone; there is nobody to tell
}

// methodNotAllowed answers what a path does not know; allow lists what it does.
func (s *Server) methodNotAllowed(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		s.fail(w, r, broker.Errorf(codeMethod, "%s is not possible here; want %s", clip(r.Method), allow))
	}
}
