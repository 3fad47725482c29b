package peers

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge"
)

// centrifugal is Centrifugo's engine: history in memory, subscriptions made by the server when a client connects, and
// the unidirectional transport below, which follows the library's own SSE handler.
func centrifugal(bool) (*library, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		channel := string(e.Data)
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: e.Token},
			Subscriptions: map[string]centrifuge.SubscribeOptions{channel: {EnableRecovery: true}},
		}, nil
	})
	node.OnConnect(func(*centrifuge.Client) {})
	if err := node.Run(); err != nil {
		return nil, err
	}
	h := &uniSSE{node: node}
	return &library{subscribe: h, publish: h.publish}, nil
}

// uniSSE is the handler of unidirectional event streams.
type uniSSE struct {
	node   *centrifuge.Node
	epochs sync.Map // channel to epoch: what a client would have been told when it first connected
}

func (h *uniSSE) publish(stream string, data []byte) (string, error) {
	res, err := h.node.Publish(stream, data, centrifuge.WithHistory(1000, 10*time.Minute))
	if err != nil {
		return "", err
	}
	if _, ok := h.epochs.Load(stream); !ok {
		h.epochs.Store(stream, res.Epoch)
	}
	return `{"offset":` + strconv.FormatUint(res.Offset, 10) + `}`, nil
}

// ServeHTTP connects a client; Last-Event-ID is the offset from which it recovers.
func (h *uniSSE) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := &uniTransport{messages: make(chan [][]byte), gone: make(chan struct{}), closed: make(chan struct{})}
	c, closeClient, err := centrifuge.NewClient(r.Context(), h.node, t)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = closeClient() }()
	defer close(t.closed) // before closeClient, which would wait for a write
	w.Header().Set("X-Accel-Buffering", "no")
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	c.Connect(h.request(r))
	t.pump(w, r, rc)
}

func (h *uniSSE) request(r *http.Request) centrifuge.ConnectRequest {
	channel := r.URL.Query().Get("stream")
	req := centrifuge.ConnectRequest{Token: r.RemoteAddr, Data: []byte(channel)}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		offset, _ := strconv.ParseUint(id, 10, 64)
		epoch, _ := h.epochs.Load(channel)
		req.Subs = map[string]centrifuge.SubscribeRequest{channel: {Recover: true, Offset: offset, Epoch: fmt.Sprint(epoch)}}
	}
	return req
}

// uniTransport hands a client's messages to the goroutine of its request.
type uniTransport struct {
	messages chan [][]byte
	gone     chan struct{} // closed when the node disconnects the client
	closed   chan struct{} // closed when the request has ended
	once     sync.Once
}

// writeTime is the library's own: what one batch may take.
const writeTime = time.Second

func (t *uniTransport) pump(w http.ResponseWriter, r *http.Request, rc *http.ResponseController) {
	for {
		select {
		case <-r.Context().Done():
			return
		case <-t.gone:
			return
		case messages := <-t.messages:
			_ = rc.SetWriteDeadline(time.Now().Add(writeTime))
			for _, m := range messages {
				if _, err := w.Write([]byte("data: " + string(m) + "\n\n")); err != nil {
					return
				}
			}
			_ = rc.Flush()
			_ = rc.SetWriteDeadline(time.Time{})
		}
	}
}

// Name and what follows is centrifuge.Transport.
func (t *uniTransport) Name() string { return "uni_sse" }

// AcceptProtocol is a label of metrics.
func (t *uniTransport) AcceptProtocol() string { return "h1" }

// Protocol is JSON, as SSE is text.
func (t *uniTransport) Protocol() centrifuge.ProtocolType { return centrifuge.ProtocolTypeJSON }

// ProtocolVersion is the current one.
func (t *uniTransport) ProtocolVersion() centrifuge.ProtocolVersion {
	return centrifuge.ProtocolVersion2
}

// Unidirectional transports are written pushes only.
func (t *uniTransport) Unidirectional() bool { return true }

// Emulation is of bidirectional transports.
func (t *uniTransport) Emulation() bool { return false }

// DisabledPushFlags keeps the push of a disconnect away, which the end of the stream tells.
func (t *uniTransport) DisabledPushFlags() uint64 { return centrifuge.PushFlagDisconnect }

// PingPongConfig sends pings every 25 s, the default.
func (t *uniTransport) PingPongConfig() centrifuge.PingPongConfig {
	return centrifuge.PingPongConfig{PingInterval: 25 * time.Second, PongTimeout: -1}
}

// Write hands one message over.
func (t *uniTransport) Write(m []byte) error { return t.WriteMany(m) }

// WriteMany hands messages over and waits until they are taken.
func (t *uniTransport) WriteMany(m ...[]byte) error {
	select {
	case t.messages <- m:
	case <-t.gone:
	case <-t.closed:
	}
	return nil
}

// Close ends the stream.
func (t *uniTransport) Close(centrifuge.Disconnect) error {
	t.once.Do(func() { close(t.gone) })
	return nil
}
