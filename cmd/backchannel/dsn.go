package main

import (
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"backchannel/broker"
)

// connection says which broker and site a client command speaks to.
type connection struct {
	u    *ui
	dsn  string
	site string
}

func (c *connection) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.dsn, "dsn", "", "`line` that connects a site (default $BACKCHANNEL_DSN)")
	cmd.Flags().StringVar(&c.site, "site", "", "`name` of a site of the configuration, on the broker's machine")
}

// resolve finds the DSN: --dsn, --site, BACKCHANNEL_DSN, then the only site of the configuration.
func (c *connection) resolve() (broker.DSN, error) {
	text := c.dsn
	if text == "" && c.site == "" {
		text = c.u.source().environment()[envPrefix+"DSN"]
	}
	if text != "" {
		if c.site != "" {
			return broker.DSN{}, usagef("give --dsn or --site, not both")
		}
		d, err := broker.ParseDSN(text)
		if err != nil {
			return broker.DSN{}, usageError{err}
		}
		return d, nil
	}
	conf, err := c.u.load()
	if err != nil {
		return broker.DSN{}, err
	}
	if c.site == "" && len(conf.Sites) == 1 {
		return conf.DSN(broker.SiteID(conf.Sites[0].Name))
	}
	if c.site == "" {
		return broker.DSN{}, usagef("which site? give --dsn or --site, or set BACKCHANNEL_DSN (%s)", conf.siteNames())
	}
	return conf.DSN(broker.SiteID(c.site))
}

// DSN is the line that connects a configured site. Its host is that of public_url, else the listener's; via is the
// listener if that differs.
func (c *Config) DSN(id broker.SiteID) (broker.DSN, error) {
	site := c.sites[id]
	if site == nil {
		return broker.DSN{}, usagef("site %q is not configured; %s", id, c.siteNames())
	}
	d := broker.DSN{Site: id, Key: site.Keys[0], Salt: site.Salt, Public: strings.TrimRight(c.PublicURL, "/")}
	local := localURL(c.listenAddress())
	switch {
	case d.Public == "" && local == "":
		return broker.DSN{}, usagef("the listener's address is not known here; set public_url")
	case d.Public == "":
		d.Public = local
	case local != d.Public:
		d.Via = local
	}
	return d, nil
}

// listenAddress is the public listener's address: the running broker's own if there is one, because port 0 and
// socket activation are known only to it.
func (c *Config) listenAddress() string {
	if r, err := readRunFile(c.Data); err == nil && r.alive && r.Public != "" {
		return r.Public
	}
	if c.Listen == listenSystemd || strings.HasSuffix(c.Listen, ":0") {
		return ""
	}
	return c.Listen
}

// localURL is how a process on the same machine reaches a listener; "" for an unknown address.
func localURL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func (c *Config) siteNames() string {
	if len(c.Sites) == 0 {
		return "no site is configured; `backchannel site add NAME --origin URL` adds one"
	}
	names := make([]string, 0, len(c.Sites))
	for _, s := range c.Sites {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return "there are: " + strings.Join(names, ", ")
}
