package main

import (
	"log/slog"
	"time"

	"backchannel/broker"
)

// Config is the whole configuration: one TOML file, its includes, the environment and flags, in this order of rising
// strength. It is immutable once loaded; a reload makes a new one.
type Config struct {
	// Data is the directory of everything that the broker stores, relative to the configuration file. It is made if
	// it does not exist, with mode 0700.
	Data string `toml:"data" env:"DATA"`
	// Listen is the public listener: host:port, :port, or "systemd" for socket activation. Port 0 takes a free one.
	Listen string `toml:"listen" env:"LISTEN"`
	// Admin is the admin listener, as Listen.
	Admin string `toml:"admin" env:"ADMIN"`
	// AdminHosts are names other than localhost and addresses under which browsers may ask the admin listener: those
	// of a proxy before it.
	AdminHosts []string `toml:"admin_hosts" env:"ADMIN_HOSTS"`
	// PublicURL is where browsers reach the public listener, "" for the listener's own address.
	PublicURL string `toml:"public_url" env:"PUBLIC_URL"`
	// TLSListen is a second public listener that speaks TLS and HTTP/2, "" for none. It needs TLSCert and TLSKey.
	TLSListen string `toml:"tls_listen" env:"TLS_LISTEN"`
	// TLSCert and TLSKey are PEM files, relative to the configuration file. They are read again when they change.
	TLSCert string `toml:"tls_cert" env:"TLS_CERT"`
	TLSKey  string `toml:"tls_key" env:"TLS_KEY"`
	// Include is a pattern of further files with [[site]] tables, relative to the configuration file.
	Include string `toml:"include"`
	// Log is the form of the log on standard error: "text" or "json".
	Log string `toml:"log" env:"LOG"`
	// LogLevel is the least level logged: "debug", "info", "warn" or "error".
	LogLevel slog.Level `toml:"log_level" env:"LOG_LEVEL"`
	// Memory is a soft limit for the Go runtime; 0 is a quarter of what the machine or its cgroup has, at most 2 GiB.
	Memory Size `toml:"memory" env:"MEMORY"`
	// Pprof serves net/http/pprof on the admin listener, behind its password.
	Pprof bool `toml:"pprof" env:"PPROF"`

	Retention Retention    `toml:"retention" envPrefix:"RETENTION_"`
	Limits    Limits       `toml:"limits" envPrefix:"LIMITS_"`
	Space     Space        `toml:"space" envPrefix:"SPACE_"`
	Sites     []SiteConfig `toml:"site"`

	path      string   // the main file, "" if there is none
	files     []string // every file read
	warnings  []string // what loading wants to say without refusing
	sites     map[broker.SiteID]*broker.Site
	endpoints map[broker.SiteID]*siteEndpoints
}

// Retention says how long events are kept. Whatever is reached first removes the oldest.
type Retention struct {
	// Age of the oldest event that is kept.
	Age Duration `toml:"age" env:"AGE"`
	// PerChannel is how many events one channel keeps.
	PerChannel int `toml:"per_channel" env:"PER_CHANNEL"`
	// Total bytes of all events.
	Total Size `toml:"total" env:"TOTAL"`
}

// Limits stand in [limits], for the whole broker, and in [site.limits], for one site beside those of all. There 0 means
// none of its own.
type Limits struct {
	// Queue is bytes of messages waiting for a webhook or being sent; beyond it new ones are refused.
	Queue Size `toml:"queue" env:"QUEUE"`
	// Dead is bytes of dead letters; beyond it the oldest go.
	Dead Size `toml:"dead" env:"DEAD"`
	// DeliveryLog is bytes of requests and responses of ended deliveries, kept for admins; beyond it the oldest go,
	// and outcomes stay.
	DeliveryLog Size `toml:"delivery_log" env:"DELIVERY_LOG"`
	// Replies is bytes of replies of components; beyond it the oldest go.
	Replies Size `toml:"replies" env:"REPLIES"`
	SiteLimits
}

