// Package memory is a store without a disk: broker.Log and webhooks.Queue with the same rules as package persist, for
// tests and for trying things out. It is durable for as long as the process lives.
//
// # Goroutines and locks
//
// It starts no goroutine. One mutex guards everything; it is never held across a callback.
//
// # After a crash
//
// Nothing is left.
package memory
