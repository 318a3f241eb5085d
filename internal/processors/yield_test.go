package processors

import (
	"runtime"
	"testing"
)

// Who moves a lot lets go of his thread only while somebody is in a hurry, and the scheduler gets processors for that once.
func TestYield(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	Yield()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("%d processors where nobody is in a hurry, and %d before", n, before)
	}
	for range 3 {
		Brief()
		Yield()
	}
	if n := runtime.GOMAXPROCS(0); n > before+spare {
		t.Errorf("%d processors, and %d before", n, before)
	}
	Extra(-(runtime.GOMAXPROCS(0) - before))
}
