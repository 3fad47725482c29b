// Package webhooks brings messages and notices to the components of an LMS: signed (Standard Webhooks), with retries,
// isolated from each other, and with an outcome that is always true.
//
// # Promise
//
// Jobs and notices are delivered at least once, under one webhook-id, until their schedule ends in the dead letter. A
// call runs at most once, unless its component is configured idempotent, and never after its deadline; not_delivered
// is said only when no byte of the request can have left.
//
// # Goroutines
//
// Dispatcher.Run applies the start-up rules and then only keeps the clock: due retries and deadlines. Each attempt has
// a goroutine of its own (a call two: one exchanges, one watches the deadline). All of them end before Run does.
//
// # One owner
//
// A delivery that has not ended stands in the scheduler, and its state there says who may change its record: whoever
// moved it to accepting, in flight or closing, and nobody while it is queued or delayed. Moving it takes Dispatcher.mu;
// writing the record does not. Settling and sending a message are arbitrated by this alone.
//
// # Lock order
//
// Dispatcher.mu guards the scheduler. The table of clients and the state of one connection have mutexes of their own.
// None is held while another is taken, nor across I/O or a callback.
//
// # After a crash
//
// A call is stored as sending before its first byte leaves, so at the start a call that waits has never run, and one
// that is sending may have. A job is not stored before its attempts: after a start every waiting job is treated as if
// it might have run, which costs a repeat under the same id and never a loss.
package webhooks