// SiteLimits are what each site may do: [limits] says it for all, [site.limits] for one. 0 means the default.
type SiteLimits struct {
	// Streams is how many streams and polls of a site may be open.
	Streams int `toml:"streams" env:"STREAMS"`
	// Event is bytes of one event's data.
	Event Size `toml:"event" env:"EVENT"`
	// Message is bytes of one message's data.
	Message Size `toml:"message" env:"MESSAGE"`
	// Reply is bytes of one reply of a component.
	Reply Size `toml:"reply" env:"REPLY"`
	// GrantEntries is how many channels one grant may name.
	GrantEntries int `toml:"grant_entries" env:"GRANT_ENTRIES"`
	// StreamEntries is how many channels one stream may carry.
	StreamEntries int `toml:"stream_entries" env:"STREAM_ENTRIES"`
	// CallerMessages is messages a second and caller; bursts may be twice as many.
	CallerMessages float64 `toml:"caller_messages" env:"CALLER_MESSAGES"`
}

// Space keeps a full disk from killing the process.
type Space struct {
	// MinFree is how much must stay free on the disk of Data; below it intake is refused. 0 is what the store needs.
	MinFree Size `toml:"min_free" env:"MIN_FREE"`
	// Ballast is a file of this size that is given up when the disk is full, so that the store can be opened.
	// 0 is what the store needs.
	Ballast Size `toml:"ballast" env:"BALLAST"`
}

// SiteConfig is a tenant.
type SiteConfig struct {
	// Name of the site: [a-z0-9][a-z0-9-]{0,31}.
	Name string `toml:"name"`
	// Keys are one or two of <kid>.<secret>. All verify and all sign webhooks; the first is in the DSN.
	Keys []string `toml:"keys"`
	// Salt keys channel hashes; it never rotates.
	Salt string `toml:"salt"`
	// Origins are the web origins whose pages may connect: scheme, host and port, without a path.
	Origins []string `toml:"origins"`
	// Credentials are the kinds a page may present: "grant".
	Credentials []string `toml:"credentials"`
	// Hook is the default endpoint of the site's components.
	Hook
	// AllowCIDR lists private and loopback addresses that webhooks may go to.
	AllowCIDR  []CIDR            `toml:"allow_cidr"`
	Components []ComponentConfig `toml:"component"`
	Limits     Limits            `toml:"limits"`

	file string // where it stands, for errors and for commands that change it
	made bool   // made by serve, in Data
	nth  int    // of the [[site]] tables of file
}

// ComponentConfig is a plugin of a site whose endpoint differs from the site's.
type ComponentConfig struct {
	// Name of the component: [A-Za-z0-9_.-]{1,64}.
	Name string `toml:"name"`
	Hook
}

// Hook says where deliveries go and how. In a component each field overrides the site's; a component with a webhook
// of its own does not take the site's webhook_connect.
type Hook struct {
	// Webhook is the URL that deliveries are posted to.
	Webhook string `toml:"webhook"`
	// Connect is host:port to dial in place of the URL's; name and certificate stay the URL's.
	Connect string `toml:"webhook_connect"`
	// CAFile is a PEM bundle trusted beside the system's, relative to the file it is named in.
	CAFile string `toml:"ca_file"`
	// Concurrency bounds the attempts under way at the URL, shared by all components there; 0 is 8.
	Concurrency int `toml:"concurrency"`
	// Timeout of an attempt that no deadline bounds; 0 is 15 s.
	Timeout Duration `toml:"timeout"`
	// Idempotent says that the receiver recognises repeats by webhook-id.
	Idempotent *bool `toml:"idempotent"`
	// Notices are the types of notices wanted: "channel.occupied", "channel.vacated", "member.joined", "member.left".
	Notices []string `toml:"notices"`
}

// DefaultConfig is what an empty file means.
func DefaultConfig() *Config {
	d := broker.DefaultLimits()
	return &Config{
		Data: "data", Listen: "127.0.0.1:8480", Admin: "127.0.0.1:8481", Log: "text",
		Retention: Retention{Age: Duration(24 * time.Hour), PerChannel: 10_000, Total: 1 << 30},
		Limits: Limits{
			Queue: 512 << 20, Dead: 256 << 20, DeliveryLog: 256 << 20, Replies: 256 << 20,
			SiteLimits: SiteLimits{
				Streams: d.Streams, Event: Size(d.EventBytes), Message: Size(d.MessageBytes), Reply: Size(d.ReplyBytes),
				GrantEntries: d.GrantEntries, StreamEntries: d.StreamEntries, CallerMessages: d.CallerMessages,
			},
		},
	}
}
