package main

import (
	"math"
	"slices"
)

// median is the middle of the values, the mean of the two middle ones of an even number, and NaN of none. NaNs, which stand
// for rounds that failed, are left out.
func median(values []float64) float64 {
	v := valid(values)
	slices.Sort(v)
	switch n := len(v); {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// ratio is the median over the rounds of a value by b value: a round has its two measured one right after the other, so that
// what slows the machine down for a while slows both. Rounds that only one of them has do not count.
func ratio(a, b []float64) float64 {
	var quotients []float64
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			quotients = append(quotients, a[i]/b[i])
		}
	}
	return median(quotients)
}

// spread is how far the values lie apart: the largest less the smallest, by the median. NaN when there is no median.
func spread(values []float64) float64 {
	v := valid(values)
	if len(v) == 0 {
		return math.NaN()
	}
	return (slices.Max(v) - slices.Min(v)) / median(v)
}

func valid(values []float64) []float64 {
	var v []float64
	for _, x := range values {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			v = append(v, x)
		}
	}
	return v
}

// turns is the order of n contestants in a round: each round begins with another, so that no one always follows the same.
func turns(round, n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = (round + i) % n
	}
	return order
}
