package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"backchannel/broker"
	"backchannel/persist"
	"backchannel/webhooks"
)

// Reload reads the configuration again and installs its sites, keys, components, retention and limits; streams stay
// open. A configuration that is wrong changes nothing; the error says why.
func (a *App) Reload(ctx context.Context) error {
	conf, err := a.load()
	if err != nil {
		return fmt.Errorf("the configuration was not reloaded, the one before stays in force: %w", err)
	}
	for _, key := range conf.needRestart(a.Config()) {
		a.logger.LogAttrs(ctx, slog.LevelWarn, "a changed setting waits for a restart", slog.String("key", key))
	}
	before := a.Config()
	a.use(conf)
	for id := range before.sites {
		if conf.sites[id] == nil {
			if err := a.hub.EndSite(ctx, id); err != nil {
				return fmt.Errorf("end the streams of site %s: %w", id, err)
			}
		}
	}
	applyMemoryLimit(ctx, a.logger, conf.Memory)
	a.store.SetLimits(conf.retention(), conf.bounds())
	a.dispatcher.Reload()
	a.logger.LogAttrs(ctx, slog.LevelInfo, "configuration reloaded", slog.Int("sites", len(conf.Sites)))
	return nil
}

// use installs what requests look up.
func (a *App) use(conf *Config) {
	a.conf.Store(conf)
	a.sites.Replace(conf.sites)
	for _, w := range conf.warnings {
		a.logger.LogAttrs(context.Background(), slog.LevelWarn, "configuration", slog.String("warning", w))
	}
}

// needRestart lists the settings that differ from before and are read at the start only.
func (c *Config) needRestart(before *Config) []string {
	var out []string
	for _, s := range []struct {
		key          string
		now, earlier any
	}{
		{"data", c.Data, before.Data},
		{"listen", c.Listen, before.Listen},
		{"admin", c.Admin, before.Admin},
		{"admin_hosts", strings.Join(c.AdminHosts, ","), strings.Join(before.AdminHosts, ",")},
		{"public_url", c.PublicURL, before.PublicURL},
		{"tls_listen", c.TLSListen, before.TLSListen},
		{"tls_cert", c.TLSCert, before.TLSCert},
		{"tls_key", c.TLSKey, before.TLSKey},
		{"log", c.Log, before.Log},
		{"log_level", c.LogLevel, before.LogLevel},
		{"pprof", c.Pprof, before.Pprof},
		{"space", c.Space, before.Space},
	} {
		if s.now != s.earlier {
			out = append(out, s.key)
		}
	}
	return out
}

func (c *Config) retention() persist.Retention {
	return persist.Retention{Age: time.Duration(c.Retention.Age), PerChannel: c.Retention.PerChannel, Total: int64(c.Retention.Total)}
}

// bounds are those of all sites, with those of each that has any.
func (c *Config) bounds() webhooks.Bounds {
	out := c.Limits.bounds()
	out.Sites = map[broker.SiteID]webhooks.Bounds{}
	for i := range c.Sites {
		if own := c.Sites[i].Limits; own.Queue+own.Dead+own.DeliveryLog+own.Replies > 0 {
			out.Sites[broker.SiteID(c.Sites[i].Name)] = own.bounds()
		}
	}
	return out
}

func (l *Limits) bounds() webhooks.Bounds {
	return webhooks.Bounds{
		Queue: int64(l.Queue), Dead: int64(l.Dead), DeliveryLog: int64(l.DeliveryLog), Replies: int64(l.Replies),
	}
}
