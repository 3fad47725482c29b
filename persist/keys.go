package persist

import (
	"crypto/sha256"
	"encoding/binary"

	"backchannel/broker"
	"backchannel/webhooks"
)

// The first byte of a key.
const (
	kindMeta       = 'm'
	kindEvent      = 'e'
	kindChannel    = 'c'
	kindHead       = 'h'
	kindName       = 'n'
	kindIdempotent = 'i'
	kindRevocation = 'r'
	kindBucket     = 'b'
	kindPurge      = 'p'
	kindDelivery   = 'q'
	kindData       = 'd'
	kindBody       = 'y'
	kindPending    = 'a'
	kindSite       = 's'
	kindEnded      = 'x'
	kindUsage      = 'u'
)

// The names under kindMeta.
const (
	metaStore = "store" // storeRecord: written once
	metaLast  = "last"  // lastRecord: rewritten in every group
	metaFloor = "floor" // position that the total has removed up to
	metaAges  = "ages"  // regimes of retention by age
	metaUsage = "usage" // counters of the queue
)

// hash names a channel, an idempotency id or a delivery in keys: 128 bits of SHA-256 never meet by chance, and nobody
// gains by making his own names meet.
type hash [16]byte

const sizeOfSeq = 8

func hashOf(kind byte, parts ...string) hash {
	text := make([]byte, 0, 160)
	text = append(text, kind)
	for _, p := range parts {
		text = binary.BigEndian.AppendUint32(text, uint32(len(p))) //nolint:gosec // names are at most some hundred bytes
		text = append(text, p...)
	}
	sum := sha256.Sum256(text)
	return hash(sum[:16])
}

func channelHash(ch broker.Channel) hash { return hashOf(kindChannel, string(ch.Site), string(ch.ID)) }

func idempotentHash(ch broker.Channel, key string) hash {
	return hashOf(kindIdempotent, string(ch.Site), string(ch.ID), key)
}

func refHash(r webhooks.Ref) hash { return hashOf(kindDelivery, string(r.Site), string(r.ID)) }

func keyMeta(name string) []byte { return append([]byte{kindMeta}, name...) }

func keySeq(kind byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 1+sizeOfSeq), kind), seq)
}

func keyHash(kind byte, h hash) []byte { return append([]byte{kind}, h[:]...) }

func keyChannel(h hash, seq uint64) []byte {
	k := make([]byte, 0, 1+len(h)+sizeOfSeq)
	return binary.BigEndian.AppendUint64(append(append(k, kindChannel), h[:]...), seq)
}

// keySite orders the names or deliveries of a site. No site's name holds a zero byte, so none is another's prefix.
func keySite(kind byte, site broker.SiteID, rest string) []byte {
	k := append([]byte{kind}, site...)
	return append(append(k, 0), rest...)
}

func keyName(ch broker.Channel) []byte { return keySite(kindName, ch.Site, string(ch.ID)) }

// keyNewest orders the deliveries of a site from the newest.
func keyNewest(site broker.SiteID, number uint64) []byte {
	return binary.BigEndian.AppendUint64(keySite(kindSite, site, ""), ^number)
}

// keyEnded orders ended deliveries of a class and site by time. Classes that nothing bounds by site have no site.
func keyEnded(c class, site broker.SiteID, at int64, number uint64) []byte {
	k := binary.BigEndian.AppendUint64(prefixEnded(c, site), uint64(max(at, 0)))
	return binary.BigEndian.AppendUint64(k, number)
}

func prefixEnded(c class, site broker.SiteID) []byte {
	k := make([]byte, 0, 3+len(site)+2*sizeOfSeq)
	return append(append(append(k, kindEnded, byte(c)), site...), 0)
}

// endedAt reads the time in such a key.
func endedAt(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key[len(key)-2*sizeOfSeq:])) //nolint:gosec // written from an int64
}

func keyUsage(site broker.SiteID) []byte { return append([]byte{kindUsage}, site...) }

// seqOf reads the integer a key ends with.
func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-sizeOfSeq:]) }
