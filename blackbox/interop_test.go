package blackbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	r3labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"
)

// notebook is what a foreign client heard: the numbers that were published, in the order of arrival.
type notebook struct {
	mu   sync.Mutex
	nums []int // guarded by mu
}

// note keeps an event of the test's; control frames are passed over, as a page would.
func (n *notebook) note(data []byte) {
	var ev struct{ Data struct{ N *int } }
	if json.Unmarshal(data, &ev) != nil || ev.Data.N == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nums = append(n.nums, *ev.Data.N)
}

func (n *notebook) all() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.nums)
}

// ordinary is a query for clients that come back with the URL they were given: its grant is good until its end.
func ordinary(s *site, channel string) url.Values {
	from := unix(time.Now()) // as an LMS takes it before it renders: what is published while the client connects counts
	return url.Values{"grant": {s.grant([]entry{{"h": channel, "from": from}}, func(c claims) { c["exp"] = c["until"] })}}
}

// interop publishes through three cuts and a kill, and wants every number once and in order.
func interop(t *testing.T, c *client, channel string, p *cutter, heard func() []int) {
	t.Helper()
	want := 0
	publish := func(n int) {
		for range n {
			want++
			c.publish(t, channel, map[string]int{"n": want}, map[string]any{"type": []string{"", "score"}[want%2]})
		}
	}
	within := 20 * time.Second
	publish(1)
	eventually(t, within, "the first event", func() bool { return len(heard()) >= 1 })
	for range 3 {
		publish(20)
		eventually(t, within, "live events", func() bool { return len(heard()) >= want })
		conns := p.connections()
		p.cut()
		publish(20)
		eventually(t, within, "a new connection", func() bool { return p.connections() > conns })
		eventually(t, within, "what was missed", func() bool { return len(heard()) >= want })
	}
	c.b.kill()
	c.b.start()
	publish(20)
	eventually(t, within, "what came after a kill", func() bool { return len(heard()) >= want })
	for i, n := range heard() {
		if n != i+1 {
			t.Fatalf("heard %v: event %d is %d", heard(), i+1, n)
		}
	}
}

// once makes the r3labs client return after each connection: its own loop goes on for minutes after its context ended.
type once struct{}

func (once) NextBackOff() time.Duration { return -1 }
func (once) Reset()                     {}

func TestR3labsClientMissesNothing(t *testing.T) {
	c := start(t)
	h, n := c.s.hash("r3labs"), &notebook{}
	p := newCutter(t, c.b.address)
	ctx, cancel := context.WithCancel(t.Context())
	cl := r3labs.NewClient(p.url()+"/v1/stream?"+ordinary(c.s, h).Encode(), r3labs.ClientMaxBufferSize(1<<20))
	cl.Connection, cl.ReconnectStrategy = newHTTP(t), once{}
	var done sync.WaitGroup
	done.Go(func() {
		for pause(ctx, 50*time.Millisecond) {
			cl.SubscribeWithContext(ctx, "", func(ev *r3labs.Event) { n.note(ev.Data) }) //nolint:errcheck // it tries again
		}
	})
	interop(t, c, h, p, n.all)
	cancel()
	p.cut()
	done.Wait()
}

func TestTmaxmaxClientMissesNothing(t *testing.T) {
	c := start(t)
	h, n := c.s.hash("tmaxmax"), &notebook{}
	p := newCutter(t, c.b.address)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url()+"/v1/stream?"+ordinary(c.s, h).Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cl := tmaxmax.Client{HTTPClient: newHTTP(t)}
	conn := cl.NewConnection(req)
	conn.SubscribeToAll(func(ev tmaxmax.Event) { n.note([]byte(ev.Data)) })
	var done sync.WaitGroup
	done.Go(func() {
		if err := conn.Connect(); !errors.Is(err, context.Canceled) {
			t.Errorf("the client gave up: %v", err)
		}
	})
	interop(t, c, h, p, n.all)
	cancel()
	done.Wait()
}

// curl follows a stream with the real program and comes back by Last-Event-ID when it is cut.
func curl(ctx context.Context, t *testing.T, url string, n *notebook) {
	last := ""
	for ctx.Err() == nil {
		args := []string{"--silent", "--no-buffer", "--max-time", "60", url}
		if last != "" {
			args = append(args, "--header", "Last-Event-ID: "+last)
		}
		cmd := exec.CommandContext(ctx, "curl", args...)
		out, err := cmd.StdoutPipe()
		if err != nil || cmd.Start() != nil {
			t.Errorf("curl: %v", err)
			return
		}
		r := newSSEReader(bufio.NewReader(out))
		for {
			f, err := r.next()
			if err != nil {
				break
			}
			if f.hasID {
				last = f.id
			}
			n.note([]byte(f.data))
		}
		cmd.Wait() //nolint:errcheck // it was cut
	}
}

func TestCurlMissesNothing(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	c := start(t)
	h, n := c.s.hash("curl"), &notebook{}
	p := newCutter(t, c.b.address)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { curl(ctx, t, p.url()+"/v1/stream?"+ordinary(c.s, h).Encode(), n) })
	interop(t, c, h, p, n.all)
	cancel()
	done.Wait()
}

func TestCurlPublishesWithNothingButABearer(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	c := start(t)
	h := c.s.hash("curl")
	s := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	var out bytes.Buffer
	cmd := exec.CommandContext(timeout(t, waitLimit), "curl", "--silent", "--show-error", "--fail",
		"--header", "Authorization: Bearer "+c.s.bearer(), "--data", `{"channel":`+strconv.Quote(h)+`,"data":{"n":1}}`, c.b.url()+"/v1/publish")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("curl: %v: %s", err, out.Bytes())
	}
	if got := datas(s.awaitEvents(1)); got[0] != `{"n":1}` {
		t.Errorf("heard %v", got)
	}
}
