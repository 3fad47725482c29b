package webhooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// What the delivery log keeps.
const (
	maxLogBytes  = 16 << 10 // of a request and of a response, headers included
	maxTextBytes = 512      // of a body that is not JSON: an error page tells enough in its first lines
	maxLogged    = 11       // attempts: as many as a schedule has
)

// recorder writes the entry of one attempt. Everything is redacted before it is cut.
type recorder struct {
	entry Attempt
}

func (r *recorder) request(req *http.Request, body []byte) {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\n", redactURL(req.URL))
	writeHeader(&b, req.Header)
	r.entry.Request = finishLog(&b, body)
}

func (r *recorder) response(resp *http.Response, body []byte) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %03d\n", resp.Proto, resp.StatusCode)
	writeHeader(&b, resp.Header)
	r.entry.Response = finishLog(&b, body)
}

func writeHeader(b *strings.Builder, h http.Header) {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			switch {
			case sensitive(name), strings.EqualFold(name, headerSignature):
				value = redacted
			case name == "Location", mayHoldSecret([]byte(value)):
				value = redactText(value)
			}
			fmt.Fprintf(b, "%s: %s\n", name, value)
		}
	}
	b.WriteByte('\n')
}

func finishLog(b *strings.Builder, body []byte) string {
	head := b.String()
	if len(head) >= maxLogBytes {
		return strings.ToValidUTF8(head[:maxLogBytes], "")
	}
	return strings.ToValidUTF8(head+string(redactBody(body, maxLogBytes-len(head))), "")
}

func redactBody(body []byte, limit int) []byte {
	if looksJSON(body) {
		return redactJSON(body, limit)
	}
	text := body[:min(len(body), maxTextBytes+slack)]
	if !utf8.Valid(body) {
		text = bytes.ToValidUTF8(text, nil)
	}
	text = []byte(redactText(string(text)))
	return text[:min(len(text), maxTextBytes, limit)]
}

// looksJSON takes a text that is valid JSON, not one that merely starts like it.
func looksJSON(body []byte) bool {
	body = bytes.TrimSpace(body)
	return len(body) > 0 && json.Valid(body)
}

// log appends an entry to a delivery and drops the oldest beyond maxLogged.
func (d *Delivery) log(a Attempt) {
	d.Log = append(d.Log, a)
	if over := len(d.Log) - maxLogged; over > 0 {
		d.Log = slices.Delete(d.Log, 0, over)
	}
}
