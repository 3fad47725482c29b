// Package report turns results into medians, tables, plots and a judgement on each goal.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"backchannel/bench/internal/load"
	"backchannel/bench/internal/scenario"
)

// Document is everything that a command measured; it is what the JSON file holds.
type Document struct {
	Conditions Conditions        `json:"conditions"`
	Missing    map[string]string `json:"missing"` // servers that could not be had, and why
	Results    []scenario.Result `json:"results"`
}

// Conditions say where and how it was measured.
type Conditions struct {
	Date    string         `json:"date"`
	Commit  string         `json:"commit"`
	System  string         `json:"system"`
	CPU     string         `json:"cpu"`
	Cores   string         `json:"cores"`
	Disk    string         `json:"disk"`
	Go      string         `json:"go"`
	Load    string         `json:"load"` // of the machine, over a minute, before the first run
	Runs    int            `json:"runs"`
	Quick   bool           `json:"quick"`
	Sizes   scenario.Sizes `json:"sizes"`
	Servers []string       `json:"servers"`
}

// Read reads a document from a JSON file.
func Read(path string) (*Document, error) {
	b, err := os.ReadFile(path) // #nosec G304 -- named by the user
	if err != nil {
		return nil, err
	}
	d := &Document{}
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Write writes the JSON file.
func (d *Document) Write(path string) error {
	b, err := json.MarshalIndent(d, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644) // #nosec G306 -- results are for everybody
}

// Merge puts the results of d over those of earlier documents: a scenario's of a server replace all its older ones.
func (d *Document) Merge(old *Document) {
	type key struct{ scenario, server string }
	have := map[key]bool{}
	for _, r := range d.Results {
		have[key{r.Scenario, r.Server}] = true
	}
	servers := slices.Clone(old.Conditions.Servers)
	for _, s := range d.Conditions.Servers {
		if !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	d.Conditions.Servers = servers
	for _, r := range old.Results {
		if !have[key{r.Scenario, r.Server}] {
			d.Results = append(d.Results, r)
		}
	}
}

// of are the runs of one server in one scenario that came to an end.
func (d *Document) of(name, server string) (runs []scenario.Result) {
	for _, r := range d.Results {
		if r.Scenario == name && r.Server == server && r.Error == "" {
			runs = append(runs, r)
		}
	}
	return runs
}

// Median of a value over the runs; false if there is none.
func (d *Document) Median(name, server, value string) (float64, bool) {
	var all []float64
	for _, r := range d.of(name, server) {
		if v, ok := r.Values[value]; ok {
			all = append(all, v)
		}
	}
	return median(all)
}

// Ratio is the median of the ratios of two servers, each within one run.
func (d *Document) Ratio(name, server, to, value string) (float64, bool) {
	var all []float64
	for _, a := range d.of(name, server) {
		for _, b := range d.of(name, to) {
			if a.Run == b.Run && b.Values[value] > 0 {
				all = append(all, a.Values[value]/b.Values[value])
			}
		}
	}
	return median(all)
}

func median(v []float64) (float64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	slices.Sort(v)
	n := len(v)
	if n%2 == 1 {
		return v[n/2], true
	}
	return (v[n/2-1] + v[n/2]) / 2, true
}

// Account sums over the runs; an error stands in its place.
func (d *Document) Account(name, server string) string {
	var a load.Account
	failed := ""
	for _, r := range d.Results {
		if r.Scenario != name || r.Server != server {
			continue
		}
		a.Add(r.Account)
		if r.Error != "" {
			failed, _, _ = strings.Cut("failed: "+r.Error, "\n")
		}
	}
	if failed != "" {
		return failed
	}
	return a.String()
}

// servers that have results in a scenario, in the order of the tables.
func (d *Document) servers(name string) []string {
	var found []string
	for _, s := range append(slices.Clone(d.Conditions.Servers), "file") {
		if slices.ContainsFunc(d.Results, func(r scenario.Result) bool { return r.Scenario == name && r.Server == s }) {
			found = append(found, s)
		}
	}
	return found
}

// column is a value of a table. Of accounts and errors there is always one more.
type column struct {
	title, value string
	unit         string
}

func columns(name string) []column {
	shares := []column{{"server, cores", "server_cores", "%.2f"}, {"generator", "generator_cores", "%.2f"}, {"foreign", "foreign_cores", "%.2f"}}
	kind, _, _ := strings.Cut(name, "-")
	switch kind {
	case "fanout":
		return append([]column{{"deliveries/s", "deliveries_per_s", "k"}, {"per CPU-s", "deliveries_per_cpu_s", "k"}, {"CPU µs each", "cpu_us_per_delivery", "%.2f"}}, shares...)
	case "paced":
		return append([]column{{"p50 ms", "p50_ms", "%.1f"}, {"p99 ms", "p99_ms", "%.1f"}, {"max ms", "max_ms", "%.1f"}, {"CPU µs each", "cpu_us_per_delivery", "%.2f"}}, shares...)
	case "channels":
		return append([]column{{"deliveries/s", "deliveries_per_s", "k"}, {"publishes/s", "publishes_per_s", "k"}, {"CPU µs each", "cpu_us_per_delivery", "%.2f"}, {"p50 ms", "p50_ms", "%.1f"}, {"p99 ms", "p99_ms", "%.1f"}}, shares...)
	case "publish":
		return append([]column{{"publishes/s", "publishes_per_s", "k"}, {"p50 ms", "p50_ms", "%.2f"}, {"p99 ms", "p99_ms", "%.2f"}, {"CPU µs each", "cpu_us_per_publish", "%.1f"}}, shares...)
	case "replay":
		return append([]column{{"half, s", "half_s", "%.2f"}, {"all, s", "all_s", "%.2f"}, {"CPU s", "cpu_s", "%.2f"}, {"events/s", "events_per_s", "k"}, {"CPU s per 1 M", "cpu_s_per_million", "%.2f"}}, shares...)
	case "churn":
		return append([]column{{"cycles/s", "cycles_per_s", "k"}, {"CPU µs each", "cpu_us_per_cycle", "%.1f"}, {"descriptors kept", "descriptors_kept", "%.0f"}, {"RSS grown, MB", "rss_grown_mb", "%.1f"}}, shares...)
	case "memory":
		return []column{{"RSS empty, MB", "rss_empty_mb", "%.1f"}, {"RSS, MB", "rss_mb", "%.1f"}, {"bytes per stream", "bytes_per_stream", "%.0f"}}
	case "idle":
		return []column{{"RSS, one channel, MB", "rss_one_mb", "%.1f"}, {"RSS, many, MB", "rss_many_mb", "%.1f"}, {"resident bytes per channel", "bytes_per_channel", "%.0f"}, {"live heap per channel", "live_bytes_per_channel", "%.0f"}}
	case "store":
		return []column{{"events/s", "events_per_s", "k"}, {"CPU µs each", "cpu_us_per_event", "%.2f"}}
	}
	return nil
}

// format prints a figure; the unit k is for rates.
func format(v float64, unit string) string {
	switch {
	case unit != "k":
		return fmt.Sprintf(unit, v)
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0f k", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.1f k", v/1e3)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// rows are the cells of a scenario's table, headings first.
func (d *Document) rows(name string) [][]string {
	cols := columns(name)
	head := []string{"server"}
	for _, c := range cols {
		head = append(head, c.title)
	}
	rows := [][]string{append(head, "account")}
	for _, s := range d.servers(name) {
		row := []string{s}
		for _, c := range cols {
			cell := "–"
			if v, ok := d.Median(name, s, c.value); ok {
				cell = format(v, c.unit)
			}
			row = append(row, cell)
		}
		rows = append(rows, append(row, d.Account(name, s)))
	}
	return rows
}

// Table prints a scenario for a terminal.
func (d *Document) Table(w io.Writer, name, about string) {
	_, _ = fmt.Fprintf(w, "\n%s: %s\n", name, about)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range d.rows(name) {
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush()
}
