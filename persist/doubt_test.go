package persist

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"backchannel/broker"

	"github.com/dgraph-io/badger/v4"
)

// faulty is a disk whose commits fail when told, before or after they have reached it.
type faulty struct{ before, after atomic.Bool }

func (f *faulty) commit(txn *badger.Txn) error {
	if f.before.Swap(false) {
		return errors.New("disk says no")
	}
	if err := txn.Commit(); err != nil {
		return err
	}
	if f.after.Swap(false) {
		return errors.New("disk says perhaps")
	}
	return nil
}

func doubtful(t *testing.T) (*Store, *faulty) {
	t.Helper()
	s, err := Open(Options{Dir: t.TempDir(), MinFree: 1 << 20, Ballast: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	disk := &faulty{}
	s.commit = disk.commit
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s, disk
}

func TestFailedCommitIsUnavailableAndNumbersNothingTwice(t *testing.T) {
	ch := broker.Channel{Site: "moodle", ID: "a"}
	for _, c := range []struct {
		name   string
		fail   func(*faulty)
		stored bool
	}{
		{"before it reached the disk", func(f *faulty) { f.before.Store(true) }, false},
		{"after it reached the disk", func(f *faulty) { f.after.Store(true) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, disk := doubtful(t)
			ctx := t.Context()
			heard := make(chan uint64, 16)
			tailing, stop := context.WithCancel(ctx)
			tailed := make(chan struct{})
			go func() {
				defer close(tailed)
				_ = s.Tail(tailing, 0, func(events []broker.Event) {
					for _, e := range events {
						heard <- e.Seq
					}
				})
			}()
			publish := func(key string) ([]broker.Appended, error) {
				return s.Append(ctx, []broker.Draft{{Channel: ch, Data: []byte(`1`), Key: key}})
			}
			if _, err := publish("first"); err != nil {
				t.Fatal(err)
			}
			c.fail(disk)
			if _, err := publish("second"); broker.CodeOf(err) != broker.CodeUnavailable {
				t.Fatalf("a failed commit: %v, want unavailable", err)
			}
			again, err := publish("second")
			if err != nil || again[0].Cursor.Seq != 2 || again[0].Repeated != c.stored {
				t.Fatalf("repeated: %+v, %v; want position 2, repeated=%v", again, err, c.stored)
			}
			third, err := publish("third")
			if err != nil || third[0].Cursor.Seq != 3 {
				t.Fatalf("the next: %+v, %v; want position 3", third, err)
			}
			if got := []uint64{<-heard, <-heard, <-heard}; !slices.Equal(got, []uint64{1, 2, 3}) {
				t.Errorf("a tail heard %v, want each once and in order", got)
			}
			stop()
			<-tailed
			page, err := s.Range(ctx, ch, 0, broker.PageLimit{})
			if err != nil || len(page.Events) != 3 || page.Events[2].Prev != 2 {
				t.Errorf("stored: %+v, %v", page, err)
			}
			if err := s.Health(); err != nil {
				t.Errorf("health after it succeeded again: %v", err)
			}
		})
	}
}

func TestStoreThatStopsAnswersAllItTook(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir(), MinFree: 1 << 20, Ballast: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	const writers = 20
	answers := make(chan error, writers)
	var stored atomic.Int64
	for range writers {
		go func() {
			var err error
			for err == nil {
				_, err = s.Append(context.Background(), []broker.Draft{{Channel: broker.Channel{Site: "moodle", ID: "a"}, Data: []byte(`1`)}})
				if err == nil && stored.Add(1) == 200 {
					cancel()
				}
			}
			answers <- err
		}()
	}
	for range writers {
		if err := <-answers; broker.CodeOf(err) != broker.CodeUnavailable {
			t.Errorf("a writer ended with %v, want unavailable", err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if at, err := s.Position(context.Background()); err != nil || at.Seq != uint64(stored.Load()) { //nolint:gosec // a count
		t.Errorf("position %v, %v; %d were acknowledged", at, err, stored.Load())
	}
}

func TestSecondInstanceIsToldWhoHasTheStore(t *testing.T) {
	s, _ := doubtful(t)
	_, err := Open(Options{Dir: s.dir})
	if err == nil {
		t.Fatal("the same directory was opened twice")
	}
	if want := "is another instance running?"; !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), s.dir) {
		t.Errorf("error %q lacks the directory or %q", err, want)
	}
}
