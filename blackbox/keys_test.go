package blackbox_test

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// key is a live key of a site, as an LMS holds it.
type key struct {
	kid    string
	secret []byte
}

func newKey(kid string) key { return key{kid: kid, secret: randomBytes(32)} }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func randomHex(n int) string { return hex.EncodeToString(randomBytes(n)) }

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (k key) sub(use string) []byte {
	b, err := hkdf.Key(sha256.New, k.secret, nil, "backchannel/v1/"+use, 32)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

func (k key) bearer(site string) string {
	return site + "." + k.kid + "." + base64url(k.sub("api"))
}

func (k key) webhookSecret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString(k.sub("webhook"))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// claims are those of a grant, by their names on the wire.
type claims map[string]any

// entry is one element of the claim ch.
type entry map[string]any

// sign makes a JWT of claims with this key.
func (k key) sign(c claims) string {
	return k.signWith(map[string]any{"alg": "HS256", "kid": k.kid, "typ": "JWT"}, c)
}

func (k key) signWith(header map[string]any, c claims) string {
	text := base64url(mustJSON(header)) + "." + base64url(mustJSON(c))
	return text + "." + base64url(mac(k.sub("grant"), text))
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

// channelHash is the channel of five properties: context, component, area, item, details.
func channelHash(salt []byte, props ...string) string {
	quoted := make([]string, 5)
	for i := range quoted {
		quoted[i] = quoteJSON(props[i])
	}
	return base64url(mac(salt, "["+strings.Join(quoted, ",")+"]")[:16])
}

func roomChannel(channel, room string) string {
	return base64url(mac([]byte(channel), room)[:16])
}

// quoteJSON escapes nothing but what must be, in PHP's way.
func quoteJSON(s string) string {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if e, ok := short[r]; ok {
			b.WriteString(e)
		} else if r < 0x20 {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// unix is a NumericDate with milliseconds.
func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func vectorKey() (k key, salt []byte) {
	k = key{kid: "k1", secret: make([]byte, 32)}
	salt = make([]byte, 32)
	for i := range 32 {
		k.secret[i], salt[i] = byte(i), byte(32+i)
	}
	return k, salt
}

func TestOurOwnKeysAndHashesAgreeWithTheVectors(t *testing.T) {
	k, salt := vectorKey()
	const h = "aMaoIHJEsfEIjo_6ak5A8Q"
	header := base64url([]byte(`{"alg":"HS256","kid":"k1","typ":"JWT"}`))
	payload := base64url([]byte(`{"iss":"moodle","aud":"backchannel","sub":"5","sid":"s1","iat":1790000000,"exp":1790000600,` +
		`"until":1790028800,"jti":"v1","ch":[{"h":"aMaoIHJEsfEIjo_6ak5A8Q","from":1790000000}],"send":["mod_kahoodle"]}`))
	for _, c := range []struct{ what, got, want string }{
		{"grant key", hex.EncodeToString(k.sub("grant")), "0a1169e6fc3486cb36d0fab69cd23b4e6c9b6a66a592463da08a879049127c1f"},
		{"bearer", k.bearer("moodle"), "moodle.k1.i4d2qUW_TTtPpLOw3I3E6vt4NQChvC7AwtYkV7FfFus"},
		{"webhook secret", k.webhookSecret(), "whsec_Rvede0yHZobj1ixnh8a/TFrxJK9mti4gJS5mrYy4v/o="},
		{"hash", channelHash(salt, "42", "mod_kahoodle", "game", "7", ""), h},
		{"hash with escapes", channelHash(salt, "42", "mod_kahoodle", "spiel/übung", "7", `a "b"`), "W_53MQNlyKb2fYZuLfRYDg"},
		{"hash with controls", channelHash(salt, "42", "mod_kahoodle", "<&>\u2028", "7", "\x01"), "zFqiN5Gfztp_gh5tklzh5Q"},
		{"user's channel", channelHash(salt, "", "@user", "", "5", ""), "0FeQXGSKMPqt8YQFNAoqoQ"},
		{"room", roomChannel(h, "place_42"), "YuD6ylIiRTlLWyalxm1yHA"},
		{"grant signature", base64url(mac(k.sub("grant"), header+"."+payload)), "xkpfxciRrtxPxMgIRKqO8MxCbSQOaYCrZPKk8xlu3bo"},
		{"webhook signature", signWebhook(k, "m1", "1790000000", []byte(`{"type":"message.call"}`)), "v1,t8ANF2IxmE7Jraa4yV5sjTpz5tef3l/xjj93CRcUoEI="},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, c.got, c.want)
		}
	}
}

// signWebhook is a signature of Standard Webhooks.
func signWebhook(k key, id, timestamp string, body []byte) string {
	return "v1," + base64.StdEncoding.EncodeToString(mac(k.sub("webhook"), id+"."+timestamp+"."+string(body)))
}
