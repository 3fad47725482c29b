// Package persist keeps the log and the queue of one node on disk: broker.Log and webhooks.Queue on Badger.
//
// # Layout
//
// Every key starts with a letter for its kind; integers are big-endian, so keys sort by position.
//
//	m name              epoch, schema, position, floor, counters
//	e seq8              the log: a revocation, or the moment of an event and whose it is
//	c channel16 seq8    events of a channel: read by all who come back, so they lie together
//	h channel16         head of a channel; never expires, so a quiet channel never forgets its last event
//	n site 0 id         channels of a site by name
//	i hash16            idempotency id, to the position it was first given
//	r seq8              revocation still in force
//	p channel16         purge that is under way
//	b bucket8           bytes of 1,024 positions, for the bound on the total
//	q hash16            delivery; d its data, y its reply and log
//	a number8           deliveries not ended, in the order of acceptance
//	s site 0 number8    deliveries of a site, newest first
//	x class site 0 time8 number8
//	                    ended deliveries by the time they ended; what only its life bounds has no site
//	u site              bytes of a site's deliveries, for its bounds
//
// # Goroutines
//
// Run owns the only writer, the committer, and a watch on free space. Whoever wants to write puts a request in the
// inbox and waits; the committer puts all that wait into one transaction, syncs it, answers, and hands its records to
// the ring that tails read. Readers use snapshots of their own and at most four iterators at a time.
//
// # Locks
//
// The inbox, the ring and the settings have a mutex each. None is held while another is taken, nor across I/O or a
// callback.
//
// # After a crash
//
// What was acknowledged is there, numbered as it was acknowledged; no position is given twice, for the counter is part
// of each transaction. What was not acknowledged may be there as a whole request or not at all. After a commit that
// failed while the process lives the store does not know either: it answers CodeUnavailable, reads its counters again
// and only then goes on.
//
// # A full disk
//
// Badger's files are sparse and mapped, so a page that the disk cannot back kills the process, from a goroutine that is
// not ours. Intake is therefore refused below a floor of free space that covers flushes and compactions, the log being
// written is backed with real blocks ahead of the writing, and a ballast file is given up when a full disk must be
// worked on. What is left is somebody else who takes the last 96 MiB of a disk in the very moment of a compaction: that
// still ends the process. The log is whole then, and the next start works on the ballast.
//
// # Memory
//
// Badger's options do not bound its heap; the Go memory limit does. The store itself keeps at most 8 MiB of recent
// events, 32,768 heads of channels (about 10 MiB) and 64 MiB of tables and caches of Badger. Set GOMEMLIMIT to 192 MiB or
// more.
package persist
