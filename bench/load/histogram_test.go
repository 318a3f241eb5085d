package load

import (
	"math"
	"testing"
	"time"
)

func TestHistogramSteps(t *testing.T) {
	last := -1
	for v := time.Duration(0); v < 1<<39; v += v/100 + 1 {
		i := step(v)
		if i < last || i >= histogramSize {
			t.Fatalf("step(%d) = %d after %d", v, i, last)
		}
		last = i
		if got := middle(i); math.Abs(float64(got-v)) > float64(v)/64 {
			t.Errorf("%d is counted as %d", v, got)
		}
	}
	if got := step(1 << 62); got != histogramSize-1 {
		t.Errorf("step of a very long time is %d", got)
	}
	if got := step(-1); got != 0 {
		t.Errorf("step of a negative time is %d", got)
	}
}

func TestQuantile(t *testing.T) {
	var h, empty histogram
	for v := range 1000 {
		h.add(time.Duration(v+1) * time.Microsecond)
	}
	var all histogram
	all.merge(&h)
	all.merge(&empty)
	tests := map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond}
	for q, want := range tests {
		if got := all.quantile(q); math.Abs(float64(got-want)) > float64(want)/50 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	if got := empty.quantile(0.99); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

func TestParseResult(t *testing.T) {
	r, err := ParseResult([]byte(`{"Count":30,"Seconds":2}` + "\n"))
	if err != nil || r.Rate() != 15 {
		t.Errorf("got %+v, %v, rate %v", r, err, r.Rate())
	}
	if _, err := ParseResult([]byte("panic: no")); err == nil {
		t.Error("took a panic for a result")
	}
	if got := (Result{Count: 1}).Rate(); got != 0 {
		t.Errorf("rate in no time is %v", got)
	}
}
