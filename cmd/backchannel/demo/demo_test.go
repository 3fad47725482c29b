package demo

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program builds the command that the demo starts as its broker.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backchannel")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "nomsgpack", "-o", path, "backchannel/cmd/backchannel")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the broker: %v\n%s", err, out)
	}
	return path
}

// started runs the demo until the test ends and returns its URL.
func started(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	options := Options{
		Program: program(t), Listen: "127.0.0.1:0", Ready: func(url string) { ready <- url },
		Log: slog.New(slog.DiscardHandler), ErrOut: t.Output(),
	}
	go func() { ended <- Run(ctx, options) }()
	stopped := sync.OnceValue(func() error { stop(); return <-ended })
	t.Cleanup(func() {
		if err := stopped(); err != nil {
			t.Errorf("the demo ended with: %v", err)
		}
	})
	select {
	case url := <-ready:
		return url
	case err := <-ended:
		ended <- err
		t.Fatalf("the demo did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the demo did not start within a minute")
	}
	return ""
}

// browser starts Chromium. A laptop may lack it; where CI is set it must be there.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" && os.Getenv("CI") != "" {
		t.Fatal("no Chromium, and CI is set: install it, so that this test runs")
	}
	if path == "" {
		t.Skip("no Chromium")
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir())}
	for _, flag := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
		"disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocated, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, _ := chromedp.NewContext(allocated) //nolint:govet // chromedp.Cancel ends it, and waits for the browser
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // it ends either way
		cancel()
	})
	return ctx
}

// window is one browser window on the demo's page.
type window struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // a chromedp context is the window
}

func open(t *testing.T, ctx context.Context, url string) window { //nolint:revive // t comes first in tests
	t.Helper()
	w := window{t, ctx}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(360, 780), chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	w.until("it is live", `document.getElementById('state').textContent === 'live'`)
	w.until("it fits a phone", `document.documentElement.scrollWidth <= document.documentElement.clientWidth`)
	return w
}

// until waits for a condition in the page.
func (w window) until(what, condition string) {
	w.t.Helper()
	if _, err := chromedp.Run(w.ctx, chromedp.Poll[bool](condition, chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(40*time.Second))); err != nil {
		w.t.Fatalf("wait until %s: %v\n%s", what, err, w.text("body"))
	}
}

func (w window) text(selector string) string {
	w.t.Helper()
	text, err := chromedp.Run(w.ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.querySelector(%q).innerText`, selector)))
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w window) click(selector string) {
	w.t.Helper()
	if err := chromedp.Do(w.ctx, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector(%q).click()`, selector))); err != nil {
		w.t.Fatal(err)
	}
}

func (w window) say(text string) {
	w.t.Helper()
	script := fmt.Sprintf(`document.getElementById('text').value = %q; document.getElementById('say').requestSubmit()`, text)
	if err := chromedp.Do(w.ctx, chromedp.Evaluate[chromedp.Void](script)); err != nil {
		w.t.Fatal(err)
	}
}

func (w window) hears(text string) {
	w.t.Helper()
	w.until("it hears "+text, fmt.Sprintf(`[...document.querySelectorAll('#talk span')].filter((s) => s.textContent === %q).length === 1`, text))
}

func TestTheDemoLosesNothingWhenItIsBroken(t *testing.T) {
	ctx := browser(t)
	url := started(t)
	ada := open(t, ctx, url) // the first use of ctx starts the browser that the second shares
	second, cancel := chromedp.NewContext(ctx)
	defer cancel()
	blaise := open(t, second, url)
	if a, b := ada.text("#name"), blaise.text("#name"); a == b {
		t.Errorf("both windows are %s", a)
	}

	ada.say("hello")
	blaise.hears("hello")
	ada.click("#ten")
	ada.until("ten are marked", `document.getElementById('verdict').textContent.includes('10 points')`)

	ada.click("#kill")
	ada.click("#ten")
	blaise.say("while it was dead")
	ada.hears("while it was dead")
	blaise.hears("while it was dead")
	ada.until("ten more are marked", `document.getElementById('verdict').textContent.includes('20 points')`)

	ada.click("#hostile")
	ada.click("#ten")
	ada.click("#report")
	ada.say("through the storm")
	blaise.hears("through the storm")
	ada.hears("through the storm")
	ada.until("the network has cut twice", `/^[2-9] cuts/.test(document.getElementById('network').textContent)`)
	blaise.click("#hostile")
	ada.until("all has had its effect", `document.getElementById('effects').textContent === '31'`)

	for _, w := range []window{ada, blaise} {
		w.until("it is live again", `document.getElementById('state').textContent === 'live'`)
		for _, figure := range []string{"lost", "repeated", "disorder"} {
			if got := w.text("#" + figure); got != "0" {
				t.Errorf("%s: %s is %s, want 0", w.text("#name"), figure, got)
			}
		}
		if w.text("#reconnects") == "0" {
			t.Errorf("%s never lost its connection: nothing was tried", w.text("#name"))
		}
	}
	ada.click("#ten")
	ada.until("each was counted once", `document.getElementById('verdict').textContent.includes('40 points')`)
	ada.until("the panel has it", `Number(document.getElementById('effects').textContent) >= 41`)
	if effects := ada.text("#effects"); effects != "41" {
		t.Errorf("40 answers and a report had %s effects", effects)
	}
}
