package handlers

import (
	"crypto/subtle"
	"net/http"
	"strings"

	"backchannel/broker"
)

// maxBearerBytes: 32 of the site, 16 of the key's id, 43 of the subkey, two dots.
const maxBearerBytes = 93

// bearer checks Authorization: Bearer <site>.<kid>.<subkey>. The error is CodeGrantInvalid.
func (s *Server) bearer(r *http.Request) (*broker.Site, error) {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return nil, broker.Errorf(broker.CodeGrantInvalid, "want Authorization: Bearer <site>.<kid>.<subkey>")
	}
	name, rest, _ := strings.Cut(token, ".")
	kid, _, _ := strings.Cut(rest, ".")
	site := s.siteNamed(name)
	if len(token) > maxBearerBytes || site == nil {
		return nil, errBearer()
	}
	key := site.Key(kid)
	if key == nil || subtle.ConstantTimeCompare([]byte(token), []byte(key.Bearer(site.ID))) != 1 {
		return nil, errBearer()
	}
	s.uses.note(site.ID, key.ID, useAPI, s.cfg.Now())
	return site, nil
}

func errBearer() error {
	return broker.Errorf(broker.CodeGrantInvalid, "the bearer is not of a live key of a site of this broker")
}
