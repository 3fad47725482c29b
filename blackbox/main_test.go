package blackbox_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	fullTorture = flag.Bool("torture", false, "run the torture tests in full: a minute, ten kills, 5,000 jobs")
	brokerFile  = flag.String("broker", "", "judge this binary instead of building one")
	brokerRace  = flag.Bool("broker-race", false, "build the broker with the race detector")
)

// brokerBinary builds the broker once per run, into a directory that TestMain removes.
var brokerBinary = sync.OnceValues(buildBroker)

// buildDir is made by buildBroker and removed by TestMain; "" if nothing was built.
var buildDir string

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		f.Value.Set("8") //nolint:errcheck // the tests wait more than they work
	}
	code := m.Run()
	if buildDir != "" {
		if err := os.RemoveAll(buildDir); err != nil {
			fmt.Fprintln(os.Stderr, "remove the built broker:", err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left after all tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func buildBroker() (string, error) {
	if *brokerFile != "" {
		return filepath.Abs(*brokerFile)
	}
	dir, err := os.MkdirTemp("", "backchannel-blackbox-")
	if err != nil {
		return "", err
	}
	buildDir = dir
	out := filepath.Join(dir, "backchannel")
	args := []string{"build", "-o", out}
	if *brokerRace {
		args = append(args, "-race")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append(args, "../cmd/backchannel")...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go build ./cmd/backchannel: %w\n%s", err, output.Bytes())
	}
	return out, nil
}

// eventually asks again every 10 ms until ok holds, and fails the test if it does not within the given time.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	if !poll(t.Context(), within, ok) {
		t.Fatalf("%s: not within %s", what, within)
	}
}

// poll is eventually for goroutines other than the test's.
func poll(ctx context.Context, within time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) || !pause(ctx, 10*time.Millisecond) {
			return false
		}
	}
	return true
}

// pause paces load; it is never used to wait for an effect. It is false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
