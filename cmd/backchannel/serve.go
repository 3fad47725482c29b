package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"backchannel/broker"
)

// madeSite is the name of the site that serve makes if there is no configuration at all.
const madeSite = "local"

// serveFlags override the scalar settings that are changed most.
type serveFlags struct{ data, listen, admin, publicURL, tlsListen, log string }

func serveCommand(u *ui) *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the broker",
		Long: "Serve runs the broker until SIGTERM or SIGINT, then drains; a second signal ends it at once. SIGHUP reloads sites,\n" +
			"keys, components and limits. Without any configuration it runs on ./data with a site of its own and prints its\n" +
			"DSN. The log goes to standard error.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return u.serve(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.data, "data", "", "data `directory`")
	fl.StringVar(&f.listen, "listen", "", "public `address`, or systemd")
	fl.StringVar(&f.admin, "admin", "", "admin `address`, or systemd")
	fl.StringVar(&f.publicURL, "public-url", "", "`URL` at which browsers reach the public listener")
	fl.StringVar(&f.tlsListen, "tls-listen", "", "public `address` for TLS")
	fl.StringVar(&f.log, "log", "", "text or json")
	return cmd
}

// apply puts flags that were given over c.
func (f *serveFlags) apply(c *Config) {
	for _, o := range []struct {
		from string
		to   *string
	}{
		{f.data, &c.Data},
		{f.listen, &c.Listen},
		{f.admin, &c.Admin},
		{f.publicURL, &c.PublicURL},
		{f.tlsListen, &c.TLSListen},
		{f.log, &c.Log},
	} {
		if o.from != "" {
			*o.to = o.from
		}
	}
}

func (u *ui) serve(ctx context.Context, f *serveFlags) error {
	src := u.source()
	src.Override = f.apply
	conf, err := src.Load()
	if err == nil && conf.path == "" && len(conf.Sites) == 0 {
		err = makeSite(conf.Data)
	}
	if err != nil {
		return usageError{err}
	}
	app, err := NewApp(AppConfig{Load: src.Load, Logger: u.logger(conf), Now: u.now, Version: versionString()})
	if err != nil {
		return usageError{err}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := u.handleSignals(ctx, stop, app)
	err = app.Run(ctx)
	<-done
	return err
}

// logger writes to standard error in the configured form.
func (u *ui) logger(c *Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.LogLevel}
	if c.Log == "json" {
		return slog.New(slog.NewJSONHandler(u.err, opts))
	}
	return slog.New(slog.NewTextHandler(u.err, opts))
}

// makeSite writes the site of a broker without configuration into its data directory, so that a restart has the same
// keys. Its origins are those of a developer's machine.
func makeSite(data string) error {
	s := newSiteConfig(madeSite, []string{"http://localhost", "http://localhost:8000", "http://localhost:8080"})
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	return writeSiteFile(filepath.Join(data, madeSiteFile), s)
}

// handleSignals reloads at SIGHUP, drains at the first SIGTERM or SIGINT and ends the process at the second. The
// channel that it returns is closed when app has stopped and signals are the system's again.
func (u *ui) handleSignals(ctx context.Context, stop func(), app *App) <-chan struct{} {
	signals, done := make(chan os.Signal, 4), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	go func() {
		defer close(done)
		defer signal.Stop(signals)
		ready := app.Ready()
		stopping := false
		for {
			select {
			case <-ready:
				ready = nil
				u.announceMade(app)
			case s := <-signals:
				switch {
				case s == syscall.SIGHUP:
					u.reload(ctx, app)
				case stopping:
					u.note("a second signal: ending at once")
					u.exit(exitFailed)
				default:
					stopping = true
					stop()
				}
			case <-app.Stopped():
				return
			}
		}
	}()
	return done
}

// announceMade prints the DSN of the site that serve made, if it is what this broker runs on.
func (u *ui) announceMade(app *App) {
	c := app.Config()
	if c.path != "" || len(c.Sites) != 1 || !c.Sites[0].made {
		return
	}
	d, err := c.DSN(broker.SiteID(c.Sites[0].Name))
	if err != nil {
		return
	}
	_ = u.print(d.String())
}

func (u *ui) reload(ctx context.Context, app *App) {
	select {
	case <-app.Ready():
	default:
		return // the start reads what there is
	}
	if err := app.Reload(ctx); err != nil {
		app.logger.LogAttrs(ctx, slog.LevelError, "reload refused", slog.String("reason", err.Error()))
	}
}
