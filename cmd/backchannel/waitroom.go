package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"backchannel/persist"
)

// roomEvery is how often a start on a full disk looks whether there is room now.
const roomEvery = time.Second

// awaitRoom waits until the disk has room to open the store, or ctx ends. Meanwhile whoever asks is told so: an admin
// who finds the broker silent would look for the fault in the wrong place.
func (a *App) awaitRoom(ctx context.Context, opts persist.Options) error {
	lack := persist.Room(opts)
	if lack == nil {
		return nil
	}
	a.logger.LogAttrs(ctx, slog.LevelError, "the disk is full, the store is not opened yet", slog.String("dir", opts.Dir), slog.String("reason", lack.Error()))
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	group, waiting := errgroup.WithContext(waiting)
	for _, ln := range []net.Listener{a.listen.public, a.listen.admin} {
		if err := serveWaiting(waiting, group, ln); err != nil {
			return err
		}
	}
	a.logListening(ctx, a.Addresses())
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for lack != nil {
		select {
		case <-waiting.Done():
			stop()
			return errors.Join(group.Wait(), ctx.Err())
		case <-tick.C:
			lack = persist.Room(opts)
		}
	}
	stop()
	a.logger.LogAttrs(ctx, slog.LevelInfo, "the disk has room again", slog.String("dir", opts.Dir))
	return group.Wait()
}

// serveWaiting answers on ln until ctx ends, over a duplicate of its socket: closing that leaves ln as it was.
func serveWaiting(ctx context.Context, group *errgroup.Group, ln net.Listener) error {
	filer, ok := ln.(interface{ File() (*os.File, error) })
	if !ok {
		return nil // connections wait in the kernel's queue
	}
	file, err := filer.File()
	if err != nil {
		return fmt.Errorf("duplicate the socket %s: %w", ln.Addr(), err)
	}
	twin, err := net.FileListener(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("duplicate the socket %s: %w", ln.Addr(), err)
	}
	server := &http.Server{Handler: http.HandlerFunc(answerWaiting), ReadHeaderTimeout: readHeaderTimeout}
	server.SetKeepAlivesEnabled(false) // so that nobody is left on a connection of this server when the real one begins
	group.Go(func() error {
		if err := server.Serve(twin); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", ln.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		// Requests that have begun are answered; new ones wait in the kernel's queue for the real server.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			return server.Close()
		}
		return nil
	})
	return nil
}

// answerWaiting is all there is to say without a store. Streams and polls are cut, since they would not come back from a
// refusal.
func answerWaiting(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/healthz"):
		_, _ = w.Write([]byte("ok"))
		return
	case strings.HasSuffix(path, "/v1/stream"), strings.HasSuffix(path, "/v1/poll"):
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "10")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client has gone; there is nobody to tell
		"type": "urn:backchannel:store_full", "title": "The store is full", "status": http.StatusServiceUnavailable,
		"code": "store_full", "detail": "the broker's disk is full; it opens its store when there is room",
	})
}
