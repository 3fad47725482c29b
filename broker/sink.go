package broker

// Sink is where a stream's bytes go. A shard calls it and is never made to wait by it. There are three: a detached
// socket (Detach), a buffer that a handler's goroutine empties (Buffered), and the answer of a long poll (Poll).
type Sink interface {
	// write takes as much of wire, the bytes of frames, as it can without waiting. n < len(wire) means that it is
	// full; the stream's shard is told once it is not. An error ends the stream.
	write(frames []*Frame, wire []byte) (n int, err error)
	// open tells the sink whose it is, before the first write. After an error it is closed all the same.
	open(st *stream) error
	// settled is called after a write that the sink took whole. caughtUp says that there is nothing more to send
	// now; the sink returns true if it wants the stream to end here.
	settled(caughtUp bool) (done bool)
	// close is called once, last. pos is the position reached.
	close(pos uint64)
	// transport names the sink in StreamInfo.
	transport() string
	// beats tells whether the stream gets heartbeats.
	beats() bool
}
