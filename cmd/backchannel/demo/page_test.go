package demo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestThePagesModules(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no Node, and CI is set: install it, so that this test runs")
		}
		t.Skip("no Node")
	}
	if out, err := exec.CommandContext(t.Context(), node, "page_test.mjs").CombinedOutput(); err != nil { //nolint:gosec // a file of ours
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestThePageAllowsItsOwnOriginOnly(t *testing.T) {
	w := httptest.NewRecorder()
	guard(page()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/", nil))
	policy := w.Header().Get("Content-Security-Policy")
	if w.Code != http.StatusOK || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("%d, policy %q", w.Code, policy)
	}
	text, _ := io.ReadAll(w.Body)
	for _, inline := range []string{"style=", "onclick=", "<style", "http://", "https://"} {
		if strings.Contains(string(text), inline) {
			t.Errorf("the page holds %s", inline)
		}
	}
}

func TestOtherSitesCannotDriveTheDemo(t *testing.T) {
	called := false
	handler := guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	for name, change := range map[string]func(*http.Request){
		"a page of another origin": func(r *http.Request) {
			r.Header.Set("Origin", "https://elsewhere.example")
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		},
		"a name that points here": func(r *http.Request) { r.Host = "elsewhere.example:8477" },
	} {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8477/demo/kill", nil)
		change(r)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if called || w.Code < 400 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8477/demo/kill", nil))
	if !called {
		t.Error("the demo's own page was refused")
	}
}
