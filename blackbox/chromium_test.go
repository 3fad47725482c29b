package blackbox_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// sourcePage is a page with nothing but the browser's own EventSource.
const sourcePage = `<!doctype html><meta charset="utf-8"><title>EventSource</title><script>
window.got = []; window.opens = 0; window.state = "";
function follow(url) {
  const es = new EventSource(url);
  const note = e => { const d = JSON.parse(e.data); if (d.data && d.data.n) window.got.push(d.data.n); };
  es.onmessage = note;
  es.addEventListener("score", note);
  es.onopen = () => { window.opens++; };
  es.onerror = () => { window.state = "readyState " + es.readyState; };
}
</script>`

// browser starts Chromium, without a sandbox because CI runs as root, and without anything that calls home.
func browser(t *testing.T) context.Context {
	t.Helper()
	bin := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			bin = path
			break
		}
	}
	if bin == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("Chromium is missing; install the package chromium")
		}
		t.Skip("Chromium is not installed")
	}
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(bin), chromedp.UserDataDir(t.TempDir())}
	for _, flag := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
		"disable-background-networking", "disable-component-update", "disable-sync",
	} {
		opts = append(opts, chromedp.Flag(flag, true))
	}
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		chromedp.Cancel(ctx) //nolint:errcheck // it ends either way
		cancel()
		cancelAlloc()
	})
	return ctx
}

func TestNativeEventSourceInChromiumMissesNothing(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(sourcePage)) //nolint:errcheck // the browser may be gone
	}))
	t.Cleanup(page.Close)
	c := start(t, func(conf *config) { conf.sites[0].origins = []string{page.URL} })
	ctx := browser(t)
	h := c.s.hash("chromium")
	p := newCutter(t, c.b.address)
	source := p.url() + "/v1/stream?" + ordinary(c.s, h).Encode()
	if err := chromedp.Do(ctx, chromedp.Navigate(page.URL)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[any]("follow("+quoteJSON(source)+"), 1")); err != nil {
		t.Fatal(err)
	}
	awaitOpen(ctx, t)
	interop(t, c, h, p, func() []int {
		got, err := chromedp.Run(ctx, chromedp.Evaluate[[]int]("window.got"))
		if err != nil {
			t.Fatal(err)
		}
		return got
	})
	if opens, err := chromedp.Run(ctx, chromedp.Evaluate[int]("window.opens")); err != nil || opens < 4 {
		t.Errorf("EventSource opened %d times (%v), want 4: three cuts", opens, err)
	}
}

func awaitOpen(ctx context.Context, t *testing.T) {
	t.Helper()
	if !poll(t.Context(), 20*time.Second, func() bool {
		opens, err := chromedp.Run(ctx, chromedp.Evaluate[int]("window.opens"))
		return err == nil && opens > 0
	}) {
		state, err := chromedp.Run(ctx, chromedp.Evaluate[string]("window.state"))
		t.Fatalf("EventSource did not open: %s (%v)", state, err)
	}
}
