package kernel

import (
	"slices"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// TestTurns checks what the order of turns is for: a round has every target once, and forwards that share a counter in
// lockstep still lead to every target alike.
func TestTurns(t *testing.T) {
	for n := 2; n <= 32; n++ {
		s := spread{forward.BalanceRoundRobin, n}
		for first := 0; first < s.slots(); first += n {
			round := make([]int, n)
			for i := range round {
				round[i] = s.target(first + i)
			}
			slices.Sort(round)
			for i, target := range round {
				if target != i {
					t.Fatalf("%d targets, from slot %d: a round is %v", n, first, round)
				}
			}
		}
		for stride := 2; stride <= 3; stride++ {
			for first := range stride {
				shares := make([]int, n)
				sessions := s.slots() * stride // after that, the same again
				for i := range sessions {
					shares[s.target((first+i*stride)%s.slots())]++
				}
				if even := sessions / n; slices.Min(shares) < even/2 || slices.Max(shares) > 2*even {
					t.Errorf("%d targets, every session number %d of %d: shares %v", n, first, stride, shares)
				}
			}
		}
	}
}
