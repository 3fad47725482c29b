// Package demo shows the broker at its real work, with one command and no other server: the broker as a child process
// that can be killed, a small LMS, a component with a webhook, and a network between page and broker that can be made
// hostile.
//
// # Goroutines
//
// Run starts four and returns when all have ended: the HTTP server, the keeper of the child process, the publisher of
// the room, and the clock of the hostile network.
//
// # What is real
//
// Everything: the broker is this program's own `serve` on a store on disk, SIGKILL is SIGKILL, webhooks go over HTTP
// and are signed. Only the LMS is small, and keeps its state in memory.
package demo
