package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"backchannel/broker"
	"backchannel/handlers"
)

const (
	// A client has this long to send its header; a classroom's slowest link does it in one.
	readHeaderTimeout = 10 * time.Second
	// Idle connections are kept a little longer than nginx keeps its own to us (60 s), so that it is nginx that closes.
	idleTimeout = 75 * time.Second
	// A GET /v1/stream carries its grants in the query string.
	maxHeaderBytes = 128 << 10
)

// surfaces are the two handlers of a broker.
type surfaces interface {
	Public() http.Handler
	Admin() http.Handler
}

// listeners are the sockets of a broker; secure is nil without tls_listen.
type listeners struct {
	public, admin, secure net.Listener
	certificates          *certificates
}

// openListeners binds everything or nothing. The kernel queues connections from then on: no client is refused while
// the store is opened.
func openListeners(c *Config) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	inherited, err := inheritedListeners(c)
	if err != nil {
		return l, err
	}
	for _, b := range []struct {
		key, addr, name string
		to              *net.Listener
	}{
		{"listen", c.Listen, "public", &l.public}, {"admin", c.Admin, "admin", &l.admin}, {"tls_listen", c.TLSListen, "tls", &l.secure},
	} {
		switch b.addr {
		case "":
		case listenSystemd:
			if *b.to = inherited.take(b.name); *b.to == nil {
				return l, fmt.Errorf("%s = \"systemd\", but the service manager handed over no socket for it; name one with FileDescriptorName=%s in the socket unit, and start the socket, not the service", b.key, b.name)
			}
		default:
			var lc net.ListenConfig
			if *b.to, err = lc.Listen(context.Background(), "tcp", b.addr); err != nil {
				return l, fmt.Errorf("%s = %q: %w (does another program listen there?)", b.key, b.addr, err)
			}
		}
	}
	if l.secure != nil {
		l.certificates, err = newCertificates(c.TLSCert, c.TLSKey)
	}
	return l, err
}

// inherited are sockets of the service manager, by name and in their order.
type inherited struct {
	named   map[string][]net.Listener
	ordered []net.Listener
}

// inheritedListeners takes the sockets over only if the configuration wants any.
func inheritedListeners(c *Config) (inherited, error) {
	if c.Listen != listenSystemd && c.Admin != listenSystemd && c.TLSListen != listenSystemd {
		return inherited{}, nil
	}
	var in inherited
	in.named = map[string][]net.Listener{}
	files := activation.Files(true)
	for _, f := range files {
		ln, err := net.FileListener(f)
		if err != nil {
			return in, fmt.Errorf("take over socket %q of the service manager: %w", f.Name(), err)
		}
		_ = f.Close() // FileListener has its own copy
		in.named[f.Name()] = append(in.named[f.Name()], ln)
		in.ordered = append(in.ordered, ln)
	}
	return in, nil
}

// take gives the socket of a name. Sockets that have none of our names go out in the order public, admin, tls.
func (in *inherited) take(name string) net.Listener {
	var got net.Listener
	if list := in.named[name]; len(list) > 0 {
		got = list[0]
	} else if len(in.ordered) > 0 && len(in.named["public"])+len(in.named["admin"])+len(in.named["tls"]) == 0 {
		got = in.ordered[0]
	}
	for i, ln := range in.ordered {
		if ln == got {
			in.ordered = append(in.ordered[:i:i], in.ordered[i+1:]...)
			break
		}
	}
	return got
}

func (l *listeners) addresses() Addresses {
	a := Addresses{Public: l.public.Addr().String(), Admin: l.admin.Addr().String()}
	if l.secure != nil {
		a.TLS = l.secure.Addr().String()
	}
	return a
}

func (l *listeners) close() {
	for _, ln := range []net.Listener{l.public, l.admin, l.secure} {
		if ln != nil {
			_ = ln.Close() // closed already if it was served
		}
	}
}

// httpServer serves one listener.
type httpServer struct {
	*http.Server
	ln  net.Listener
	tls bool
}

func (l *listeners) servers(requests context.Context, h surfaces, logger *slog.Logger) []*httpServer {
	out := []*httpServer{newHTTPServer(requests, l.public, h.Public(), logger), newHTTPServer(requests, l.admin, h.Admin(), logger)}
	if l.secure != nil {
		s := newHTTPServer(requests, l.secure, h.Public(), logger)
		s.tls = true
		s.TLSConfig = &tls.Config{GetCertificate: l.certificates.Get, MinVersion: tls.VersionTLS12}
		out = append(out, s)
	}
	return out
}

// newHTTPServer has no WriteTimeout and no ReadTimeout: both would end streams. Handlers set deadlines of their own.
func newHTTPServer(requests context.Context, ln net.Listener, h http.Handler, logger *slog.Logger) *httpServer {
	return &httpServer{ln: ln, Server: &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return requests },
		ConnContext: handlers.ConnContext,
		ErrorLog:    slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // broken handshakes are the internet's weather
	}}
}

// run serves until stop.
func (s *httpServer) run() error {
	var err error
	if s.tls {
		err = s.ServeTLS(broker.TLSListener(s.ln), "", "")
	} else {
		err = s.Serve(s.ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", s.ln.Addr(), err)
}

// stop takes no new connections, waits for requests until ctx ends, and cuts what is left.
func (s *httpServer) stop(ctx context.Context) error {
	if err := s.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests on %s had not ended: %w", s.ln.Addr(), err), s.Close())
	}
	return nil
}
