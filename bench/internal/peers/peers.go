// Package peers makes servers of Go libraries, each the way its own documentation does: net/http, the library's handler
// for subscribers, and a handler that publishes a request's body. They run as processes of their own.
package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"
)

// token is what publishers must present: checking one is part of what a publish costs.
const token = "Bearer bench"

// maxBody bounds a published event, in bytes.
const maxBody = 1 << 20

// library is a peer: who subscribes and how to publish. publish returns the body of the answer.
type library struct {
	subscribe http.Handler
	publish   func(stream string, data []byte) (string, error)
}

// Run serves the peer of that name on a free port of 127.0.0.1 until SIGTERM, and prints "listening <address>" to out.
// With replay it keeps a history if it keeps one at choice.
func Run(ctx context.Context, name string, replay bool, out io.Writer) error {
	makers := map[string]func(bool) (*library, error){"r3labs": r3labs, "go-sse": goSSE, "centrifuge": centrifugal}
	maker, ok := makers[name]
	if !ok {
		return fmt.Errorf("peer %q is not known; want r3labs, go-sse or centrifuge", name)
	}
	lib, err := maker(replay)
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /s", lib.subscribe)
	mux.HandleFunc("POST /p", lib.handlePublish)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if _, err := fmt.Fprintln(out, "listening", l.Addr()); err != nil {
		return err
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (l *library) handlePublish(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != token {
		http.Error(w, "wrong token", http.StatusUnauthorized)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := l.publish(r.URL.Query().Get("stream"), data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, answer)
}
