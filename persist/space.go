package persist

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"backchannel/broker"
)

const (
	defaultMinFree = 96 << 20
	defaultBallast = 32 << 20
	// watchPeriod is how often the disk is looked at, alertPeriod when it has less than twice the floor: somebody else may
	// take what is left within a tenth of a second. A look costs some microseconds.
	watchPeriod = 50 * time.Millisecond
	alertPeriod = 4 * time.Millisecond
	// ballastFloor is where the ballast is given up: so late that whoever fills the disk has met its end and stopped, and
	// does not take the ballast too.
	ballastFloor = 8 << 20
	// wakeBytes is how much may be written before the watch looks for a new log to back.
	wakeBytes = 1 << 20
	// sayPeriod is how often the log may hear that intake is refused, or taken again.
	sayPeriod = 10 * time.Second
)

// space keeps the store from a disk that is full. Everything Badger writes goes to mapped sparse files, where no room
// means the end of the process; so there must always be room.
type space struct {
	dir     string
	minFree int64
	// reserve is the floor for what must go on when intake does not: a rotation of the log and a flush.
	reserve int64
	ballast ballast
	statfs  func(dir string) (free int64, err error)
	log     *slog.Logger
	now     func() time.Time // only periods are measured with it

	free    atomic.Int64 // as last seen
	full    atomic.Bool  // written by watch: the floor was reached, and the margin above it is not free yet
	pending atomic.Int64 // bytes written since the watch was woken
	wake    chan struct{}
	listed  time.Time       // owned by watch: when the directory was read
	said    bool            // owned by watch: what the log last heard of full
	saidAt  time.Time       // owned by watch
	backed  map[string]bool // owned by watch: logs that have real blocks
}

func newSpace(opts Options, log *slog.Logger) *space {
	sp := &space{
		dir: opts.Dir, minFree: opts.MinFree, statfs: freeBytes, log: log, now: time.Now, wake: make(chan struct{}, 1),
		backed: map[string]bool{}, ballast: ballast{filepath.Join(opts.Dir, "ballast"), opts.Ballast},
	}
	if sp.minFree <= 0 {
		sp.minFree = defaultMinFree
	}
	if sp.ballast.size <= 0 {
		sp.ballast.size = defaultBallast
	}
	sp.reserve = min(sp.minFree/2, memFileBytes+tableBytes)
	sp.refresh()
	return sp
}

// refresh looks at the disk. If it cannot be asked, the last answer stands.
func (sp *space) refresh() int64 {
	if free, err := sp.statfs(sp.dir); err == nil {
		sp.free.Store(free)
	}
	return sp.free.Load()
}

// admit refuses intake of some bytes with CodeStoreFull if that would go below the floor. Once the floor was reached it
// waits for an eighth more: a disk that hovers there would otherwise take one publish and refuse the next.
func (sp *space) admit(bytes int) error {
	floor := sp.minFree
	if sp.full.Load() {
		floor += sp.minFree / 8
	}
	return sp.above(floor, int64(bytes))
}

// admitEssential refuses what must go on only when the reserve is used up too.
func (sp *space) admitEssential() error { return sp.above(sp.reserve, 0) }

func (sp *space) above(floor, bytes int64) error {
	free := sp.free.Load()
	if free-bytes >= floor {
		return nil
	}
	return broker.Errorf(broker.CodeStoreFull,
		"the store is full: %d MiB are free on the broker's disk, at least %d MiB must stay so; make room there or lower [retention]",
		free>>20, floor>>20)
}

// written tells how much a commit has written.
func (sp *space) written(bytes int) {
	if sp.pending.Add(int64(bytes)) < wakeBytes {
		return
	}
	sp.pending.Store(0)
	select {
	case sp.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

// watch looks at the disk, backs the log being written and handles the ballast until ctx ends.
func (sp *space) watch(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		period := watchPeriod
		if sp.look(ctx) < 2*sp.minFree {
			period = alertPeriod
		}
		timer.Reset(period)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-sp.wake:
		}
	}
}

