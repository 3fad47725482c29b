package main

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"backchannel/broker"
)

// checker collects findings, so that an operator mends them all at once.
type checker struct {
	c        *Config
	texts    texts
	findings []error
	// secrets maps each secret seen to the key that has it: one secret in two sites would let one sign for the other.
	secrets map[string]string
}

// check fills what is derived from the settings and reports all that is wrong with them.
func (c *Config) check(t texts) error {
	k := &checker{c: c, texts: t, secrets: map[string]string{}}
	k.listeners()
	k.bounds()
	c.sites, c.endpoints = map[broker.SiteID]*broker.Site{}, map[broker.SiteID]*siteEndpoints{}
	for i := range c.Sites {
		k.site(&c.Sites[i])
	}
	return joinFindings(k.findings)
}

// report adds a finding about a key of the main file.
func (k *checker) report(key, write, problem string, args ...any) {
	k.reportIn(k.c.path, key, key, write, problem, args...)
}

func (k *checker) reportIn(file, path, shown, write, problem string, args ...any) {
	k.findings = append(k.findings, &ConfigError{
		File: file, Line: k.texts[file].line(path), Key: shown, Problem: fmt.Sprintf(problem, args...), Write: write,
	})
}

func (k *checker) listeners() {
	c := k.c
	for key, addr := range map[string]string{"listen": c.Listen, "admin": c.Admin} {
		if err := checkListen(addr); err != nil {
			k.report(key, "", "%s", err)
		}
	}
	if c.Listen == c.Admin && c.Listen != listenSystemd && !strings.HasSuffix(c.Listen, ":0") {
		k.report("admin", `another port, such as "127.0.0.1:8481"`, "is the same address as listen")
	}
	if c.TLSListen != "" {
		if err := checkListen(c.TLSListen); err != nil {
			k.report("tls_listen", "", "%s", err)
		}
		if c.TLSCert == "" || c.TLSKey == "" {
			k.report("tls_listen", "tls_cert and tls_key, the names of two PEM files", "needs a certificate")
		} else if _, err := newCertificates(c.TLSCert, c.TLSKey); err != nil {
			k.report("tls_cert", "", "%s", err)
		}
	} else if c.TLSCert != "" || c.TLSKey != "" {
		k.report("tls_cert", `tls_listen = ":8443"`, "has no effect without tls_listen")
	}
	if c.PublicURL != "" {
		if err := checkURL(c.PublicURL); err != nil {
			k.report("public_url", `"https://school.example/rt"`, "%s", err)
		}
	}
	if c.Log != "text" && c.Log != "json" {
		k.report("log", `"text" or "json"`, "%q is not a form of log", c.Log)
	}
	if c.Data == "" {
		k.report("data", "the name of a directory", "is empty")
	}
}

// leastBound is the least of a bound on the queue and what it keeps: about one message.
const leastBound = 1 << 16

// bounds checks numbers. The least values are those below which nothing works, not what is sensible.
func (k *checker) bounds() {
	c := k.c
	for _, b := range []struct {
		key        string
		got, least int64
		write      string
	}{
		{"retention.age", int64(c.Retention.Age), int64(Duration(1e9)), `"24h"`},
		{"retention.per_channel", int64(c.Retention.PerChannel), 1, "10000"},
		{"retention.total", int64(c.Retention.Total), 1 << 20, `"1GiB"`},
		{"limits.queue", int64(c.Limits.Queue), leastBound, `"512MiB"`},
		{"limits.dead", int64(c.Limits.Dead), leastBound, `"256MiB"`},
		{"limits.delivery_log", int64(c.Limits.DeliveryLog), leastBound, `"256MiB"`},
		{"limits.replies", int64(c.Limits.Replies), leastBound, `"256MiB"`},
		{"space.min_free", int64(c.Space.MinFree), 0, `"256MiB"`},
		{"space.ballast", int64(c.Space.Ballast), 0, `"64MiB"`},
	} {
		if b.got < b.least {
			k.report(b.key, b.write, "is too small")
		}
	}
	if c.Memory != 0 && c.Memory < 32<<20 {
		k.report("memory", `"256MiB", or 0 for a quarter of what there is`, "%s is less than the store alone needs", c.Memory)
	}
	k.siteLimits(c.path, "limits", "limits", c.Limits.SiteLimits)
}

func (k *checker) siteLimits(file, path, shown string, l SiteLimits) {
	const mostBytes = 1 << 20 // what one commit of the store can hold
	for _, b := range []struct {
		key       string
		got, most int64
	}{
		{"streams", int64(l.Streams), 10_000_000},
		{"event", int64(l.Event), mostBytes},
		{"message", int64(l.Message), mostBytes},
		{"reply", int64(l.Reply), mostBytes},
		{"grant_entries", int64(l.GrantEntries), 100_000},
		{"stream_entries", int64(l.StreamEntries), 100_000},
		{"caller_messages", int64(l.CallerMessages), 1_000_000},
	} {
		if b.got < 0 || b.got > b.most {
			k.reportIn(file, path+"."+b.key, shown+"."+b.key, fmt.Sprintf("a number up to %d", b.most), "%d is out of range", b.got)
		}
	}
}

// siteBounds checks what a site has of the bounds on the queue; 0 is none of its own.
func (k *checker) siteBounds(file, path, shown string, l Limits) {
	for _, b := range []struct {
		key string
		got Size
	}{{"queue", l.Queue}, {"dead", l.Dead}, {"delivery_log", l.DeliveryLog}, {"replies", l.Replies}} {
		if b.got != 0 && b.got < leastBound {
			k.reportIn(file, path+"."+b.key, shown+"."+b.key, `"64MiB", or leave it out for that of [limits] alone`, "is too small")
		}
	}
}

// checkURL accepts an absolute http(s) URL without user, query and fragment.
func checkURL(s string) error {
	u, err := parseHTTPURL(s)
	if err == nil && (u.RawQuery != "" || u.ForceQuery) {
		return fmt.Errorf("%q has a query", s)
	}
	return err
}

func parseHTTPURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Opaque != "":
		return nil, fmt.Errorf("%q is not an http or https URL", s)
	case u.User != nil:
		return nil, fmt.Errorf("holds a user name or password")
	case u.Fragment != "":
		return nil, fmt.Errorf("%q has a fragment", s)
	}
	return u, nil
}

// warnReadable says that a file with secrets can be read by anybody on the machine.
func (c *Config) warnReadable(file string) {
	info, err := os.Stat(file)
	if err == nil && info.Mode().Perm()&0o004 != 0 {
		c.warnings = append(c.warnings, fmt.Sprintf("%s holds secrets and everybody on this machine may read it (mode %s); run: chmod o-r %s", file, fs.FileMode.Perm(info.Mode()), file))
	}
}
