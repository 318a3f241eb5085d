package tunnel

import "testing"

// TestSeenRemove has numbers be new again that were used.
func TestSeenRemove(t *testing.T) {
	var s seen
	for n := range uint64(10) {
		s.add(n)
	}
	s.add(12)
	for _, n := range []uint64{7, 4, 12} {
		if !s.remove(n) || s.has(n) {
			t.Errorf("%d is not new again", n)
		}
	}
	if s.remove(11) {
		t.Error("what is new is not to be removed")
	}
	frozen := s.freeze()
	again := frozen.thaw()
	for n := range uint64(14) {
		want := n < 10 && n != 4 && n != 7
		if s.has(n) != want || again.has(n) != want {
			t.Errorf("%d was used: %v, then %v", n, s.has(n), again.has(n))
		}
	}
	for _, n := range []uint64{4, 7} {
		if !s.add(n) || s.add(n) {
			t.Errorf("%d is not new once", n)
		}
	}
	if s.below != 10 || len(s.above) != 0 {
		t.Errorf("%+v", s)
	}
	for n := range uint64(seenMost + 20) {
		s.add(n)
	}
	if s.remove(3) {
		t.Error("so much is not to be remembered for one")
	}
}
