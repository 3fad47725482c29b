package report

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"backchannel/bench/internal/scenario"
)

// Notes begins the part of the page that is written by hand: what a run cannot know. It is kept.
const Notes = "## What bounds it\n"

// WriteDocs writes performance.md and its plots below dir, the directory of documents.
func (d *Document) WriteDocs(dir string) error {
	plots := filepath.Join(dir, "performance")
	if err := os.MkdirAll(plots, 0o755); err != nil { // #nosec G301 -- documents are for everybody
		return err
	}
	drawn := map[string]bool{}
	for _, p := range d.Plots() {
		svg := d.SVG(p)
		if svg == "" {
			continue
		}
		drawn[p.File] = true
		if err := os.WriteFile(filepath.Join(plots, p.File+".svg"), []byte(svg), 0o644); err != nil { // #nosec G306 -- as above
			return err
		}
	}
	page := filepath.Join(dir, "performance.md")
	old, err := os.ReadFile(page) // #nosec G304 -- ours
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := d.markdown(drawn)
	if _, notes, ok := strings.Cut(string(old), Notes); ok {
		text += "\n" + Notes + notes
	}
	if err := d.Write(filepath.Join(plots, "results.json")); err != nil {
		return err
	}
	return os.WriteFile(page, []byte(text), 0o644) // #nosec G306 G703 -- as above
}

func (d *Document) markdown(drawn map[string]bool) string {
	var b strings.Builder
	b.WriteString("# Performance\n\nMade by `cd bench && go run . -docs`; change the program, not this page. " +
		"The figures of every run are in [results.json](performance/results.json).\n\n" +
		"What was measured is one machine on one day. Ratios within one run say more than absolute figures.\n\n## Goals\n\n" +
		"| | goal | measured | |\n| --- | --- | --- | --- |\n")
	for _, g := range d.Goals() {
		switch {
		case !g.Known:
			fmt.Fprintf(&b, "| %s | %s | not measured | |\n", g.What, g.Want)
		case g.Met:
			fmt.Fprintf(&b, "| %s | %s | %s | met |\n", g.What, g.Want, g.Got)
		default:
			fmt.Fprintf(&b, "| %s | %s | %s | **not met** |\n", g.What, g.Want, g.Got)
		}
	}
	b.WriteString(d.conditions())
	all := scenario.All(d.Conditions.Sizes)
	for _, n := range []string{"1", "64", "256"} {
		all = append(all, scenario.Scenario{Name: "store-" + n, About: n + " publishers inside the process, against a preallocated file with grouped fdatasync; both cores"})
	}
	b.WriteString("\n## Figures\n\nOf each run the median. `cores` are shares of one core that was busy with the server, with the generator, and " +
		"with something else on the server's core. A generator near 1 is the limit, not the server.\n")
	plots := map[string]Plot{}
	for _, p := range d.Plots() {
		plots[p.Scenarios[len(p.Scenarios)-1]] = p
	}
	for _, sc := range all {
		if len(d.servers(sc.Name)) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n", sc.Name, strings.ToUpper(sc.About[:1])+sc.About[1:])
		markdownTable(&b, d.rows(sc.Name))
		if p, ok := plots[sc.Name]; ok && drawn[p.File] {
			fmt.Fprintf(&b, "\n![%s](performance/%s.svg)\n", p.Title, p.File)
		}
	}
	return b.String()
}

func markdownTable(b *strings.Builder, rows [][]string) {
	for i, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString("| --- |" + strings.Repeat(" ---: |", len(row)-2) + " --- |\n")
		}
	}
}

func (d *Document) conditions() string {
	c := d.Conditions
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Conditions\n\n| | |\n| --- | --- |\n")
	for _, row := range [][2]string{
		{"when, what", c.Date + ", " + c.Commit + "; scenarios that this run left out are of earlier runs"},
		{"machine", c.CPU + "; " + c.System + "; " + c.Go},
		{"cores", c.Cores},
		{"disk", c.Disk},
		{"load before the first run", c.Load},
		{"runs", fmt.Sprintf("%d of each, interleaved: every server once, then again. Memory and idle channels once", c.Runs)},
		{"events", fmt.Sprintf("%d bytes of JSON; plain HTTP/1.1 on loopback, where the sender does the receiver's TCP work", c.Sizes.Payload)},
		{"CPU", "user and system time of the server's processes from /proc, in steps of 10 ms"},
		{"memory", "PSS from /proc/PID/smaps_rollup " + fmt.Sprintf("%g s after the last stream was opened; a stream's is the growth, divided", c.Sizes.Rest.Seconds())},
		{"latency", "from the time an event was due to the end of the read that brought it, over all subscribers"},
		{"account", "every delivery is checked: each subscriber of a channel hears each event once, in the same order as all others, and each publisher's events in the order of their acknowledgements"},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	if c.Quick {
		b.WriteString("\n**A quick run: small sizes, short times. Its figures say that the benchmark works and little else.**\n")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Missing)) {
		fmt.Fprintf(&b, "\nNot measured: %s: %s.\n", name, d.Missing[name])
	}
	b.WriteString("\nServers: *floor* is a broadcaster of our own in C, one epoll loop and nothing else: one `send` per event and subscriber, or " +
		"(*floor-batch*) the events of one round of epoll joined. *nchan* is Debian's module for nginx, one worker, messages in shared memory. " +
		"*centrifuge*, *r3labs* and *go-sse* (tmaxmax) are Go libraries behind net/http, used as their documentation does, in memory. " +
		"*backchannel* writes every event to disk and syncs it before it is acknowledged or delivered, and checks a signed grant for every stream.\n")
	return b.String()
}
