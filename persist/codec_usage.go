package persist

// class is what the bytes of a delivery count as.
type class byte

const (
	classQueue class = iota // waiting or being sent
	classDone               // replies, and data of the ended
	classDead
	classLog // logs of the ended
	classes  = 4
	// classBody is in the index of ended deliveries alone: done ones that still have bytes of classDone.
	classBody class = 4
)

// usage counts deliveries and the bytes held against the bounds.
type usage struct {
	waiting, sending, done, dead int64
	bytes                        [classes]int64
}

func encodeUsage(u usage) []byte {
	out := newEncoder(48)
	for _, v := range []int64{u.waiting, u.sending, u.done, u.dead} {
		out.int(v)
	}
	for _, v := range u.bytes {
		out.int(v)
	}
	return out.b
}

func decodeUsage(b []byte) (usage, error) {
	d := newDecoder(b)
	u := usage{waiting: d.int(), sending: d.int(), done: d.int(), dead: d.int()}
	for i := range u.bytes {
		u.bytes[i] = d.int()
	}
	return u, d.err("usage of the queue")
}

func encodeSiteUsage(bytes [classes]int64) []byte {
	out := newEncoder(24)
	for _, v := range bytes {
		out.int(v)
	}
	return out.b
}

func decodeSiteUsage(b []byte) (bytes [classes]int64, err error) {
	d := newDecoder(b)
	for i := range bytes {
		bytes[i] = d.int()
	}
	return bytes, d.err("usage of a site")
}
