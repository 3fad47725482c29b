package persist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sync/errgroup"
)

// Options are what a store is opened with.
type Options struct {
	// Dir is the store's own directory. It is made if it is missing, and locked.
	Dir       string
	Retention Retention
	Bounds    webhooks.Bounds
	// MinFree is how many bytes must be free on the disk for intake to be taken; 0 means 96 MiB. It covers what Badger
	// writes behind our back: less than that is at the risk of the process.
	MinFree int64
	// Ballast is the size of the file that is given up when a full disk must be worked on; 0 means 32 MiB.
	Ballast int64
	// Logger hears what an admin should know; nil for nobody.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now. Should it step back, the store's time stands still until it catches up.
	Now func() time.Time
}

// Retention bounds the log. Of each field 0 means the default and a negative value no bound.
type Retention struct {
	Age        time.Duration // default 24 h
	PerChannel int           // events of one channel; default 10,000
	Total      int64         // bytes of all events with their indexes; default 1 GiB
}

func (r Retention) withDefaults() Retention {
	if r.Age == 0 {
		r.Age = 24 * time.Hour
	}
	if r.PerChannel == 0 {
		r.PerChannel = 10_000
	}
	if r.Total == 0 {
		r.Total = 1 << 30
	}
	return r
}

// limits are what a reload may change.
type limits struct {
	Retention
	bounds webhooks.Bounds
}

// Store is the log and the queue of one node. All methods may be called from many goroutines; Run must be running for
// anything that writes to answer.
type Store struct {
	dir     string
	log     *slog.Logger
	now     func() time.Time
	wall    func() time.Time // the clock that Badger's own timer reads
	db      *badger.DB
	lock    *os.File
	space   *space
	inbox   *inbox
	ring    *ring
	readers chan struct{} // one token for each open snapshot
	view    atomic.Pointer[view]
	tick    atomic.Int64 // the latest time seen, microseconds
	doubt   atomic.Bool
	closed  atomic.Bool
	stats   counters
	// commit makes a transaction durable; tests replace it to fail.
	commit func(*badger.Txn) error

	mu     sync.Mutex
	bounds limits // guarded by mu
}

// Open opens the store in a directory, or makes one with a new epoch. It starts nothing of ours; call Run, and Close
// when Run has returned. Its errors say what to do.
func Open(opts Options) (*Store, error) {
	s := &Store{
		dir: opts.Dir, log: opts.Logger, now: opts.Now, wall: time.Now, inbox: newInbox(),
		readers: make(chan struct{}, maxReaders), commit: (*badger.Txn).Commit,
		bounds: limits{opts.Retention.withDefaults(), opts.Bounds},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.open(opts); err != nil {
		return nil, fmt.Errorf("open store %q: %w", opts.Dir, err)
	}
	return s, nil
}

func (s *Store) open(opts Options) (err error) {
	if opts.Dir == "" {
		return errors.New("no directory is named; set data in the configuration")
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return fmt.Errorf("%w; make the directory writable for this user", err)
	}
	if s.lock, err = lockDir(opts.Dir); err != nil {
		return err
	}
	s.space = newSpace(opts, s.log)
	s.space.makeWay()
	if s.db, err = badger.Open(badgerOptions(filepath.Join(opts.Dir, "badger"), s.log)); err != nil {
		err = fmt.Errorf("%w; see that the disk is not full and the files belong to this user, or restore a backup", err)
		return errors.Join(err, unlockDir(s.lock))
	}
	if err := s.begin(); err != nil {
		return errors.Join(err, s.db.Close(), unlockDir(s.lock))
	}
	return nil
}

// begin reads the state, making it first in a new store.
func (s *Store) begin() error {
	st, err := loadState(s.db)
	if err != nil {
		return fmt.Errorf("%w; restore a backup", err)
	}
	if st.store.schema > schema {
		return fmt.Errorf("it was written by a later version (schema %d, this one knows %d); run that version or restore a backup", st.store.schema, schema)
	}
	if err := s.prepare(st); err != nil {
		return fmt.Errorf("%w; see that the disk is not full", err)
	}
	s.ring = newRing(st.last.seq)
	s.publishView(st)
	return nil
}

// prepare writes what a new store, or a changed age, needs; usually that is nothing.
func (s *Store) prepare(st *state) error {
	now := s.clock(st.last.time)
	made := st.store.schema == 0
	if made {
		st.store = storeRecord{schema: schema, epoch: broker.NewEpoch(), created: now}
	}
	age := max(s.limits().Age, 0)
	aged := len(st.ages) == 0 || st.age() != age
	if !made && !aged {
		return nil
	}
	if aged {
		st.ages = changeAge(st.ages, now, age)
	}
	records := map[string][]byte{metaStore: encodeStore(st.store), metaAges: encodeAges(st.ages)}
	err := s.db.Update(func(txn *badger.Txn) error {
		for name, rec := range records {
			if err := txn.Set(keyMeta(name), rec); err != nil {
				return err
			}
			s.stats.bytes.Add(int64(len(rec)))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the store's record: %w", err)
	}
	return nil
}

// Run is the store at work: it commits, trims and watches the disk until ctx ends. When it returns, everything that was
// accepted has been answered and nothing of it is left; what comes later is CodeUnavailable.
func (s *Store) Run(ctx context.Context) error {
	st, err := loadState(s.db)
	if err != nil {
		s.inbox.close()
		return fmt.Errorf("read the state of store %q: %w", s.dir, err)
	}
	c := &committer{s: s, state: st}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.run(ctx) })
	group.Go(func() error { return s.space.watch(ctx) })
	group.Go(func() error { return s.maintain(ctx) })
	return group.Wait()
}

// Close closes the files. Call it when Run has returned. It leaves Badger open, and says so, if the disk has no room for
// what closing writes: the log on disk is complete, and the next start needs no more than this one.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	for range maxReaders { // until the last snapshot is gone
		s.readers <- struct{}{}
	}
	if !s.space.roomToClose(s.stats.bytes.Load()) {
		return fmt.Errorf("close store %q: only %d bytes are free, too few to tidy up; nothing is lost, but free some space before the next start",
			s.dir, s.space.free.Load())
	}
	err := s.db.Close()
	return errors.Join(err, unlockDir(s.lock))
}

// Health is nil if the store takes writes, else why not: CodeStoreFull or CodeUnavailable.
func (s *Store) Health() error {
	if s.closed.Load() {
		return errStopped()
	}
	if s.doubt.Load() {
		return broker.Errorf(broker.CodeUnavailable, "the last commit failed; the store is in doubt until one succeeds")
	}
	return s.space.admit(0)
}

// SetLimits changes the bounds while the store runs. A smaller one takes effect within a second or with the next
// event of a channel; a changed age holds for events to come.
func (s *Store) SetLimits(r Retention, b webhooks.Bounds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounds = limits{r.withDefaults(), b}
}

func (s *Store) limits() limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bounds
}

// clock gives our time in microseconds. It never falls, so what has expired stays so.
func (s *Store) clock(atLeast int64) int64 {
	now := max(s.now().UnixMicro(), atLeast)
	for {
		seen := s.tick.Load()
		if now <= seen {
			return seen
		}
		if s.tick.CompareAndSwap(seen, now) {
			return now
		}
	}
}

// shorter is the smaller of two lives of which zero is endless.
func shorter(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

var (
	_ broker.Log     = (*Store)(nil)
	_ webhooks.Queue = (*Store)(nil)
)
