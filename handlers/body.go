package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"backchannel/broker"
)

const (
	// maxPageBody bounds what a page sends: a resume token, some grants and a message fit.
	maxPageBody = 2 << 20
	// maxServerBody bounds what a server sends: a batch of events.
	maxServerBody = 1 << 20
	// bodyTimeout is how long a body may take to arrive, so that nobody holds a goroutine with a byte a minute.
	bodyTimeout = 30 * time.Second
)

// strictness says what becomes of members that nobody knows.
type strictness bool

const (
	// lenient passes over them, on the browser's surface: pages that were loaded yesterday talk to the broker of
	// tomorrow, and the other way round.
	lenient strictness = false
	// strict refuses them by name, on the server's surface: there a misspelt "ttl" is a mistake that nobody sees.
	strict strictness = true
)

// readBody reads a body of JSON into v. The limit is checked before anything is read where the length is announced.
// Errors: CodeTooLarge, CodeBadRequest.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, how strictness, v any) error {
	if err := checkContent(r); err != nil {
		return err
	}
	if r.ContentLength > limit {
		return bodyTooLarge(limit)
	}
	control := http.NewResponseController(w)
	// A writer without deadlines is one of a test. It must be gone again before a stream begins on this connection.
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = control.SetReadDeadline(time.Time{})
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return bodyTooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return broker.Errorf(broker.CodeBadRequest, "the body did not arrive within %s", bodyTimeout)
	}
	if err != nil {
		return broker.Errorf(broker.CodeBadRequest, "the body ended before its time")
	}
	return decode(body, how, v)
}

func bodyTooLarge(limit int64) error {
	return broker.Errorf(broker.CodeTooLarge, "the body is larger than %d bytes", limit)
}

// checkContent takes JSON by its name, as text/plain (a page that asks no preflight), without a name, and as what curl
// says if it is told nothing. Credentials are never cookies, so a form of another site gains nothing by this.
func checkContent(r *http.Request) error {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return broker.Errorf(broker.CodeBadRequest, "Content-Encoding %q is not supported", clip(enc))
	}
	text := r.Header.Get("Content-Type")
	if text == "" {
		return nil
	}
	typ, params, err := mime.ParseMediaType(text)
	if err == nil && (params["charset"] == "" || strings.EqualFold(params["charset"], "utf-8")) {
		switch typ {
		case "application/json", "text/plain", "application/x-www-form-urlencoded":
			return nil
		}
	}
	return broker.Errorf(broker.CodeBadRequest, "Content-Type %q: want application/json or text/plain, in UTF-8", clip(text))
}

// decode reads one JSON value in valid UTF-8 and nothing after it.
func decode(body []byte, how strictness, v any) error {
	if !utf8.Valid(body) {
		return broker.Errorf(broker.CodeBadRequest, "the body is not valid UTF-8")
	}
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return broker.Errorf(broker.CodeBadRequest, "the body is not a JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if how == strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(v); err != nil {
		return decodeProblem(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return broker.Errorf(broker.CodeBadRequest, "the body goes on after the JSON object")
	}
	return nil
}

// decodeProblem says what is wrong in words of ours.
func decodeProblem(err error) error {
	if e, ok := errors.AsType[*broker.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return broker.Errorf(broker.CodeBadRequest, "the body is not JSON: byte %d is wrong", e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		// The path in it names Go's embedded structs, which are nobody's business.
		name := e.Field[strings.LastIndexByte(e.Field, '.')+1:]
		return broker.Errorf(broker.CodeBadRequest, "member %q: a %s is not what is wanted here", clip(name), clip(e.Value))
	}
	// encoding/json has no type for this one.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if plain, err := strconv.Unquote(name); err == nil {
			name = plain
		}
		return broker.Errorf(broker.CodeBadRequest, "unknown member %q", clip(name))
	}
	return broker.Errorf(broker.CodeBadRequest, "the body is not a whole JSON object")
}

// query reads the parameters of a list.
type query struct{ r *http.Request }

// limit is 1 to 1,000, 100 if none is given.
func (q query) limit() (int, error) {
	const usual, most = 100, 1000
	text := q.get("limit")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, broker.Errorf(broker.CodeBadRequest, "limit %q: want 1 to %d", clip(text), most)
	}
	return n, nil
}

// get gives a parameter, "" if there is none.
func (q query) get(name string) string { return q.r.URL.Query().Get(name) }
