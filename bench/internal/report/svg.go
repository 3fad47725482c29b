package report

import (
	"fmt"
	"html"
	"strings"
)

// Plot is a bar chart: one group of bars for each scenario, one bar for each server.
type Plot struct {
	File, Title, Note string
	Value, Unit       string
	Scenarios         []string
	Labels            []string
}

// Plots are those of the report.
func (d *Document) Plots() []Plot {
	z := d.Conditions.Sizes
	sizes := []string{fmt.Sprintf("%d subscribers", z.Small), fmt.Sprintf("%d subscribers", z.Large)}
	return []Plot{
		{"fanout", "Deliveries per second of the server's CPU, saturated", "more is better", "deliveries_per_cpu_s", "k", []string{"fanout-small", "fanout-large"}, sizes},
		{"cpu", fmt.Sprintf("CPU per delivery at %d deliveries a second, µs", z.Rate), "less is better", "cpu_us_per_delivery", "%.1f", []string{"paced-small", "paced-large"}, sizes},
		{"latency", fmt.Sprintf("99th percentile of latency at %d deliveries a second, ms", z.Rate), "less is better", "p99_ms", "%.1f", []string{"paced-small", "paced-large"}, sizes},
		{"channels", fmt.Sprintf("Deliveries per second, %d subscribers on %d channels", z.Subscribers, z.Channels), "more is better; only Backchannel is durable", "deliveries_per_s", "k", []string{"channels", "channels-64"}, []string{"8 publishers", "64 publishers"}},
		{"publish", "Publishes per second over HTTP, one event a request", "more is better; only Backchannel is durable", "publishes_per_s", "k", []string{"publish-1", "publish-64", "publish-256"}, []string{"1 publisher", "64 publishers", "256 publishers"}},
		{"replay", fmt.Sprintf("%d clients resume %d events at once: seconds until all have caught up", z.Resume, z.Behind), "less is better; only Backchannel reads from disk", "all_s", "%.2f", []string{"replay"}, []string{""}},
		{"churn", "Connect, first frame, disconnect: cycles per second", "more is better", "cycles_per_s", "k", []string{"churn"}, []string{""}},
		{"memory", fmt.Sprintf("Memory of an idle stream at %d streams, bytes", z.Idle), "less is better", "bytes_per_stream", "%.0f", []string{"memory"}, []string{""}},
	}
}

// Measures of a plot, in pixels.
const (
	plotWidth, labelWidth, figureWidth = 760, 130, 90
	barHeight, barStep, groupGap       = 16, 21, 30
	plotHead                           = 52
)

// SVG draws a plot; "" if there is nothing to draw.
func (d *Document) SVG(p Plot) string {
	top := 0.0
	for _, sc := range p.Scenarios {
		for _, s := range d.servers(sc) {
			v, _ := d.Median(sc, s, p.Value)
			top = max(top, v)
		}
	}
	if top == 0 {
		return ""
	}
	var body strings.Builder
	y := plotHead
	for i, sc := range p.Scenarios {
		if p.Labels[i] != "" {
			fmt.Fprintf(&body, `<text x="%d" y="%d" class="g">%s</text>`+"\n", 16, y+10, html.EscapeString(p.Labels[i]))
			y += 20
		}
		for _, s := range d.servers(sc) {
			if v, ok := d.Median(sc, s, p.Value); ok {
				bar(&body, y, s, v/top, format(v, p.Unit))
				y += barStep
			}
		}
		y += groupGap - barStep
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-size:15px;font-weight:600}.n{fill:#656d76}.g{font-weight:600}</style>
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="16" y="24" class="t">%s</text>
<text x="16" y="42" class="n">%s</text>
%s</svg>
`, plotWidth, y+8, plotWidth, y+8, html.EscapeString(p.Title), html.EscapeString(p.Title), html.EscapeString(p.Note), body.String())
}

func bar(b *strings.Builder, y int, server string, share float64, figure string) {
	colour := map[bool]string{true: "#1f6feb", false: "#8c959f"}[server == us]
	if !isPeer(server) && server != us {
		colour = "#d0d7de"
	}
	width := share * (plotWidth - labelWidth - figureWidth)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/><text x="%.1f" y="%d">%s</text>`+"\n",
		labelWidth-8, y+13, html.EscapeString(server), labelWidth, y, max(width, 1), barHeight, colour, labelWidth+width+6, y+13, html.EscapeString(figure))
}
