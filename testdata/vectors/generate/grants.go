package main

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	iat       = 1790000000
	header    = `{"alg":"HS256","kid":"k1","typ":"JWT"}`
	minute    = 60
	goodAt    = iat + minute
	channel   = "aMaoIHJEsfEIjo_6ak5A8Q"
	published = `{"iss":"moodle","aud":"backchannel","sub":"5","sid":"s1","iat":1790000000,"exp":1790000600,"until":1790028800,"jti":"v1","ch":[{"h":"aMaoIHJEsfEIjo_6ak5A8Q","from":1790000000}],"send":["mod_kahoodle"]}`
)

// grantCase: what the broker answers to token when its clock shows at. An empty code means that it is accepted;
// until and caller are then what it makes of it.
type grantCase struct {
	Name   string `json:"name"`
	Token  string `json:"token"`
	At     int64  `json:"at"`
	Code   string `json:"code"`
	Until  int64  `json:"until,omitempty"`
	Caller string `json:"caller,omitempty"`
}

func token(s site, head, claims string) string {
	text := b64([]byte(head)) + "." + b64([]byte(claims))
	return text + "." + b64(mac(s.subkey("grant"), []byte(text)))
}

// claims replaces one part of the claims that the contract publishes.
func claims(old, replacement string) string {
	if !strings.Contains(published, old) {
		panic("no " + old)
	}
	return strings.Replace(published, old, replacement, 1)
}

func grants() any {
	cases := accepted()
	cases = append(cases, refusedForClaims()...)
	cases = append(cases, refusedForSignature()...)
	return map[string]any{
		"sites": map[string]any{
			"moodle": map[string]any{"keys": map[string]string{"k2": b64(rotated().secret), "k1": b64(moodle().secret)}},
			"other":  map[string]any{"keys": map[string]string{"k1": b64(other().secret)}},
		},
		"leeway": minute, "max_life": 604800, "default_life": 28800, "max_entries": 200,
		"cases": cases,
	}
}

func accepted() []grantCase {
	const until = 1790028800
	ok := func(name, claims string, at, until int64, caller string) grantCase {
		return grantCase{name, token(moodle(), header, claims), at, "", until, caller}
	}
	return []grantCase{
		ok("the grant of the contract", published, goodAt, until, "s:s1"),
		{"signed with the other live key", token(rotated(), `{"alg":"HS256","kid":"k2"}`, published), goodAt, "", until, "s:s1"},
		{"typ is not needed", token(moodle(), `{"kid":"k1","alg":"HS256"}`, published), goodAt, "", until, "s:s1"},
		{"another site with its own key", token(other(), header, claims(`"moodle"`, `"other"`)), goodAt, "", until, "s:s1"},
		ok("59 s past exp: clocks differ", published, iat+600+59, until, "s:s1"),
		ok("iat 59 s ahead: clocks differ", published, iat-59, until, "s:s1"),
		ok("aud as a list of one", claims(`"aud":"backchannel"`, `"aud":["backchannel"]`), goodAt, until, "s:s1"),
		ok("no until: 8 h from iat", claims(`"until":1790028800,`, ``), goodAt, iat+28800, "s:s1"),
		ok("no until and exp after 8 h: exp", claims(`"exp":1790000600,"until":1790028800,`, `"exp":1790036000,`), goodAt, iat+36000, "s:s1"),
		ok("until 7 days from iat", claims(`1790028800`, `1790604800`), goodAt, iat+604800, "s:s1"),
		ok("times with a fraction", claims(`"iat":1790000000,"exp":1790000600`, `"iat":1790000000.25,"exp":1790000600.75`), goodAt, until, "s:s1"),
		ok("no sid: the caller is the user", claims(`"sid":"s1",`, ``), goodAt, until, "u:5"),
		ok("no sub and no sid: the caller is the jti", claims(`"sub":"5","sid":"s1",`, ``), goodAt, until, "j:v1"),
		ok("no channels", claims(`[{"h":"aMaoIHJEsfEIjo_6ak5A8Q","from":1790000000}]`, `[]`), goodAt, until, "s:s1"),
		ok("from as a cursor", claims(`"from":1790000000`, `"from":"x7k2m9qa-1042"`), goodAt, until, "s:s1"),
		ok("a from that is no cursor is not recovered, not refused", claims(`"from":1790000000`, `"from":"yesterday"`), goodAt, until, "s:s1"),
		ok("an entry with everything", claims(`"from":1790000000`, `"c":"mod_kahoodle","ref":"cm:7","f":{"id":5,"open":true,"name":"a"},"p":"both","w":true,"rooms":true,"last":100,"from":1790000000.5`), goodAt, until, "s:s1"),
		ok("info and seal", claims(`"send"`, `"info":{"name":"Zoë"},"seal":"`+strings.Repeat("s", 512)+`","send"`), goodAt, until, "s:s1"),
		ok("200 channels", claims(`[{"h":"aMaoIHJEsfEIjo_6ak5A8Q","from":1790000000}]`, entries(200)), goodAt, until, "s:s1"),
		ok("unknown claims are passed over", claims(`"send"`, `"name":"Zoë","roles":["teacher"],"send"`), goodAt, until, "s:s1"),
		ok("sub of 255 bytes", claims(`"5"`, `"`+strings.Repeat("u", 255)+`"`), goodAt, until, "s:s1"),
		ok("unicode in sub", claims(`"sub":"5","sid":"s1"`, `"sub":"zoë"`), goodAt, until, "u:zoë"),
	}
}

