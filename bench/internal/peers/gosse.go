package peers

import (
	"net/http"

	"github.com/tmaxmax/go-sse"
)

// history is how many events a peer with a bounded history keeps, for all channels together or each.
const history = 2000

func goSSE(replay bool) (*library, error) {
	joe := &sse.Joe{}
	if replay {
		r, err := sse.NewFiniteReplayer(history, true)
		if err != nil {
			return nil, err
		}
		joe.Replayer = r
	}
	s := &sse.Server{Provider: joe, OnSession: func(w http.ResponseWriter, r *http.Request) ([]string, bool) {
		// The library sends the header with the first event; subscribers here wait for it.
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		return []string{r.URL.Query().Get("stream")}, true
	}}
	return &library{subscribe: s, publish: func(stream string, data []byte) (string, error) {
		m := &sse.Message{}
		m.AppendData(string(data))
		return "{}", s.Publish(m, stream)
	}}, nil
}
