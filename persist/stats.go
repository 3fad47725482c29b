package persist

import "sync/atomic"

// Stats is a snapshot of counters since the store was opened, and of what is in it now.
type Stats struct {
	Appended int64 // records of the log
	Commits  int64 // synced transactions
	Failed   int64 // commits that failed and left the store in doubt
	Bytes    int64 // keys and values committed
	// LargestBatch is the largest number of records in one commit.
	LargestBatch int64
	// BatchSizes counts commits by their records: at most 1, 4, 16, 64, 256, 1024, more.
	BatchSizes [7]int64
	// Position is the newest durable position, Oldest about the first that may still be kept.
	Position, Oldest uint64
	// LiveBytes is what the bound on the total is held against, TableBytes what Badger's tables take on disk.
	LiveBytes, TableBytes int64
	// FreeBytes is the room on the disk, MinFree the floor of intake.
	FreeBytes, MinFree int64
	// InDoubt says that the last commit failed.
	InDoubt bool
}

type counters struct {
	appended, commits, failed, bytes, largest atomic.Int64
	sizes                                     [7]atomic.Int64
}

// batch counts a commit of n records. Only the committer calls it.
func (c *counters) batch(n int) {
	c.appended.Add(int64(n))
	if int64(n) > c.largest.Load() {
		c.largest.Store(int64(n))
	}
	i := 0
	for bound := 1; i < len(c.sizes)-1 && n > bound; bound *= 4 {
		i++
	}
	c.sizes[i].Add(1)
}

// Stats reads the counters; it costs about what a read of the log costs.
func (s *Store) Stats() Stats {
	v := s.view.Load()
	out := Stats{
		Appended: s.stats.appended.Load(), Commits: s.stats.commits.Load(), Failed: s.stats.failed.Load(),
		Bytes: s.stats.bytes.Load(), LargestBatch: s.stats.largest.Load(), Position: v.last.seq,
		Oldest: max(v.oldest, v.floor.seq+1), LiveBytes: v.total, FreeBytes: s.space.free.Load(),
		MinFree: s.space.minFree, InDoubt: s.doubt.Load(),
	}
	if !s.closed.Load() {
		out.TableBytes = s.tableBytes()
	}
	for i := range out.BatchSizes {
		out.BatchSizes[i] = s.stats.sizes[i].Load()
	}
	return out
}