func (sp *space) look(ctx context.Context) (free int64) {
	free = sp.refresh()
	if now := sp.now(); now.Sub(sp.listed) >= watchPeriod {
		sp.listed = now
		sp.back(ctx)
	}
	switch {
	case free < ballastFloor && sp.ballast.exists():
		sp.log.LogAttrs(ctx, slog.LevelWarn, "disk is almost full, ballast given up", slog.Int64("free", free))
		sp.drop(ctx)
	case free > sp.minFree+2*sp.ballast.size && !sp.ballast.exists():
		if err := sp.ballast.make(); err != nil {
			sp.log.LogAttrs(ctx, slog.LevelWarn, "ballast could not be made", slog.Any("error", err))
		}
	}
	sp.full.Store(free < sp.minFree || sp.admit(0) != nil)
	sp.say(ctx, free)
	return free
}

// say tells the log of a change, unless it has just been told of another: then it hears how things stand afterwards.
func (sp *space) say(ctx context.Context, free int64) {
	full, now := sp.full.Load(), sp.now()
	if full == sp.said || now.Sub(sp.saidAt) < sayPeriod {
		return
	}
	sp.said, sp.saidAt = full, now
	attrs := []slog.Attr{slog.String("dir", sp.dir), slog.Int64("free", free), slog.Int64("floor", sp.minFree)}
	if full {
		sp.log.LogAttrs(ctx, slog.LevelWarn, "store is full, intake is refused", attrs...)
	} else {
		sp.log.LogAttrs(ctx, slog.LevelInfo, "store takes intake again", attrs...)
	}
}

// makeWay gives the ballast up before Badger is opened, if the disk is too full for that.
func (sp *space) makeWay() {
	if sp.free.Load() < sp.minFree && sp.ballast.exists() {
		sp.drop(context.Background())
	}
}

// roomToClose tells whether what was written since the start can be flushed, giving up the ballast for it.
func (sp *space) roomToClose(written int64) bool {
	if written == 0 {
		return true
	}
	need := min(2*written+1<<20, tableBytes)
	if sp.refresh() < need && sp.ballast.exists() {
		sp.drop(context.Background())
	}
	return sp.refresh() >= need
}

func (sp *space) drop(ctx context.Context) {
	if err := sp.ballast.drop(); err != nil {
		sp.log.LogAttrs(ctx, slog.LevelWarn, "ballast could not be removed", slog.Any("error", err))
	}
	sp.refresh()
}

// back gives the log being written real blocks ahead of the writing, so that a disk filled by somebody else between two
// looks cannot take the ground from under it. File systems that cannot are left alone: the floor has to do.
func (sp *space) back(ctx context.Context) {
	logs, err := filepath.Glob(filepath.Join(sp.dir, "badger", "*.mem"))
	if err != nil || len(logs) == 0 {
		return
	}
	newest := logs[len(logs)-1] // named by number, of five digits
	if sp.backed[newest] {
		return
	}
	if err = backFile(newest); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		sp.log.LogAttrs(ctx, slog.LevelWarn, "log could not be given room ahead", slog.Any("error", err))
		return
	}
	sp.backed = map[string]bool{newest: true}
	sp.refresh()
}

func backFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0) //nolint:gosec // a file of the store
	if err != nil {
		return err
	}
	return errors.Join(allocate(f, memFileBytes, true), f.Close())
}

// ballast is a file that only takes room, to be given up.
type ballast struct {
	name string
	size int64
}

func (b ballast) exists() bool {
	_, err := os.Stat(b.name)
	return err == nil
}

func (b ballast) drop() error { return os.Remove(b.name) }

// make takes the room with real blocks; on a file system that cannot it is zeros.
func (b ballast) make() error {
	f, err := os.OpenFile(b.name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err = allocate(f, b.size, false); errors.Is(err, errors.ErrUnsupported) {
		err = writeZeros(f, b.size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, b.drop())
	}
	return nil
}

func writeZeros(f *os.File, size int64) error {
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}
