package main

import (
	"math"
	"slices"
	"testing"
)

func same(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

func TestMedian(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		values []float64
		want   float64
	}{
		{nil, nan},
		{[]float64{nan}, nan},
		{[]float64{7}, 7},
		{[]float64{3, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{nan, 5, math.Inf(1), 1, 3}, 3},
	}
	for _, tt := range tests {
		before := slices.Clone(tt.values)
		if got := median(tt.values); !same(got, tt.want) {
			t.Errorf("median(%v) = %v, want %v", tt.values, got, tt.want)
		}
		if !slices.EqualFunc(before, tt.values, same) {
			t.Errorf("median changed its argument to %v", tt.values)
		}
	}
}

func TestRatio(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		a, b []float64
		want float64
	}{
		{nil, nil, nan},
		{[]float64{10}, []float64{20}, 0.5},
		{[]float64{10, 5, 40}, []float64{10, 10, 20}, 1}, // the machine was slow in the second round; 1, 0.5, 2
		{[]float64{nan, 9}, []float64{10, 10}, 0.9},
		{[]float64{9, 9}, []float64{0, 10}, 0.9},
		{[]float64{1, 2, 3}, []float64{1}, 1},
	}
	for _, tt := range tests {
		if got := ratio(tt.a, tt.b); !same(got, tt.want) {
			t.Errorf("ratio(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestSpread(t *testing.T) {
	if got := spread([]float64{90, 100, 120}); got != 0.3 {
		t.Errorf("spread = %v", got)
	}
	if got := spread(nil); !math.IsNaN(got) {
		t.Errorf("spread of nothing = %v", got)
	}
}

func TestTurns(t *testing.T) {
	seen := map[int]bool{}
	for round := range 3 {
		order := turns(round, 3)
		seen[order[0]] = true
		slices.Sort(order)
		if !slices.Equal(order, []int{0, 1, 2}) {
			t.Errorf("round %d is %v", round, order)
		}
	}
	if len(seen) != 3 {
		t.Errorf("not everyone has begun: %v", seen)
	}
}