func entries(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"h":"c%d"}`, i)
	}
	return "[" + strings.Join(list, ",") + "]"
}

func refusedForClaims() []grantCase {
	no := func(name, claims string, at int64, code string) grantCase {
		return grantCase{Name: name, Token: token(moodle(), header, claims), At: at, Code: code}
	}
	invalid := func(name, old, replacement string) grantCase {
		return no(name, claims(old, replacement), goodAt, "grant_invalid")
	}
	entry := func(name, members string) grantCase {
		return invalid(name, `"from":1790000000`, members)
	}
	return []grantCase{
		no("expired", published, iat+700, "grant_expired"),
		no("expired by one second more than the leeway", published, iat+661, "grant_expired"),
		no("iat 61 s ahead", published, iat-61, "grant_invalid"),
		invalid("no iat", `"iat":1790000000,`, ``),
		invalid("no exp", `"exp":1790000600,`, ``),
		invalid("exp before iat", `"exp":1790000600`, `"exp":1789999999`),
		invalid("exp as a string", `"exp":1790000600`, `"exp":"1790000600"`),
		invalid("until before exp", `1790028800`, `1790000599`),
		invalid("until more than 7 days after iat", `1790028800`, `1790604801`),
		invalid("another aud", `"aud":"backchannel"`, `"aud":"moodle"`),
		invalid("no aud", `"aud":"backchannel",`, ``),
		invalid("aud beside another", `"aud":"backchannel"`, `"aud":["backchannel","moodle"]`),
		invalid("aud in capitals", `"aud":"backchannel"`, `"aud":"Backchannel"`),
		invalid("no iss", `"iss":"moodle",`, ``),
		invalid("an unknown site", `"moodle"`, `"nobody"`),
		invalid("sub as a number", `"5"`, `5`),
		invalid("sub of 256 bytes", `"5"`, `"`+strings.Repeat("u", 256)+`"`),
		invalid("nobody: no sub, sid or jti", `"sub":"5","sid":"s1","iat":1790000000,"exp":1790000600,"until":1790028800,"jti":"v1"`, `"iat":1790000000,"exp":1790000600`),
		invalid("a component that is none", `"mod_kahoodle"`, `"mod kahoodle"`),
		invalid("an empty component", `"mod_kahoodle"`, `""`),
		invalid("info that is no object", `"send"`, `"info":["Zoë"],"send"`),
		invalid("info of more than 256 bytes", `"send"`, `"info":{"n":"`+strings.Repeat("i", 256)+`"},"send"`),
		invalid("seal of 513 bytes", `"send"`, `"seal":"`+strings.Repeat("s", 513)+`","send"`),
		invalid("a channel that is none", channel, `a b`),
		invalid("a channel of 65 characters", channel, strings.Repeat("c", 65)),
		invalid("a channel with a line end", channel, `a\nb`),
		invalid("an empty channel", channel, ``),
		invalid("channels that are no list", `[{"h":"aMaoIHJEsfEIjo_6ak5A8Q","from":1790000000}]`, `"aMaoIHJEsfEIjo_6ak5A8Q"`),
		entry("an owner that is none", `"c":"mod/x"`),
		entry("ref of 257 bytes", `"ref":"`+strings.Repeat("r", 257)+`"`),
		entry("presence that is none", `"p":"admin"`),
		entry("last of 101", `"last":101`),
		entry("last below 0", `"last":-1`),
		entry("a filter with an object", `"f":{"a":{}}`),
		entry("a filter with a list", `"f":{"a":[1]}`),
		entry("a filter that is no object", `"f":[1]`),
		entry("a filter of 17 keys", `"f":{`+manyKeys(17)+`}`),
		no("201 channels", claims(`[{"h":"aMaoIHJEsfEIjo_6ak5A8Q","from":1790000000}]`, entries(201)), goodAt, "too_large"),
	}
}

func manyKeys(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"k%d":%d`, i, i)
	}
	return strings.Join(list, ",")
}

