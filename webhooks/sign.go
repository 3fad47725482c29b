package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"
)

// The headers of Standard Webhooks.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// Sign gives one signature of Standard Webhooks: "v1," and base64 of HMAC-SHA256(secret, id.timestamp.body). id must
// hold no dot, or two messages could share a signature.
func Sign(secret []byte, id ID, timestamp int64, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id))
	mac.Write([]byte{'.'})
	mac.Write(strconv.AppendInt(nil, timestamp, 10))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// sign sets the three headers afresh: receivers refuse a timestamp older than five minutes. While keys rotate there is
// a signature for each.
func sign(h http.Header, secrets [][]byte, id ID, now time.Time, body []byte) {
	var all string
	for i, secret := range secrets {
		if i > 0 {
			all += " "
		}
		all += Sign(secret, id, now.Unix(), body)
	}
	h.Set(headerID, string(id))
	h.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	h.Set(headerSignature, all)
}
