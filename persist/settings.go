package persist

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	memTableBytes = 16 << 20
	// memFileBytes is as far as Badger writes into the log of a memtable: its size and one more transaction (15 %).
	memFileBytes = memTableBytes + memTableBytes*15/100 + 1<<20
	// tableBytes is about what flushing a memtable writes.
	tableBytes = memTableBytes + 2<<20
)

// badgerOptions are those measured best for one committer with grouped commits: values inline, so that durability rests
// on one synced file; no conflict detection, as there is one writer; no compression; small caches.
func badgerOptions(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(badgerLog{log}).
		WithSyncWrites(true).
		WithDetectConflicts(false).
		WithMemTableSize(memTableBytes).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithNumLevelZeroTables(3).
		WithNumLevelZeroTablesStall(8).
		WithCompression(options.None).
		WithBlockCacheSize(0). // without compression blocks are read from the mapped files
		WithIndexCacheSize(8 << 20).
		WithValueThreshold(1 << 20).
		WithValueLogFileSize(16 << 20)
}

// badgerLog hands on what Badger says from warnings up. Its sentences are not ours, so they are an attribute.
type badgerLog struct{ log *slog.Logger }

// Errorf implements badger.Logger.
func (l badgerLog) Errorf(format string, args ...any) { l.say(slog.LevelError, format, args) }

// Warningf implements badger.Logger.
func (l badgerLog) Warningf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// Infof implements badger.Logger.
func (badgerLog) Infof(string, ...any) {}

// Debugf implements badger.Logger.
func (badgerLog) Debugf(string, ...any) {}

func (l badgerLog) say(level slog.Level, format string, args []any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.LogAttrs(context.Background(), level, "badger says", slog.String("text", text))
}
