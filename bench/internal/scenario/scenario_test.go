package scenario

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"backchannel/bench/internal/proc"
	"backchannel/bench/internal/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tiny are sizes at which a scenario takes a moment.
func tiny() Sizes {
	z := Quick()
	z.Small, z.Large, z.Idle, z.Subscribers, z.Channels, z.Resume, z.IdleChannels = 20, 40, 20, 20, 5, 20, 200
	z.Warm, z.Measure, z.Paced, z.Rest = 20*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond, 20*time.Millisecond
	return z
}

// The broker is the real one, built from the checkout, on a real store; so is the floor.
func TestEveryScenarioIsExactAgainstTheBrokerAndTheFloor(t *testing.T) {
	checkout, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	b := &Bench{Sizes: tiny(), Host: &target.Host{Cores: proc.Cores{Server: -1, Generator: -1}, Dir: t.TempDir(), Checkout: checkout}}
	for _, k := range target.Kinds() {
		if !slices.Contains([]string{"backchannel", "floor", "floor-batch"}, k.Name) {
			continue
		}
		if err := k.Prepare(t.Context(), b.Host); err != nil {
			if k.Floor {
				t.Logf("not tested: %s: %v", k.Name, err)
				continue
			}
			t.Fatal(err)
		}
		for _, sc := range All(b.Sizes) {
			if !sc.Fits(k.Features) {
				continue
			}
			t.Run(k.Name+"/"+sc.Name, func(t *testing.T) {
				r := b.Run(t.Context(), sc, k, 0)
				if r.Error != "" || !r.Account.Exact() || len(r.Values) == 0 {
					t.Fatalf("error %q, account %+v, values %v", r.Error, r.Account, r.Values)
				}
				if r.Account.Expected > 0 && r.Account.Delivered == 0 {
					t.Errorf("account %+v: nothing was delivered", r.Account)
				}
			})
		}
	}
}

func TestServerThatCannotStartIsAnErrorOfTheRun(t *testing.T) {
	b := &Bench{Sizes: tiny(), Host: &target.Host{Cores: proc.Cores{Server: -1}, Dir: t.TempDir()}}
	for _, k := range target.Kinds() {
		if k.Name != "floor" {
			continue
		}
		// It was never compiled: there is nothing to start.
		if r := b.Run(t.Context(), All(b.Sizes)[0], k, 0); r.Error == "" {
			t.Errorf("result %+v; want an error", r)
		}
	}
}

func TestStoreFiguresAreReadFromGoTest(t *testing.T) {
	results, err := parseStore([]byte(`goos: linux
BenchmarkAppend/publishers=64-2         	   84535	     17765 ns/op	        16.10 cpu-us/event	        40.62 events/commit	     56291 events/s
BenchmarkFdatasync/callers=64           	  250550	      4321 ns/op	         2.781 cpu-us/event	    231447 events/s
PASS
`), 2)
	if err != nil || len(results) != 2 {
		t.Fatalf("%d results, %v; want 2", len(results), err)
	}
	for i, want := range []struct {
		server    string
		rate, cpu float64
	}{{"backchannel", 56291, 16.10}, {"file", 231447, 2.781}} {
		r := results[i]
		if r.Scenario != "store-64" || r.Server != want.server || r.Run != 2 || r.Values["events_per_s"] != want.rate || r.Values["cpu_us_per_event"] != want.cpu {
			t.Errorf("result %+v; want %+v", r, want)
		}
	}
	if _, err := parseStore([]byte("PASS"), 0); err == nil {
		t.Error("no figures were accepted")
	}
}
