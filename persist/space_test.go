package persist

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"backchannel/broker"
)

// disk is a space whose disk has as much free as the test says, and what it logged.
type disk struct {
	*space
	bytes int64
	at    time.Time
	text  bytes.Buffer
}

func newDisk(t *testing.T, floor int64) *disk {
	d := &disk{bytes: 1 << 40, at: time.Now()}
	d.space = newSpace(Options{Dir: t.TempDir(), MinFree: floor, Ballast: 1 << 20}, slog.New(slog.NewTextHandler(&d.text, nil)))
	d.statfs = func(string) (int64, error) { return d.bytes, nil }
	d.now = func() time.Time { return d.at }
	return d
}

// leave sets what is free, lets some time pass and looks.
func (d *disk) leave(t *testing.T, bytes int64, after time.Duration) {
	d.bytes, d.at = bytes, d.at.Add(after)
	d.look(t.Context())
}

func TestRefusedIntakeIsTakenAgainOnlyAboveTheMargin(t *testing.T) {
	const floor = 80 << 20
	d := newDisk(t, floor)
	for _, step := range []struct {
		free int64
		full bool
	}{
		{floor, false},
		{floor + floor/8 - 1, false},
		{floor - 1, true},
		{floor, true},
		{floor + floor/8 - 1, true},
		{floor + floor/8, false},
		{floor, false},
		{floor - 1, true},
	} {
		d.leave(t, step.free, time.Second)
		if err := d.admit(0); (broker.CodeOf(err) == broker.CodeStoreFull) != step.full {
			t.Errorf("with %d bytes above the floor: %v, want refused=%v", step.free-floor, err, step.full)
		}
	}
}

func TestDiskThatHoversIsLoggedOncePerPeriod(t *testing.T) {
	const floor = 80 << 20
	d := newDisk(t, floor)
	for range 1000 { // ten seconds
		d.leave(t, floor/2, 5*time.Millisecond)
		d.leave(t, 2*floor, 5*time.Millisecond)
	}
	if n := strings.Count(d.text.String(), "intake"); n != 1 {
		t.Errorf("%d lines within ten seconds, want the first refusal alone:\n%s", n, d.text.String())
	}
	d.leave(t, 2*floor, sayPeriod)
	d.leave(t, 2*floor, sayPeriod)
	lines := strings.Split(strings.TrimSpace(d.text.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "refused") || !strings.Contains(lines[1], "again") {
		t.Errorf("want a line of the refusal and, later, one of its end:\n%s", d.text.String())
	}
}
