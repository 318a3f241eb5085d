package processors

import (
	"runtime"
	"testing"
)

// TestCountStays holds Count to what there was at the start, whoever has raised GOMAXPROCS since.
func TestCountStays(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	Extra(3)
	Extra(2)
	if n := runtime.GOMAXPROCS(0); n != before+5 {
		t.Errorf("GOMAXPROCS is %d, want %d", n, before+5)
	}
	if Count() != before {
		t.Errorf("Count is %d, want %d", Count(), before)
	}
	Extra(-5)
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("GOMAXPROCS is %d at the end, want %d", n, before)
	}
}
