package main

import (
	"sync"
	"time"

	"backchannel/handlers"
	"backchannel/persist"
)

// statsAge is how long one reading of the store's counters serves: a scrape asks for each figure on its own, and a
// reading costs about what a read of the log costs.
const statsAge = time.Second

// storeMetrics are the store's figures, as the admin listener shows them.
func storeMetrics(stats func() persist.Stats, now func() time.Time) []handlers.Metric {
	var mu sync.Mutex
	var last persist.Stats
	var read time.Time
	reading := func() persist.Stats {
		mu.Lock()
		s, fresh := last, now().Sub(read) < statsAge
		mu.Unlock()
		if fresh {
			return s
		}
		s = stats()
		mu.Lock()
		last, read = s, now()
		mu.Unlock()
		return s
	}
	gauge := func(name, help string, value func(persist.Stats) float64) handlers.Metric {
		return handlers.Metric{Name: "backchannel_store_" + name, Help: help, Value: func() float64 { return value(reading()) }}
	}
	counter := func(name, help string, value func(persist.Stats) int64) handlers.Metric {
		m := gauge(name, help, func(s persist.Stats) float64 { return float64(value(s)) })
		m.Counter = true
		return m
	}
	return []handlers.Metric{
		counter("records_total", "Records appended to the log.", func(s persist.Stats) int64 { return s.Appended }),
		counter("commits_total", "Synced transactions.", func(s persist.Stats) int64 { return s.Commits }),
		counter("failed_commits_total", "Commits that failed.", func(s persist.Stats) int64 { return s.Failed }),
		counter("committed_bytes_total", "Keys and values committed.", func(s persist.Stats) int64 { return s.Bytes }),
		gauge("position", "Newest durable position.", func(s persist.Stats) float64 { return float64(s.Position) }),
		gauge("live_bytes", "Bytes of events that retention counts.", func(s persist.Stats) float64 { return float64(s.LiveBytes) }),
		gauge("table_bytes", "Bytes of the store's tables on disk.", func(s persist.Stats) float64 { return float64(s.TableBytes) }),
		gauge("free_bytes", "Free bytes on the disk of the store.", func(s persist.Stats) float64 { return float64(s.FreeBytes) }),
		gauge("min_free_bytes", "Free bytes below which intake is refused.", func(s persist.Stats) float64 { return float64(s.MinFree) }),
		gauge("in_doubt", "1 if the last commit failed.", func(s persist.Stats) float64 {
			if s.InDoubt {
				return 1
			}
			return 0
		}),
	}
}
