package handlers

import (
	"net/http"

	"backchannel/broker"
)

// alive answers /healthz: the process is there and answers.
func (s *Server) alive(w http.ResponseWriter, _ *http.Request) {
	plainText(w, http.StatusOK, "ok\n")
}

// ready answers /readyz: the broker may be sent traffic, or why not.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	err := error(nil)
	if s.cfg.Health != nil {
		err = s.cfg.Health()
	}
	if err == nil {
		plainText(w, http.StatusOK, "ready\n")
		return
	}
	if broker.CodeOf(err) == broker.CodeInternal {
		err = broker.Errorf(broker.CodeUnavailable, "%s", err) // admins may read it
	}
	s.fail(w, r, err)
}

func plainText(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client has gone; there is nobody to tell
}
