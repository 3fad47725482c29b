package blackbox_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// frame is one block of an event stream, as the rules of WHATWG read it.
type frame struct {
	id    string // of this block
	hasID bool
	event string // "" if none was given
	data  string
	hasIt bool // a data field was there: only then a browser dispatches
	retry int  // ms, -1 if none was given
	bytes int  // of the block with its empty line
}

// sseReader reads a stream by the rules of WHATWG, and refuses what they would let a client ignore: an unknown field,
// a carriage return, NUL, and a byte that is no UTF-8. The broker writes none of these, so one of them is a forgery.
type sseReader struct {
	br *bufio.Reader
}

func newSSEReader(r io.Reader) *sseReader { return &sseReader{br: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next block that ended with its empty line; a block cut short by the end of the stream is dropped,
// as a browser does, and the error is that of the body.
func (s *sseReader) next() (frame, error) {
	f := frame{retry: -1}
	var data []string
	for {
		line, err := s.br.ReadString('\n')
		if err != nil {
			return frame{}, err
		}
		f.bytes += len(line)
		line = line[:len(line)-1]
		if line == "" {
			f.data = strings.Join(data, "\n")
			return f, nil
		}
		if err := checkLine(line); err != nil {
			return frame{}, err
		}
		if strings.HasPrefix(line, ":") {
			continue
		}
		if data, err = f.field(line, data); err != nil {
			return frame{}, err
		}
	}
}

// errForged is the cause of every refusal of the reader's own.
var errForged = errors.New("not a frame the protocol knows")

func checkLine(line string) error {
	if strings.ContainsAny(line, "\r\x00") {
		return fmt.Errorf("%w: CR or NUL in %q", errForged, line)
	}
	if !utf8.ValidString(line) {
		return fmt.Errorf("%w: invalid UTF-8 in %q", errForged, line)
	}
	return nil
}

func (f *frame) field(line string, data []string) ([]string, error) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		f.id, f.hasID = value, true
	case "event":
		f.event = value
	case "data":
		data, f.hasIt = append(data, value), true
	case "retry":
		ms, err := strconv.Atoi(value)
		if err != nil || ms < 0 {
			return nil, fmt.Errorf("%w: %q", errForged, line)
		}
		f.retry = ms
	default:
		return nil, fmt.Errorf("%w: unknown field in %q", errForged, line)
	}
	return data, nil
}

func TestTheReaderFollowsTheRulesOfEventStreams(t *testing.T) {
	in := "retry: 2417\n\n: a comment\nevent: hello\ndata: {}\n\nid: e-1\ndata:a\ndata:  b\ndata\n\nid\n\ndata: cut"
	r := newSSEReader(strings.NewReader(in))
	want := []frame{
		{retry: 2417, bytes: 13},
		{retry: -1, event: "hello", data: "{}", hasIt: true, bytes: 35},
		{retry: -1, id: "e-1", hasID: true, data: "a\n b\n", hasIt: true, bytes: 30},
		{retry: -1, hasID: true, bytes: 4},
	}
	for i, w := range want {
		got, err := r.next()
		if err != nil || got != w {
			t.Errorf("block %d: got %+v, %v; want %+v", i, got, err, w)
		}
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Errorf("a block without its empty line: got %v, want EOF", err)
	}
}

func TestTheReaderRefusesForgedLines(t *testing.T) {
	for _, in := range []string{"data: a\rid: e-9\n\n", "id: e-1\x00\n\n", "evil: 1\n\n", "data: \xff\n\n", "retry: soon\n\n"} {
		if f, err := newSSEReader(strings.NewReader(in)).next(); !errors.Is(err, errForged) {
			t.Errorf("%q: got %+v, %v; want a refusal", in, f, err)
		}
	}
}
