package handlers

import (
	"context"
	"unicode/utf8"

	"backchannel/broker"
)

// maxSubjectBytes bounds the ids of users, sessions and grants, as in grants.
const maxSubjectBytes = 255

// revokeAhead is how far ahead of the broker's clock a revocation reaches by default: iat may run that far ahead.
const revokeAhead = broker.Leeway

// revoker takes away what grants gave.
type revoker interface {
	// Revoke stores r durably, takes away what it names on every live stream, and tells how many streams that were.
	Revoke(ctx context.Context, r broker.Revocation) (streams int, err error)
}

func (s *Server) revoke(ctx context.Context, r *request) (answer, error) {
	var body struct {
		JTI     *string            `json:"jti"`
		Session *string            `json:"sid"`
		User    *string            `json:"user"`
		Channel *string            `json:"channel"`
		Before  broker.NumericDate `json:"before"`
	}
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	rev := broker.Revocation{Site: r.site.ID}
	named := 0
	for _, n := range []struct {
		kind  broker.RevocationKind
		value *string
	}{
		{broker.RevokeJTI, body.JTI},
		{broker.RevokeSession, body.Session},
		{broker.RevokeUser, body.User},
		{broker.RevokeChannel, body.Channel},
	} {
		if n.value != nil {
			named++
			rev.Kind, rev.Value = n.kind, *n.value
		}
	}
	if named != 1 {
		return answer{}, broker.Errorf(broker.CodeBadRequest, "want exactly one of jti, sid, user and channel")
	}
	if err := s.checkRevocation(&rev, body.Before); err != nil {
		return answer{}, err
	}
	streams, err := s.cfg.Hub.Revoke(ctx, rev)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]int{"streams": streams})
}

func (s *Server) checkRevocation(rev *broker.Revocation, before broker.NumericDate) error {
	switch rev.Kind {
	case broker.RevokeChannel:
		if _, err := broker.ParseChannelID(rev.Value); err != nil {
			return err
		}
	default:
		if rev.Value == "" || len(rev.Value) > maxSubjectBytes || !utf8.ValidString(rev.Value) {
			return broker.Errorf(broker.CodeBadRequest, "%s: want 1 to %d bytes of UTF-8", rev.Kind, maxSubjectBytes)
		}
	}
	if rev.Kind == broker.RevokeUser || rev.Kind == broker.RevokeChannel {
		rev.Before = int64(before)
		if before.IsZero() {
			rev.Before = s.cfg.Now().Add(revokeAhead).UnixMicro()
		}
	}
	return nil
}
