package blackbox_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// cutter is a TCP proxy whose connections can be cut in the middle of a byte stream, as networks do. Safe for use by
// many goroutines.
type cutter struct {
	ln     net.Listener
	target func() string
	done   sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // guarded by mu
	cuts   int                   // guarded by mu; connections cut, all in all
	opened int                   // guarded by mu
}

// newCutter forwards to wherever target points when a connection comes.
func newCutter(t testing.TB, target func() string) *cutter {
	t.Helper()
	p := &cutter{ln: listen(t, 0), target: target, conns: map[net.Conn]struct{}{}}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		p.ln.Close() //nolint:errcheck // it ends either way
		p.cut()
		p.done.Wait()
	})
	return p
}

func (p *cutter) url() string { return "http://" + p.ln.Addr().String() }

func (p *cutter) accept() {
	for {
		in, err := p.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target())
		if err != nil {
			in.Close() //nolint:errcheck // the client sees the refusal
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = struct{}{}, struct{}{}
		p.opened++
		p.mu.Unlock()
		p.done.Go(func() { p.pump(in, out) })
		p.done.Go(func() { p.pump(out, in) })
	}
}

func (p *cutter) pump(to, from net.Conn) {
	io.Copy(to, from) //nolint:errcheck // cutting is what it is for
	to.Close()        //nolint:errcheck // as above
	from.Close()      //nolint:errcheck // as above
	p.mu.Lock()
	delete(p.conns, to)
	delete(p.conns, from)
	p.mu.Unlock()
}

// cut resets every connection now open.
func (p *cutter) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0) //nolint:errcheck // then it closes in the ordinary way
		}
		c.Close() //nolint:errcheck // it is to be gone
		p.cuts++
	}
}

func (p *cutter) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

func TestTheCutterForwardsAndCuts(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun") //nolint:errcheck // a test's answer
		w.(http.Flusher).Flush()   //nolint:forcetypeassert // net/http's own
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(release)
	p := newCutter(t, func() string { return strings.TrimPrefix(srv.URL, "http://") })
	resp, err := newHTTP(t).Get(p.url()) //nolint:noctx // the cut ends it
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	p.cut()
	if rest, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("read %q to a clean end after the cut", rest)
	}
}
