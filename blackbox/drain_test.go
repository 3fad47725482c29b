package blackbox_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestADrainInTheMiddleOfOpeningsEndsInGoodOrder ends the broker at a random moment while streams and polls open, go
// on and are given up as fast as they can. finish fails the test if it panicked.
func TestADrainInTheMiddleOfOpeningsEndsInGoodOrder(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	grants := make([]string, 24)
	for i := range grants {
		grants[i] = c.s.hears(h)
	}
	for round := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var opening sync.WaitGroup
		for i, g := range grants {
			opening.Go(func() {
				for ctx.Err() == nil {
					path, body := "/v1/poll", map[string]any{"grants": []string{g}, "wait": 1}
					if i%3 == 0 {
						path = "/v1/stream"
					}
					once, stop := context.WithTimeout(ctx, 5*time.Millisecond+rand.N(30*time.Millisecond))
					resp, err := c.send(once, http.MethodPost, path, body)
					if err == nil {
						io.Copy(io.Discard, resp.Body) //nolint:errcheck // it is given up
						resp.Body.Close()
					}
					stop()
				}
			})
		}
		pause(t.Context(), 100*time.Millisecond+rand.N(200*time.Millisecond))
		c.b.signal(syscall.SIGTERM)
		if code := c.b.waitExit(startLimit); code != 0 {
			t.Errorf("round %d: exit code %d", round, code)
		}
		cancel()
		opening.Wait()
		c.b.start()
	}
}
