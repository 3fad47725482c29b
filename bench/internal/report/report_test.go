package report

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"backchannel/bench/internal/scenario"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample has three runs of a fan-out in which we get a ratio of 0.5, 0.8 and 0.9 to the floor.
func sample() *Document {
	d := &Document{Conditions: Conditions{Servers: []string{"floor-batch", "backchannel", "nchan", "r3labs"}, Sizes: scenario.Full(), Runs: 3}}
	for run, v := range [][3]float64{{1000, 500, 100}, {1000, 800, 100}, {2000, 1800, 200}} {
		for i, server := range []string{"floor-batch", "backchannel", "nchan"} {
			d.Results = append(d.Results, scenario.Result{
				Scenario: "fanout-small", Server: server, Run: run,
				Values: map[string]float64{"deliveries_per_cpu_s": v[i] * 1000},
			})
		}
	}
	d.Results = append(d.Results, scenario.Result{Scenario: "fanout-small", Server: "r3labs", Error: "it <ended>\nwith a trace"})
	return d
}

func TestRatioIsTheMedianOfRatiosWithinRuns(t *testing.T) {
	if r, ok := sample().Ratio("fanout-small", us, "floor-batch", "deliveries_per_cpu_s"); !ok || r != 0.8 {
		t.Errorf("ratio %v, %v; want 0.8", r, ok)
	}
}

func TestGoalsAreJudgedOnlyWhereBothSidesWereMeasured(t *testing.T) {
	judged := map[string]bool{}
	for _, g := range sample().Goals() {
		if g.Known {
			judged[g.Want] = g.Met
		}
	}
	if len(judged) != 2 || !judged["at least 0.7 of floor-batch"] || !judged["at least 3 times every peer"] {
		t.Errorf("judged %v; want the ratio to the floor and the one to peers, both met", judged)
	}
}

func TestFailedRunStandsInItsTableAndInNoMedian(t *testing.T) {
	d := sample()
	var b strings.Builder
	d.Table(&b, "fanout-small", "about")
	if !strings.Contains(b.String(), "failed: it <ended>") || strings.Contains(b.String(), "trace") {
		t.Errorf("table:\n%s", b.String())
	}
	if _, ok := d.Median("fanout-small", "r3labs", "deliveries_per_cpu_s"); ok {
		t.Error("a failed run has a median")
	}
}

func TestLaterResultsReplaceThoseOfTheSameServerAndScenario(t *testing.T) {
	d := &Document{Conditions: sample().Conditions}
	d.Results = []scenario.Result{{Scenario: "fanout-small", Server: us, Values: map[string]float64{"deliveries_per_cpu_s": 7}}}
	d.Merge(sample())
	if v, _ := d.Median("fanout-small", us, "deliveries_per_cpu_s"); v != 7 {
		t.Errorf("median %v; want the new one, 7", v)
	}
	if v, _ := d.Median("fanout-small", "nchan", "deliveries_per_cpu_s"); v != 100000 {
		t.Errorf("median of another server %v; want it kept", v)
	}
}

func TestDocumentsKeepTheNotesAndDrawWellFormedPlots(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "performance.md")
	if err := os.WriteFile(page, []byte("# Old\n\n"+Notes+"\nThe disk.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sample().WriteDocs(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil || !strings.HasSuffix(string(text), Notes+"\nThe disk.\n") || strings.Contains(string(text), "# Old") {
		t.Errorf("%v; page:\n%s", err, text)
	}
	svg, err := os.Open(filepath.Join(dir, "performance", "fanout.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = svg.Close() }()
	dec := xml.NewDecoder(svg)
	for {
		if _, err := dec.Token(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
	}
	back, err := Read(filepath.Join(dir, "performance", "results.json"))
	if err != nil || len(back.Results) != len(sample().Results) {
		t.Errorf("results read back: %v", err)
	}
}