func refusedForSignature() []grantCase {
	good := token(moodle(), header, published)
	parts := strings.Split(good, ".")
	bad := func(name, token string) grantCase {
		return grantCase{Name: name, Token: token, At: goodAt, Code: "grant_invalid"}
	}
	signed := func(name, head string) grantCase { return bad(name, token(moodle(), head, published)) }
	text512 := b64([]byte(`{"alg":"HS512","kid":"k1"}`)) + "." + parts[1]
	h512 := hmac.New(sha512.New, moodle().subkey("grant"))
	h512.Write([]byte(text512))
	padded := base64.URLEncoding.EncodeToString([]byte(header + "  "))
	paddedText := padded + "." + parts[1]
	return []grantCase{
		bad("another site's key", token(other(), header, published)),
		bad("the other live key under this kid", token(rotated(), header, published)),
		signed("an unknown kid", `{"alg":"HS256","kid":"k9"}`),
		signed("no kid", `{"alg":"HS256"}`),
		signed("kid as a path", `{"alg":"HS256","kid":"../k1"}`),
		bad("alg none without a signature", b64([]byte(`{"alg":"none","kid":"k1"}`))+"."+parts[1]+"."),
		signed("alg none with a signature", `{"alg":"none","kid":"k1"}`),
		signed("alg None", `{"alg":"None","kid":"k1"}`),
		signed("alg RS256", `{"alg":"RS256","kid":"k1"}`),
		signed("alg HS384 over an HS256 signature", `{"alg":"HS384","kid":"k1"}`),
		bad("alg HS512, truly", text512+"."+b64(h512.Sum(nil))),
		signed("no alg", `{"kid":"k1"}`),
		signed("alg in small letters", `{"alg":"hs256","kid":"k1"}`),
		bad("signed with the secret itself", parts[0]+"."+parts[1]+"."+b64(mac(moodle().secret, []byte(parts[0]+"."+parts[1])))),
		bad("signed with the key of resume tokens", parts[0]+"."+parts[1]+"."+b64(mac(moodle().subkey("resume"), []byte(parts[0]+"."+parts[1])))),
		bad("a changed claim", parts[0]+"."+b64([]byte(claims(`"5"`, `"6"`)))+"."+parts[2]),
		bad("a changed signature", parts[0]+"."+parts[1]+"."+flip(parts[2])),
		bad("no signature", parts[0]+"."+parts[1]+"."),
		bad("two parts", parts[0]+"."+parts[1]),
		bad("four parts", good+".x"),
		bad("cut short", good[:len(good)-1]),
		bad("empty", ""),
		bad("a word", "grant"),
		bad("three empty parts", ".."),
		bad("a space after", good+" "),
		bad("padding in the signature", good+"="),
		bad("padding in the header", paddedText+"."+b64(mac(moodle().subkey("grant"), []byte(paddedText)))),
		bad("claims that are no JSON", token(moodle(), header, `{"iss":"moodle"`)),
		bad("claims that are a list", token(moodle(), header, `["moodle"]`)),
		bad("a header that is no JSON", token(moodle(), `HS256`, published)),
	}
}
