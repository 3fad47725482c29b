package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// site is a tenant of the vectors. Its bytes count upwards, so that nobody takes them for real ones.
type site struct {
	name, kid    string
	secret, salt []byte
}

func moodle() site  { return site{"moodle", "k1", counting(0x00), counting(0x20)} }
func rotated() site { return site{"moodle", "k2", counting(0x40), counting(0x20)} }
func other() site   { return site{"other", "k1", counting(0x60), counting(0x80)} }

func counting(from byte) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func mac(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// subkey is HKDF-SHA256 (RFC 5869) without salt for one block of output, written out: extract, then expand.
func (s site) subkey(use string) []byte {
	prk := mac(make([]byte, sha256.Size), s.secret)
	return mac(prk, append([]byte("backchannel/v1/"+use), 1))
}

func (s site) bearer() string { return s.name + "." + s.kid + "." + b64(s.subkey("api")) }

func (s site) webhookSecret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString(s.subkey("webhook"))
}

type keyCase struct {
	Site          string            `json:"site"`
	Kid           string            `json:"kid"`
	Secret        string            `json:"secret"`
	Salt          string            `json:"salt"`
	Subkeys       map[string]string `json:"subkeys"`
	Bearer        string            `json:"bearer"`
	WebhookSecret string            `json:"webhook_secret"`
}

func keys() any {
	var out []keyCase
	for _, s := range []site{moodle(), rotated(), other(), {"a", "2026b", counting(0xe0), counting(0xc0)}} {
		c := keyCase{
			Site: s.name, Kid: s.kid, Secret: b64(s.secret), Salt: b64(s.salt), Subkeys: map[string]string{},
			Bearer: s.bearer(), WebhookSecret: s.webhookSecret(),
		}
		for _, use := range []string{"grant", "api", "webhook", "seal", "resume"} {
			c.Subkeys[use] = hex.EncodeToString(s.subkey(use))
		}
		out = append(out, c)
	}
	return map[string]any{"cases": out}
}

type sealCase struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	IV     string `json:"iv,omitempty"`
	Plain  string `json:"plain,omitempty"`
	Sealed string `json:"sealed"`
	Opens  bool   `json:"opens"`
}

func seals() any {
	k, wrong := moodle().subkey("seal"), other().subkey("seal")
	iv := counting(0xa0)[:12]
	session := seal(k, iv, "sesskey=aBcDeF1234")
	return map[string]any{"cases": []sealCase{
		{"a session key", hex.EncodeToString(k), hex.EncodeToString(iv), "sesskey=aBcDeF1234", session, true},
		{"empty", hex.EncodeToString(k), hex.EncodeToString(iv), "", seal(k, iv, ""), true},
		{"unicode", hex.EncodeToString(k), hex.EncodeToString(iv), "Zoë 🎓", seal(k, iv, "Zoë 🎓"), true},
		{"another iv", hex.EncodeToString(k), "000000000000000000000001", "x", seal(k, append(make([]byte, 11), 1), "x"), true},
		{"another key does not open it", hex.EncodeToString(wrong), "", "", session, false},
		{"a changed byte does not open", hex.EncodeToString(k), "", "", flip(session), false},
		{"shorter than iv and tag does not open", hex.EncodeToString(k), "", "", b64(iv), false},
	}}
}

func seal(key, iv []byte, plain string) string {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return b64(gcm.Seal(append([]byte{}, iv...), iv, []byte(plain), nil))
}

// flip changes one character in the middle of what is base64url.
func flip(s string) string {
	b := []byte(s)
	i := len(b) / 2
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}
