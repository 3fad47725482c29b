package main

import "strings"

type dsnCase struct {
	DSN    string `json:"dsn"`
	Site   string `json:"site"`
	Kid    string `json:"kid"`
	Secret string `json:"secret"`
	Salt   string `json:"salt"`
	Public string `json:"public"`
	Via    string `json:"via"`
	Server string `json:"server"`
}

func dsns() any {
	s := moodle()
	credentials := s.name + ":" + s.kid + "." + b64(s.secret) + "." + b64(s.salt)
	good := func(scheme, rest, public, via string) dsnCase {
		server := via
		if server == "" {
			server = public
		}
		return dsnCase{scheme + "://" + credentials + "@" + rest, s.name, s.kid, b64(s.secret), b64(s.salt), public, via, server}
	}
	bad := func(dsn, why string) badText { return badText{dsn, why} }
	with := func(old, replacement string) string {
		return "https://" + strings.Replace(credentials, old, replacement, 1) + "@rt.school.example"
	}
	return map[string]any{
		"good": []dsnCase{
			good("https", "rt.school.example", "https://rt.school.example", ""),
			good("https", "rt.school.example/", "https://rt.school.example", ""),
			good("http", "127.0.0.1:8480", "http://127.0.0.1:8480", ""),
			good("http", "[::1]:8480", "http://[::1]:8480", ""),
			good("https", "school.example/rt", "https://school.example/rt", ""),
			good("https", "school.example/rt/", "https://school.example/rt", ""),
			good("https", "school.example/a/b", "https://school.example/a/b", ""),
			good("https", "school.example/rt?via=http%3A%2F%2F127.0.0.1%3A8480", "https://school.example/rt", "http://127.0.0.1:8480"),
			good("https", "school.example:8443?via=http%3A%2F%2F10.0.0.5%3A8480%2Frt", "https://school.example:8443", "http://10.0.0.5:8480/rt"),
		},
		"bad": []badText{
			bad("", "empty"),
			bad("rt.school.example", "no scheme"),
			bad("ftp://"+credentials+"@rt.school.example", "another scheme"),
			bad("https://rt.school.example", "no credentials"),
			bad("https://moodle@rt.school.example", "no key"),
			bad("https://"+credentials+"@", "no host"),
			bad(with("moodle", "Moodle"), "a capital in the site"),
			bad(with("moodle", "-moodle"), "a site that starts with -"),
			bad(with("moodle", strings.Repeat("m", 33)), "a site of 33 characters"),
			bad(with("moodle", ""), "no site"),
			bad(with("k1", "K1"), "a capital in the kid"),
			bad(with("k1", ""), "no kid"),
			bad(with("k1", strings.Repeat("k", 17)), "a kid of 17 characters"),
			bad(with("."+b64(s.salt), ""), "no salt"),
			bad(with(b64(s.secret), b64(s.secret)+"="), "padding"),
			bad(with(b64(s.secret), b64(s.secret[:31])), "a secret of 31 bytes"),
			bad(with(b64(s.secret), b64(append(s.secret, 0))), "a secret of 33 bytes"),
			bad(with(b64(s.salt), b64(s.salt)[:42]+"-.x"), "four parts"),
			bad(with(b64(s.secret), strings.Replace(b64(s.secret), "A", "+", 1)), "standard base64"),
			bad(with(b64(s.secret), b64(s.secret)[:42]+"9"), "bits beyond the last byte"),
			bad(with("", "")+"?via=127.0.0.1:8480", "a via that is no URL"),
			bad(with("", "")+"?via=ftp%3A%2F%2Fx", "a via of another scheme"),
			bad(with("", "")+"?via=http%3A%2F%2Fa&via=http%3A%2F%2Fb", "two of via"),
			bad(with("", "")+"?proxy=http%3A%2F%2Fa", "an unknown parameter"),
		},
	}
}
