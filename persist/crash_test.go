package persist_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"backchannel/broker"
	"backchannel/persist"
	"backchannel/webhooks"
)

// crashDir names the variable that makes the test binary a writer to be killed.
const crashDir = "BACKCHANNEL_CRASH_DIR"

const crashWriters = 8

// crashChild appends until it is killed. A line on standard output says what was acknowledged.
func crashChild(dir string) {
	store, err := persist.Open(persist.Options{Dir: dir, Retention: keepAll(), MinFree: 1 << 20, Ballast: 1 << 20})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	failed := make(chan error)
	for w := range crashWriters {
		go func() { failed <- crashWriter(store, fmt.Sprintf("%d-%d", os.Getpid(), w)) }()
	}
	go func() { failed <- store.Run(context.Background()) }()
	fmt.Fprintln(os.Stderr, <-failed)
	os.Exit(1)
}

func keepAll() persist.Retention { return persist.Retention{PerChannel: -1} }

func crashWriter(store *persist.Store, name string) error {
	ctx := context.Background()
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", name, i)
		drafts := []broker.Draft{crashDraft(id + "-a"), crashDraft(id + "-b")}
		got, err := store.Append(ctx, drafts)
		if err != nil {
			return err
		}
		for k, a := range got {
			fmt.Printf("event %d %s\n", a.Cursor.Seq, drafts[k].Key)
		}
		ref := webhooks.Ref{Site: "moodle", ID: webhooks.ID(id)}
		_, _, err = store.Accept(ctx, webhooks.Delivery{
			Message: webhooks.Message{Ref: ref, Kind: webhooks.KindJob, Data: []byte(`1`)}, State: webhooks.StateWaiting,
		})
		if err != nil {
			return err
		}
		fmt.Printf("delivery 0 %s\n", id)
	}
}

func crashDraft(id string) broker.Draft {
	return broker.Draft{
		Channel: broker.Channel{Site: "moodle", ID: broker.ChannelID("c" + id[len(id)-1:])},
		Data:    []byte(fmt.Sprintf("%q", id)), Key: id,
	}
}

// acknowledged is what killed writers were told.
type acknowledged struct {
	events     map[uint64]string
	deliveries []string
}

func TestKilledStoreKeepsWhatItAcknowledged(t *testing.T) {
	rounds := 6
	if os.Getenv("BACKCHANNEL_LONG") != "" {
		rounds = 60
	}
	dir := t.TempDir()
	acked := acknowledged{events: map[uint64]string{}}
	for range rounds {
		acked.killOne(t, dir)
	}
	if len(acked.events) == 0 {
		t.Fatal("no writer lived long enough to have anything acknowledged")
	}
	t.Logf("%d events and %d deliveries were acknowledged in %d rounds", len(acked.events), len(acked.deliveries), rounds)
	opts := small(t)
	opts.Dir, opts.Retention = dir, keepAll()
	s := run(t, opts)
	defer s.stop(t)
	acked.check(t, s)
}

// killOne runs a writer, kills it at a random moment and reads what it had acknowledged.
func (a *acknowledged) killOne(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0]) //nolint:gosec // this test binary
	child.Env = append(os.Environ(), crashDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	left := 1 + rand.IntN(3000) //nolint:gosec // when to kill need not be secret
	for lines.Scan() {
		a.note(t, lines.Text())
		if left--; left == 0 {
			_ = child.Process.Kill() // and go on reading what it said before it died
		}
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the writer ended by itself: %v", err)
	}
}

func (a *acknowledged) note(t *testing.T, line string) {
	t.Helper()
	var kind, id string
	var seq uint64
	if _, err := fmt.Sscan(line, &kind, &seq, &id); err != nil {
		return // cut off by the kill
	}
	if kind == "delivery" {
		a.deliveries = append(a.deliveries, id)
		return
	}
	if other, taken := a.events[seq]; taken {
		t.Fatalf("position %d was given to %s and again to %s", seq, other, id)
	}
	a.events[seq] = id
}

func (a *acknowledged) check(t *testing.T, s *running) {
	t.Helper()
	stored := a.readAll(t, s)
	for seq, id := range a.events {
		if stored[seq] != fmt.Sprintf("%q", id) {
			t.Errorf("position %d holds %s, but was acknowledged for %s", seq, stored[seq], id)
		}
	}
	for _, id := range a.deliveries {
		if _, err := s.Get(t.Context(), webhooks.Ref{Site: "moodle", ID: webhooks.ID(id)}); err != nil {
			t.Errorf("acknowledged delivery %s: %v", id, err)
		}
	}
	for seq, id := range a.events {
		again, err := s.Append(t.Context(), []broker.Draft{crashDraft(id)})
		if err != nil || !again[0].Repeated || again[0].Cursor.Seq != seq {
			t.Fatalf("%s repeated: %+v, %v; want %d", id, again, err, seq)
		}
		break
	}
}

// readAll reads the whole log and checks that it has no gap and that each channel names its predecessors.
func (a *acknowledged) readAll(t *testing.T, s *running) map[uint64]string {
	t.Helper()
	stored := map[uint64]string{}
	prev := map[broker.ChannelID]uint64{}
	next := uint64(1)
	for more := true; more; {
		page, err := s.Scan(t.Context(), "moodle", next-1, broker.PageLimit{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if e.Seq != next || e.Prev != prev[e.Channel.ID] {
				t.Fatalf("position %d has predecessor %d, want position %d and %d", e.Seq, e.Prev, next, prev[e.Channel.ID])
			}
			stored[e.Seq] = string(e.Data)
			prev[e.Channel.ID] = e.Seq
			next++
		}
		more = page.More
	}
	if end, err := s.Position(t.Context()); err != nil || end.Seq != next-1 {
		t.Errorf("position %v, %v; the newest event is %d", end, err, next-1)
	}
	return stored
}
