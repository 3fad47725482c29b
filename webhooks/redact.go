package webhooks

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// sensitive tells whether a name (a JSON key, a header, a parameter) holds what must never be kept.
func sensitive(name string) bool {
	name = strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' {
			return -1
		}
		return r
	}, strings.ToLower(name))
	switch name {
	case "seal", "pwd", "auth", "apikey", "jwt":
		return true
	}
	for _, part := range []string{"sesskey", "token", "password", "passwd", "passphrase", "secret", "cookie", "authorization", "credential"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// The forms in which secrets stand in text: name=value, Bearer value, and JWTs.
var (
	textPair   = regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:sesskey|token|passw(?:or)?d|passphrase|secret|cookie|authorization|credential|seal|apikey|api_key)[a-z0-9_.-]*)(\\?["']?\s*[=:]\s*\\?["']?)(?:(?:bearer|basic)\s+)?[^\s&"'<>;,\\]+`)
	textBearer = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}`)
	textJWT    = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,2}`)
)

// redactText cleans text of no known form.
func redactText(s string) string {
	s = textPair.ReplaceAllString(s, "$1$2"+redacted)
	s = textBearer.ReplaceAllString(s, "$1 "+redacted)
	return textJWT.ReplaceAllString(s, redacted)
}

// redactURL gives u without a password and without the values of its query, which may be secrets under any name.
func redactURL(u *url.URL) string {
	c := *u
	c.User = nil
	if u.User != nil {
		c.User = url.User(redacted)
	}
	if c.RawQuery != "" {
		values := c.Query()
		for name := range values {
			values.Set(name, redacted)
		}
		c.RawQuery = strings.ReplaceAll(values.Encode(), url.QueryEscape(redacted), redacted)
	}
	c.Fragment = ""
	return strings.ReplaceAll(c.String(), url.User(redacted).String(), redacted)
}

// redactJSON copies at most limit bytes of a JSON text, with the values of sensitive keys replaced, at any depth. It
// reads tokens only as far as it writes, so it takes broken and cut texts too, and errs towards hiding.
func redactJSON(text []byte, limit int) []byte {
	s := jsonScanner{text: text, limit: limit}
	for s.pos < len(text) && len(s.out) < limit {
		s.step()
	}
	out := s.out
	if mayHoldSecret(out) {
		out = []byte(redactText(string(out)))
	}
	return out[:min(len(out), limit)]
}

// mayHoldSecret is the cheap look before the expressions: within JSON, secrets hide in strings with = or in tokens.
func mayHoldSecret(b []byte) bool {
	return bytes.IndexByte(b, '=') >= 0 || bytes.Contains(b, []byte("eyJ")) || bytes.Contains(b, []byte("earer ")) ||
		bytes.Contains(b, []byte("asic ")) || bytes.Contains(b, []byte(`\"`))
}

type jsonScanner struct {
	text  []byte
	pos   int
	out   []byte
	limit int
}

// step copies one token, or a string with what belongs to it if it is a sensitive key.
func (s *jsonScanner) step() {
	if s.text[s.pos] != '"' {
		s.out = append(s.out, s.text[s.pos])
		s.pos++
		return
	}
	start := s.pos
	s.pos = s.skipString(s.pos)
	token := s.text[start:s.pos]
	colon := s.skipSpace(s.pos)
	isKey := colon < len(s.text) && s.text[colon] == ':'
	if len(token) > s.limit-len(s.out)+slack {
		token = token[:s.limit-len(s.out)+slack]
	}
	s.out = append(s.out, token...)
	if !isKey || !sensitive(unquote(s.text[start:s.pos])) {
		return
	}
	s.out = append(s.out, `:"`+redacted+`"`...)
	s.pos = s.skipValue(s.skipSpace(colon + 1))
}

// slack is how much more than the limit of a long string is looked at for secrets, so that one at the cut is whole.
const slack = 4096

func (s *jsonScanner) skipSpace(i int) int {
	for i < len(s.text) && (s.text[i] == ' ' || s.text[i] == '\t' || s.text[i] == '\n' || s.text[i] == '\r') {
		i++
	}
	return i
}

// skipString gives the position after the string that starts at i, or the end of a text that was cut.
func (s *jsonScanner) skipString(i int) int {
	for i++; i < len(s.text); i++ {
		switch s.text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s.text)
}

func (s *jsonScanner) skipValue(i int) int {
	depth := 0
	for i < len(s.text) {
		switch s.text[i] {
		case '"':
			i = s.skipString(i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			if depth == 0 {
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}

// unquote gives what a JSON string says; of one that is broken, its characters.
func unquote(token []byte) string {
	if bytes.IndexByte(token, '\\') < 0 {
		return string(bytes.Trim(token, `"`))
	}
	var s string
	if json.Unmarshal(token, &s) != nil {
		return string(token)
	}
	return s
}
