package load

import (
	"math"
	"math/bits"
	"time"
)

// A histogram counts durations in steps of at most 1.6 %, without allocating.
type histogram struct {
	counts [histogramSize]uint64
	total  uint64
}

const (
	subBits       = 6 // each power of two is cut into 64 steps
	maxPower      = 40
	histogramSize = (maxPower - subBits + 1) << subBits
)

// step is the place of d, which is taken to be below 2^40 ns (18 minutes).
func step(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return min(shift<<subBits+int(v>>shift), histogramSize-1)
}

// middle is the value that stands for a step.
func middle(i int) time.Duration {
	if i < 1<<(subBits+1) {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	low := uint64(i-shift<<subBits) << shift
	return time.Duration(low + 1<<shift/2)
}

func (h *histogram) add(d time.Duration) {
	h.counts[step(d)]++
	h.total++
}

func (h *histogram) merge(g *histogram) {
	for i, n := range &g.counts {
		h.counts[i] += n
	}
	h.total += g.total
}

// quantile is the value that the share q of all does not exceed; 0 when nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.total)))
	for i, n := range &h.counts {
		if n >= rank && rank > 0 {
			return middle(i)
		}
		rank -= min(n, rank)
	}
	return 0
}
