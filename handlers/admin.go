package handlers

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
)

// adminHandler is the admin listener: health and metrics, a page of state, and profiles if they are configured.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.alive)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.HandleFunc("GET /{$}", s.index)
	if s.cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	// In this order: a page of another site learns nothing, not even whether a password is right.
	return s.guard(s.adminHosts(http.NewCrossOriginProtection().Handler(s.adminPassword(mux))))
}

// adminHosts refuses requests under a name that is not ours: a page can make its own name point here (DNS rebinding),
// but not localhost or an address.
func (s *Server) adminHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		h.Set("Referrer-Policy", "no-referrer")
		if !s.adminHost(r.Host) {
			plainText(w, http.StatusMisdirectedRequest, "this name is not one of the admin listener; use its address or localhost\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) adminHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	name = strings.ToLower(name)
	return name == "localhost" || slices.Contains(s.cfg.AdminHosts, name)
}

// adminPassword asks for the password, but for health and metrics from this machine.
func (s *Server) adminPassword(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !openFromHere(r) && !s.passwordFits(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="Backchannel admin", charset="UTF-8"`)
			plainText(w, http.StatusUnauthorized, "the password is in the file admin.password of the data directory; any user name will do\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) passwordFits(r *http.Request) bool {
	_, password, given := r.BasicAuth()
	return given && s.cfg.AdminPassword != nil && s.cfg.AdminPassword(password)
}

// openFromHere tells whether r is for health or metrics and comes from this machine itself: a proxy on it, which would
// let everybody in, says that it forwards.
func openFromHere(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/metrics":
	default:
		return false
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}

// index is a small page of state that a browser renews by itself.
func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), usageTimeout)
	defer cancel()
	var page strings.Builder
	if err := indexPage().Execute(&page, s.overview(ctx)); err != nil {
		s.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(page.String())) // the client has gone; there is nobody to tell
}
