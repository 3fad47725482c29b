package main

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// ConfigError is one finding in a configuration file. Its text holds no secret.
type ConfigError struct {
	File string
	Line int // 0 if not known
	Key  string
	// Problem says what is wrong, Write what to write in its place ("" if Problem says so).
	Problem, Write string
}

// Error implements error: "file:line: key: problem; write ...".
func (e *ConfigError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.File == "" {
		b.WriteString("configuration")
	}
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line))
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Problem)
	if e.Write != "" {
		b.WriteString("; write " + e.Write)
	}
	return b.String()
}

func joinFindings(findings []error) error { return errors.Join(findings...) }

// parseError turns the TOML package's error into ours: its text starts with the position in a form of its own.
func parseError(path string, t *text, err error) error {
	out := &ConfigError{File: path, Problem: err.Error()}
	if p, ok := errors.AsType[toml.ParseError](err); ok {
		out.Line, out.Key, out.Problem = p.Position.Line, p.LastKey, p.Message
	} else if m := tomlMessage.FindStringSubmatch(err.Error()); m != nil {
		out.Line, _ = strconv.Atoi(m[1])
		out.Key, out.Problem = m[2], m[3]
	}
	if want, got, ok := strings.Cut(strings.TrimPrefix(out.Problem, "incompatible types: TOML value has type "), "; destination has type "); ok {
		out.Problem = fmt.Sprintf("is a TOML %s, want a %s", strings.TrimSuffix(tomlType(want), "64"), got)
	}
	if out.Line == 0 && out.Key != "" {
		out.Line = t.line(out.Key)
	}
	return out
}

// tomlType turns the package's Go names into TOML's own.
func tomlType(s string) string { return strings.Replace(s, "int64", "integer", 1) }

var tomlMessage = regexp.MustCompile(`^toml: (?:line (\d+) )?\(last key "([^"]*)"\): (.*)$`)

func unknownKey(path string, t *text, key string, root any) error {
	e := &ConfigError{File: path, Line: t.line(key), Key: key, Problem: "no such key"}
	if _, ok := root.(*included); ok && !strings.HasPrefix(key, "site") {
		e.Problem = "an included file holds [[site]] tables only; this key belongs in the main file"
		return e
	}
	if n := nearest(key, keyPaths(reflect.TypeOf(root).Elem(), "")); n != "" {
		e.Problem += "; the nearest valid one is " + n
	}
	return e
}

// keyPaths lists every key of a configuration type in dotted form.
func keyPaths(t reflect.Type, prefix string) []string {
	var out []string
	for f := range t.Fields() {
		name := f.Tag.Get("toml")
		ft := f.Type
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		switch {
		case f.Anonymous && name == "":
			out = append(out, keyPaths(ft, prefix)...)
		case name == "":
		case ft.Kind() == reflect.Struct && ft != reflect.TypeFor[CIDR]():
			out = append(out, keyPaths(ft, prefix+name+".")...)
		default:
			out = append(out, prefix+name)
		}
	}
	return out
}

// nearest finds the candidate with the smallest edit distance to s, "" for none.
func nearest(s string, candidates []string) string {
	best, least := "", -1
	for _, c := range candidates {
		d := editDistance(s, c)
		// A key in the wrong table is as near as its own name is.
		if own := editDistance(lastPart(s), lastPart(c)) + 1; own < d {
			d = own
		}
		if least < 0 || d < least {
			best, least = c, d
		}
	}
	return best
}

func lastPart(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }

// editDistance is Levenshtein's, with a row of the matrix at a time.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// texts are the files read, by path.
type texts map[string]*text

// text knows the lines of a file's keys, so that a finding can name one. TOML's own decoder tells positions of what
// fails to decode only, not of what we find wrong later.
type text struct {
	keys  []string // dotted, with the index of each array of tables: site[1].limits.streams
	lines []int
}

var (
	tomlHeader = regexp.MustCompile(`^\s*(\[\[?)\s*([A-Za-z0-9_."'\- ]+?)\s*\]\]?\s*(?:#.*)?$`)
	tomlKey    = regexp.MustCompile(`^\s*([A-Za-z0-9_."'\-]+(?:\s*\.\s*[A-Za-z0-9_"'\-]+)*)\s*=`)
)

func newText(s string) *text {
	t, table, counts := &text{}, "", map[string]int{}
	for i, line := range strings.Split(s, "\n") {
		if m := tomlHeader.FindStringSubmatch(line); m != nil {
			table = indexed(strings.ReplaceAll(m[2], " ", ""), m[1] == "[[", counts)
			t.add(table, i+1)
		} else if m := tomlKey.FindStringSubmatch(line); m != nil {
			key := strings.ReplaceAll(m[1], " ", "")
			if table != "" {
				key = table + "." + key
			}
			t.add(key, i+1)
		}
	}
	return t
}

// indexed gives a table's path with the index of every array of tables in it; counts is how many of each there were.
func indexed(path string, array bool, counts map[string]int) string {
	parts, out := strings.Split(path, "."), ""
	for i, p := range parts {
		if out != "" {
			out += "."
		}
		out += p
		last := i == len(parts)-1
		if last && array {
			counts[out]++
		}
		if n := counts[out]; n > 0 {
			out += "[" + strconv.Itoa(n-1) + "]"
		}
	}
	return out
}

func (t *text) add(key string, line int) {
	t.keys, t.lines = append(t.keys, key), append(t.lines, line)
}

var tomlIndex = regexp.MustCompile(`\[\d+\]`)

// line finds a key, with or without indexes, or the nearest table around it; 0 if there is none.
func (t *text) line(key string) int {
	if t == nil {
		return 0
	}
	for key != "" {
		i := slices.IndexFunc(t.keys, func(k string) bool { return k == key || tomlIndex.ReplaceAllString(k, "") == key })
		if i >= 0 {
			return t.lines[i]
		}
		key = key[:max(strings.LastIndexByte(key, '.'), 0)]
	}
	return 0
}
