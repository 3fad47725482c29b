package main

import (
	"encoding/base64"
	"fmt"
	"strings"
)

type webhookCase struct {
	Name      string   `json:"name"`
	Secrets   []string `json:"secrets"`
	ID        string   `json:"id"`
	Timestamp string   `json:"timestamp"`
	Body      string   `json:"body"`
	Signature string   `json:"signature"`
	At        int64    `json:"at"`
	Valid     bool     `json:"valid"`
}

func signWebhook(s site, id, timestamp, body string) string {
	text := fmt.Sprintf("%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac(s.subkey("webhook"), []byte(text)))
}

// webhooks: a receiver accepts a request if one of its secrets gives one of the signatures, and if the timestamp is
// within five minutes of its clock. "secrets" are the receiver's.
func webhooks() any {
	const id, at, body = "m1", "1790000000", `{"type":"message.call"}`
	one, two := moodle(), rotated()
	first, second := signWebhook(one, id, at, body), signWebhook(two, id, at, body)
	old := []string{one.webhookSecret()}
	both := []string{two.webhookSecret(), one.webhookSecret()}
	unicode := `{"type":"message.job","data":{"name":"Zoë 🎓"}}`
	return map[string]any{"tolerance": 300, "cases": []webhookCase{
		{"one secret", old, id, at, body, first, 1790000000, true},
		{"both secrets of the sender, the old one here", old, id, at, body, second + " " + first, 1790000000, true},
		{"both secrets of the sender, both here", both, id, at, body, second + " " + first, 1790000000, true},
		{"the sender has the new secret only", both, id, at, body, second, 1790000000, true},
		{"unknown versions are passed over", old, id, at, body, "v1a,AAAA " + first, 1790000000, true},
		{"unicode", old, "m2", at, unicode, signWebhook(one, "m2", at, unicode), 1790000000, true},
		{"empty body", old, "m3", at, "", signWebhook(one, "m3", at, ""), 1790000000, true},
		{"299 s late", old, id, at, body, first, 1790000299, true},
		{"301 s late", old, id, at, body, first, 1790000301, false},
		{"301 s early", old, id, at, body, first, 1789999699, false},
		{"another site's secret", []string{other().webhookSecret()}, id, at, body, first, 1790000000, false},
		{"a changed body", old, id, at, body + " ", first, 1790000000, false},
		{"a changed id", old, "m2", at, body, first, 1790000000, false},
		{"a changed timestamp", old, id, "1790000001", body, first, 1790000000, false},
		{"a timestamp that is no number", old, id, "now", body, signWebhook(one, id, "now", body), 1790000000, false},
		{"no version", old, id, at, body, strings.TrimPrefix(first, "v1,"), 1790000000, false},
		{"another version", old, id, at, body, "v2" + strings.TrimPrefix(first, "v1"), 1790000000, false},
		{"empty", old, id, at, body, "", 1790000000, false},
		{"cut short", old, id, at, body, first[:len(first)-4], 1790000000, false},
	}}
}
