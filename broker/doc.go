// Package broker owns the words and rules of Backchannel: sites, channels, cursors, events, grants, and the hub that
// brings every event of the log to every stream that has to hear it.
//
// # Path of an event
//
// Log.Append makes a draft durable and never dispatches. The Hub hears events only from Log.Tail, so "delivered implies
// durable" and one total order hold by construction, on one node as on many.
//
// # Goroutines
//
// Hub.Run owns the tail: it encodes each event once and hands batches to the shards. Each shard has one goroutine that
// owns its streams: nobody else touches a stream's fields. Requests reach a shard through its inbox. Reading the log
// is done by a few replayers, never by a shard. Only streams that cannot be detached (HTTP/2) have a goroutine of
// their own.
//
// # Lock order
//
// The inbox of a shard and the ring of recent events each have a mutex; neither is held while the other is taken, nor
// across I/O or a callback.
//
// # After a crash
//
// The hub holds nothing that the log does not: streams come back with their cursor.
package broker
