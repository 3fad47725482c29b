package handlers

import (
	"context"

	"backchannel/broker"
)

// forgetter erases what is kept of a user.
type forgetter interface {
	// Forget erases the contents of the ended records of a user; it returns how many there were.
	Forget(ctx context.Context, site broker.SiteID, user string) (int, error)
}

func (s *Server) purgeChannel(ctx context.Context, r *request) (answer, error) {
	ch, err := r.channel()
	if err != nil {
		return answer{}, err
	}
	n, err := s.cfg.Log.Purge(ctx, ch)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]int{"purged": n})
}

// purgeUser removes the events of the user's own channel and what is kept of the user's ended messages.
func (s *Server) purgeUser(ctx context.Context, r *request) (answer, error) {
	user := r.param("user")
	id, err := ownChannel("user", user, r.site, broker.UserChannel)
	if err != nil {
		return answer{}, err
	}
	purged, err := s.cfg.Log.Purge(ctx, broker.Channel{Site: r.site.ID, ID: id})
	if err != nil {
		return answer{}, err
	}
	forgotten, err := s.cfg.Queue.Forget(ctx, r.site.ID, user)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]int{"purged": purged, "forgotten": forgotten})
}
