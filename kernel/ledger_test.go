package kernel

import (
	"math"
	"testing"
)

func TestLedger(t *testing.T) {
	for _, begin := range []uint32{1, 100, math.MaxUint32 - 2, math.MaxUint32} {
		var l Ledger
		if l.since(0) != 0 || l.since(begin) != begin {
			t.Fatalf("an empty ledger has %d and %d", l.since(0), l.since(begin))
		}
		at := begin
		for range 5 {
			at = l.made(at)
		}
		if at == begin || l.since(begin) != at || l.since(at) != at {
			t.Errorf("five changes from %d to %d: since %d", begin, at, l.since(begin))
		}
		if foreign := at + 1; l.since(foreign) != foreign || l.since(begin-1) != begin-1 || l.since(0) != 0 {
			t.Errorf("from %d: others' changes are taken for own ones", begin)
		}
		next := l.made(at + 3) // somebody else has changed something in between
		if l.since(begin) == next || l.since(at) == next || l.since(at+3) != next {
			t.Errorf("from %d: a change of somebody else is passed over", begin)
		}
	}
}
