package webhooks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"backchannel/broker"
)

const (
	connectTimeout = 3 * time.Second
	tlsTimeout     = 5 * time.Second
	// idleConnLife is below the keep-alive time of every usual server (Apache: 5 s), because a request that meets
	// a connection being closed is lost in doubt.
	idleConnLife = 3 * time.Second
	// clientLife is how long the client of an endpoint that is not used is kept.
	clientLife = 10 * time.Minute
	// maxHeaderBytes bounds the header of an answer.
	maxHeaderBytes = 64 << 10
)

// dialFunc is net.Dialer.DialContext.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// clientKey holds all that shapes a client: endpoints that differ in any of it never share a connection.
type clientKey struct {
	site                 broker.SiteID
	url, connect, caFile string
	allow                string
	concurrency          int
	generation           int
}

type client struct {
	*retryablehttp.Client
	used time.Time // guarded by clients.mu
}

// clients keeps one client for each endpoint, because go-retryablehttp closes the idle connections of all that share
// a client when one of them fails.
type clients struct {
	admin func() netip.AddrPort
	dial  dialFunc // replaces the guarded dialer in tests that use no sockets

	mu         sync.Mutex
	all        map[clientKey]*client // guarded by mu
	generation int                   // guarded by mu
}

// get finds or makes the client of e. It reads e.CAFile when it makes one.
func (c *clients) get(e *Endpoint, now time.Time) (*client, error) {
	key := clientKey{
		site: e.Site, url: e.URL.String(), connect: e.Connect, caFile: e.CAFile,
		allow: joinPrefixes(e.Allow), concurrency: e.limit(),
	}
	c.mu.Lock()
	key.generation = c.generation
	found := c.all[key]
	if found != nil {
		found.used = now
	}
	c.mu.Unlock()
	if found != nil {
		return found, nil
	}
	made, err := c.make(e)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.all[key]; other != nil {
		return other, nil
	}
	made.used = now
	c.all[key] = made
	return made, nil
}

func (c *clients) make(e *Endpoint) (*client, error) {
	roots, err := loadRoots(e.CAFile)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:                  nil, // a proxy would be the dialled address, and the guard would check that
		DialContext:            c.dialer(e),
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    tlsTimeout,
		IdleConnTimeout:        idleConnLife,
		MaxConnsPerHost:        e.limit(),
		MaxIdleConnsPerHost:    e.limit(),
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true, // the limit on replies counts what is sent
		Protocols:              new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true) // HTTP/2 resends on its own, and its streams cannot be told apart on the wire
	return &client{Client: &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     0, // the schedule is durable and ours
		CheckRetry:   func(context.Context, *http.Response, error) (bool, error) { return false, nil },
		Backoff:      retryablehttp.DefaultBackoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}}, nil
}

func (c *clients) dialer(e *Endpoint) dialFunc {
	g := guard{allow: e.Allow, chosen: e.Connect != "", admin: c.admin, local: net.InterfaceAddrs}
	dial := c.dial
	if dial == nil {
		d := &net.Dialer{Timeout: connectTimeout, ControlContext: g.control}
		dial = d.DialContext
	}
	connect := e.Connect
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if connect != "" {
			address = connect
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &wireConn{Conn: conn}, nil
	}
}

// renew makes later attempts use new clients: certificates are read again.
func (c *clients) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
}

// evict drops the clients that nobody used for clientLife. No attempt lasts that long.
func (c *clients) evict(now time.Time) {
	c.mu.Lock()
	var idle []*client
	for key, cl := range c.all {
		if now.Sub(cl.used) > clientLife {
			idle = append(idle, cl)
			delete(c.all, key)
		}
	}
	c.mu.Unlock()
	for _, cl := range idle {
		cl.HTTPClient.CloseIdleConnections()
	}
}

// close ends all idle connections; it is called when no attempt is left.
func (c *clients) close() {
	c.mu.Lock()
	all := c.all
	c.all = make(map[clientKey]*client)
	c.mu.Unlock()
	for _, cl := range all {
		cl.HTTPClient.CloseIdleConnections()
	}
}

func loadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // nil means the system's roots
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the path is the admin's own configuration
	if err != nil {
		return nil, fmt.Errorf("read the certificates of the endpoint: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the certificates of the endpoint: %s holds no PEM certificate", file)
	}
	return roots, nil
}

func joinPrefixes(prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return ""
	}
	all := make([]string, len(prefixes))
	for i, p := range prefixes {
		all[i] = p.String()
	}
	return strings.Join(all, ",")
}

// limit is how many attempts may be under way at the endpoint's URL.
func (e *Endpoint) limit() int {
	if e.Concurrency <= 0 {
		return DefaultConcurrency
	}
	return e.Concurrency
}
