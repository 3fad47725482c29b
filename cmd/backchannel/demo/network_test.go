package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// behind puts a network in front of a handler and runs its clock until the test ends.
func behind(t *testing.T, next http.HandlerFunc) (*network, string) {
	t.Helper()
	n := newNetwork(func() string { return "" }, slog.New(slog.DiscardHandler), time.Now)
	server := httptest.NewServer(n.between(next))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
		server.Close()
		n.close()
		http.DefaultClient.CloseIdleConnections()
	})
	return n, server.URL
}

func post(t *testing.T, url, body string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

func TestAPeacefulNetworkChangesNothing(t *testing.T) {
	var seen atomic.Int32
	n, url := behind(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		_, _ = io.Copy(w, r.Body)
	})
	if status, body, err := post(t, url, "hello"); err != nil || status != http.StatusOK || body != "hello" {
		t.Errorf("%d %q %v", status, body, err)
	}
	if seen.Load() != 1 || n.status() != (networkStatus{}) {
		t.Errorf("seen %d times, %+v", seen.Load(), n.status())
	}
}

func TestAHostileNetworkCutsWhatIsOpenThenRefusesThenDoubles(t *testing.T) {
	var bodies atomic.Int32
	opened := make(chan struct{}, 2)
	n, url := behind(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Equal(body, []byte("stream")) {
			_ = http.NewResponseController(w).Flush()
			opened <- struct{}{}
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
		bodies.Add(1)
		_, _ = w.Write(body)
	})
	broken := make(chan error, 1)
	go func() {
		_, _, err := post(t, url, "stream")
		broken <- err
	}()
	<-opened
	n.SetHostile(true)
	if err := <-broken; err == nil {
		t.Error("an open stream outlived the cut")
	}
	if status, _, err := post(t, url, "hello"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("after the cut: %d %v, want 503", status, err)
	}
	n.mu.Lock()
	n.refusing = time.Time{} // as if refuseFor had passed
	n.mu.Unlock()
	if status, body, err := post(t, url, "hello"); err != nil || status != http.StatusOK || body != "hello" {
		t.Errorf("after the refusing: %d %q %v", status, body, err)
	}
	if got := bodies.Load(); got != 2 {
		t.Errorf("a POST arrived %d times, want twice", got)
	}
	if s := n.status(); s.Cuts != 1 || s.Refused != 1 || s.Doubled != 1 {
		t.Errorf("%+v", s)
	}
}
