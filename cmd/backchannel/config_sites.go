package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// credentialGrant is the one kind of credential so far; a site that names none takes it.
const credentialGrant = "grant"

// siteEndpoints are the endpoints of a site as configured.
type siteEndpoints struct {
	// fallback serves components without an entry; its URL is nil if the site has no webhook.
	fallback   webhooks.Endpoint
	components map[broker.ComponentID]webhooks.Endpoint
}

// Endpoint finds where deliveries of a component go; ok is false if nowhere. It is a webhooks.Endpoints of this
// configuration.
func (c *Config) Endpoint(site broker.SiteID, component broker.ComponentID) (webhooks.Endpoint, bool) {
	s := c.endpoints[site]
	if s == nil {
		return webhooks.Endpoint{}, false
	}
	e, named := s.components[component]
	if !named {
		e = s.fallback
		e.Component = component
	}
	return e, e.URL != nil
}

// siteScope reports findings about one [[site]] table.
type siteScope struct {
	*checker
	s *SiteConfig
}

func (k siteScope) report(key, write, problem string, args ...any) {
	name := k.s.Name
	if name == "" {
		name = fmt.Sprint(k.s.nth)
	}
	k.reportIn(k.s.file, fmt.Sprintf("site[%d].%s", k.s.nth, key), "site["+name+"]."+key, write, problem, args...)
}

func (k *checker) site(s *SiteConfig) {
	sc := siteScope{k, s}
	k.c.warnReadable(s.file)
	id, err := broker.ParseSiteID(s.Name)
	if err != nil {
		sc.report("name", `a name such as "moodle"`, "%s", err)
		return
	}
	if k.c.sites[id] != nil {
		sc.report("name", "another name", "there are two sites named %q", id)
		return
	}
	site := &broker.Site{ID: id, Keys: sc.keys(), Origins: sc.origins(), Limits: s.Limits.over(k.c.Limits.SiteLimits)}
	if site.Salt, err = broker.ParseSecret("salt", s.Salt); err != nil {
		sc.report("salt", "what `backchannel site add` made", "%s", err)
	}
	for _, kind := range s.Credentials {
		if kind != credentialGrant {
			sc.report("credentials", `"grant"`, "%q is not a kind of credential", kind)
		}
	}
	path, shown := fmt.Sprintf("site[%d].limits", s.nth), "site["+s.Name+"].limits"
	k.siteLimits(s.file, path, shown, s.Limits.SiteLimits)
	k.siteBounds(s.file, path, shown, s.Limits)
	k.c.sites[id] = site
	k.c.endpoints[id] = sc.endpoints(site)
}

func (k siteScope) keys() []*broker.Key {
	if n := len(k.s.Keys); n < 1 || n > 2 {
		k.report("keys", `one key, or two while rotating: ["k2.<secret>", "k1.<secret>"]`, "has %d keys", n)
	}
	var out []*broker.Key
	for _, text := range k.s.Keys {
		key, err := broker.ParseKey(text)
		if err != nil {
			k.report("keys", `"<kid>.<secret>" as "backchannel site add" makes it`, "%s", err)
			continue
		}
		if slices.ContainsFunc(out, func(o *broker.Key) bool { return o.ID == key.ID }) {
			k.report("keys", "another kid", "has the kid %q twice", key.ID)
			continue
		}
		name := k.s.Name + "/" + key.ID
		if other, taken := k.secrets[string(key.Secret)]; taken {
			k.report("keys", "a secret of its own; `backchannel site add` makes one", "key %s has the same secret as %s", name, other)
			continue
		}
		k.secrets[string(key.Secret)] = name
		out = append(out, key)
	}
	return out
}

func (k siteScope) origins() []string {
	for _, o := range k.s.Origins {
		if origin, err := originOf(o); err != nil {
			k.report("origins", `"https://school.example"`, "%s", err)
		} else if origin != o {
			k.report("origins", fmt.Sprintf("%q", origin), "%q is not an origin as browsers send it", o)
		}
	}
	return k.s.Origins
}

// originOf gives the origin of a URL as browsers send it: lower case, no path, no default port.
func originOf(s string) (string, error) {
	u, err := parseHTTPURL(s)
	if err != nil {
		return "", err
	}
	host := toLowerASCII(u.Host)
	if port := u.Port(); port == "443" && u.Scheme == "https" || port == "80" && u.Scheme == "http" {
		host = host[:len(host)-len(port)-1]
	}
	return u.Scheme + "://" + host, nil
}

func toLowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func (k siteScope) endpoints(site *broker.Site) *siteEndpoints {
	out := &siteEndpoints{components: map[broker.ComponentID]webhooks.Endpoint{}}
	out.fallback = k.endpoint(site, "", "", k.s.Hook)
	for i := range k.s.Components {
		comp, path := &k.s.Components[i], fmt.Sprintf("component[%d]", i)
		id, err := broker.ParseComponentID(comp.Name)
		if err != nil {
			k.report(path+".name", `a name such as "mod_kahoodle"`, "%s", err)
			continue
		}
		if _, twice := out.components[id]; twice {
			k.report(path+".name", "another name", "there are two components named %q", id)
			continue
		}
		out.components[id] = k.endpoint(site, id, path+".", comp.over(k.s.Hook))
	}
	return out
}

// over gives a component's settings with the site's where it has none. webhook_connect goes with its own webhook.
func (c *ComponentConfig) over(site Hook) Hook {
	h := c.Hook
	if h.Webhook == "" {
		h.Webhook = site.Webhook
		if h.Connect == "" {
			h.Connect = site.Connect
		}
	}
	if h.CAFile == "" {
		h.CAFile = site.CAFile
	}
	if h.Concurrency == 0 {
		h.Concurrency = site.Concurrency
	}
	if h.Timeout == 0 {
		h.Timeout = site.Timeout
	}
	if h.Idempotent == nil {
		h.Idempotent = site.Idempotent
	}
	if h.Notices == nil {
		h.Notices = site.Notices
	}
	return h
}

func (k siteScope) endpoint(site *broker.Site, component broker.ComponentID, path string, h Hook) webhooks.Endpoint {
	e := webhooks.Endpoint{
		Site: site.ID, Component: component, URL: k.webhookURL(path, h), Concurrency: h.Concurrency, Connect: h.Connect,
		Idempotent: h.Idempotent != nil && *h.Idempotent, Timeout: time.Duration(h.Timeout), CAFile: k.caFile(path, h.CAFile),
	}
	if e.Concurrency == 0 {
		e.Concurrency = webhooks.DefaultConcurrency
	}
	if e.Concurrency < 0 || e.Concurrency > 1000 {
		k.report(path+"concurrency", "a number from 1 to 1000", "%d is out of range", h.Concurrency)
	}
	if h.Connect != "" {
		if _, port, err := net.SplitHostPort(h.Connect); err != nil || port == "" {
			k.report(path+"webhook_connect", `"10.0.0.5:443"`, "%q is not host:port", h.Connect)
		}
	}
	for _, n := range h.Notices {
		switch t := webhooks.Type(n); t {
		case webhooks.TypeChannelOccupied, webhooks.TypeChannelVacated, webhooks.TypeMemberJoined, webhooks.TypeMemberLeft:
			e.Notices = append(e.Notices, t)
		default:
			k.report(path+"notices", `"channel.occupied", "channel.vacated", "member.joined" or "member.left"`, "%q is not a notice", n)
		}
	}
	for _, p := range k.s.AllowCIDR {
		e.Allow = append(e.Allow, p.Prefix)
	}
	for _, key := range site.Keys {
		e.Secrets = append(e.Secrets, key.Webhook)
	}
	return e
}

func (k siteScope) webhookURL(path string, h Hook) *url.URL {
	if h.Webhook == "" {
		return nil
	}
	u, err := parseHTTPURL(h.Webhook)
	if err != nil {
		k.report(path+"webhook", `"https://school.example/webhook.php"`, "%s", err)
		return nil
	}
	return u
}

func (k siteScope) caFile(path, file string) string {
	if file == "" {
		return ""
	}
	file = relativeTo(k.s.file, file)
	pem, err := os.ReadFile(file) // #nosec G304 -- the operator names the file
	if err != nil {
		k.report(path+"ca_file", "", "%s", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		k.report(path+"ca_file", "the name of a PEM bundle", "%s holds no certificate", file)
	}
	return file
}

// over gives a site's limits, with those of [limits] where it sets none.
func (l SiteLimits) over(all SiteLimits) broker.Limits {
	for _, f := range []struct{ own, all *Size }{{&l.Event, &all.Event}, {&l.Message, &all.Message}, {&l.Reply, &all.Reply}} {
		if *f.own == 0 {
			*f.own = *f.all
		}
	}
	for _, f := range []struct{ own, all *int }{
		{&l.Streams, &all.Streams}, {&l.GrantEntries, &all.GrantEntries}, {&l.StreamEntries, &all.StreamEntries},
	} {
		if *f.own == 0 {
			*f.own = *f.all
		}
	}
	if l.CallerMessages == 0 {
		l.CallerMessages = all.CallerMessages
	}
	return broker.Limits{
		Streams: l.Streams, EventBytes: int(l.Event), MessageBytes: int(l.Message), ReplyBytes: int(l.Reply),
		GrantEntries: l.GrantEntries, StreamEntries: l.StreamEntries, CallerMessages: l.CallerMessages,
	}
}

// needsAllow tells whether a webhook's address may only be dialled if allow_cidr says so.
func needsAllow(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || netip.MustParsePrefix("100.64.0.0/10").Contains(a)
}
