package broker

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// maxFilterKeys bounds a filter; RSpade's largest has three.
const maxFilterKeys = 16

// A filter on idKey is also met by an array under idsKey.
const (
	idKey  = "id"
	idsKey = "ids"
)

// Filter is a set of conditions on the top-level keys of an event's data: key to the wanted value as a string. The
// empty filter matches everything.
type Filter map[string]string

// UnmarshalJSON takes an object of scalars and keeps each as the string that it is compared as.
func (f *Filter) UnmarshalJSON(b []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil || raw == nil {
		return Errorf(CodeBadRequest, "f: want an object of scalars")
	}
	out := make(Filter, len(raw))
	for k, v := range raw {
		s, ok := scalarString(v)
		if !ok {
			return Errorf(CodeBadRequest, "f: the value of %q is not a string, number, boolean or null", clip(k))
		}
		out[k] = s
	}
	*f = out
	return nil
}

func (f Filter) check() error {
	if len(f) > maxFilterKeys {
		return Errorf(CodeBadRequest, "f: at most %d keys, got %d", maxFilterKeys, len(f))
	}
	return nil
}

// Match tells whether data, an event's JSON, fulfils f. A missing key never equals; {"id":5} also matches data
// without id whose array ids holds 5.
func (f Filter) Match(data []byte) bool {
	return len(f) == 0 || f.matchTop(topLevel(data))
}

// topLevel gives the members of a JSON object, nil for anything else.
func topLevel(data []byte) map[string]json.RawMessage {
	var top map[string]json.RawMessage
	if json.Unmarshal(data, &top) != nil {
		return nil
	}
	return top
}

func (f Filter) matchTop(top map[string]json.RawMessage) bool {
	for k, want := range f {
		raw, found := top[k]
		if !found && k == idKey && arrayHolds(top[idsKey], want) {
			continue
		}
		if got, ok := scalarString(raw); !found || !ok || got != want {
			return false
		}
	}
	return true
}

// indexKey is the key under which f stands in a topic's index: id, which tells most apart, else the first by name.
func (f Filter) indexKey() string {
	if _, has := f[idKey]; has {
		return idKey
	}
	first := ""
	for k := range f {
		if first == "" || k < first {
			first = k
		}
	}
	return first
}

func arrayHolds(raw json.RawMessage, want string) bool {
	var list []json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &list) != nil {
		return false
	}
	for _, v := range list {
		if got, ok := scalarString(v); ok && got == want {
			return true
		}
	}
	return false
}

// scalarString gives a JSON scalar as JavaScript's String() prints it; objects and arrays are not scalars.
func scalarString(raw json.RawMessage) (string, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "", false
	}
	switch raw[0] {
	case '{', '[':
		return "", false
	case '"':
		var s string
		return s, json.Unmarshal(raw, &s) == nil
	case 't', 'f', 'n':
		return string(raw), true
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	if err != nil && !math.IsInf(n, 0) {
		return "", false
	}
	return jsNumber(n), true
}

// jsNumber prints n as ECMAScript's Number::toString does (ECMA-262, 6.1.6.1.20).
func jsNumber(n float64) string {
	switch abs := math.Abs(n); {
	case n == 0:
		return "0"
	case math.IsInf(n, 1):
		return "Infinity"
	case math.IsInf(n, -1):
		return "-Infinity"
	case abs >= 1e-6 && abs < 1e21:
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	s := strconv.FormatFloat(n, 'e', -1, 64)
	mantissa, exp, _ := strings.Cut(s, "e")
	sign := exp[:1]
	return mantissa + "e" + sign + strings.TrimLeft(exp[1:], "0")
}
