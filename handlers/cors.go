package handlers

import (
	"net/http"

	"backchannel/broker"
)

// common sets what every answer of the public listener carries, and answers preflights. It never sets
// Access-Control-Allow-Credentials: what authorises stands in bodies.
func (s *Server) common(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Backchannel-Time", broker.FormatTime(s.cfg.Now()))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if s.anyAllows(origin) {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", "Backchannel-Time, Retry-After")
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			s.preflight(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// anyAllows tells whether a site lists origin. Which site a request is of stands in its body, so only its handler can
// tell whether the right one does.
func (s *Server) anyAllows(origin string) bool {
	if origin == "" {
		return false
	}
	for _, site := range s.cfg.Sites.All() {
		if site.AllowsOrigin(origin) {
			return true
		}
	}
	return false
}

// preflight allows what pages need. Authorization is not among it: the server's surface is not for pages.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	if s.anyAllows(r.Header.Get("Origin")) {
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		// Polyfills of EventSource send the last two.
		h.Set("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID, Cache-Control")
		h.Set("Access-Control-Max-Age", "7200")
	}
	w.WriteHeader(http.StatusNoContent)
}
