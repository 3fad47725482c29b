package scenario

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// storeBenchmarks are the product's own Go benchmarks of its store, which no other module can import, and what the disk
// allows: a file written before, with one fdatasync for all that wait.
const storeBenchmarks = "^(BenchmarkAppend|BenchmarkFdatasync)$"

// Store runs them on both cores, once. Scenarios are store-1, store-64 and store-256 by the number of publishers,
// servers backchannel and file.
func (b *Bench) Store(ctx context.Context, run int, benchTime string) ([]Result, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "nomsgpack", "-run", "^$", "-bench", storeBenchmarks, // #nosec G204 -- our own flags
		"-benchtime", benchTime, "./persist")
	cmd.Dir = b.Host.Checkout
	cmd.Env = append(cmd.Environ(), "TMPDIR="+b.Host.Dir)
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	err := b.Host.Cores.Start(cmd, true)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return nil, fmt.Errorf("benchmark the store: %w\n%s", err, out)
	}
	return parseStore(out.Bytes(), run)
}

func parseStore(out []byte, run int) ([]Result, error) {
	line := regexp.MustCompile(`(?m)^Benchmark(Append|Fdatasync)/\w+=(\d+)\S*\s.*?\s([\d.]+) cpu-us/event.*?\s([\d.]+) events/s`)
	servers := map[string]string{"Append": "backchannel", "Fdatasync": "file"}
	var results []Result
	for _, m := range line.FindAllSubmatch(out, -1) {
		cpu, _ := strconv.ParseFloat(string(m[3]), 64)
		rate, _ := strconv.ParseFloat(string(m[4]), 64)
		results = append(results, Result{
			Scenario: "store-" + string(m[2]), Server: servers[string(m[1])], Run: run,
			Values: map[string]float64{"events_per_s": rate, "cpu_us_per_event": cpu},
		})
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("benchmark the store: no figures in:\n%s", out)
	}
	return results, nil
}
