package persist_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"backchannel/broker"
	"backchannel/persist"
	"backchannel/webhooks"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own, or skips the test where that is not permitted.
func smallDisk(t *testing.T, bytes int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("mounting a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func onDisk(dir string, t testing.TB) persist.Options {
	opts := small(t)
	opts.Dir, opts.MinFree, opts.Ballast = filepath.Join(dir, "store"), 0, 0 // the defaults
	return opts
}

// fillDisk takes all the room there is, as a stranger would.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "stranger"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// publishUntilFull appends until the store refuses.
func publishUntilFull(t *testing.T, s *running, most, atOnce int) (stored int, err error) {
	t.Helper()
	drafts := make([]broker.Draft, atOnce)
	for i := range drafts {
		drafts[i] = broker.Draft{
			Channel: broker.Channel{Site: "moodle", ID: broker.ChannelID(fmt.Sprint("c", i))},
			Data:    []byte(`"` + strings.Repeat("x", 20_000) + `"`),
		}
	}
	for stored < most {
		if _, err := s.Append(t.Context(), drafts); err != nil {
			return stored, err
		}
		stored += len(drafts)
	}
	return stored, nil
}

func TestFullDiskRefusesIntakeAndRecovers(t *testing.T) {
	dir := smallDisk(t, 256<<20)
	opts := onDisk(dir, t)
	s := run(t, opts)
	defer func() { s.stop(t) }()
	n, err := publishUntilFull(t, s, 1<<20, 50)
	if broker.CodeOf(err) != broker.CodeStoreFull || !strings.Contains(err.Error(), "broker's disk") || strings.Contains(err.Error(), dir) {
		t.Fatalf("after %d events: %v; want store_full that names the disk, not its path", n, err)
	}
	if n < 100 {
		t.Errorf("only %d events of 20 kB fitted on 256 MiB", n)
	}
	for rest(t); s.Health() == nil; rest(t) { // compactions give some room back
		more, _ := publishUntilFull(t, s, 1<<20, 1)
		n += more
	}
	if broker.CodeOf(s.Health()) != broker.CodeStoreFull {
		t.Errorf("health: %v, want store_full", s.Health())
	}
	t.Logf("%d events of 20 kB fitted; %d MiB stay free", n, s.Stats().FreeBytes>>20)
	_, _, err = s.Accept(t.Context(), webhooks.Delivery{Message: webhooks.Message{Ref: webhooks.Ref{Site: "moodle", ID: "1"}}})
	if broker.CodeOf(err) != broker.CodeStoreFull {
		t.Errorf("a message on a full disk: %v, want store_full", err)
	}
	if _, err := s.Revoke(t.Context(), broker.Revocation{Site: "moodle", Kind: broker.RevokeJTI, Value: "j"}); err != nil {
		t.Errorf("a revocation while the reserve lasts: %v", err)
	}

	fillDisk(t, dir)
	eventually(t, "the ballast is given up", func() bool {
		_, err := os.Stat(filepath.Join(opts.Dir, "ballast"))
		return os.IsNotExist(err)
	})
	fillDisk(t, dir)
	if _, err := publishUntilFull(t, s, 100, 50); broker.CodeOf(err) != broker.CodeStoreFull {
		t.Errorf("on a disk without a free byte: %v, want store_full", err)
	}
	if page, err := s.Scan(t.Context(), "moodle", 0, broker.PageLimit{}); err != nil || len(page.Events) == 0 {
		t.Errorf("reading from a full disk: %d events, %v", len(page.Events), err)
	}

	if err := os.Remove(filepath.Join(dir, "stranger")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Purge(t.Context(), broker.Channel{Site: "moodle", ID: "c1"}); err != nil {
		t.Errorf("purge: %v", err)
	}
	s.SetLimits(persist.Retention{}, webhooks.Bounds{})
}

// rest waits until Badger neither flushes nor compacts: a stranger who takes the last block in the midst of that is
// beyond us. Badger does not tell, but its goroutines show.
func rest(t *testing.T) {
	t.Helper()
	stacks, quiet := make([]byte, 4<<20), 0
	eventually(t, "tables rest", func() bool {
		all := stacks[:runtime.Stack(stacks, true)]
		if quiet++; bytes.Contains(all, []byte("runCompactDef")) || bytes.Contains(all, []byte("handleMemTableFlush")) {
			quiet = 0
		}
		return quiet > 50 // idle compactors look again every 50 ms
	})
}

func TestSpaceThatComesBackIsUsed(t *testing.T) {
	dir := smallDisk(t, 256<<20)
	s := run(t, onDisk(dir, t))
	defer func() { s.stop(t) }()
	if _, err := publishUntilFull(t, s, 100, 50); err != nil {
		t.Fatal(err)
	}
	rest(t)
	fillDisk(t, dir)
	eventually(t, "intake is refused", func() bool {
		_, err := publishUntilFull(t, s, 50, 50)
		return broker.CodeOf(err) == broker.CodeStoreFull
	})
	if err := os.Remove(filepath.Join(dir, "stranger")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "intake is taken again", func() bool {
		_, err := publishUntilFull(t, s, 50, 50)
		return err == nil
	})
	if err := s.Health(); err != nil {
		t.Errorf("health: %v", err)
	}
}

func TestStoreOpensOnADiskThatFilledUpMeanwhile(t *testing.T) {
	dir := smallDisk(t, 256<<20)
	opts := onDisk(dir, t)
	s := run(t, opts)
	n, err := publishUntilFull(t, s, 500, 50)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ballast is there", func() bool {
		_, err := os.Stat(filepath.Join(opts.Dir, "ballast"))
		return err == nil
	})
	s.stop(t)
	fillDisk(t, dir)
	s = run(t, opts)
	defer func() { s.stop(t) }()
	if end, err := s.Position(context.Background()); err != nil || end.Seq != uint64(n) {
		t.Errorf("position %v, %v; want %d", end, err, n)
	}
	if _, err := publishUntilFull(t, s, 50, 50); broker.CodeOf(err) != broker.CodeStoreFull {
		t.Errorf("publish on the full disk: %v, want store_full", err)
	}
}

// TestDiskThatSomebodyElseFillsWhileWePublish is the usual way a disk gets full: steadily, under load.
func TestDiskThatSomebodyElseFillsWhileWePublish(t *testing.T) {
	if os.Getenv("BACKCHANNEL_LONG") == "" {
		t.Skip("set BACKCHANNEL_LONG=1: this takes half a minute")
	}
	dir := smallDisk(t, 300<<20)
	s := run(t, onDisk(dir, t))
	defer func() { s.stop(t) }()
	f, err := os.OpenFile(filepath.Join(dir, "stranger"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 100<<10)
	stored := 0
	eventually(t, "the disk has no block left", func() bool { // 20 MB/s
		n, err := publishUntilFull(t, s, 20, 20)
		stored += n
		if err != nil && broker.CodeOf(err) != broker.CodeStoreFull {
			t.Fatalf("publish: %v", err)
		}
		_, err = f.Write(block)
		return err != nil
	})
	t.Logf("%d events of 20 kB were stored before", stored)
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	eventually(t, "intake is taken again", func() bool {
		_, err := publishUntilFull(t, s, 1, 1)
		return err == nil
	})
	if end, err := s.Position(t.Context()); err != nil || end.Seq < uint64(stored) { //nolint:gosec // a count
		t.Errorf("position %v, %v; %d were stored", end, err, stored)
	}
}
