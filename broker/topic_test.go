package broker

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func drawScalar(t *rapid.T, label string) any {
	return rapid.SampledFrom([]any{5, "5", 5.0, math.Copysign(0, -1), 0, "0", 1e21, "1e+21", 1e-7, true, "true", false, nil, "null", "", "x", 123456789012345680000.0}).Draw(t, label)
}

func TestTheIndexFindsWhatEachFilterMatchesAndNothingElse(t *testing.T) {
	keys := []string{"id", "ids", "model", "a"}
	rapid.Check(t, func(rt *rapid.T) {
		top := &topic{}
		live := map[*entry]bool{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"add", "add", "remove", "event", "event"}).Draw(rt, "step") {
			case "add":
				raw := map[string]any{}
				for range rapid.IntRange(0, 3).Draw(rt, "conditions") {
					raw[rapid.SampledFrom(keys).Draw(rt, "key")] = drawScalar(rt, "wanted")
				}
				text, _ := json.Marshal(raw)
				e := &entry{}
				if err := json.Unmarshal(text, &e.filter); err != nil {
					rt.Fatal(err)
				}
				top.add(e)
				live[e] = true
			case "remove":
				for e := range live {
					top.remove(e)
					delete(live, e)
					break
				}
			case "event":
				raw := map[string]any{}
				for range rapid.IntRange(0, 4).Draw(rt, "members") {
					raw[rapid.SampledFrom(keys).Draw(rt, "key")] = drawScalar(rt, "value")
				}
				if rapid.Bool().Draw(rt, "bulk") {
					raw["ids"] = []any{drawScalar(rt, "one"), drawScalar(rt, "two")}
				}
				data, _ := json.Marshal(raw)
				checkMatching(rt, top, live, data)
			}
		}
		n := 0
		top.each(func(*entry) { n++ })
		if n != len(live) || top.entries != len(live) {
			rt.Fatalf("%d entries are visited, %d counted, %d are live", n, top.entries, len(live))
		}
	})
}

func checkMatching(rt *rapid.T, top *topic, live map[*entry]bool, data []byte) {
	got := map[*entry]bool{}
	top.matching(&Frame{payload: data}, func(e *entry) { got[e] = true })
	for e := range live {
		if got[e] != e.filter.Match(data) {
			rt.Fatalf("filter %v on %s: the index says %v", e.filter, data, got[e])
		}
		delete(got, e)
	}
	if len(got) > 0 {
		rt.Fatalf("%d entries were found that have been removed", len(got))
	}
}

// BenchmarkFilteredEvent is an event on a channel with 5,000 streams of 20 filtered entries each, of which match meet it.
func BenchmarkFilteredEvent(b *testing.B) {
	for _, match := range []int{1, 100} {
		b.Run(fmt.Sprintf("match=%d", match), func(b *testing.B) {
			top := &topic{}
			const entries = 100_000
			for i := range entries {
				id := i
				if i < match {
					id = -1
				}
				top.add(&entry{filter: Filter{"model": "Task", "id": fmt.Sprint(id)}})
			}
			f := &Frame{payload: []byte(`{"model":"Task","id":-1,"title":"Read chapter 3"}`)}
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				top.matching(f, func(*entry) { n++ })
				if n != match {
					b.Fatalf("%d entries match", n)
				}
			}
		})
	}
}
