package demo

import (
	"embed"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"time"
)

//go:embed page
var pageFiles embed.FS

// contentPolicy lets the page load and call its own origin and nothing else.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// routes: what the page does as a user goes through the network, what it does as the demo's control panel does not.
func (d *demo) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(networkPath+"/", d.network.between(d.network.proxy))
	mux.Handle("POST /lms/join", d.network.between(http.HandlerFunc(d.lms.join)))
	mux.Handle("POST /lms/say", d.network.between(http.HandlerFunc(d.lms.say)))
	mux.HandleFunc("POST "+componentPath, d.component.webhook)
	mux.HandleFunc("GET /demo/status", d.status)
	mux.HandleFunc("POST /demo/kill", d.kill)
	mux.HandleFunc("POST /demo/network", d.setNetwork)
	mux.Handle("/", page())
	return guard(mux)
}

func page() http.Handler {
	root, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic("BUG: the page is not embedded: " + err.Error())
	}
	files := http.FileServerFS(root)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}

// guard refuses other sites' pages: writes from another origin, and names that somebody else's DNS may point here.
func guard(next http.Handler) http.Handler {
	protected := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if host != "localhost" && net.ParseIP(host) == nil {
			fail(w, http.StatusMisdirectedRequest, errors.New("open the demo by its address, or as localhost"))
			return
		}
		protected.ServeHTTP(w, r)
	})
}

// status is what the control panel shows. It is asked for once a second and by a plain request: browsers open six
// connections to a host, and each window has a stream already.
func (d *demo) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"run": d.lms.run, "broker": d.broker.status(time.Now()), "network": d.network.status(),
		"webhook": d.component.status(), "published": d.room.snapshot().N,
	})
}

func (d *demo) kill(w http.ResponseWriter, r *http.Request) {
	if err := d.broker.Kill(); err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	d.status(w, r)
}

func (d *demo) setNetwork(w http.ResponseWriter, r *http.Request) {
	var in struct{ Hostile bool }
	if err := readJSON(r, &in); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	d.network.SetHostile(in.Hostile)
	d.status(w, r)
}
