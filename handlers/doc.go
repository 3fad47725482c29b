// Package handlers is HTTP in: what pages ask (streams, polls, messages), what servers ask (publish, revoke, history,
// deliveries) and what admins ask (health, metrics). It knows formats, status codes, limits and credentials; what a
// request means is decided by package broker and package webhooks, which it sees through small interfaces.
//
// # Path of a request
//
// Server.Public is a standard ServeMux. Streams and polls go to standard handlers, because they take the connection
// over or flush it; everything else goes to gin. No handler hands a gin context on: below it there are contexts of the
// request, values and errors with a broker.Code, which errors.go turns into a status and problem JSON (RFC 9457).
//
// # Credentials
//
// One interface, verifier, turns what a page presents into grants. The kinds are the LMS's own grants and the broker's
// resume tokens and keys. A key is chosen by site and key id out of the configuration and used with one algorithm;
// nothing in a token chooses either.
//
// # Goroutines
//
// The package starts none, and a Server may be used from many. What must outlive its request (a stream, a delivery) is
// handed to the hub or the dispatcher.
//
// # Lock order
//
// The rates of callers and the last uses of keys have a mutex each; neither is held while anything else is called.
//
// # After a crash
//
// Nothing is kept here. Resume tokens hold what they need in themselves, so they are good after a restart.
package handlers
