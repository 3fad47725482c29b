package handlers

import (
	"net/http"
	"slices"

	"backchannel/broker"
)

// changeBody is what a page sends to change the entries of a live stream.
type changeBody struct {
	Resume string                        `json:"resume"`
	Add    []addition                    `json:"add"`
	Rooms  map[broker.ChannelID][]string `json:"rooms"`
	Remove []string                      `json:"remove"`
}

type addition struct {
	Grant string `json:"grant"`
	As    string `json:"as"`
}

// changeChannels answers POST /v1/streams/{stream}/channels. The page hears in band when it is done; the answer only
// says that the stream has taken note, and which grants gave nothing.
func (s *Server) changeChannels(w http.ResponseWriter, r *http.Request) {
	var body changeBody
	if err := readBody(w, r, maxPageBody, lenient, &body); err != nil {
		s.fail(w, r, err)
		return
	}
	refused, err := s.change(r, body)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusAccepted, "application/json", struct {
		Refused []broker.RefusedGrant `json:"refused,omitempty"`
	}{refused})
}

func (s *Server) change(r *http.Request, body changeBody) ([]broker.RefusedGrant, error) {
	id, err := broker.ParseStreamID(r.PathValue("stream"))
	if err != nil {
		return nil, err
	}
	origin := r.Header.Get("Origin")
	base, err := s.authenticate(presented{Resume: body.Resume}, origin)
	if err != nil {
		return nil, err
	}
	if base.Stream != id {
		return nil, broker.Errorf(broker.CodeNotFound, "the resume token is of another stream than %s", id)
	}
	p := presented{Resume: body.Resume, Rooms: body.Rooms}
	for _, a := range body.Add {
		p.Grants = append(p.Grants, a.Grant)
	}
	add, refused, err := s.joining(base, p, origin)
	if err != nil {
		return nil, err
	}
	if err := nameEntries(add, refused, body.Add); err != nil {
		return nil, err
	}
	return refused, s.cfg.Hub.Change(r.Context(), base.Site.ID, id, add, body.Remove)
}

// joining finds what a request adds to the stream of a resume token: the new grants, and rooms under what the stream
// has. It is an error only if something was asked for and nothing is left.
func (s *Server) joining(base *session, p presented, origin string) (add []*broker.Grant, refused []broker.RefusedGrant, err error) {
	if len(p.Grants) == 0 && len(p.Rooms) == 0 {
		return nil, nil, nil
	}
	all, err := s.authenticate(p, origin)
	if err != nil {
		return nil, nil, err
	}
	if slices.ContainsFunc(all.Refused, func(r refusal) bool { return r.Grant == fromResume }) {
		return nil, nil, broker.Errorf(broker.CodeRevoked, "the stream's grants have just been revoked")
	}
	if len(all.Refused) == len(p.Grants) && len(p.Rooms) == 0 {
		_, err := s.authenticate(presented{Grants: p.Grants}, origin)
		return nil, nil, err
	}
	for i, g := range all.Grants {
		if i >= len(base.Grants) {
			add = append(add, g)
			continue
		}
		if rooms := newEntries(g, base.Grants[i]); len(rooms) > 0 {
			more := *g
			more.Entries = rooms
			add = append(add, &more)
		}
	}
	return add, refusedGrants(all.Refused), nil
}

// newEntries are the entries of g that old has not.
func newEntries(g, old *broker.Grant) (out []broker.Entry) {
	have := make(map[string]bool, len(old.Entries))
	for _, e := range old.Entries {
		have[e.As] = true
	}
	for _, e := range g.Entries {
		if !have[e.As] {
			out = append(out, e)
		}
	}
	return out
}

// nameEntries gives the entries of the new grants the names that the page chose. A name is for a grant of one channel.
func nameEntries(add []*broker.Grant, refused []broker.RefusedGrant, asked []addition) error {
	bad := make(map[int]bool, len(refused))
	for _, r := range refused {
		bad[r.Grant] = true
	}
	// The new grants stand at the end of add, in the order they were asked for, without those refused.
	next := len(add) - (len(asked) - len(refused))
	for i, a := range asked {
		if bad[i] {
			continue
		}
		g := add[next]
		next++
		if a.As == "" {
			continue
		}
		if err := broker.CheckAs(a.As); err != nil {
			return err
		}
		if len(g.Entries) != 1 {
			return broker.Errorf(broker.CodeBadRequest, "add[%d]: as names one entry, and the grant has %d channels", i, len(g.Entries))
		}
		g.Entries[0].As = a.As
	}
	return nil
}
