package target

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const siteName, keyID = "bench", "k1"

// site is a site's key as its LMS has it. It is written from the protocol's description and shares no code with the
// broker.
type site struct{ secret, salt []byte }

func newSite() *site {
	s := &site{secret: make([]byte, 32), salt: make([]byte, 32)}
	_, _ = rand.Read(s.secret) // never fails since Go 1.24
	_, _ = rand.Read(s.salt)
	return s
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (s *site) toml() string {
	return fmt.Sprintf("[[site]]\nname = %q\nkeys = [%q]\nsalt = %q\n", siteName, keyID+"."+encode(s.secret), encode(s.salt))
}

func (s *site) subkey(info string) []byte {
	k, err := hkdf.Key(sha256.New, s.secret, nil, "backchannel/v1/"+info, 32)
	if err != nil {
		panic("BUG: HKDF of 32 bytes: " + err.Error())
	}
	return k
}

func (s *site) bearer() string { return siteName + "." + keyID + "." + encode(s.subkey("api")) }

// grant lets user i hear the channels for an hour.
func (s *site) grant(i int, channels []string, now time.Time) string {
	entries := make([]string, len(channels))
	for j, c := range channels {
		entries[j] = `{"h":"` + c + `"}`
	}
	user, iat := strconv.Itoa(i), now.Unix()
	claims := fmt.Sprintf(`{"iss":%q,"aud":"backchannel","sub":"%s","sid":"s%s","iat":%d,"exp":%d,"jti":"j%s","ch":[%s]}`,
		siteName, user, user, iat, iat+3600, user, strings.Join(entries, ","))
	signed := encode([]byte(`{"alg":"HS256","kid":"`+keyID+`","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, s.subkey("grant"))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}
