package load

import "math/bits"

// subBits is the resolution of a Histogram: 32 steps to each power of two, so at most 3 % off.
const subBits = 5

// Histogram counts durations in ns.
type Histogram struct {
	counts [64 << subBits]uint64
	total  uint64
	max    int64
}

// Add counts one duration; negative ones count as 0.
func (h *Histogram) Add(ns int64) {
	ns = max(ns, 0)
	h.max = max(h.max, ns)
	h.total++
	h.counts[bucket(uint64(ns))]++ // #nosec G115 -- not negative
}

func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v) // #nosec G115 -- below 32
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift) // #nosec G115 -- below 64
}

// Quantile is the duration in ms that the share q of all stayed within; 0 if there are none.
func (h *Histogram) Quantile(q float64) float64 {
	want := uint64(q * float64(h.total))
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen > want {
			return float64(lower(i+1)) / 1e6
		}
	}
	return h.Max()
}

// lower is the least duration of a bucket.
func lower(i int) uint64 {
	if i < 2<<subBits {
		return uint64(i) // #nosec G115 -- an index
	}
	shift := i>>subBits - 1
	return uint64(i-shift<<subBits) << shift // #nosec G115 -- an index
}

// Max is the longest in ms.
func (h *Histogram) Max() float64 { return float64(h.max) / 1e6 }

// Count is how many were added.
func (h *Histogram) Count() uint64 { return h.total }
