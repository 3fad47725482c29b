package webhooks

import (
	"context"
	"net"
)

// DialWith replaces the guarded dialer, for tests on pipes.
func (c *Config) DialWith(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	c.dial = dial
}

// Dial gives what DialWith has set.
func (c *Config) Dial() func(ctx context.Context, network, address string) (net.Conn, error) {
	return c.dial
}
