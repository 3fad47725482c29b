package blackbox_test

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// component is a [[site.component]] of the configuration; zero fields are left out.
type component struct {
	name, webhook string
	concurrency   int
	idempotent    bool
}

// site is a [[site]] of the configuration and, at once, what the LMS behind it knows.
type site struct {
	name       string
	keys       []key
	salt       []byte
	origins    []string
	webhook    string
	components []component
	closed     bool // no loopback address may be dialled
	streams    int  // of [site.limits], 0 for the default
}

func newSite(name string) *site {
	return &site{name: name, keys: []key{newKey("k1")}, salt: randomBytes(32), origins: []string{"https://school.example"}}
}

func (s *site) bearer() string { return s.keys[0].bearer(s.name) }

// hash is the channel of an item of this site.
func (s *site) hash(item string) string {
	return channelHash(s.salt, "42", "mod_test", "area", item, "")
}

// claims are those of a grant that is good now, for user 5 in a session of its own.
func (s *site) claims(entries ...entry) claims {
	now := time.Now()
	if entries == nil {
		entries = []entry{}
	}
	return claims{
		"iss": s.name, "aud": "backchannel", "sub": "5", "sid": "s" + randomHex(6), "jti": "j" + randomHex(8),
		"iat": unix(now), "exp": unix(now.Add(10 * time.Minute)), "until": unix(now.Add(8 * time.Hour)), "ch": entries,
	}
}

// grant signs claims for the entries, as changed by the functions.
func (s *site) grant(entries []entry, change ...func(claims)) string {
	c := s.claims(entries...)
	for _, f := range change {
		f(c)
	}
	return s.keys[0].sign(c)
}

// hears is a grant for whole channels and nothing else.
func (s *site) hears(channels ...string) string {
	entries := make([]entry, len(channels))
	for i, h := range channels {
		entries[i] = entry{"h": h}
	}
	return s.grant(entries)
}

// config is what a test says of the broker's configuration file; zero fields are left out.
type config struct {
	listen     string // port 0 of the loopback if empty
	publicURL  string
	tlsListen  string // with cert.pem and key.pem in tlsDir
	tlsDir     string
	age        string
	perChannel int
	total      string
	sites      []*site
}

func (c config) toml(data string) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s = %s\n", name, value)
		}
	}
	line("data", strconv.Quote(data))
	line("listen", strconv.Quote(cmp.Or(c.listen, "127.0.0.1:0")))
	line("admin", `"127.0.0.1:0"`)
	line("public_url", quoteIf(c.publicURL))
	if c.tlsListen != "" {
		line("tls_listen", strconv.Quote(c.tlsListen))
		line("tls_cert", strconv.Quote(filepath.Join(c.tlsDir, "cert.pem")))
		line("tls_key", strconv.Quote(filepath.Join(c.tlsDir, "key.pem")))
	}
	b.WriteString("[retention]\n")
	line("age", quoteIf(c.age))
	if c.perChannel > 0 {
		line("per_channel", strconv.Itoa(c.perChannel))
	}
	line("total", quoteIf(c.total))
	for _, s := range c.sites {
		s.toml(&b, line)
	}
	return b.String()
}

func (s *site) toml(b *strings.Builder, line func(name, value string)) {
	keys := make([]string, len(s.keys))
	for i, k := range s.keys {
		keys[i] = k.kid + "." + base64url(k.secret)
	}
	b.WriteString("[[site]]\n")
	line("name", strconv.Quote(s.name))
	line("keys", quoteList(keys))
	line("salt", strconv.Quote(base64url(s.salt)))
	line("origins", quoteList(s.origins))
	line("webhook", quoteIf(s.webhook))
	if !s.closed {
		line("allow_cidr", quoteList([]string{"127.0.0.0/8"}))
	}
	if s.streams > 0 {
		b.WriteString("[site.limits]\n")
		line("streams", strconv.Itoa(s.streams))
	}
	for _, c := range s.components {
		b.WriteString("[[site.component]]\n")
		line("name", strconv.Quote(c.name))
		line("webhook", quoteIf(c.webhook))
		if c.concurrency > 0 {
			line("concurrency", strconv.Itoa(c.concurrency))
		}
		if c.idempotent {
			line("idempotent", "true")
		}
	}
}

func quoteIf(s string) string {
	if s == "" {
		return ""
	}
	return strconv.Quote(s)
}

func quoteList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func mustWrite(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// listen opens a loopback port, of a number if port is not 0.
func listen(t testing.TB, port int) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
