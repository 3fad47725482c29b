package load

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// heard plays fragments of an answer to a subscriber and tells the account.
func heard(t *testing.T, c *Channel, tally *Tally, fragments ...string) (*Stream, Account) {
	t.Helper()
	s := &Stream{state: waiting, Channel: c, KeepID: true}
	play(t, s, fragments)
	return s, tally.Close()
}

func play(t interface{ Fatal(...any) }, s *Stream, fragments []string) {
	for _, f := range fragments {
		b := append([]byte(string(s.raw)), f...)
		s.raw = s.raw[:0]
		if err := s.feed(b); err != nil {
			t.Fatal(err)
		}
	}
}

const plain = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

// published makes a channel with n events for one subscriber and the frames that carry them.
func published(n int) (*Tally, *Channel, []string) {
	tally := NewTally(&Loop{Start: time.Now()})
	c := tally.Channel("c")
	c.Subscribers = 1
	frames := make([]string, n)
	for i := range frames {
		frames[i] = fmt.Sprintf("id: %d\ndata: {\"channel\":\"c\",\"data\":%s}\n\n", i, tally.Payload(nil, c, 0, 0, 200))
	}
	return tally, c, frames
}

func TestAccountTellsWhatWentWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		order []int
		want  Account
	}{
		"nothing":          {[]int{0, 1, 2, 3}, Account{Published: 4, Expected: 4, Delivered: 4}},
		"the last missing": {[]int{0, 1, 2}, Account{Published: 4, Expected: 4, Delivered: 3, Missing: 1}},
		"one repeated":     {[]int{0, 1, 1, 2, 3}, Account{Published: 4, Expected: 4, Delivered: 4, Repeated: 1, OutOfOrder: 0}},
		"one overtaken":    {[]int{0, 2, 1, 3}, Account{Published: 4, Expected: 4, Delivered: 4, OutOfOrder: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			tally, c, frames := published(4)
			c.order = []uint32{0, 1, 2, 3} // as another subscriber has heard it
			answer := plain
			for _, i := range tc.order {
				answer += frames[i]
			}
			if _, got := heard(t, c, tally, answer); got != tc.want {
				t.Errorf("account %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestFirstSubscriberCannotHearAPublisherOutOfOrder(t *testing.T) {
	tally, c, frames := published(2)
	if _, got := heard(t, c, tally, plain+frames[1]+frames[0]); got.OutOfOrder == 0 || got.Exact() {
		t.Errorf("account %+v; want something out of order", got)
	}
}

func TestEventOfAnotherChannelIsForeign(t *testing.T) {
	tally, _, frames := published(1)
	if _, got := heard(t, tally.Channel("other"), tally, plain+frames[0]); got.Foreign != 1 {
		t.Errorf("account %+v; want one foreign", got)
	}
}

func TestSeveralEventsInOneLineAllCount(t *testing.T) {
	tally := NewTally(&Loop{Start: time.Now()})
	c := tally.Channel("c")
	c.Subscribers = 1
	line := `data: {"publications":[`
	for i := range 5 {
		line += fmt.Sprintf(`{"data":%s,"offset":%d},`, tally.Payload(nil, c, 0, 0, 200), i)
	}
	if _, got := heard(t, c, tally, plain+line+"]}\n\n"); got.Delivered != 5 || !got.Exact() {
		t.Errorf("account %+v; want 5 delivered", got)
	}
}

func TestAnswerMayComeInAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "events")
		tally, c, frames := published(n)
		answer := plain + ": comment\n\nevent: hello\ndata: {}\n\n" + strings.Join(frames, "")
		if rapid.Bool().Draw(t, "chunked") {
			head, body, _ := strings.Cut(answer, "\r\n\r\n")
			answer = head + "\r\nTransfer-Encoding: chunked\r\n\r\n"
			for _, piece := range cut(t, body, "chunk") {
				answer += fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
			}
		}
		s := &Stream{state: waiting, Channel: c, KeepID: true}
		play(t, s, cut(t, answer, "read"))
		if a := tally.Close(); a.Delivered != n || !a.Exact() || s.LastID != fmt.Sprint(n-1) || !s.opened {
			t.Fatalf("account %+v, last id %q of %d events", a, s.LastID, n)
		}
	})
}

// cut divides s into pieces that are not empty.
func cut(t *rapid.T, s, name string) (pieces []string) {
	for len(s) > 0 {
		n := min(rapid.IntRange(1, 400).Draw(t, name), len(s))
		pieces = append(pieces, s[:n])
		s = s[n:]
	}
	return pieces
}

func TestQuantilesAreWithinThreePercent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(1, 1e12).Draw(t, "ns")
		h := &Histogram{}
		h.Add(ns)
		if got := h.Quantile(0.5) * 1e6; got < float64(ns)*0.999 || got > float64(ns)*1.04+1 {
			t.Fatalf("%d ns are counted as %.0f", ns, got)
		}
	})
}

func TestRefusedPublishEndsTheRunWithItsAnswer(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9\r\n\r\nslow down"))
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	loop, err := NewLoop(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	p := &Publisher{}
	if err := loop.Connect(p); err != nil {
		t.Fatal(err)
	}
	if err := p.Send([]byte("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); loop.Err() == nil && time.Now().Before(end); {
		_ = loop.Poll(10 * time.Millisecond)
	}
	if err := loop.Err(); err == nil || !strings.Contains(err.Error(), "slow down") {
		t.Errorf("error %v; want the server's own words", err)
	}
}

func TestLoadIsSentToThisMachineOnly(t *testing.T) {
	if l, err := NewLoop("192.0.2.1:80"); err == nil {
		l.Close()
		t.Error("an address elsewhere was accepted")
	}
}
