package memory

import (
	"math"
	"sync"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

// bucketSpan is how many positions go together when the total is exceeded, as in package persist.
const bucketSpan = 1024

// Store keeps log and queue in memory. All methods may be called from many goroutines.
type Store struct {
	now        func() time.Time
	age        time.Duration
	perChannel uint64
	total      int64
	bounds     webhooks.Bounds
	epoch      broker.Epoch

	mu          sync.Mutex
	clock       int64 // guarded by mu, as all below; microseconds, never falls
	created     int64
	last        position
	floor       position  // what the total has removed
	records     []*record // by Seq, without those that total or sweeping has removed
	bytes       int64     // of the records kept
	channels    map[broker.Channel]*channel
	keys        map[key]first
	revocations []revocation
	wake        chan struct{} // closed and replaced at every append

	deliveries map[webhooks.Ref]*delivery
	accepted   uint64
}

type position struct {
	seq  uint64
	time int64 // microseconds
}

// record is an event or revocation. gone is set by what removes it before its time.
type record struct {
	event   broker.Event
	ordinal uint64 // in its channel, from 1
	expires int64  // microseconds
	before  int64  // time of the record before it in the log
	gone    bool
}

type channel struct {
	kept    []*record
	ordinal uint64
	counted uint64 // position of the last counted event
	time    int64
}

type key struct {
	channel broker.Channel
	key     string
}

type first struct {
	seq     uint64
	expires int64
}

type revocation struct {
	broker.Revocation
	expires int64
}

// Option changes what New makes.
type Option func(*Store)

// WithRetention bounds the log by the age of events, their number in each channel, and the bytes of all. Zero means no
// bound.
func WithRetention(age time.Duration, perChannel int, total int64) Option {
	return func(s *Store) { s.age, s.perChannel, s.total = age, uint64(max(perChannel, 0)), total }
}

// WithBounds bounds the queue.
func WithBounds(b webhooks.Bounds) Option {
	return func(s *Store) { s.bounds = b }
}

// New makes an empty store with an epoch of its own. now is its only clock: what expires does so by now.
func New(now func() time.Time, opts ...Option) *Store {
	s := &Store{
		now: now, epoch: broker.NewEpoch(), channels: map[broker.Channel]*channel{}, keys: map[key]first{},
		wake: make(chan struct{}), deliveries: map[webhooks.Ref]*delivery{},
	}
	for _, o := range opts {
		o(s)
	}
	s.created = now().UnixMicro()
	return s
}

// tick reads the clock; it never falls, so what has expired stays so. s.mu is held.
func (s *Store) tick() int64 {
	s.clock = max(s.clock, s.now().UnixMicro(), s.last.time)
	return s.clock
}

// expiry is when a record of this moment ends. A negative life has no end.
func expiry(now int64, life time.Duration) int64 {
	if life <= 0 {
		return math.MaxInt64
	}
	return now + life.Microseconds()
}

func (r *record) kept(now int64) bool { return !r.gone && r.expires > now }

func cost(e *broker.Event) int64 {
	return int64(len(e.Data) + len(e.Type) + len(e.Channel.Site) + len(e.Channel.ID) + len(e.User) + len(e.Client) + 64)
}
