package main

type filterCase struct {
	Name    string `json:"name"`
	Filter  string `json:"filter"` // JSON, as text: how a number is written matters
	Data    string `json:"data"`
	Matches bool   `json:"matches"`
}

func filters() any {
	var out []filterCase
	add := func(name, filter, data string, matches bool) {
		out = append(out, filterCase{name, filter, data, matches})
	}
	add("empty matches all", `{}`, `{"a":1}`, true)
	add("empty matches what is no object", `{}`, `[1]`, true)
	add("equal", `{"a":1}`, `{"a":1,"b":2}`, true)
	add("another value", `{"a":1}`, `{"a":2}`, false)
	add("a number equals its string", `{"a":5}`, `{"a":"5"}`, true)
	add("a string equals its number", `{"a":"5"}`, `{"a":5}`, true)
	add("all must hold", `{"a":1,"b":2}`, `{"a":1,"b":3}`, false)
	add("all hold", `{"a":1,"b":"x"}`, `{"b":"x","a":1}`, true)
	add("a missing key never equals", `{"a":1}`, `{"b":1}`, false)
	add("nor does null wanted", `{"a":null}`, `{}`, false)
	add("null equals null", `{"a":null}`, `{"a":null}`, true)
	add("null equals its word", `{"a":"null"}`, `{"a":null}`, true)
	add("null is not empty", `{"a":""}`, `{"a":null}`, false)
	add("true equals its word", `{"a":true}`, `{"a":"true"}`, true)
	add("true is not 1", `{"a":true}`, `{"a":1}`, false)
	add("false is not empty", `{"a":false}`, `{"a":""}`, false)
	add("keys are compared exactly", `{"a":1}`, `{"A":1}`, false)
	add("only at the top", `{"a":1}`, `{"b":{"a":1}}`, false)
	add("an object equals nothing", `{"a":"[object Object]"}`, `{"a":{}}`, false)
	add("a list equals nothing", `{"a":"1"}`, `{"a":[1]}`, false)
	add("data that is a list", `{"a":1}`, `[{"a":1}]`, false)
	add("data that is a scalar", `{"a":1}`, `1`, false)
	add("data that is null", `{"a":1}`, `null`, false)
	add("1.0 is 1", `{"a":1.0}`, `{"a":1}`, true)
	add("1.0 is the string 1", `{"a":"1"}`, `{"a":1.0}`, true)
	add("the string 1.0 is not 1", `{"a":"1.0"}`, `{"a":1.0}`, false)
	add("-0 is 0", `{"a":"0"}`, `{"a":-0}`, true)
	add("1e3", `{"a":"1000"}`, `{"a":1e3}`, true)
	add("0.1", `{"a":"0.1"}`, `{"a":0.10}`, true)
	add("1e21 as JavaScript prints it", `{"a":"1e+21"}`, `{"a":1e21}`, true)
	add("1e20 as JavaScript prints it", `{"a":"100000000000000000000"}`, `{"a":1e20}`, true)
	add("1.5e300", `{"a":"1.5e+300"}`, `{"a":1.5e300}`, true)
	add("0.000001", `{"a":"0.000001"}`, `{"a":1e-6}`, true)
	add("0.0000001", `{"a":"1e-7"}`, `{"a":0.0000001}`, true)
	add("1.25e-10", `{"a":"1.25e-10"}`, `{"a":1.25e-10}`, true)
	add("beyond 2^53 the nearest double", `{"a":"9007199254740992"}`, `{"a":9007199254740993}`, true)
	add("so two such numbers are equal", `{"a":9007199254740993}`, `{"a":9007199254740992}`, true)
	add("twenty digits", `{"a":"12345678901234567000"}`, `{"a":12345678901234567890}`, true)
	add("as strings they stay different", `{"a":"9007199254740993"}`, `{"a":"9007199254740992"}`, false)
	add("-1.5", `{"a":"-1.5"}`, `{"a":-1.5}`, true)
	add("a third", `{"a":"0.3333333333333333"}`, `{"a":0.33333333333333331}`, true)
	add("unicode", `{"ü":"é"}`, `{"ü":"\u00e9"}`, true)
	add("not normalised", `{"a":"é"}`, `{"a":"e\u0301"}`, false)
	add("id in ids", `{"id":5}`, `{"ids":[4,5]}`, true)
	add("id in ids as a string", `{"id":5}`, `{"ids":["5"]}`, true)
	add("id not in ids", `{"id":5}`, `{"ids":[4,6]}`, false)
	add("id in an empty ids", `{"id":5}`, `{"ids":[]}`, false)
	add("ids that is no list", `{"id":5}`, `{"ids":5}`, false)
	add("where id is given, ids does not count", `{"id":5}`, `{"id":4,"ids":[5]}`, false)
	add("even where id is null", `{"id":5}`, `{"id":null,"ids":[5]}`, false)
	add("ids is for id alone", `{"a":5}`, `{"ids":[5]}`, false)
	add("id in ids and more", `{"id":5,"table":"score"}`, `{"ids":[5],"table":"score"}`, true)
	add("id in ids and not the rest", `{"id":5,"table":"score"}`, `{"ids":[5],"table":"quiz"}`, false)
	add("lists inside ids hold nothing", `{"id":5}`, `{"ids":[[5]]}`, false)
	add("names of JavaScript's own", `{"constructor":"a"}`, `{}`, false)
	add("as keys they are keys", `{"toString":"a"}`, `{"toString":"a"}`, true)
	return map[string]any{"cases": out}
}
