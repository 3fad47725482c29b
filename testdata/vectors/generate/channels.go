package main

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// canonical writes the JSON array of five strings that is hashed.
func canonical(parts [5]string) string {
	quoted := make([]string, len(parts))
	for i, p := range parts {
		var out strings.Builder
		for _, r := range p {
			switch {
			case r == '"' || r == '\\':
				out.WriteString(`\` + string(r))
			case strings.ContainsRune("\b\f\n\r\t", r):
				out.WriteString(map[rune]string{'\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}[r])
			case r < 0x20:
				fmt.Fprintf(&out, `\u%04x`, r)
			default:
				out.WriteRune(r)
			}
		}
		quoted[i] = `"` + out.String() + `"`
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

func short(key []byte, text string) string { return b64(mac(key, []byte(text))[:16]) }

func hash(salt []byte, parts ...string) string { return short(salt, canonical([5]string(parts))) }

type channelCase struct {
	Properties [5]string `json:"properties"`
	JSON       string    `json:"json"`
	Channel    string    `json:"channel"`
}

type namedChannel struct {
	ID      string `json:"id"`
	Channel string `json:"channel"`
}

func channels() any {
	salt := moodle().salt
	var all strings.Builder
	for r := rune(0); r < 0x20; r++ {
		all.WriteRune(r)
	}
	var cases []channelCase
	for _, p := range [][5]string{
		{"42", "mod_kahoodle", "game", "7", ""},
		{"42", "mod_kahoodle", "spiel/übung", "7", `a "b"`},
		{"42", "mod_kahoodle", "<&>\u2028", "7", "\u0001"},
		{"", "", "", "", ""},
		{"1", "core", "a", "b", all.String()},
		{"1", "core", "\u007f\u0080\u009f", "\ufeff", "\u2029"},
		{"1", "core", "日本語", "العربية", "🎓👩🏽‍🏫"},
		{"1", "core", "é", "e\u0301", "not normalised: these two differ"},
		{"1", "core", `C:\temp\x`, `\\`, `\"`},
		{"1", "core", "a,b", `","`, "]["},
		{"1", "core", "'", "/", "</script>"},
		{"1", "core", " leading", "trailing ", "\ttab"},
		{"1", "core", "0", "00", "-0"},
		{"1", "core", "null", "true", "false"},
		{"18446744073709551616", "mod_x", "", "", ""},
		{"1", "core", strings.Repeat("x", 4096), "", ""},
		{"1", "core", "\U0010ffff", "\ufffd", "\ud7ff\ue000"},
	} {
		cases = append(cases, channelCase{p, canonical(p), hash(salt, p[:]...)})
	}
	var users, sessions []namedChannel
	for _, id := range []string{"5", "1", "0", "guest", "ü@school.example", `a"b`, "018f3c9e-7b1a-7c3e-9f00-1234567890ab"} {
		users = append(users, namedChannel{id, hash(salt, "", "@user", "", id, "")})
		sessions = append(sessions, namedChannel{id, hash(salt, "", "@session", "", id, "")})
	}
	var invalid [][5]string
	for _, b := range []string{"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "ab\xe2\x82", "\x80"} {
		p := [5]string{"42", "mod_kahoodle", "game", "7", ""}
		p[len(invalid)%5] = b
		for i := range p {
			p[i] = base64.StdEncoding.EncodeToString([]byte(p[i]))
		}
		invalid = append(invalid, p)
	}
	return map[string]any{
		"salt": b64(salt), "cases": cases, "users": users, "sessions": sessions,
		"invalid_properties_base64": invalid,
	}
}

type roomCase struct {
	Parent  string `json:"parent"`
	Room    string `json:"room"`
	Channel string `json:"channel"`
}

func rooms() any {
	parent := hash(moodle().salt, "42", "mod_kahoodle", "game", "7", "")
	var cases []roomCase
	for _, room := range []string{"place_42", "Place_42", "place_42 ", "0", "ü", "u\u0308", "a\nb", `"`, "日本", strings.Repeat("r", 256), strings.Repeat("ü", 128)} {
		cases = append(cases, roomCase{parent, room, short([]byte(parent), room)})
	}
	cases = append(cases, roomCase{"lobby", "place_42", short([]byte("lobby"), "place_42")})
	enc := base64.StdEncoding.EncodeToString
	return map[string]any{"cases": cases, "invalid_rooms_base64": []string{
		"", enc([]byte(strings.Repeat("r", 257))), enc([]byte(strings.Repeat("ü", 129))), enc([]byte{0xff}),
	}}
}

type cursorCase struct {
	Cursor string `json:"cursor"`
	Epoch  string `json:"epoch"`
	Seq    string `json:"seq"`
}

type badText struct {
	Text string `json:"text"`
	Why  string `json:"why"`
}

func cursors() any {
	var good []cursorCase
	for _, seq := range []string{"0", "1", "1042", "9007199254740993", "18446744073709551615"} {
		good = append(good, cursorCase{"x7k2m9qa-" + seq, "x7k2m9qa", seq})
	}
	good = append(good, cursorCase{"00000000-1", "00000000", "1"})
	return map[string]any{"good": good, "bad": []badText{
		{"", "empty"},
		{"x7k2m9qa", "no position"},
		{"x7k2m9qa-", "no digits"},
		{"-1042", "no epoch"},
		{"x7k2m9q-1", "an epoch of 7"},
		{"x7k2m9qab-1", "an epoch of 9"},
		{"X7k2m9qa-1", "a capital"},
		{"x7k2m9q_-1", "a character that is no digit or letter"},
		{"x7k2m9qa-01", "a leading zero"},
		{"x7k2m9qa-00", "a leading zero"},
		{"x7k2m9qa-+1", "a sign"},
		{"x7k2m9qa--1", "a sign"},
		{"x7k2m9qa-1.0", "a fraction"},
		{"x7k2m9qa-1e3", "an exponent"},
		{"x7k2m9qa-0x10", "hexadecimal"},
		{"x7k2m9qa-1_0", "a separator"},
		{"x7k2m9qa-18446744073709551616", "beyond 64 bits"},
		{" x7k2m9qa-1", "a space before"},
		{"x7k2m9qa-1 ", "a space after"},
		{"x7k2m9qa-1\n", "a line end"},
		{"x7k2m9qa-1\u0000", "NUL"},
		{"x7k2m9qa-١", "digits of another script"},
		{"x7k2m9qa_1", "another separator"},
	}}
}
