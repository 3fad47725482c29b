package broker

// Names of control frames. No publisher may use them as an event type.
const (
	FrameHello     = "hello"
	FrameHeartbeat = "heartbeat"
	FrameChannels  = "channels"
	FrameGap       = "gap"
	FramePresence  = "presence"
	FrameBye       = "bye"
	FramePeer      = "peer"
)
