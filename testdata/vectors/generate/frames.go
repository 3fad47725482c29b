package main

import (
	"fmt"
	"strings"
)

// eventCase: an event as a publisher sent it and the bytes that every subscriber gets.
type eventCase struct {
	Name    string `json:"name"`
	Cursor  string `json:"cursor"`
	Time    string `json:"time"`
	Channel string `json:"channel"`
	Type    string `json:"type"`
	Data    string `json:"data"`
	User    string `json:"user,omitempty"`
	Client  string `json:"client,omitempty"`
	Replay  bool   `json:"replay,omitempty"`
	Wire    string `json:"wire"`
}

// frame is what a client's parser makes of a frame: fields it does not have are empty.
type frame struct {
	ID    string `json:"id"`
	Event string `json:"event"`
	Data  string `json:"data"`
}

// streamCase: bytes as they arrive, however they are cut, and the frames in them (WHATWG HTML, 9.2.6).
type streamCase struct {
	Name   string  `json:"name"`
	Wire   string  `json:"wire"`
	Frames []frame `json:"frames"`
	// Last is the last event id that the client would send, Retry the reconnection time in ms.
	Last  string `json:"last"`
	Retry int    `json:"retry,omitempty"`
}

func event(name, typ, data, compact string) eventCase {
	const cursor, time = "x7k2m9qa-1043", "1790000000.123456"
	wire := "id: " + cursor + "\n"
	if typ != "" {
		wire += "event: " + typ + "\n"
	}
	wire += fmt.Sprintf("data: {\"channel\":%q,\"time\":%s,\"data\":%s}\n\n", channel, time, compact)
	return eventCase{Name: name, Cursor: cursor, Time: time, Channel: channel, Type: typ, Data: data, Wire: wire}
}

func frames() any {
	return map[string]any{"events": events(), "refused_types": refusedTypes(), "refused_data_base64": []string{
		"",             // nothing
		"ew==",         // {
		"eyJhIjoxfXt9", // {"a":1}{}
		"bmFu",         // nan
		"J2EnCg==",     // 'a'
		"Iv8i",         // "\xff"
		"IgoiCg==",     // a raw line end in a string
		"77u/MQ==",     // a byte order mark
		"MDE=",         // 01
		"WzEsXQ==",     // [1,]
	}, "streams": streams()}
}

func events() []eventCase {
	replayed := event("history at or before the cursor has no id", "score", `{"a":1}`, `{"a":1}`)
	replayed.Replay = true
	replayed.Wire = "event: score\n" + `data: {"channel":"` + channel + `","time":1790000000.123456,"replay":true,"at":"x7k2m9qa-1043","data":{"a":1}}` + "\n\n"
	peer := event("a peer's event names who sent it", "peer", `{"x":1}`, `{"x":1}`)
	peer.User, peer.Client = `5"`, "AAECAwQFBgcI"
	peer.Wire = "id: x7k2m9qa-1043\nevent: peer\n" + `data: {"channel":"` + channel + `","time":1790000000.123456,"user":"5\"","client":"AAECAwQFBgcI","data":{"x":1}}` + "\n\n"
	whole := event("a whole second keeps its decimals", "", `1`, `1`)
	whole.Time = "1790000000.000000"
	whole.Wire = strings.Replace(whole.Wire, "1790000000.123456", whole.Time, 1)
	return []eventCase{
		event("plain", "", `{"a":1}`, `{"a":1}`),
		event("with a type", "score", `{"a":1}`, `{"a":1}`),
		event("compacted", "", " {\n\t\"a\" : [ 1 , 2 ],\r\n \"b c\" : \"d  e\" } ", `{"a":[1,2],"b c":"d  e"}`),
		event("numbers stay as written", "", `[1.0, 1e2, -0, 12345678901234567890, 0.10]`, `[1.0,1e2,-0,12345678901234567890,0.10]`),
		event("escapes stay as written", "", `"\u00e9 \/ \n \u2028"`, `"\u00e9 \/ \n \u2028"`),
		event("what need not be escaped stays raw", "", "\"é <&> \u2028 \u2029 \u0085 🎓\"", "\"é <&> \u2028 \u2029 \u0085 🎓\""),
		event("line ends inside a string are escapes, so they cannot end a line", "", `"a\r\n\nid: x7k2m9qa-9\n\nevent: bye\n"`, `"a\r\n\nid: x7k2m9qa-9\n\nevent: bye\n"`),
		event("a scalar", "", `null`, `null`),
		event("a string", "", `""`, `""`),
		event("keys stay in order, twice if need be", "", `{"b":1,"a":2,"b":3}`, `{"b":1,"a":2,"b":3}`),
		event("a type of 64", strings.Repeat("t", 64), `1`, `1`),
		event("a type with every character there is", "A-z_0.9", `1`, `1`),
		whole, replayed, peer,
	}
}

