package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backchannel/broker"
)

func siteCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{Use: "site", Short: "Add, list and change sites, on the broker's machine"}
	cmd.AddCommand(siteAddCommand(u), siteListCommand(u), siteRotateCommand(u))
	return cmd
}

func siteAddCommand(u *ui) *cobra.Command {
	a := &siteAdd{u: u}
	cmd := &cobra.Command{
		Use: "add NAME --origin URL [--webhook URL]", Short: "Add a site and print the DSN that connects it",
		Long: "Add makes keys for a new site and writes its file, sites/NAME.toml beside the configuration (and the\n" +
			"configuration, if there is none), tells a running broker to reload, and prints the DSN: the one line that the\n" +
			"LMS needs. It holds the site's secret.",
		Example: "  backchannel site add moodle --origin https://school.example --webhook https://school.example/webhook.php",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringArrayVar(&a.origins, "origin", nil, "web `origin` whose pages may connect, such as https://school.example; may be repeated")
	cmd.Flags().StringVar(&a.webhook, "webhook", "", "`URL` that messages of pages are posted to")
	return cmd
}

type siteAdd struct {
	u       *ui
	origins []string
	webhook string
}

func (a *siteAdd) run(ctx context.Context, name string) error {
	id, err := broker.ParseSiteID(name)
	if err != nil {
		return usageError{err}
	}
	if len(a.origins) == 0 {
		return usagef("--origin is missing: the scheme and host of the pages that will connect, such as https://school.example")
	}
	for i, o := range a.origins {
		if a.origins[i], err = originOf(o); err != nil {
			return usagef("--origin: %w", err)
		}
	}
	c, err := a.configuration()
	if err != nil {
		return err
	}
	if other := c.sites[id]; other != nil {
		return usagef("there is a site %q already; `backchannel site list` shows it", id)
	}
	s := newSiteConfig(name, a.origins)
	s.Webhook = a.webhook
	if a.webhook != "" {
		if s.AllowCIDR, err = a.resolve(ctx, a.webhook); err != nil {
			return err
		}
	}
	file := filepath.Join(filepath.Dir(c.path), "sites", name+".toml")
	if !includes(c, file) {
		return usagef("%s has no `include` that reads %s; add this line at its top: include = \"sites/*.toml\"", c.path, file)
	}
	if err := writeSiteFile(file, s); err != nil {
		return err
	}
	// Read everything again, as the broker will: what it would refuse must not stay behind.
	c, err = a.u.load()
	if err != nil {
		_ = os.Remove(file)
		return err
	}
	a.u.note("wrote %s", file)
	if err := giveToBroker(c.Data, file); err != nil {
		a.u.note("warning: %s", err)
	}
	return a.u.announce(c, id)
}

// giveToBroker makes a new file the broker's own: root adds a site, and a broker that runs as another user has to read
// what nobody else may. Whose the data directory is, that user is the broker.
func giveToBroker(data, file string) error {
	owner, err := os.Stat(data)
	if err != nil {
		return nil //nolint:nilerr // no broker has run yet: the files are whose who starts it
	}
	for _, path := range []string{file, filepath.Dir(file)} {
		info, err := os.Stat(path)
		if err != nil || path != file && info.Mode().Perm()&0o077 != 0 {
			continue // a directory that others may enter was not made by us
		}
		if err := giveTo(path, owner); err != nil {
			return fmt.Errorf("give %s to the broker's user: %w", path, err)
		}
	}
	return nil
}

// configuration loads the configuration, and writes one first if there is none.
func (a *siteAdd) configuration() (*Config, error) {
	src := a.u.source()
	path, err := src.find()
	if err != nil {
		return nil, err
	}
	if path == "" {
		path = "backchannel.toml"
	}
	if _, err := os.Stat(path); os.IsNotExist(err) {
		if err := writeNew(path, []byte(newConfigText), 0o644); err != nil {
			return nil, err
		}
		a.u.note("wrote %s", path)
	}
	return a.u.load()
}

const newConfigText = `# Configuration of a Backchannel broker. Everything that may stand here: docs/configuration.md.

data = "data"
listen = "127.0.0.1:8480"
admin = "127.0.0.1:8481"
# public_url = "https://school.example/rt"    # where browsers reach the broker, if not at listen
include = "sites/*.toml"
`

// includes tells whether the configuration's include reads a file of this name.
func includes(c *Config, file string) bool {
	ok, err := filepath.Match(relativeTo(c.path, c.Include), file)
	return c.Include != "" && err == nil && ok
}

// resolve finds the addresses of a webhook and the ranges that must be allowed for it. A name that does not resolve
// yet is no reason to refuse: the LMS may come later.
func (a *siteAdd) resolve(ctx context.Context, webhook string) ([]CIDR, error) {
	hook, err := parseHTTPURL(webhook)
	if err != nil {
		return nil, usagef("--webhook: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", hook.Hostname())
	if err != nil {
		a.u.note("warning: %s does not resolve on this machine (%s); if it is in a private network, add its range to allow_cidr later", hook.Hostname(), err)
		return nil, nil
	}
	var out []CIDR
	for _, addr := range addrs {
		addr = addr.Unmap()
		if !needsAllow(addr) {
			continue
		}
		c := CIDR{netip.PrefixFrom(addr, addr.BitLen())}
		if !slices.Contains(out, c) {
			out = append(out, c)
			a.u.note("%s is %s, an address that is not public: the site's file allows it with allow_cidr = [%q]", hook.Hostname(), addr, c)
		}
	}
	return out, nil
}

// announce tells a running broker to read its files and prints a site's DSN.
func (u *ui) announce(c *Config, id broker.SiteID) error {
	switch pid, running, err := reloadRunning(c.Data); {
	case err != nil:
		u.note("warning: %s; the change waits for a restart or a SIGHUP", err)
	case running:
		u.note("told the running broker (pid %d) to reload", pid)
	default:
		u.note("no broker runs on %s; start it with: backchannel serve", c.Data)
	}
	d, err := c.DSN(id)
	if err != nil {
		return err
	}
	return u.print(d.String())
}

func siteListCommand(u *ui) *cobra.Command {
	var secrets bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the configured sites", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := u.load()
			if err != nil {
				return err
			}
			for _, s := range c.Sites {
				site := c.sites[broker.SiteID(s.Name)]
				if secrets {
					d, err := c.DSN(site.ID)
					if err != nil {
						return err
					}
					if err := u.print(d.String()); err != nil {
						return err
					}
					continue
				}
				line := fmt.Sprintf("%s\tkeys %s\torigins %s\t%s", s.Name, strings.Join(kidsOf(s.Keys), ","), strings.Join(s.Origins, ","), s.file)
				if err := u.print(line); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&secrets, "dsn", false, "print each site's DSN instead, with its secret")
	return cmd
}

func siteRotateCommand(u *ui) *cobra.Command {
	var drop string
	cmd := &cobra.Command{
		Use: "rotate NAME [--drop KID]", Short: "Give a site a new first key, or drop an old one",
		Long: "Rotate adds a new first key and keeps the old one beside it: both verify, and webhooks carry both signatures.\n" +
			"Give the LMS the new DSN; when it uses it, drop the old key with --drop. Resume tokens are signed with the first\n" +
			"key, so pages that hold one from a dropped key ask their LMS again.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := u.load()
			if err != nil {
				return err
			}
			i := slices.IndexFunc(c.Sites, func(s SiteConfig) bool { return s.Name == args[0] })
			if i < 0 {
				return usagef("site %q is not configured; %s", args[0], c.siteNames())
			}
			s := &c.Sites[i]
			keys, err := rotated(s.Keys, drop)
			if err != nil {
				return err
			}
			if err := rewriteKeys(s, keys); err != nil {
				return err
			}
			if c, err = u.load(); err != nil {
				return err
			}
			u.note("wrote %s", s.file)
			return u.announce(c, broker.SiteID(s.Name))
		},
	}
	cmd.Flags().StringVar(&drop, "drop", "", "`kid` of a key to remove; no new one is made")
	return cmd
}

// rotated gives the keys after a rotation, or after dropping one.
func rotated(keys []string, drop string) ([]string, error) {
	kids := kidsOf(keys)
	if drop != "" {
		i := slices.Index(kids, drop)
		switch {
		case i < 0:
			return nil, usagef("there is no key %q; there are: %s", drop, strings.Join(kids, ", "))
		case len(keys) == 1:
			return nil, usagef("%q is the only key; rotate first", drop)
		}
		return slices.Delete(slices.Clone(keys), i, i+1), nil
	}
	if len(keys) > 1 {
		return nil, usagef("there are two keys already (%s); drop the old one first: --drop %s", strings.Join(kids, ", "), kids[len(kids)-1])
	}
	return append([]string{newKeyText(nextKID(kids))}, keys...), nil
}

// nextKID counts on from k1, k2, ...
func nextKID(kids []string) string {
	n := 1
	for _, kid := range kids {
		if i, err := strconv.Atoi(strings.TrimPrefix(kid, "k")); err == nil && i >= n {
			n = i + 1
		}
	}
	return "k" + strconv.Itoa(n)
}
