package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBucket has what is paid for take as long as the rate says, less what may pass at once.
func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Bucket
		if b.Pay(1<<40) != 0 || b.Slice() != 0 {
			t.Error("the zero bucket has a limit")
		}
		b.Set(1000)
		start := time.Now()
		for range 100 {
			time.Sleep(b.Pay(100))
		}
		if took := time.Since(start); took != 9900*time.Millisecond-burstTime {
			t.Errorf("10,000 bytes at 1,000 a second took %v", took)
		}
		if both(nil, &b) != &b || both(&b, nil) != &b {
			t.Error("one limit is not that limit")
		}
		var quick Bucket
		quick.Set(1 << 30)
		two := both(&b, &quick)
		if two.Slice() != b.Slice() || two.Pay(1) == 0 {
			t.Error("of two limits the slower one does not count")
		}
	})
}