func refusedTypes() []string {
	return []string{
		"hello", "heartbeat", "channels", "gap", "presence", "bye", "peer", "open", "error", "message",
		" ", "a b", "a\nb", "a\rb", "a\u0000b", "a:b", "é", "a/b", strings.Repeat("t", 65),
	}
}

func streams() []streamCase {
	hello := `{"stream":"AAECAwQFBgcICQoLDA0ODw","time":1790000000.123456,"heartbeat":15,"channels":[]}`
	one := frame{"", "hello", hello}
	return []streamCase{
		{
			Name: "a stream as the broker writes it",
			Wire: "retry: 2417\n\nevent: hello\ndata: " + hello + "\n\nid: x7k2m9qa-1043\ndata: {\"a\":1}\n\nid: x7k2m9qa-1044\nevent: score\ndata: {\"a\":2}\n\nid: x7k2m9qa-1044\nevent: heartbeat\ndata: {\"time\":1790000001.000000}\n\n",
			Frames: []frame{
				one,
				{"x7k2m9qa-1043", "", `{"a":1}`},
				{"x7k2m9qa-1044", "score", `{"a":2}`},
				{"x7k2m9qa-1044", "heartbeat", `{"time":1790000001.000000}`},
			},
			Last: "x7k2m9qa-1044", Retry: 2417,
		},
		{"a proxy made it CRLF", "event: hello\r\ndata: " + hello + "\r\n\r\nid: x7k2m9qa-1\r\ndata: 1\r\n\r\n", []frame{one, {"x7k2m9qa-1", "", "1"}}, "x7k2m9qa-1", 0},
		{"lone CR", "event: hello\rdata: " + hello + "\r\rid: x7k2m9qa-1\rdata: 1\r\r", []frame{one, {"x7k2m9qa-1", "", "1"}}, "x7k2m9qa-1", 0},
		{"comments and padding", ": " + strings.Repeat("p", 3000) + "\n\n:\nid: x7k2m9qa-1\n: between\ndata: 1\n\n", []frame{{"x7k2m9qa-1", "", "1"}}, "x7k2m9qa-1", 0},
		{"cut inside the last frame: it never happened", "id: x7k2m9qa-1\ndata: 1\n\nid: x7k2m9qa-2\ndata: 2\n", []frame{{"x7k2m9qa-1", "", "1"}}, "x7k2m9qa-1", 0},
		{"cut between id and data", "id: x7k2m9qa-1\ndata: 1\n\nid: x7k2m9qa-2\n", []frame{{"x7k2m9qa-1", "", "1"}}, "x7k2m9qa-1", 0},
		{"the id stays until the next one", "id: x7k2m9qa-1\ndata: 1\n\ndata: 2\n\n", []frame{{"x7k2m9qa-1", "", "1"}, {"x7k2m9qa-1", "", "2"}}, "x7k2m9qa-1", 0},
		{"no space after the colon", "id:x7k2m9qa-1\nevent:score\ndata:{\"a\":1}\n\n", []frame{{"x7k2m9qa-1", "score", `{"a":1}`}}, "x7k2m9qa-1", 0},
		{"only one space is taken", "data:  1\n\n", []frame{{"", "", " 1"}}, "", 0},
		{"several data lines are joined", "data: [1,\ndata: 2]\n\n", []frame{{"", "", "[1,\n2]"}}, "", 0},
		{"a frame without data is none, but its id counts", "id: x7k2m9qa-1\nevent: score\n\ndata: 1\n\n", []frame{{"x7k2m9qa-1", "", "1"}}, "x7k2m9qa-1", 0},
		{"unknown fields are passed over", "foo: bar\ndata: 1\nretry: soon\n\n", []frame{{"", "", "1"}}, "", 0},
		{"an id with NUL is passed over", "id: x7k2m9qa-1\ndata: 1\n\nid: a\u0000b\ndata: 2\n\n", []frame{{"x7k2m9qa-1", "", "1"}, {"x7k2m9qa-1", "", "2"}}, "x7k2m9qa-1", 0},
		{"a byte order mark before all", "\ufeffdata: 1\n\n", []frame{{"", "", "1"}}, "", 0},
		{"characters of several bytes", "data: \"Zoë 🎓 日本\"\n\n", []frame{{"", "", `"Zoë 🎓 日本"`}}, "", 0},
	}
}
