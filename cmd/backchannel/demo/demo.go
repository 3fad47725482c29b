package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"backchannel/broker"
)

// Options say how to show it.
type Options struct {
	// Program is the backchannel binary that is started as the broker.
	Program string
	// Listen is where the page is served: host:port, port 0 for a free one.
	Listen string
	// Ready, if set, is called once with the page's URL, when the page can be opened.
	Ready func(url string)
	// Log gets what the broker and the demo have to say; ErrOut what a broker that does not start wrote.
	Log    *slog.Logger
	ErrOut io.Writer
}

// Run shows the demo until ctx ends. It keeps everything in a temporary directory, which is gone when it returns; so
// is the broker.
func Run(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "backchannel-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo's store: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen on %q for the demo's page: %w (give another address with --listen)", o.Listen, err)
	}
	d, err := newDemo(o, dir, listener.Addr())
	if err != nil {
		_ = listener.Close()
		return err
	}
	return d.run(ctx, listener, o.Ready)
}

// demo is what one run is made of.
type demo struct {
	broker    *brokerProcess
	room      *room
	lms       *lms
	component *component
	network   *network
	server    *http.Server
	url       string
}

func newDemo(o Options, dir string, addr net.Addr) (*demo, error) {
	site, err := newSite()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return nil, fmt.Errorf("address of the demo's page: %w", err)
	}
	url := "http://" + net.JoinHostPort("127.0.0.1", port)
	config := filepath.Join(dir, "backchannel.toml")
	if err := os.WriteFile(config, site.configuration(url, origins(addr, port)), 0o600); err != nil {
		return nil, fmt.Errorf("write the demo's configuration: %w", err)
	}
	d := &demo{url: url, broker: newBrokerProcess(o.Program, config, o.Log, o.ErrOut)}
	d.room = newRoom(site, d.broker.Address, time.Now)
	d.network = newNetwork(d.broker.Address, o.Log, time.Now)
	d.component = newComponent(site, d.room, d.network.Hostile, time.Now)
	d.lms = newLMS(site, d.room, time.Now)
	d.server = &http.Server{
		Handler: d.routes(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return d, nil
}

func (d *demo) run(ctx context.Context, listener net.Listener, ready func(string)) error {
	group, ctx := errgroup.WithContext(ctx)
	d.server.BaseContext = func(net.Listener) context.Context { return ctx }
	group.Go(func() error {
		if err := d.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the demo's page: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return d.server.Close()
	})
	group.Go(func() error { return d.broker.Run(ctx) })
	group.Go(func() error { return d.room.Run(ctx) })
	group.Go(func() error { return d.network.Run(ctx) })
	if err := d.broker.Await(ctx); err == nil && ready != nil {
		ready(d.url)
	}
	err := group.Wait()
	d.room.close()
	d.network.close()
	if errors.Is(err, context.Canceled) {
		return nil // that is how a demo ends
	}
	return err
}

// site is the demo's tenant: made anew for each run.
type site struct {
	id   broker.SiteID
	key  *broker.Key
	salt []byte
}

func newSite() (*site, error) {
	secret, salt := make([]byte, 32), make([]byte, 32)
	_, _ = rand.Read(secret) // crypto/rand.Read never fails since Go 1.24
	_, _ = rand.Read(salt)
	key, err := broker.NewKey("k1", secret)
	if err != nil {
		return nil, err
	}
	return &site{id: "demo", key: key, salt: salt}, nil
}

// configuration is the broker's file. The ports are free ones, found again at each start: the network knows the
// broker's address, nobody else has to.
func (s *site) configuration(url string, origins []string) []byte {
	list := ""
	for _, o := range origins {
		list += fmt.Sprintf("%q, ", o)
	}
	return fmt.Appendf(nil, `data = "data"
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
public_url = %q
log = "json"

[[site]]
name = %q
keys = ["%s.%s"]
salt = %q
origins = [%s]
webhook = %q
allow_cidr = ["127.0.0.0/8"]
idempotent = true

[site.limits]
streams = 1000
`, url+networkPath, s.id, s.key.ID, encode(s.key.Secret), encode(s.salt), list, url+componentPath)
}

// origins are where browsers may have the page from: by default this machine alone, else every address of it.
func origins(addr net.Addr, port string) []string {
	hosts := []string{"127.0.0.1", "localhost"}
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		all, _ := net.InterfaceAddrs() // without them this machine can still look
		for _, a := range all {
			if ipnet, ok := a.(*net.IPNet); ok && !ipnet.IP.IsLoopback() {
				hosts = append(hosts, ipnet.IP.String())
			}
		}
	}
	for i, h := range hosts {
		hosts[i] = "http://" + net.JoinHostPort(h, port)
	}
	return hosts
}
