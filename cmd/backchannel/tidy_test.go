package main

import "testing"

func TestAStormIsOverOnceAndOnlyWhenItIsQuiet(t *testing.T) {
	var s storm
	for i, step := range []struct {
		moves int64
		over  bool
	}{
		{0, false}, {100, false}, {110, false}, // too few to matter
		{5000, false}, {10_000, false}, // coming
		{10_010, true}, {10_010, false}, {10_020, false}, // quiet: once
		{10_400, false}, {10_400, false}, // not many again
		{20_000, false}, {20_000, true}, // gone
	} {
		if got := s.over(step.moves); got != step.over {
			t.Errorf("step %d, %d moves: over is %t", i, step.moves, got)
		}
	}
}
