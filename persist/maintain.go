package persist

import (
	"context"
	"log/slog"
	"time"
)

const (
	maintainPeriod = 10 * time.Minute
	// quietHour, local time, is when schools sleep.
	quietHour = 3
	// slackBytes is what may be stale before it is worth rewriting.
	slackBytes = 64 << 20
)

// maintain gives space back to the disk: Badger rewrites its last level only when told, if records were deleted later
// than they were written there. Once a night, and whenever more is stale than live.
func (s *Store) maintain(ctx context.Context) error {
	timer := time.NewTicker(maintainPeriod)
	defer timer.Stop()
	day := s.now().YearDay()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		now := s.now()
		nightly := now.Hour() == quietHour && now.YearDay() != day
		if nightly {
			day = now.YearDay()
		}
		if nightly || s.tableBytes() > 2*s.liveBytes()+slackBytes {
			s.flatten(ctx)
		}
	}
}

func (s *Store) tableBytes() int64 {
	n := int64(0)
	for _, t := range s.db.Tables() {
		n += int64(t.OnDiskSize)
	}
	return n
}

func (s *Store) liveBytes() int64 {
	v := s.view.Load()
	return v.total + v.usage.bytes[classQueue] + v.usage.bytes[classDone] + v.usage.bytes[classDead] + v.usage.bytes[classLog]
}

// flatten writes every level anew, which for a while needs as much room again.
func (s *Store) flatten(ctx context.Context) {
	if s.space.refresh() < s.space.minFree+s.tableBytes() {
		return
	}
	began := time.Now()
	before := s.tableBytes()
	if err := s.db.Flatten(2); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "store could not be flattened", slog.Any("error", err))
		return
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "store flattened", slog.Int64("before", before),
		slog.Int64("after", s.tableBytes()), slog.Duration("took", time.Since(began)))
}
