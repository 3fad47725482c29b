package handlers

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"backchannel/broker"
)

// answer is what a request comes to, if not an error. A nil body is {}.
type answer struct {
	status int
	body   any
}

func ok(body any) (answer, error) { return answer{http.StatusOK, body}, nil }

// request is what handlers get in place of a gin context, which is pooled and must not leave this file.
type request struct {
	*http.Request
	w     http.ResponseWriter
	param func(name string) string
	// site is set on the server's surface, once the bearer was checked.
	site *broker.Site
}

// read decodes the body of a server's request into v.
func (r *request) read(v any) error { return readBody(r.w, r.Request, maxServerBody, strict, v) }

// channel is the path's {channel}, in the site.
func (r *request) channel() (broker.Channel, error) {
	id, err := broker.ParseChannelID(r.param("channel"))
	return broker.Channel{Site: r.site.ID, ID: id}, err
}

type handler func(ctx context.Context, r *request) (answer, error)

// api is everything that answers with JSON and ends: gin's part.
func (s *Server) api() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	g.RedirectTrailingSlash = false // a redirect loses the body of a POST
	g.HandleMethodNotAllowed = true
	g.UseEscapedPath = true // a user's id may hold a slash
	g.UnescapePathValues = true
	_ = g.SetTrustedProxies(nil) // nil cannot be wrong; nobody's X-Forwarded-For is believed
	g.Use(s.observe, s.recoverJSON)
	g.NoRoute(s.plain(func(context.Context, *request) (answer, error) {
		return answer{}, broker.Errorf(broker.CodeNotFound, "no such path; the API is below /v1/")
	}))
	g.NoMethod(s.plain(func(_ context.Context, r *request) (answer, error) {
		return answer{}, broker.Errorf(codeMethod, "%s is not possible here; want %s", clip(r.Method), r.w.Header().Get("Allow"))
	}))
	g.GET("/healthz", gin.WrapF(s.alive))
	g.HEAD("/healthz", gin.WrapF(s.alive))
	s.pageRoutes(g.Group("/v1"))
	s.serverRoutes(g.Group("/v1"))
	return g
}

func (s *Server) pageRoutes(g *gin.RouterGroup) {
	g.POST("/messages", s.plain(s.sendMessage))
	g.POST("/messages/:id", s.plain(s.askMessage))
}

func (s *Server) serverRoutes(g *gin.RouterGroup) {
	get := func(path string, h handler) { g.GET(path, s.withBearer(h)) }
	post := func(path string, h handler) { g.POST(path, s.withBearer(h)) }
	post("/publish", s.publish)
	post("/revoke", s.revoke)
	get("/self", s.self)
	get("/channels", s.listChannels)
	get("/channels/:channel", s.showChannel)
	get("/channels/:channel/events", s.channelEvents)
	post("/channels/:channel/purge", s.purgeChannel)
	post("/users/:user/purge", s.purgeUser)
	get("/events", s.siteEvents)
	get("/streams", s.listStreams)
	get("/deliveries", s.listDeliveries)
	post("/deliveries/retry", s.retryDeliveries)
	get("/deliveries/:id", s.showDelivery)
	post("/deliveries/:id/retry", s.retryDelivery)
}

// plain turns a handler into gin's.
func (s *Server) plain(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		r := &request{Request: c.Request, w: c.Writer, param: c.Param}
		s.reply(r, h)
	}
}

// withBearer is plain for the server's surface.
func (s *Server) withBearer(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		r := &request{Request: c.Request, w: c.Writer, param: c.Param}
		site, err := s.bearer(c.Request)
		if err != nil {
			c.Header("WWW-Authenticate", `Bearer realm="backchannel"`)
			s.fail(r.w, r.Request, err)
			return
		}
		r.site = site
		s.reply(r, h)
	}
}

func (s *Server) reply(r *request, h handler) {
	a, err := h(r.Context(), r)
	if err != nil {
		s.fail(r.w, r.Request, err)
		return
	}
	if a.body == nil {
		a.body = struct{}{}
	}
	writeJSON(r.w, a.status, "application/json", a.body)
}

// recoverJSON answers 500 if a handler panics before it has answered.
func (s *Server) recoverJSON(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler || c.Writer.Written() { //nolint:errorlint // a panic's value, compared as net/http does
			panic(v)
		}
		s.logPanic(c.Request.Context(), c.Request, v)
		s.fail(c.Writer, c.Request, broker.Errorf(broker.CodeInternal, "panic"))
	}()
	c.Next()
}

// observe counts requests and, at debug, logs them: never the path as asked for or the query, which may hold a grant.
func (s *Server) observe(c *gin.Context) {
	begun := s.cfg.Now()
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), routeKey{}, c.FullPath()))
	c.Next()
	status, route := c.Writer.Status(), c.FullPath()
	s.metrics.requests.WithLabelValues(knownMethod(c.Request.Method), route, strconv.Itoa(status)).Inc()
	s.cfg.Logger.LogAttrs(c.Request.Context(), slog.LevelDebug, "request", slog.String("method", c.Request.Method),
		slog.String("route", route), slog.Int("status", status), slog.Duration("took", s.cfg.Now().Sub(begun)))
}

// knownMethod keeps a client from making up values of a label.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodHead, http.MethodOptions:
		return m
	}
	return "other"
}

type routeKey struct{}

// routeOf names the pattern that a request met, for logs.
func routeOf(r *http.Request) string {
	if route, ok := r.Context().Value(routeKey{}).(string); ok && route != "" {
		return route
	}
	if r.Pattern != "" {
		return strings.TrimPrefix(r.Pattern, r.Method+" ")
	}
	return "none"
}
