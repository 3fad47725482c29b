package persist

import (
	"os"
	"path/filepath"

	"backchannel/broker"
)

// Room tells whether the disk has room to open the store that opts names: nil, or CodeStoreFull saying how much is
// missing. A store that holds something writes as soon as it is open (it replays its log into tables and compacts), into
// mapped files where no room means the end of the process, so whoever starts on a disk that may be full asks first and
// waits. The ballast counts as room, since Open gives it up when it must; a new store needs nothing here.
func Room(opts Options) error {
	if _, err := os.Stat(filepath.Join(opts.Dir, "badger")); err != nil {
		return nil //nolint:nilerr // nothing to open yet; Open has its own errors for the rest
	}
	need, ballast := opts.MinFree, opts.Ballast
	if need <= 0 {
		need = defaultMinFree
	}
	if ballast <= 0 {
		ballast = defaultBallast
	}
	free, err := freeBytes(opts.Dir)
	if err != nil {
		return nil //nolint:nilerr // a disk that cannot be asked is no reason not to start
	}
	if info, err := os.Stat(filepath.Join(opts.Dir, "ballast")); err == nil {
		free += min(info.Size(), ballast)
	}
	if free >= need {
		return nil
	}
	return broker.Errorf(broker.CodeStoreFull,
		"the store waits for room: %d MiB are free on the broker's disk, %d MiB are needed to open it safely; make room there",
		free>>20, need>>20)
}
