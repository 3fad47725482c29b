package webhooks

import (
	"net/netip"
	"net/url"
	"time"

	"backchannel/broker"
)

// DefaultConcurrency is how many attempts run at once against one URL: a school's PHP-FPM has 5 to 50 workers.
const DefaultConcurrency = 8

// Endpoint is where a component's deliveries go, as configured. It is immutable: a reload makes a new one.
type Endpoint struct {
	Site      broker.SiteID
	Component broker.ComponentID
	URL       *url.URL
	// Concurrency bounds the attempts under way at URL, shared by its components.
	Concurrency int
	// Idempotent says that the receiver recognises repeats by webhook-id, so a call may be tried again after its
	// request was sent.
	Idempotent bool
	// Notices are the types the component wants.
	Notices []Type
	// Timeout of an attempt that no deadline bounds; 0 means 15 s.
	Timeout time.Duration
	// Allow lists addresses that may be dialled although they are private or loopback.
	Allow []netip.Prefix
	// Connect, if set, is host:port to dial in place of the URL's; name and certificate stay the URL's.
	Connect string
	// CAFile, if set, is a PEM bundle trusted beside the system's.
	CAFile string
	// Secrets sign: one signature each.
	Secrets [][]byte
}

// Endpoints finds the endpoint of a component as configured now. ok is false if it has none.
type Endpoints func(site broker.SiteID, component broker.ComponentID) (e Endpoint, ok bool)

// shape is what decides whether an attempt that failed before might succeed now.
func (e *Endpoint) shape() string {
	return e.URL.String() + " " + e.Connect + " " + e.CAFile + " " + joinPrefixes(e.Allow)
}
