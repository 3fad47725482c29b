package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"backchannel/broker"
	"backchannel/webhooks"
)

// hub is what requests need of broker.Hub; each part is declared where it is used.
type hub interface {
	revocations
	revoker
	liveStreams
	liveChannels
	hubMeter
	streamHub
}

// dispatcher is what requests need of webhooks.Dispatcher.
type dispatcher interface {
	sender
	retrier
	dispatcherMeter
}

// queue is what requests need of webhooks.Queue.
type queue interface {
	deliveries
	forgetter
	queueMeter
}

// Config is what a Server works with. Sites, Log, Hub, Messages, Queue and Epoch are required.
type Config struct {
	Sites    *broker.Sites
	Log      broker.Log
	Hub      hub
	Messages dispatcher
	Queue    queue
	// PublicURL is where browsers reach the broker; under its path everything is served too. "" for none.
	PublicURL string
	// Endpoint tells where a component's deliveries go, for GET /v1/self; nil: that is not told.
	Endpoint webhooks.Endpoints
	// Logger gets faults, and requests at debug; nil means none.
	Logger *slog.Logger
	// Version is shown to plugins and admins.
	Version string
	// Now is the broker's clock; nil means time.Now.
	Now func() time.Time
	// Epoch is that of the store. It may wait until the store is known, so it is not called before a request.
	Epoch func() broker.Epoch
	// Health is nil, or why the broker should get no traffic; nil: it always should.
	Health func() error
	// AdminPassword checks the password of the admin listener; nil: nobody has it.
	AdminPassword func(string) bool
	// AdminHosts are names other than localhost and addresses under which the admin listener may be asked.
	AdminHosts []string
	// Pprof serves profiles on the admin listener.
	Pprof bool
	// Metrics are read at each scrape, beside those of the hub, the queue and the dispatcher.
	Metrics []Metric
}

// Server is HTTP in. It is safe for use by many goroutines and starts none.
type Server struct {
	cfg     Config
	prefix  string // path of PublicURL without a slash at the end, "" for none
	parser  *jwt.Parser
	uses    *keyUses
	rates   *rates
	metrics *metrics
	// The kinds of credential. resumes and keys differ in what they take, not in what they give.
	grants, resumes, keys verifier
	public, admin         http.Handler
}

// New makes a Server; it starts nothing. The error is about PublicURL or a part that is missing.
func New(cfg Config) (*Server, error) {
	if cfg.Sites == nil || cfg.Log == nil || cfg.Hub == nil || cfg.Messages == nil || cfg.Queue == nil || cfg.Epoch == nil {
		return nil, errors.New("handlers: Sites, Log, Hub, Messages, Queue and Epoch are required")
	}
	u, err := url.Parse(cfg.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("public_url %q: %w", cfg.PublicURL, err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, prefix: strings.TrimRight(u.Path, "/"), parser: newParser(),
		uses: newKeyUses(), rates: newRates(maxCallers),
	}
	s.metrics = newMetrics(s)
	s.grants = grantVerifier{s}
	s.resumes = resumeVerifier{s, "resume token", typeResume}
	s.keys = resumeVerifier{s, "key", typeKey}
	s.public = s.publicHandler()
	s.admin = s.adminHandler()
	return s, nil
}

// Public serves pages and servers: /v1 and /healthz, under the path of PublicURL and without it. Streams take their
// connection over, so the http.Server must have no WriteTimeout.
func (s *Server) Public() http.Handler { return s.public }

// Admin serves the admin listener.
func (s *Server) Admin() http.Handler { return s.admin }

func (s *Server) publicHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/stream", s.openStream)
	mux.HandleFunc("GET /v1/stream", s.openStream)
	mux.HandleFunc("/v1/stream", s.methodNotAllowed("GET, POST"))
	mux.HandleFunc("POST /v1/poll", s.poll)
	mux.HandleFunc("/v1/poll", s.methodNotAllowed("POST"))
	mux.HandleFunc("POST /v1/streams/{stream}/channels", s.changeChannels)
	mux.HandleFunc("/v1/streams/{stream}/channels", s.methodNotAllowed("POST"))
	mux.Handle("/", s.api())
	return s.stripPrefix(s.common(s.guard(mux)))
}

// stripPrefix serves the path of PublicURL as if it were the root, for proxies that pass paths on unchanged.
func (s *Server) stripPrefix(next http.Handler) http.Handler {
	if s.prefix == "" {
		return next
	}
	under := http.StripPrefix(s.prefix, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, s.prefix+"/") {
			under.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guard keeps a panic of one request from ending the process and from saying anything to the client.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler)
			}
			s.logPanic(r.Context(), r, v)
			// Whether something was written is not known here, so the connection ends.
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) logPanic(ctx context.Context, r *http.Request, v any) {
	s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "request panicked", slog.String("method", r.Method),
		slog.String("route", routeOf(r)), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
}
