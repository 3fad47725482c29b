package peers

import "github.com/r3labs/sse/v2" //nolint:depguard // a peer here; the product does not use its server

func r3labs(replay bool) (*library, error) {
	s := sse.New()
	s.AutoStream, s.AutoReplay = true, replay
	return &library{subscribe: s, publish: func(stream string, data []byte) (string, error) {
		if !s.StreamExists(stream) {
			s.CreateStream(stream)
		}
		s.Publish(stream, &sse.Event{Data: data})
		return "{}", nil
	}}, nil
}
